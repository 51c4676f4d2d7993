//! The registry alone: chunks come in, tickets and reports go out, store and spool are in memory.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::Semaphore;
use uuid::Uuid;

use super::*;
use crate::config::{Config, ConfigSources};
use crate::domain::chunk::{Chunk, ChunkFacts};
use crate::domain::ids::{CorrelationId, FlowId, VideoId};
use crate::domain::invariants;
use crate::domain::session::{Admission, Refusal, RefusalKind, SharedRows};
use crate::domain::status::{FlowStatus, SessionState, VideoStatus};
use crate::gateways::spool::{Run, SpoolError, Stored, Volume};
use crate::readiness::{Dependency, State};
use crate::testkit::memory_cleaning::MemoryCleaning;
use crate::testkit::memory_spool::{Health, MemorySpool};
use crate::testkit::memory_store::{Call, Fault, MemoryStore};
use crate::ticket::{DeliveryId, Settlement, Ticket, Verdict};

const DEADLINE: Duration = Duration::from_secs(10);
const TOTAL: i64 = 1000;

/// Takes what the registry tells, in order.
#[derive(Clone, Default)]
struct Desk {
    settled: Arc<Mutex<Vec<Settlement>>>,
    advanced: Arc<Mutex<Vec<SessionAdvanced>>>,
}

struct Probe(Desk);

impl Actor for Probe {
    type Context = Context<Self>;
}

impl Handler<Settlement> for Probe {
    type Result = ();

    fn handle(&mut self, settlement: Settlement, _: &mut Self::Context) {
        self.0.settled.lock().unwrap().push(settlement);
    }
}

impl Handler<SessionAdvanced> for Probe {
    type Result = ();

    fn handle(&mut self, advanced: SessionAdvanced, _: &mut Self::Context) {
        self.0.advanced.lock().unwrap().push(advanced);
    }
}

/// Stops the registry as a crash of its line would.
#[derive(Message)]
#[rtype(result = "()")]
struct Stop;

impl Handler<Stop> for SessionRegistry {
    type Result = ();

    fn handle(&mut self, _: Stop, ctx: &mut Self::Context) {
        ctx.stop();
    }
}

struct World {
    store: MemoryStore,
    spool: MemorySpool,
    desk: Desk,
    readiness: Readiness,
    probe: Addr<Probe>,
    registry: Addr<SessionRegistry>,
}

/// What a test may set before the registry starts.
struct Setting {
    config: ChunkConfig,
    quota_bytes: i64,
    early_chunks: usize,
    spool: Option<Arc<dyn Spool>>,
}

fn setting() -> Setting {
    let mut config = Config::load(ConfigSources::default()).unwrap().0.chunk;
    config.max_bytes = 100;
    config.reorder_poll = Duration::from_millis(20);
    Setting { config, quota_bytes: i64::MAX, early_chunks: 64, spool: None }
}

impl World {
    fn new() -> Self {
        Self::with(|_, _| {})
    }

    fn with(change: impl FnOnce(&mut Setting, &MemorySpool)) -> Self {
        let (store, spool) = (MemoryStore::default(), MemorySpool::default());
        (0..8).for_each(|number| store.put(session(number), shared(number)));
        Self::on(store, spool, change)
    }

    /// Another replica on the same neighbours.
    fn beside(&self) -> Self {
        Self::on(self.store.clone(), self.spool.clone(), |_, _| {})
    }

    fn on(store: MemoryStore, spool: MemorySpool, change: impl FnOnce(&mut Setting, &MemorySpool)) -> Self {
        let readiness = Readiness::new();
        let mut setting = setting();
        change(&mut setting, &spool);
        let desk = Desk::default();
        let probe = Probe(desk.clone()).start();
        let parts = RegistryParts {
            store: Arc::new(store.clone()),
            cleaning: Arc::new(MemoryCleaning::default()),
            spool: setting.spool.unwrap_or_else(|| Arc::new(spool.clone())),
            forwarder: probe.clone().recipient(),
            config: setting.config,
            video_ttl: Duration::from_secs(3600),
            quota_bytes: setting.quota_bytes,
            early_chunks: setting.early_chunks,
            readiness: readiness.clone(),
        };
        let registry = Supervisor::start(move |ctx: &mut Context<SessionRegistry>| {
            ctx.set_mailbox_capacity(512);
            SessionRegistry::new(parts)
        });
        World { store, spool, desk, readiness, probe, registry }
    }

    /// Sends the chunk `[start, start + size)` of a session; its tag names it in the answers.
    fn send(&self, number: u128, tag: u64, start: i64, size: u32) {
        let body: Vec<u8> = (0..size).map(|n| byte(start + i64::from(n))).collect();
        let digest = xxhash_rust::xxh3::xxh3_128(&body);
        let facts = ChunkFacts { session: session(number), start, size, digest };
        let correlation = CorrelationId::parse(format!("c{tag}").as_bytes()).unwrap();
        let delivery = DeliveryId { link: 1, tag };
        let ticket = Ticket::new(delivery, tracing::Span::none(), self.probe.clone().recipient());
        let chunk = Chunk { facts, correlation, body: Bytes::from(body) };
        self.registry.do_send(AdmitChunk { chunk, ticket });
    }

    fn verdict(&self, tag: u64) -> Option<Verdict> {
        let settled = self.desk.settled.lock().unwrap();
        settled.iter().find(|settlement| settlement.delivery.tag == tag).map(|known| known.verdict.clone())
    }

    fn settled(&self) -> usize {
        self.desk.settled.lock().unwrap().len()
    }

    async fn answer(&self, tag: u64) -> Option<Refusal> {
        self.wait_until(&format!("chunk {tag} is answered"), || self.verdict(tag).is_some()).await;
        match self.verdict(tag).unwrap() {
            Verdict::Reply(reply) => {
                assert_eq!(reply.correlation.as_str(), format!("c{tag}"));
                reply.refusal
            }
            other => panic!("chunk {tag}: {other:?}"),
        }
    }

    async fn acked(&self, tag: u64) {
        assert_eq!(self.answer(tag).await, None, "chunk {tag}");
    }

    async fn refused(&self, tag: u64) -> Refusal {
        self.answer(tag).await.unwrap_or_else(|| panic!("chunk {tag} was taken"))
    }

    async fn wait_until(&self, what: &str, holds: impl Fn() -> bool) {
        let end = Instant::now() + DEADLINE;
        while !holds() {
            assert!(Instant::now() < end, "not within {DEADLINE:?}: {what}; {:?}", self.desk.settled);
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    fn committed(&self, number: u128) -> i64 {
        self.store.row(session(number)).unwrap().committed()
    }

    /// The bytes that a session's runs lead to.
    async fn stored(&self, number: u128) -> Vec<u8> {
        let row = self.store.row(session(number)).unwrap();
        let length = row.committed() as usize;
        self.spool.read(session(number), &row.runs, 0, length).await.unwrap().to_vec()
    }

    fn advances(&self, number: u128) -> Vec<(i64, bool)> {
        let advanced = self.desk.advanced.lock().unwrap();
        let of_session = advanced.iter().filter(|advanced| advanced.session == session(number));
        of_session.map(|advanced| (advanced.committed, advanced.sealed)).collect()
    }

    /// All rows agree with each other.
    fn check(&self) {
        self.store.with(|tables| {
            for row in tables.sessions.values() {
                let session = Session { own: row.own.clone(), shared: row.shared, unreadable: None };
                assert_eq!(invariants::session_is_sound(&session), Ok(()));
            }
        });
    }
}

fn session(number: u128) -> SessionId {
    SessionId(Uuid::from_u128(number + 1))
}

fn byte(offset: i64) -> u8 {
    (offset % 251) as u8
}

fn whole(bytes: i64) -> Vec<u8> {
    (0..bytes).map(byte).collect()
}

fn shared(number: u128) -> SharedRows {
    SharedRows {
        flow: FlowId(Uuid::from_u128(100 + number)),
        video: VideoId(Uuid::from_u128(200 + number)),
        total_bytes: TOTAL,
        uploaded_bytes: 0,
        flow_status: FlowStatus::Created,
        video_status: VideoStatus::Created,
    }
}

#[actix_rt::test]
async fn a_chunk_is_stored_committed_answered_and_told() {
    let world = World::new();
    world.send(0, 1, 0, 100);
    world.acked(1).await;
    assert_eq!(world.stored(0).await, whole(100));
    world.wait_until("the forwarder hears", || world.advances(0) == [(100, false)]).await;
    let row = world.store.row(session(0)).unwrap();
    assert_eq!((row.flow_status, row.video_status), (FlowStatus::Uploading, VideoStatus::Uploading));
    assert_eq!(world.readiness.get(Dependency::Spool), State::Up);
    world.check();
}

#[actix_rt::test]
async fn a_whole_file_seals_its_session() {
    let world = World::new();
    for n in 0..10 {
        world.send(0, n, n as i64 * 100, 100);
    }
    for n in 0..10 {
        world.acked(n).await;
    }
    assert_eq!(world.stored(0).await, whole(TOTAL));
    assert_eq!(world.store.row(session(0)).unwrap().state(), Some(SessionState::Sealed));
    world.wait_until("the end is told", || world.advances(0).last() == Some(&(TOTAL, true))).await;
    assert_eq!(world.store.row(session(0)).unwrap().flow_status, FlowStatus::Processing);
    world.check();
}

#[actix_rt::test]
async fn of_a_session_that_two_replicas_take_in_turn_only_the_first_chunks_need_a_look() {
    let one = World::new();
    let two = one.beside();
    let looks_until = async |numbers: std::ops::Range<u64>| {
        for number in numbers {
            let world = if number % 2 == 0 { &one } else { &two };
            world.send(0, number, number as i64 * 100, 100);
            world.acked(number).await;
        }
        one.store.count(Call::Look)
    };
    let looks = looks_until(0..4).await;
    assert_eq!(looks_until(4..8).await, looks);
    assert_eq!(one.stored(0).await, whole(800));
    one.send(0, 8, 700, 100);
    one.acked(8).await;
    assert_eq!(one.committed(0), 800, "a duplicate of what the other one stored");
    one.check();
}

#[actix_rt::test]
async fn a_chunk_that_comes_before_what_others_were_supposed_to_have_stored_waits_for_it() {
    let one = World::new();
    let two = one.beside();
    for number in 0..5 {
        let world = if number % 2 == 0 { &one } else { &two };
        world.send(0, number, number as i64 * 100, 100);
        world.acked(number).await;
    }
    one.send(0, 6, 600, 100);
    one.wait_until("it is durable, and not yet its turn", || one.spool.appends() == 6).await;
    two.send(0, 5, 500, 100);
    two.acked(5).await;
    one.acked(6).await;
    assert_eq!((one.stored(0).await, one.spool.appends()), (whole(700), 7));
    one.check();
}

#[actix_rt::test]
async fn nothing_is_committed_before_it_is_in_the_spool() {
    let world = World::new();
    world.spool.set_health(Health::Away);
    world.send(0, 1, 0, 100);
    let down = || matches!(world.readiness.get(Dependency::Spool), State::Down(why) if why.contains("away"));
    world.wait_until("the spool is seen down", down).await;
    assert_eq!((world.store.count(Call::Commit), world.settled()), (0, 0));
    world.spool.set_health(Health::Sound);
    world.acked(1).await;
    assert_eq!(world.spool.appends(), 1);
    assert_eq!(world.readiness.get(Dependency::Spool), State::Up);
}

#[actix_rt::test]
async fn a_spool_that_stays_away_costs_a_retryable_nack() {
    let world = World::with(|setting, spool| {
        setting.config.deadline = Duration::from_millis(200);
        spool.set_health(Health::Full);
    });
    world.send(0, 1, 0, 100);
    let refusal = world.refused(1).await;
    assert_eq!((refusal.kind, refusal.retryable), (RefusalKind::Unavailable, true));
    assert_eq!(refusal.reason, "temporarily unavailable");
    assert_eq!(world.committed(0), 0);
}

#[actix_rt::test]
async fn a_redelivered_chunk_is_answered_twice_and_stored_once() {
    let world = World::new();
    world.send(0, 1, 0, 100);
    world.acked(1).await;
    world.send(0, 2, 0, 100);
    world.send(0, 3, 0, 100);
    world.acked(2).await;
    world.acked(3).await;
    assert_eq!((world.spool.appends(), world.committed(0)), (1, 100));
    assert_eq!(world.advances(0), [(100, false)]);
}

#[actix_rt::test]
async fn the_same_chunk_twice_at_once_is_stored_once() {
    let world = World::new();
    (1..=4).for_each(|tag| world.send(0, tag, 0, 100));
    for tag in 1..=4 {
        world.acked(tag).await;
    }
    assert_eq!((world.spool.appends(), world.committed(0)), (1, 100));
}

#[actix_rt::test]
async fn a_late_duplicate_is_answered_from_its_tombstone() {
    let world = World::new();
    world.store.upload(&world.spool, session(0), &whole(TOTAL), 100).await.unwrap();
    world.store.alter(session(0), |row| {
        row.own.as_mut().unwrap().state = SessionState::Done;
        row.shared = None;
    });
    world.send(0, 1, 900, 100);
    world.acked(1).await;
    world.send(0, 2, 900, 50);
    assert_eq!(world.refused(2).await.kind, RefusalKind::Ended);
}

#[actix_rt::test]
async fn an_early_chunk_parks_and_goes_on_after_its_predecessor() {
    let world = World::new();
    for (tag, start) in [(3, 300), (1, 100), (2, 200)] {
        world.send(0, tag, start, 100);
    }
    world.wait_until("they were looked at", || world.store.count(Call::Look) >= 2).await;
    assert_eq!(world.settled(), 0);
    world.send(0, 0, 0, 100);
    for tag in 0..4 {
        world.acked(tag).await;
    }
    assert_eq!(world.stored(0).await, whole(400));
    world.wait_until("each is told", || world.advances(0).len() == 4).await;
    assert_eq!(world.advances(0), [(100, false), (200, false), (300, false), (400, false)]);
}

#[actix_rt::test]
async fn an_early_chunk_goes_on_when_its_predecessor_is_stored_elsewhere() {
    let world = World::new();
    world.send(0, 1, 100, 100);
    world.wait_until("it was looked at", || world.store.count(Call::Look) >= 2).await;
    let elsewhere = world.spool.replica();
    world.store.upload(&elsewhere, session(0), &whole(100), 100).await.unwrap();
    world.acked(1).await;
    assert_eq!(world.stored(0).await, whole(200));
    assert_eq!(world.store.row(session(0)).unwrap().runs.len(), 2);
}

#[actix_rt::test]
async fn an_early_chunk_whose_predecessor_never_comes_is_refused_with_the_offset() {
    let world = World::with(|setting, _| setting.config.reorder_wait = Duration::from_millis(150));
    let sent = Instant::now();
    world.send(0, 1, 100, 100);
    let refusal = world.refused(1).await;
    assert!(sent.elapsed() >= Duration::from_millis(150));
    assert_eq!((refusal.expected, refusal.retryable), (Some(0), true));
}

#[actix_rt::test]
async fn the_wait_stands_still_while_the_predecessor_is_held_here() {
    let world = World::with(|setting, _| setting.config.reorder_wait = Duration::from_millis(100));
    world.store.pause(Call::Commit, true);
    world.send(0, 0, 0, 100);
    world.send(0, 1, 100, 100);
    world.wait_until("the first is stored", || world.spool.appends() == 1).await;
    tokio::time::timeout(Duration::from_millis(300), std::future::pending::<()>()).await.unwrap_err();
    assert_eq!(world.settled(), 0);
    world.store.pause(Call::Commit, false);
    world.acked(0).await;
    world.acked(1).await;
}

#[actix_rt::test]
async fn too_many_early_chunks_of_one_session_are_refused_at_once() {
    let world = World::new();
    (1..10).for_each(|tag| world.send(0, tag, 1 + tag as i64 * 50, 50));
    let refusal = world.refused(9).await;
    assert_eq!((refusal.kind, refusal.retryable), (RefusalKind::Crowded, true));
    assert_eq!(world.settled(), 1);
}

#[actix_rt::test]
async fn too_many_early_chunks_of_all_sessions_are_refused_at_once() {
    let world = World::with(|setting, _| setting.early_chunks = 3);
    (0..4).for_each(|number| world.send(number, number as u64, 100, 100));
    world.wait_until("one is refused", || world.settled() == 1).await;
    world.send(5, 50, 0, 100);
    world.acked(50).await;
    let early: Vec<u64> = (0..4).filter(|tag| world.verdict(*tag).is_none()).collect();
    early.iter().for_each(|tag| world.send(u128::from(*tag), 100 + tag, 0, 100));
    for tag in early {
        world.acked(tag).await;
    }
    // Their places are free again.
    world.send(6, 60, 100, 100);
    world.send(6, 61, 0, 100);
    world.acked(60).await;
}

#[actix_rt::test]
async fn chunks_wait_while_postgresql_is_away_and_go_on_after_it() {
    let world = World::new();
    world.store.set_away(true);
    world.send(0, 1, 0, 100);
    world.wait_until("it is looked at in vain", || world.store.count(Call::Look) >= 3).await;
    assert_eq!(world.settled(), 0);
    world.store.set_away(false);
    world.acked(1).await;
    assert_eq!(world.committed(0), 100);
}

#[actix_rt::test]
async fn a_failed_commit_is_run_again_without_storing_the_bytes_twice() {
    let world = World::new();
    (0..3).for_each(|_| world.store.script(Call::Commit, Fault::Before));
    world.send(0, 1, 0, 100);
    world.acked(1).await;
    assert_eq!((world.spool.appends(), world.store.count(Call::Commit)), (1, 4));
    assert_eq!(world.stored(0).await, whole(100));
}

#[actix_rt::test]
async fn a_commit_of_unknown_outcome_is_found_in_the_row() {
    let world = World::new();
    world.store.script(Call::Commit, Fault::After);
    world.send(0, 1, 0, 100);
    world.send(0, 2, 100, 100);
    world.acked(1).await;
    world.acked(2).await;
    assert_eq!((world.spool.appends(), world.committed(0)), (2, 200));
    assert_eq!(world.stored(0).await, whole(200));
    world.check();
}

#[actix_rt::test]
async fn after_the_deadline_without_postgresql_a_chunk_may_be_sent_again() {
    let world = World::with(|setting, _| setting.config.deadline = Duration::from_millis(200));
    world.store.set_away(true);
    world.send(0, 1, 0, 100);
    let refusal = world.refused(1).await;
    assert_eq!((refusal.kind, refusal.retryable), (RefusalKind::Unavailable, true));
    world.store.set_away(false);
    world.send(0, 2, 0, 100);
    world.acked(2).await;
}

#[actix_rt::test]
async fn a_refused_batch_is_halved_until_only_the_culprit_is_answered() {
    let world = World::new();
    world.store.pause(Call::Commit, true);
    (0..8).for_each(|number| world.send(number, number as u64, 0, 100));
    world.wait_until("all are in the spool", || world.spool.appends() == 8).await;
    world.store.refuse(session(5));
    world.store.pause(Call::Commit, false);
    for tag in (0..8).filter(|tag| *tag != 5) {
        world.acked(tag).await;
    }
    let refusal = world.refused(5).await;
    assert_eq!((refusal.kind, refusal.retryable), (RefusalKind::Inconsistent, false));
    assert_eq!(world.committed(5), 0);
    assert!(world.store.count(Call::Commit) < 9, "the others went in batches");
    world.send(4, 40, 100, 100);
    world.acked(40).await;
}

#[actix_rt::test]
async fn the_next_batch_gathers_while_one_is_in_flight() {
    let world = World::new();
    world.store.pause(Call::Commit, true);
    (0..8).for_each(|number| world.send(number, number as u64, 0, 100));
    world.wait_until("all are in the spool", || world.spool.appends() == 8).await;
    world.store.pause(Call::Commit, false);
    for tag in 0..8 {
        world.acked(tag).await;
    }
    assert!(world.store.count(Call::Commit) <= 2, "{}", world.store.count(Call::Commit));
}

#[actix_rt::test]
async fn a_session_that_somebody_holds_locked_holds_up_nobody_else() {
    let world = World::new();
    world.store.upload(&world.spool, session(0), &whole(100), 100).await.unwrap();
    world.store.alter(session(0), |row| row.locked = true);
    world.send(0, 0, 100, 100);
    (1..8).for_each(|number| world.send(number, number as u64, 0, 100));
    for tag in 1..8 {
        world.acked(tag).await;
    }
    assert_eq!(world.verdict(0), None);
    world.store.alter(session(0), |row| row.locked = false);
    world.acked(0).await;
    assert_eq!(world.stored(0).await, whole(200));
}

/// Where appends wait until they are let through.
struct Gate {
    permits: Semaphore,
    waiting: AtomicUsize,
}

/// A spool whose appends to some sessions wait.
struct SlowSpool {
    spool: MemorySpool,
    slow: fn(SessionId) -> bool,
    gate: Arc<Gate>,
}

#[async_trait]
impl Spool for SlowSpool {
    async fn append(&self, admission: Admission, body: Bytes) -> Result<Stored, SpoolError> {
        if (self.slow)(admission.facts().session) {
            self.gate.waiting.fetch_add(1, Ordering::Relaxed);
            let _through = self.gate.permits.acquire().await;
        }
        self.spool.append(admission, body).await
    }
    async fn read(&self, id: SessionId, runs: &[Run], from: i64, length: usize) -> Result<Bytes, SpoolError> {
        self.spool.read(id, runs, from, length).await
    }
    async fn close(&self, session: SessionId) {
        self.spool.close(session).await;
    }
    async fn remove(&self, session: SessionId) -> Result<(), SpoolError> {
        self.spool.remove(session).await
    }
    async fn folders(&self, after: Option<SessionId>, limit: usize) -> Result<Vec<SessionId>, SpoolError> {
        self.spool.folders(after, limit).await
    }
    async fn marker(&self) -> Result<Option<Uuid>, SpoolError> {
        self.spool.marker().await
    }
    async fn set_marker(&self, spool_id: Uuid) -> Result<(), SpoolError> {
        self.spool.set_marker(spool_id).await
    }
    async fn volume(&self) -> Result<Volume, SpoolError> {
        self.spool.volume().await
    }
}

/// A world where appends to `slow` sessions wait at the gate.
fn slow_world(slow: fn(SessionId) -> bool) -> (World, Arc<Gate>) {
    let gate = Arc::new(Gate { permits: Semaphore::new(0), waiting: AtomicUsize::new(0) });
    let through = gate.clone();
    let world = World::with(|setting, spool| {
        setting.spool = Some(Arc::new(SlowSpool { spool: spool.clone(), slow, gate: through }));
    });
    (world, gate)
}

#[actix_rt::test]
async fn a_slow_append_and_a_parked_chunk_hold_up_nobody_else() {
    let (world, gate) = slow_world(|id| id == session(0));
    world.send(0, 100, 0, 100);
    world.send(1, 101, 500, 100);
    for round in 0..5 {
        (2..8).for_each(|number| world.send(number, round * 10 + number as u64, round as i64 * 100, 100));
    }
    for round in 0..5 {
        for number in 2..8 {
            world.acked(round * 10 + number).await;
        }
    }
    assert_eq!((world.verdict(100), world.verdict(101)), (None, None));
    gate.permits.add_permits(1);
    world.acked(100).await;
    world.check();
}

#[actix_rt::test]
async fn a_durable_chunk_does_not_wait_for_many_that_hang_on_their_way_to_the_disk() {
    let (world, gate) = slow_world(|id| id != session(0));
    (8..12).for_each(|number| world.store.put(session(number), shared(number)));
    world.send(0, 100, 0, 100);
    world.acked(100).await;
    (1..12).for_each(|number| world.send(number, number as u64, 0, 100));
    world.wait_until("they hang", || gate.waiting.load(Ordering::Relaxed) == 11).await;
    for round in 1..4 {
        world.send(0, 100 + round, round as i64 * 100, 100);
        world.acked(100 + round).await;
    }
    assert_eq!(world.settled(), 4);
    world.check();
}

#[actix_rt::test]
async fn a_new_session_beyond_the_quota_is_refused_and_may_come_again() {
    let world = World::with(|setting, _| setting.quota_bytes = TOTAL * 2);
    for number in 0..2 {
        world.send(number, number as u64, 0, 100);
        world.acked(number as u64).await;
    }
    world.send(2, 20, 0, 100);
    let refusal = world.refused(20).await;
    assert_eq!((refusal.kind, refusal.retryable), (RefusalKind::StorageFull, true));
    world.send(1, 11, 100, 100);
    world.acked(11).await;
    world.store.alter(session(0), |row| {
        row.own.as_mut().unwrap().state = SessionState::Done;
        row.cleaned = true;
    });
    world.send(2, 21, 0, 100);
    world.acked(21).await;
}

#[actix_rt::test]
async fn a_session_removed_between_look_and_commit_is_refused() {
    let (world, gate) = slow_world(|id| id == session(0));
    world.send(0, 1, 0, 100);
    world.wait_until("it was looked at", || world.store.count(Call::Look) >= 1).await;
    world.store.remove(session(0));
    gate.permits.add_permits(1);
    assert_eq!(world.refused(1).await.kind, RefusalKind::Unknown);
}

#[actix_rt::test]
async fn a_chunk_that_lost_the_race_for_its_place_is_answered_by_what_is_there() {
    let (world, gate) = slow_world(|id| id == session(0));
    world.send(0, 1, 0, 100);
    world.wait_until("it was looked at", || world.store.count(Call::Look) >= 1).await;
    let elsewhere = world.spool.replica();
    world.store.upload(&elsewhere, session(0), &whole(100), 100).await.unwrap();
    gate.permits.add_permits(1);
    world.acked(1).await;
    assert_eq!(world.committed(0), 100);
    assert_eq!(world.stored(0).await, whole(100));
}

#[actix_rt::test]
async fn chunks_in_the_middle_need_no_further_look() {
    let world = World::new();
    world.send(0, 1, 0, 100);
    world.acked(1).await;
    let looks = world.store.count(Call::Look);
    for (tag, start) in [(2, 100), (3, 200)] {
        world.send(0, tag, start, 100);
        world.acked(tag).await;
    }
    assert_eq!(world.store.count(Call::Look), looks);
    assert_eq!(world.stored(0).await, whole(300));
    assert_eq!(world.store.row(session(0)).unwrap().runs.len(), 1, "one run, extended");
}

#[actix_rt::test]
async fn a_chunk_whose_session_went_on_elsewhere_is_looked_at_again() {
    let world = World::new();
    world.send(0, 1, 0, 100);
    world.acked(1).await;
    let elsewhere = world.spool.replica();
    world.store.upload(&elsewhere, session(0), &whole(200)[100..], 100).await.unwrap();
    world.send(0, 2, 100, 100);
    world.acked(2).await;
    assert_eq!(world.stored(0).await, whole(200), "stored once, whoever stored it");
    world.send(0, 3, 200, 100);
    world.acked(3).await;
    assert_eq!(world.stored(0).await, whole(300));
    world.check();
}

#[actix_rt::test]
async fn a_chunk_whose_session_ended_meanwhile_is_refused() {
    let world = World::new();
    world.send(0, 1, 0, 100);
    world.acked(1).await;
    world.store.remove(session(0));
    world.send(0, 2, 100, 100);
    assert_eq!(world.refused(2).await.kind, RefusalKind::Unknown);
}

#[actix_rt::test]
async fn a_restarted_registry_gives_its_tickets_back_and_starts_clean() {
    let (world, gate) = slow_world(|id| id == session(0));
    world.send(0, 1, 0, 100);
    world.send(1, 2, 300, 100);
    world.wait_until("both were looked at", || world.store.count(Call::Look) >= 2).await;
    world.registry.send(Stop).await.unwrap();
    for tag in [1, 2] {
        world.wait_until("it is given back", || world.verdict(tag) == Some(Verdict::GiveBack)).await;
    }
    gate.permits.add_permits(10);
    world.registry.send(Ping).await.unwrap();
    world.send(0, 3, 0, 100);
    world.send(1, 4, 100, 100);
    world.send(1, 5, 0, 100);
    for tag in [3, 4, 5] {
        world.acked(tag).await;
    }
    assert_eq!(world.stored(0).await, whole(100));
    assert_eq!(world.stored(1).await, whole(200));
}

#[actix_rt::test]
async fn each_ticket_is_settled_exactly_once() {
    let world = World::new();
    let mut tag = 0;
    for round in 0..10 {
        for number in 0..8 {
            for start in [round * 100, (round + 1) * 100, round * 100, round * 100 + 50] {
                tag += 1;
                world.send(number, tag, start, 100);
            }
        }
        if round % 3 == 0 {
            world.store.script(Call::Commit, Fault::After);
            world.store.script(Call::Look, Fault::Before);
        }
    }
    let progress = || (0..8).all(|number| world.committed(number) == TOTAL);
    world.wait_until("all are sealed", progress).await;
    world.wait_until("all are answered", || world.settled() as u64 == tag).await;
    let mut tags: Vec<u64> =
        world.desk.settled.lock().unwrap().iter().map(|settlement| settlement.delivery.tag).collect();
    tags.sort_unstable();
    assert_eq!(tags, (1..=tag).collect::<Vec<_>>());
    for number in 0..8 {
        assert_eq!(world.stored(number).await, whole(TOTAL));
    }
    world.check();
}

#[actix_rt::test]
async fn a_retired_registry_drops_its_tickets_and_is_gone() {
    let (world, _gate) = slow_world(|id| id == session(0));
    world.send(0, 1, 0, 100);
    world.send(1, 2, 300, 100);
    world.wait_until("both were looked at", || world.store.count(Call::Look) >= 2).await;
    world.registry.send(Retire).await.unwrap();
    for tag in [1, 2] {
        world.wait_until("it is given back", || world.verdict(tag) == Some(Verdict::GiveBack)).await;
    }
    let (registry, looks) = (world.registry.downgrade(), world.store.count(Call::Look));
    let World { registry: last, store, .. } = world;
    drop(last);
    let end = Instant::now() + DEADLINE;
    while registry.upgrade().is_some() {
        assert!(Instant::now() < end, "the registry is still there");
        tokio::task::yield_now().await;
    }
    assert_eq!(store.count(Call::Look), looks, "it patrols no more");
}
