//! Broker, Redis, fflow and holder.

use super::{Item, WITHIN};
use crate::config::Config;
use crate::gateways::broker::{BrokerError, LapinBroker, Topology};
use crate::gateways::route_store::{RedisRoutes, RouteStore};
use crate::gateways::upload_store::overview::Overview;
use crate::http::probe::probe;

const BROKER: &str = "broker";
const REDIS: &str = "redis";
const FFLOW: &str = "fflow";
const HOLDER: &str = "holder";

pub(super) async fn check(config: &Config, overview: Option<&Overview>) -> Vec<Item> {
    let (broker, redis, fflow, holder) =
        tokio::join!(broker(config, overview), redis(config), fflow(config), holder(config));
    broker.into_iter().chain([redis, fflow, holder]).collect()
}

async fn broker(config: &Config, overview: Option<&Overview>) -> Vec<Item> {
    let broker = LapinBroker::new(config.amqp.clone(), &config.replica.name);
    match broker.inspect().await {
        Ok(topology) => topology_items(&topology, overview),
        Err(error @ BrokerError::Refused(_)) => {
            let mend =
                "check user, password and vhost in AMQP_CONNECTION_STRING, and the user's rights there";
            vec![Item::wrong(BROKER, error.to_string(), mend)]
        }
        Err(error) => {
            let mend = "check host and port in AMQP_CONNECTION_STRING, and that the broker runs there";
            vec![Item::wrong(BROKER, error.to_string(), mend)]
        }
    }
}

fn topology_items(topology: &Topology, overview: Option<&Overview>) -> Vec<Item> {
    let mut items = Vec::new();
    if topology.absent.is_empty() {
        let found = format!("exchange and queues are there, {} chunks wait", topology.chunks);
        items.push(Item::ok(BROKER, found));
    } else {
        let found = format!("reached; absent: {}", topology.absent.join(", "));
        items.push(Item::ok(BROKER, format!("{found} (the service declares them when it starts)")));
    }
    let alive = |overview: &Overview| overview.replicas.iter().filter(|replica| replica.alive).count();
    // Counts may be a moment apart: only many more consumers than replicas say something.
    if let Some(ours) = overview.map(alive).filter(|ours| topology.consumers as usize > *ours) {
        let found =
            format!("{} consumers take chunks, {ours} replicas of this service live", topology.consumers);
        items.push(Item::warning(
            BROKER,
            found,
            "stop the other uploader: two kinds share out one upload's chunks",
        ));
    }
    items
}

async fn redis(config: &Config) -> Item {
    let mend = "check FFLOW_CACHE_HOST and FFLOW_CACHE_PORT, or FFLOW_CACHE_URL; uploads go on without it";
    let ping = async { RedisRoutes::new(&config.redis)?.ping().await };
    match tokio::time::timeout(WITHIN, ping).await {
        Ok(Ok(())) => Item::ok(REDIS, "answers"),
        Ok(Err(error)) => Item::warning(REDIS, error.to_string(), mend),
        Err(_) => Item::warning(REDIS, format!("no answer within {WITHIN:?}"), mend),
    }
}

/// Any answer will do: what exists at the base address is fflow's own affair.
async fn fflow(config: &Config) -> Item {
    let base = &config.fflow.base_url;
    let allowed: Vec<String> = config.fflow.allowed.iter().map(ToString::to_string).collect();
    match probe(base.as_str(), WITHIN).await {
        Ok(answer) if answer.status < 500 => {
            Item::ok(FFLOW, format!("{base} answers; flows may live at {}", allowed.join(", ")))
        }
        Ok(answer) => {
            let mend = "see the balancer and its replicas; uploads are stored meanwhile";
            Item::warning(FFLOW, format!("{base} answers {}", answer.status), mend)
        }
        Err(why) => {
            let mend = "check FFLOW_BASE_URL; uploads are stored meanwhile, and fed when it is there";
            Item::wrong(FFLOW, format!("{base}: {why}"), mend)
        }
    }
}

async fn holder(config: &Config) -> Item {
    let Some(base) = &config.holder.base_url else {
        let mend = "set UPLOADER_HOLDER_BASE_URL to where players find the files";
        return Item::warning(HOLDER, "no address: fflow's word is believed when it reports a finish", mend);
    };
    match probe(base.as_str(), WITHIN).await {
        Ok(answer) if answer.status < 500 => Item::ok(HOLDER, format!("{base} answers")),
        Ok(answer) => Item::warning(HOLDER, format!("{base} answers {}", answer.status), "see holder's log"),
        Err(why) => {
            let mend = "check UPLOADER_HOLDER_BASE_URL; until it answers no video becomes DISTRIBUTED";
            Item::wrong(HOLDER, format!("{base}: {why}"), mend)
        }
    }
}
