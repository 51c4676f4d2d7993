//! What both lines stand on: who this replica is, its settings, and its neighbours behind their traits.

use std::rc::Rc;
use std::sync::Arc;

use sea_orm::DatabaseConnection;

use super::gauges::Gauges;
use crate::config::Config;
use crate::domain::ids::ReplicaId;
use crate::gateways::broker::{Broker, LapinBroker};
use crate::gateways::fflow::{AwcFflow, Fflow};
use crate::gateways::holder::{AwcHolder, Holder};
use crate::gateways::route_store::RouteStore;
use crate::gateways::spool::Spool;
use crate::gateways::upload_store::chunks::{ChunkStore, PgChunkStore};
use crate::gateways::upload_store::cleaning::{CleaningStore, PgCleaningStore};
use crate::gateways::upload_store::farm::{FarmStore, PgFarmStore};
use crate::gateways::upload_store::feeds::{FeedStore, PgFeedStore};
use crate::gateways::upload_store::replicas::{PgReplicaStore, ReplicaStore};
use crate::readiness::Readiness;

/// What both lines stand on. Made of real gateways it is a replica; made of doubles, the same replica in a test.
pub struct Foundation {
    /// Settings.
    pub config: Config,
    /// The board of dependencies.
    pub readiness: Readiness,
    /// This replica.
    pub me: ReplicaId,
    /// PostgreSQL.
    pub stores: Stores,
    /// Redis.
    pub routes: Arc<dyn RouteStore>,
    /// The shared volume.
    pub spool: Arc<dyn Spool>,
    /// RabbitMQ.
    pub broker: Arc<dyn Broker>,
    /// The farm.
    pub fflow: Rc<dyn Fflow>,
    /// Where finished files are looked at, if an address is set.
    pub holder: Option<Rc<dyn Holder>>,
    /// Bytes that all sessions together may reserve in the spool.
    pub quota_bytes: i64,
}

/// PostgreSQL, as each road sees it.
#[derive(Clone)]
pub struct Stores {
    /// The chunk road.
    pub chunks: Arc<dyn ChunkStore>,
    /// The feed road.
    pub feeds: Arc<dyn FeedStore>,
    /// What is known of the farm.
    pub farm: Arc<dyn FarmStore>,
    /// The janitor road.
    pub cleaning: Arc<dyn CleaningStore>,
    /// Heartbeats.
    pub replicas: Arc<dyn ReplicaStore>,
}

impl Stores {
    /// All on `db`, but for chunks and heartbeats: feeds in need of connections neither hold up an answer nor end the
    /// lease.
    pub(super) fn new(
        db: &DatabaseConnection,
        chunks: DatabaseConnection,
        heartbeat: DatabaseConnection,
    ) -> Self {
        Stores {
            chunks: Arc::new(PgChunkStore::new(chunks)),
            feeds: Arc::new(PgFeedStore::new(db.clone())),
            farm: Arc::new(PgFarmStore::new(db.clone())),
            cleaning: Arc::new(PgCleaningStore::new(db.clone())),
            replicas: Arc::new(PgReplicaStore::new(heartbeat)),
        }
    }
}

impl Foundation {
    /// The neighbours that need nothing but their settings join those that had to be opened. None is connected to yet.
    pub(super) fn new(
        config: Config,
        readiness: Readiness,
        me: ReplicaId,
        stores: Stores,
        routes: Arc<dyn RouteStore>,
        spool: Arc<dyn Spool>,
        quota_bytes: i64,
    ) -> Self {
        let broker = Arc::new(LapinBroker::new(config.amqp.clone(), &config.replica.name));
        let fflow = Rc::new(AwcFflow::new(config.fflow.clone(), config.feed.max_feeds));
        let holder = AwcHolder::new(&config.holder).map(|holder| Rc::new(holder) as Rc<dyn Holder>);
        Foundation { config, readiness, me, stores, routes, spool, broker, fflow, holder, quota_bytes }
    }

    /// What is sampled while the service runs.
    pub(super) fn gauges(&self) -> Gauges {
        Gauges {
            spool: self.spool.clone(),
            chunks: self.stores.chunks.clone(),
            quota_bytes: self.quota_bytes,
        }
    }
}
