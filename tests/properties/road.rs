//! The chunk road without broker and database: validator and registry as they are, store and spool in memory.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use actix::prelude::*;
use uploader_v4::actors::chunk_validator::ChunkValidator;
use uploader_v4::actors::session_registry::{RegistryParts, SessionRegistry};
use uploader_v4::config::{Config, ConfigSources};
use uploader_v4::domain::ids::{FlowId, SessionId, VideoId};
use uploader_v4::domain::invariants;
use uploader_v4::domain::session::{RefusalKind, Session, SharedRows};
use uploader_v4::domain::status::{FlowStatus, SessionState, VideoStatus};
use uploader_v4::gateways::broker::wire;
use uploader_v4::gateways::spool::Spool;
use uploader_v4::messages::{SessionAdvanced, ValidateChunk};
use uploader_v4::readiness::Readiness;
use uploader_v4::testkit::memory_cleaning::MemoryCleaning;
use uploader_v4::testkit::memory_spool::MemorySpool;
use uploader_v4::testkit::memory_store::MemoryStore;
use uploader_v4::ticket::{DeliveryId, Settlement, Ticket, Verdict};
use uuid::Uuid;

use crate::sent::Sent;

pub const SESSIONS: usize = 3;
/// Bytes of each session's file.
pub const TOTAL: i64 = 1000;
/// Largest chunk.
pub const MAX_BYTES: u32 = 100;

const DEADLINE: Duration = Duration::from_secs(30);

pub fn session(number: usize) -> SessionId {
    SessionId(Uuid::from_u128(0xabcdef << 64 | number as u128))
}

/// How one delivery ended.
#[derive(Debug, Clone)]
pub struct Outcome(Verdict);

impl Outcome {
    pub fn is_ack(&self) -> bool {
        matches!(&self.0, Verdict::Reply(reply) if reply.refusal.is_none())
    }

    /// Acked, or refused for where it stands.
    pub fn is_judged(&self) -> bool {
        let kind = self.refusal();
        self.is_ack() || matches!(kind, Some(RefusalKind::Offset | RefusalKind::Crowded | RefusalKind::Ended))
    }

    pub fn is_malformed(&self) -> bool {
        self.refusal() == Some(RefusalKind::Malformed)
    }

    pub fn is_reject(&self) -> bool {
        matches!(self.0, Verdict::Reject { .. })
    }

    fn refusal(&self) -> Option<RefusalKind> {
        match &self.0 {
            Verdict::Reply(reply) => reply.refusal.as_ref().map(|refusal| refusal.kind),
            Verdict::Reject { .. } | Verdict::GiveBack => None,
        }
    }
}

/// Remembers how every ticket was settled.
#[derive(Clone, Default)]
struct Desk(Arc<Mutex<Vec<Settlement>>>);

impl Actor for Desk {
    type Context = Context<Self>;
}

impl Handler<Settlement> for Desk {
    type Result = ();

    fn handle(&mut self, settlement: Settlement, _: &mut Self::Context) {
        self.0.lock().unwrap().push(settlement);
    }
}

impl Handler<SessionAdvanced> for Desk {
    type Result = ();

    fn handle(&mut self, _: SessionAdvanced, _: &mut Self::Context) {}
}

pub struct Road {
    store: MemoryStore,
    spool: MemorySpool,
    settled: Desk,
    desk: Addr<Desk>,
    validator: Addr<ChunkValidator>,
}

impl Road {
    pub fn new() -> Self {
        let (store, spool, settled) = (MemoryStore::default(), MemorySpool::default(), Desk::default());
        (0..SESSIONS).for_each(|number| store.put(session(number), shared(number)));
        let desk = settled.clone().start();
        let mut config = Config::load(ConfigSources::default()).unwrap().0.chunk;
        config.max_bytes = MAX_BYTES.into();
        config.reorder_poll = Duration::from_millis(5);
        config.reorder_wait = Duration::from_millis(20);
        let parts = RegistryParts {
            store: Arc::new(store.clone()),
            cleaning: Arc::new(MemoryCleaning::default()),
            spool: Arc::new(spool.clone()),
            forwarder: desk.clone().recipient(),
            config,
            video_ttl: Duration::from_secs(3600),
            quota_bytes: i64::MAX,
            early_chunks: 8,
            readiness: Readiness::new(),
        };
        let registry = SessionRegistry::create(|ctx| {
            ctx.set_mailbox_capacity(1024);
            SessionRegistry::new(parts)
        });
        let validator = ChunkValidator::new(registry.recipient(), MAX_BYTES).start();
        Road { store, spool, settled, desk, validator }
    }

    pub fn send(&self, tag: u64, sent: &Sent) {
        let table = sent.table(&format!("c{tag}"));
        let delivery = wire::raw_delivery_of(&table, sent.body.clone().into()).expect("a header table");
        let ticket =
            Ticket::new(DeliveryId { link: 1, tag }, tracing::Span::none(), self.desk.clone().recipient());
        self.validator.do_send(ValidateChunk { delivery, ticket });
    }

    /// Waits until so many tickets are settled.
    pub async fn all_settled(&self, count: usize) {
        let end = Instant::now() + DEADLINE;
        while self.settled.0.lock().unwrap().len() < count {
            assert!(Instant::now() < end, "{} of {count} are settled", self.settled.0.lock().unwrap().len());
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    pub fn verdicts(&self, tag: u64) -> Vec<Outcome> {
        let settled = self.settled.0.lock().unwrap();
        let of_tag = settled.iter().filter(|settlement| settlement.delivery.tag == tag);
        of_tag.map(|settlement| Outcome(settlement.verdict.clone())).collect()
    }

    /// The bytes that a session's runs lead to.
    pub async fn stored(&self, number: usize) -> Vec<u8> {
        let row = self.store.row(session(number)).unwrap();
        let length = row.committed() as usize;
        self.spool.read(session(number), &row.runs, 0, length).await.map_or_else(
            |error| {
                assert_eq!(length, 0, "{error}");
                Vec::new()
            },
            |bytes| bytes.to_vec(),
        )
    }

    pub fn is_sealed(&self, number: usize) -> bool {
        self.store.row(session(number)).unwrap().state() == Some(SessionState::Sealed)
    }

    pub fn rows_are_sound(&self) {
        self.store.with(|tables| {
            for row in tables.sessions.values() {
                let session = Session { own: row.own.clone(), shared: row.shared, unreadable: None };
                assert_eq!(invariants::session_is_sound(&session), Ok(()));
            }
        });
    }
}

fn shared(number: usize) -> SharedRows {
    SharedRows {
        flow: FlowId(Uuid::from_u128(100 + number as u128)),
        video: VideoId(Uuid::from_u128(200 + number as u128)),
        total_bytes: TOTAL,
        uploaded_bytes: 0,
        flow_status: FlowStatus::Created,
        video_status: VideoStatus::Created,
    }
}
