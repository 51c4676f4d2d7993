//! The broker: is it reached, is the topology there, and who else consumes?

use super::report::Item;
use super::shown;
use crate::config::Config;
use crate::fault::{Classified, Fault};
use crate::gateways::broker::{BrokerError, LapinBroker, QueueSeen, Topology};
use crate::gateways::upload_store::survey::Service;

const UNREACHED: &str = "the broker is not reached";

pub(super) async fn look(config: &Config) -> Result<Topology, BrokerError> {
    LapinBroker::new(config.amqp.clone(), &config.replica.name).survey().await
}

pub(super) fn items(
    config: &Config,
    topology: &Result<Topology, BrokerError>,
    service: &Result<Service, String>,
) -> [Item; 3] {
    let address = shown(&config.amqp);
    match topology {
        Ok(topology) => [
            Item::ok("broker", format!("reached at {address}")),
            declared(config, topology),
            consumers(config, topology.upload, service),
        ],
        Err(error) => [
            Item::wrong("broker", format!("{address}: {error}"), mend(error)),
            Item::skipped("topology", UNREACHED),
            Item::skipped("consumers", UNREACHED),
        ],
    }
}

fn mend(error: &BrokerError) -> &'static str {
    match error.fault() {
        Fault::Transient => {
            "see that RabbitMQ runs there, and that AMQP_CONNECTION_STRING names its host and port"
        }
        Fault::Poison | Fault::Fatal => {
            "see that user, password and vhost in AMQP_CONNECTION_STRING exist there and that the user may use the vhost"
        }
    }
}

fn declared(config: &Config, topology: &Topology) -> Item {
    let amqp = &config.amqp;
    let parts = [
        (topology.exchange, format!("exchange {}", amqp.exchange)),
        (topology.upload.is_some(), format!("queue {}", amqp.upload_queue)),
        (topology.reply.is_some(), format!("queue {}", amqp.reply_queue)),
    ];
    let named = |there: bool| {
        let names = parts.iter().filter(|(is, _)| *is == there).map(|(_, name)| name.as_str());
        names.collect::<Vec<_>>().join(", ")
    };
    let found = match (named(true), named(false)) {
        (there, absent) if absent.is_empty() => format!("{there} are there"),
        (there, absent) if there.is_empty() => {
            format!("{absent} are absent: the service declares them when it starts")
        }
        (there, absent) => format!("{there} there, {absent} absent: the service declares it when it starts"),
    };
    Item::ok("topology", found)
}

/// A replica has one consumer at most. What consumes beside them takes chunks away that this service then waits for.
fn consumers(config: &Config, upload: Option<QueueSeen>, service: &Result<Service, String>) -> Item {
    const NAME: &str = "consumers";
    let queue = &config.amqp.upload_queue;
    let (Some(upload), Ok(service)) = (upload, service) else {
        let why = service.as_ref().err().cloned();
        return Item::skipped(NAME, why.unwrap_or_else(|| format!("there is no queue {queue}")));
    };
    let found = format!(
        "{queue} has {} and {} waiting; {} of this service",
        counted(upload.consumers.into(), "consumer"),
        counted(upload.ready.into(), "chunk"),
        counted(service.live, "living replica")
    );
    if i64::from(upload.consumers) <= service.live {
        return Item::ok(NAME, found);
    }
    let mend =
        "another uploader consumes too: stop it (the broker's management lists the consumers of the queue)";
    Item::warning(NAME, found, mend)
}

fn counted(count: i64, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::cli::check::report::State;
    use crate::config::ConfigSources;

    fn config() -> Config {
        Config::load(ConfigSources::default()).unwrap().0
    }

    fn service(live: i64) -> Result<Service, String> {
        Ok(Service {
            spool_id: None,
            consuming_since: None,
            live,
            consuming: live,
            dead: 0,
            unfinished: 0,
            overdue: 0,
            reserved: 0,
            stored: 0,
        })
    }

    #[test]
    fn more_consumers_than_replicas_are_a_warning_and_fewer_are_not() {
        let seen = |consumers| Some(QueueSeen { ready: 0, consumers });
        assert_eq!(consumers(&config(), seen(2), &service(2)).state, State::Ok);
        assert_eq!(consumers(&config(), seen(1), &service(2)).state, State::Ok);
        assert_eq!(consumers(&config(), seen(3), &service(2)).state, State::Warning);
        assert_eq!(consumers(&config(), None, &service(2)).state, State::Skipped);
        assert_eq!(consumers(&config(), seen(1), &Err("no database".into())).found, "no database");
    }

    #[test]
    fn what_is_absent_of_the_topology_is_named() {
        let some = Some(QueueSeen { ready: 0, consumers: 0 });
        let found =
            |exchange, upload, reply| declared(&config(), &Topology { exchange, upload, reply }).found;
        assert!(found(true, some, some).ends_with("are there"));
        assert!(
            found(false, None, None)
                .contains("chunk-exchange, queue chunk-upload, queue chunk-reply are absent")
        );
        assert!(found(true, some, None).contains("queue chunk-reply absent"));
    }
}
