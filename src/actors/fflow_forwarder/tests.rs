//! The forwarder alone: its feeds are probes, its stores are in memory.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::cell::RefCell;
use std::collections::HashSet;
use std::time::{Duration, Instant};

use uuid::Uuid;

use super::*;
use crate::config::{Config, ConfigSources};
use crate::domain::ids::{Epoch, FlowId, Generation, VideoId};
use crate::domain::session::SharedRows;
use crate::domain::status::{FlowStatus, SessionState, VideoStatus};
use crate::lease::{self, Lease};
use crate::messages::Forsake;
use crate::readiness::{Dependency, State};
use crate::testkit::memory_spool::MemorySpool;
use crate::testkit::memory_store::{Call, Fault, MemoryStore};

mod with_feeds;

const DEADLINE: Duration = Duration::from_secs(10);
const LEASE: Duration = Duration::from_millis(150);
const TOTAL: i64 = 500;
const NEVER: Duration = Duration::from_secs(3600);

/// How the probe feeds behave, and what they heard.
#[derive(Default)]
struct Log {
    claims: RefCell<Vec<Claim>>,
    advances: RefCell<Vec<(SessionId, i64, bool)>>,
    forsaken: RefCell<Vec<(SessionId, Epoch)>>,
    released: Cell<usize>,
    /// Feeds that are asked to leave never do.
    stuck: Cell<bool>,
    /// The next feed that hears of new bytes panics.
    panics: Cell<bool>,
}

/// A feed that only listens; asked to leave, it hands its session back.
struct ProbeFeed {
    claim: Claim,
    log: Rc<Log>,
    store: MemoryStore,
    desk: ForwarderDesk,
}

impl Actor for ProbeFeed {
    type Context = Context<Self>;
}

impl ProbeFeed {
    fn end(&self, ctx: &mut Context<Self>) {
        let (session, epoch) = (self.claim.session, self.claim.epoch);
        self.desk.ended.do_send(FeedEnded { session, epoch, rest: false });
        ctx.stop();
    }
}

impl Handler<Advance> for ProbeFeed {
    type Result = ();

    fn handle(&mut self, advance: Advance, _: &mut Self::Context) {
        assert!(!self.log.panics.take(), "as scripted");
        self.log.advances.borrow_mut().push((self.claim.session, advance.committed, advance.sealed));
    }
}

impl Handler<Forsake> for ProbeFeed {
    type Result = ();

    fn handle(&mut self, _: Forsake, ctx: &mut Self::Context) {
        self.log.forsaken.borrow_mut().push((self.claim.session, self.claim.epoch));
        self.end(ctx);
    }
}

impl Handler<ReleaseFeed> for ProbeFeed {
    type Result = ();

    fn handle(&mut self, _: ReleaseFeed, ctx: &mut Self::Context) {
        if self.log.stuck.get() {
            return;
        }
        self.log.released.set(self.log.released.get() + 1);
        self.store.alter(self.claim.session, |row| row.own.as_mut().unwrap().owner = None);
        self.end(ctx);
    }
}

/// Stops the forwarder as a crash of its line would.
#[derive(Message)]
#[rtype(result = "()")]
struct Stop;

impl Handler<Stop> for FflowForwarder {
    type Result = ();

    fn handle(&mut self, _: Stop, ctx: &mut Self::Context) {
        ctx.stop();
    }
}

struct World {
    store: MemoryStore,
    spool: MemorySpool,
    log: Rc<Log>,
    lease: Lease,
    readiness: Readiness,
    forwarder: Addr<FflowForwarder>,
}

fn config() -> (FeedConfig, ReplicaConfig) {
    let config = Config::load(ConfigSources::default()).unwrap().0;
    let (mut feed, mut replica) = (config.feed, config.replica);
    feed.max_feeds = 8;
    feed.start_bytes = 100;
    feed.sweep = Duration::from_millis(20);
    feed.advance_poll = Duration::from_millis(10);
    replica.lease = LEASE;
    replica.heartbeat = Duration::from_millis(20);
    replica.shutdown_release = Duration::from_millis(150);
    (feed, replica)
}

impl World {
    fn new() -> Self {
        Self::with(|_| {})
    }

    fn with(change: impl FnOnce(&mut FeedConfig)) -> Self {
        Self::on(MemoryStore::default(), change)
    }

    /// A forwarder that finds what is in the store already.
    fn on(store: MemoryStore, change: impl FnOnce(&mut FeedConfig)) -> Self {
        let (log, readiness) = (Rc::new(Log::default()), Readiness::new());
        let (keeper, lease) = lease::lease();
        let (mut feed, replica) = config();
        change(&mut feed);
        let (feeds, sessions) = (log.clone(), store.clone());
        let parts = ForwarderParts {
            me: me(),
            store: Arc::new(store.clone()),
            start_feed: Rc::new(move |claim, _, desk| {
                feeds.claims.borrow_mut().push(claim.clone());
                FeedHandle::of(
                    &ProbeFeed { claim, log: feeds.clone(), store: sessions.clone(), desk }.start(),
                )
            }),
            replicas: Arc::new(store.clone()),
            keeper,
            config: feed,
            replica,
            readiness: readiness.clone(),
        };
        let forwarder = Supervisor::start(move |_| FflowForwarder::new(parts));
        World { store, spool: MemorySpool::default(), log, lease, readiness, forwarder }
    }

    /// A session with its first `bytes` stored.
    async fn session(&self, number: u128, bytes: i64) -> SessionId {
        put(&self.store, &self.spool, number, bytes).await;
        session(number)
    }

    /// The next bytes of a session, stored by another replica.
    async fn upload(&self, number: u128, bytes: i64) {
        self.store.upload(&self.spool, session(number), &vec![0; bytes as usize], 100).await.unwrap();
    }

    fn advanced(&self, number: u128) {
        let row = self.store.row(session(number)).unwrap();
        let sealed = row.state() == Some(SessionState::Sealed);
        let (committed, owner) = (row.committed(), row.owner());
        self.forwarder.do_send(SessionAdvanced {
            session: session(number),
            committed,
            sealed,
            run: row.runs.last().copied(),
            owner,
            trace: None,
        });
    }

    async fn feeds(&self) -> HashSet<SessionId> {
        self.forwarder.send(ListFeeds).await.unwrap().0
    }

    fn claims(&self, number: u128) -> Vec<Epoch> {
        let claims = self.log.claims.borrow();
        claims.iter().filter(|claim| claim.session == session(number)).map(|claim| claim.epoch).collect()
    }

    async fn leased(&self) {
        tokio::time::timeout(DEADLINE, self.lease.valid()).await.expect("the lease is valid");
    }

    async fn lapsed(&self) {
        let end = Instant::now() + DEADLINE;
        while tokio::time::timeout(Duration::from_millis(5), self.lease.valid()).await.is_ok() {
            assert!(Instant::now() < end, "the lease never ends");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn wait_until(&self, what: &str, holds: impl Fn() -> bool) {
        let end = Instant::now() + DEADLINE;
        while !holds() {
            assert!(Instant::now() < end, "not within {DEADLINE:?}: {what}");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// Lets some sweeps pass.
    async fn sweeps(&self, count: usize) {
        let seen = self.store.count(Call::Beat);
        self.wait_until("time passes", || self.store.count(Call::Beat) >= seen + count).await;
    }
}

async fn put(store: &MemoryStore, spool: &MemorySpool, number: u128, bytes: i64) {
    let shared = SharedRows {
        flow: FlowId(Uuid::from_u128(100 + number)),
        video: VideoId(Uuid::from_u128(200 + number)),
        total_bytes: TOTAL,
        uploaded_bytes: 0,
        flow_status: FlowStatus::Created,
        video_status: VideoStatus::Created,
    };
    store.put(session(number), shared);
    store.upload(spool, session(number), &vec![0; bytes as usize], 100).await.unwrap();
}

fn me() -> ReplicaId {
    ReplicaId(Uuid::from_u128(1))
}

fn other() -> ReplicaId {
    ReplicaId(Uuid::from_u128(2))
}

fn session(number: u128) -> SessionId {
    SessionId(Uuid::from_u128(1000 + number))
}

#[actix_rt::test]
async fn a_session_that_advances_here_is_claimed_at_once() {
    let world = World::with(|feed| feed.sweep = NEVER);
    world.leased().await;
    for number in 0..3 {
        world.session(number, 200).await;
        world.advanced(number);
    }
    world.wait_until("all are claimed", || world.log.claims.borrow().len() == 3).await;
    assert_eq!(world.feeds().await.len(), 3);
    assert_eq!(world.store.row(session(0)).unwrap().owner(), Some(me()));
    world.upload(0, 100).await;
    world.advanced(0);
    let heard = || world.log.advances.borrow().contains(&(session(0), 300, false));
    world.wait_until("its feed hears of more", heard).await;
    assert_eq!(world.claims(0), [Epoch(1)]);
}

#[actix_rt::test]
async fn a_feed_hears_once_of_what_others_stored_and_of_nothing_else() {
    let world = World::with(|feed| feed.sweep = NEVER);
    world.leased().await;
    world.session(0, 200).await;
    world.advanced(0);
    world.wait_until("it is claimed", || world.claims(0).len() == 1).await;
    let polled = async || {
        let asked = world.store.count(Call::News);
        world.wait_until("rows are compared", || world.store.count(Call::News) >= asked + 3).await;
    };
    polled().await;
    assert!(world.log.advances.borrow().is_empty(), "the claim said it all");
    world.upload(0, TOTAL - 200).await;
    polled().await;
    assert_eq!(*world.log.advances.borrow(), [(session(0), TOTAL, true)]);
}

#[actix_rt::test]
async fn of_more_feeds_than_one_question_is_for_each_has_its_turn() {
    const FEEDS: u128 = 1_001;
    let world = World::with(|feed| feed.max_feeds = 2_000);
    for number in 0..FEEDS {
        world.session(number, 200).await;
    }
    world.wait_until("all are claimed", || world.log.claims.borrow().len() == FEEDS as usize).await;
    for number in [0, FEEDS - 1, 0] {
        world.upload(number, 100).await;
        let heard = || world.log.advances.borrow().last().is_some_and(|(id, ..)| *id == session(number));
        world.wait_until("its feed hears of more", heard).await;
    }
}

#[actix_rt::test]
async fn a_session_below_the_start_waits_for_more_bytes_or_its_end() {
    let world = World::with(|feed| feed.start_bytes = 300);
    world.leased().await;
    world.session(0, 200).await;
    world.advanced(0);
    world.sweeps(3).await;
    assert!(world.claims(0).is_empty());
    world.upload(0, 100).await;
    world.wait_until("it is claimed", || world.claims(0) == [Epoch(1)]).await;
}

#[actix_rt::test]
async fn a_sweep_finds_what_others_stored_sealed_first_then_the_oldest() {
    let store = MemoryStore::default();
    let spool = MemorySpool::default();
    for (number, bytes) in [(0, 200), (1, 300), (2, TOTAL), (3, TOTAL)] {
        put(&store, &spool, number, bytes).await;
    }
    let world = World::on(store, |feed| feed.max_feeds = 3);
    world.wait_until("slots are full", || world.log.claims.borrow().len() == 3).await;
    world.sweeps(3).await;
    let claimed: Vec<SessionId> = world.log.claims.borrow().iter().map(|claim| claim.session).collect();
    assert_eq!(claimed, [session(2), session(3), session(0)]);
}

#[actix_rt::test]
async fn a_feed_that_waits_for_something_slow_holds_no_slot() {
    let world = World::with(|feed| feed.max_feeds = 1);
    world.session(0, TOTAL).await;
    world.session(1, TOTAL).await;
    world.wait_until("one is claimed", || world.claims(0).len() == 1).await;
    world.sweeps(3).await;
    assert!(world.claims(1).is_empty());
    world.forwarder.do_send(FeedWaits { session: session(0), waiting: true });
    world.wait_until("the other is claimed", || world.claims(1).len() == 1).await;
    assert_eq!(world.feeds().await.len(), 2);
}

#[actix_rt::test]
async fn an_ended_feed_frees_its_slot_unless_it_is_of_an_older_epoch() {
    let world = World::with(|feed| feed.max_feeds = 1);
    world.session(0, TOTAL).await;
    world.wait_until("it is claimed", || world.claims(0).len() == 1).await;
    world.forwarder.do_send(FeedEnded { session: session(0), epoch: Epoch(0), rest: false });
    assert_eq!(world.feeds().await.len(), 1);
    world.store.alter(session(0), |row| row.own.as_mut().unwrap().state = SessionState::Done);
    world.forwarder.do_send(FeedEnded { session: session(0), epoch: Epoch(1), rest: false });
    assert!(world.feeds().await.is_empty());
    world.session(1, TOTAL).await;
    world.wait_until("the next is claimed", || world.claims(1).len() == 1).await;
}

#[actix_rt::test]
async fn what_found_no_slot_is_claimed_when_one_is_free_and_not_at_the_next_sweep() {
    let world = World::with(|feed| (feed.max_feeds, feed.sweep) = (1, Duration::from_secs(3600)));
    world.session(0, TOTAL).await;
    world.session(1, TOTAL).await;
    world.session(2, TOTAL).await;
    world.leased().await;
    (0..3).for_each(|number| world.advanced(number));
    for number in 0..3 {
        world.wait_until("it is claimed", || world.claims(number).len() == 1).await;
        world.store.alter(session(number), |row| row.own.as_mut().unwrap().state = SessionState::Done);
        world.forwarder.do_send(FeedEnded { session: session(number), epoch: Epoch(1), rest: false });
    }
}

#[actix_rt::test]
async fn a_live_owner_keeps_its_session_and_a_silent_one_loses_it() {
    let world = World::new();
    world.store.lease(other(), NEVER);
    world.session(0, 200).await;
    world.store.alter(session(0), |row| row.take_over(other()));
    world.advanced(0);
    world.sweeps(15).await;
    assert!(world.claims(0).is_empty());
    world.store.lease(other(), Duration::ZERO);
    world.wait_until("it is taken over", || world.claims(0) == [Epoch(2)]).await;
    assert!(world.log.claims.borrow()[0].owner_died);
}

#[actix_rt::test]
async fn a_new_replica_waits_one_lease_before_it_takes_from_silent_owners() {
    let store = MemoryStore::default();
    put(&store, &MemorySpool::default(), 0, 200).await;
    store.alter(session(0), |row| row.take_over(other()));
    let world = World::on(store, |_| {});
    let began = Instant::now();
    world.wait_until("it is taken over", || !world.claims(0).is_empty()).await;
    assert!(began.elapsed() >= LEASE, "{:?}", began.elapsed());
}

#[actix_rt::test]
async fn a_claim_whose_answer_was_lost_is_made_again() {
    let world = World::new();
    world.store.script(Call::Claim, Fault::After);
    world.store.pause(Call::Claim, true);
    world.session(0, TOTAL).await;
    world.store.pause(Call::Claim, false);
    world.wait_until("it is fed", || world.claims(0).len() == 1).await;
    let row = world.store.row(session(0)).unwrap();
    assert_eq!((row.owner(), vec![row.epoch]), (Some(me()), world.claims(0)));
    assert!(!world.log.claims.borrow()[0].owner_died, "I was alive all the time");
}

#[actix_rt::test]
async fn bytes_that_others_stored_are_told_to_the_feed() {
    let world = World::new();
    world.session(0, 200).await;
    world.wait_until("it is claimed", || world.claims(0).len() == 1).await;
    world.upload(0, 300).await;
    let heard = || world.log.advances.borrow().contains(&(session(0), TOTAL, true));
    world.wait_until("its feed hears of the end", heard).await;
}

#[actix_rt::test]
async fn feeds_of_rows_that_are_gone_or_foreign_are_forsaken() {
    let world = World::new();
    for number in 0..3 {
        world.session(number, 200).await;
    }
    world.wait_until("all are claimed", || world.log.claims.borrow().len() == 3).await;
    world.store.lease(other(), NEVER);
    world.store.remove(session(0));
    world.store.alter(session(1), |row| row.take_over(other()));
    world.wait_until("both are forsaken", || world.log.forsaken.borrow().len() >= 2).await;
    let forsaken: HashSet<SessionId> =
        world.log.forsaken.borrow().iter().map(|(session, _)| *session).collect();
    assert_eq!(forsaken, HashSet::from([session(0), session(1)]));
    assert_eq!(world.feeds().await, HashSet::from([session(2)]));
}

#[actix_rt::test]
async fn a_feed_that_ended_its_own_row_is_not_forsaken() {
    let world = World::new();
    world.session(0, TOTAL).await;
    world.wait_until("it is claimed", || world.claims(0).len() == 1).await;
    world.store.alter(session(0), |row| {
        let own = row.own.as_mut().unwrap();
        (own.state, own.owner) = (SessionState::Done, None);
    });
    let rows = world.store.count(Call::News);
    world.wait_until("the row is seen", || world.store.count(Call::News) >= rows + 3).await;
    assert!(world.log.forsaken.borrow().is_empty());
}

#[actix_rt::test]
async fn a_lapsed_heartbeat_pauses_and_a_fresh_one_goes_on() {
    let world = World::new();
    world.session(0, 200).await;
    world.wait_until("it is claimed", || world.claims(0).len() == 1).await;
    world.store.set_away(true);
    world.lapsed().await;
    assert!(matches!(world.readiness.get(Dependency::Database), State::Down(_)));
    world.store.set_away(false);
    world.leased().await;
    assert_eq!(world.readiness.get(Dependency::Database), State::Up);
    assert_eq!(world.feeds().await, HashSet::from([session(0)]));
    assert_eq!(world.claims(0), [Epoch(1)]);
    assert!(world.log.forsaken.borrow().is_empty());
}

#[actix_rt::test]
async fn after_a_lapse_the_rows_are_compared_before_anything_is_said() {
    let world = World::new();
    world.session(0, 200).await;
    world.session(1, 200).await;
    world.wait_until("both are claimed", || world.log.claims.borrow().len() == 2).await;
    world.store.set_away(true);
    world.lapsed().await;
    world.store.pause(Call::News, true);
    world.store.lease(other(), NEVER);
    world.store.alter(session(0), |row| row.take_over(other()));
    world.store.set_away(false);
    world.sweeps(5).await;
    let early = tokio::time::timeout(Duration::from_millis(5), world.lease.valid()).await;
    assert!(early.is_err(), "the lease is valid before the rows were compared");
    world.store.pause(Call::News, false);
    world.leased().await;
    assert_eq!(world.log.forsaken.borrow().clone(), [(session(0), Epoch(1))]);
    world.wait_until("the foreign one is gone", || world.log.forsaken.borrow().len() == 1).await;
    assert_eq!(world.feeds().await, HashSet::from([session(1)]));
}

#[actix_rt::test]
async fn after_an_outage_nothing_is_taken_before_the_others_could_be_heard() {
    let world = World::new();
    world.leased().await;
    world.session(0, 200).await;
    world.store.lease(other(), NEVER);
    world.store.alter(session(0), |row| row.take_over(other()));
    world.store.set_away(true);
    world.lapsed().await;
    world.store.lease(other(), Duration::ZERO);
    let back = Instant::now();
    world.store.set_away(false);
    world.wait_until("it is taken over", || !world.claims(0).is_empty()).await;
    assert!(back.elapsed() >= LEASE, "{:?}", back.elapsed());
}

#[actix_rt::test]
async fn nothing_is_claimed_without_a_lease() {
    let store = MemoryStore::default();
    put(&store, &MemorySpool::default(), 0, TOTAL).await;
    store.pause(Call::Beat, true);
    let world = World::on(store, |_| {});
    world.advanced(0);
    assert!(world.feeds().await.is_empty());
    assert_eq!(world.store.count(Call::Claim), 0);
    world.store.pause(Call::Beat, false);
    world.wait_until("it is claimed", || world.claims(0).len() == 1).await;
}

#[actix_rt::test]
async fn draining_releases_all_feeds_and_gives_the_lease_up() {
    let world = World::new();
    for number in 0..3 {
        world.session(number, 200).await;
    }
    world.wait_until("all are claimed", || world.log.claims.borrow().len() == 3).await;
    assert_eq!(world.forwarder.send(Drain).await.unwrap(), 0);
    assert_eq!(world.log.released.get(), 3);
    assert!(!world.store.with(|tables| tables.leases.contains_key(&me())));
    world.session(3, TOTAL).await;
    world.advanced(3);
    let passed = Instant::now() + config().1.heartbeat * 10;
    world.wait_until("some heartbeats are over", || Instant::now() > passed).await;
    assert!(world.claims(3).is_empty(), "nothing is claimed any more");
    assert!(!world.store.with(|tables| tables.leases.contains_key(&me())), "the lease stays given up");
}

#[actix_rt::test]
async fn a_drain_with_nothing_to_release_is_over_at_once() {
    let world = World::new();
    world.leased().await;
    assert_eq!(world.forwarder.send(Drain).await.unwrap(), 0);
}

#[actix_rt::test]
async fn a_feed_that_does_not_leave_in_time_is_given_up() {
    let world = World::new();
    world.session(0, 200).await;
    world.wait_until("it is claimed", || world.claims(0).len() == 1).await;
    world.log.stuck.set(true);
    assert_eq!(world.forwarder.send(Drain).await.unwrap(), 1);
    assert!(!world.store.with(|tables| tables.leases.contains_key(&me())));
}

#[actix_rt::test]
async fn the_session_of_a_feed_that_panicked_is_claimed_anew() {
    let world = World::new();
    world.session(0, 200).await;
    world.wait_until("it is claimed", || world.claims(0) == [Epoch(1)]).await;
    world.log.panics.set(true);
    world.upload(0, 100).await;
    world.wait_until("it is claimed anew", || world.claims(0) == [Epoch(1), Epoch(2)]).await;
    assert_eq!(
        world.log.claims.borrow().last().unwrap().committed,
        300,
        "it begins where the old one heard of"
    );
    world.upload(0, 100).await;
    let heard = || world.log.advances.borrow().contains(&(session(0), 400, false));
    world.wait_until("the new feed goes on", heard).await;
    assert_eq!(world.feeds().await, HashSet::from([session(0)]));
}

#[actix_rt::test]
async fn a_restarted_forwarder_claims_its_own_sessions_anew() {
    let world = World::new();
    world.session(0, 200).await;
    world.wait_until("it is claimed", || world.claims(0) == [Epoch(1)]).await;
    world.forwarder.send(Stop).await.unwrap();
    world.wait_until("it is claimed anew", || world.claims(0) == [Epoch(1), Epoch(2)]).await;
    world.forwarder.send(Ping).await.unwrap();
    world.session(1, TOTAL).await;
    world.wait_until("others are claimed too", || world.claims(1) == [Epoch(1)]).await;
}

#[actix_rt::test]
async fn a_retired_forwarder_forsakes_its_feeds_beats_no_more_and_is_gone() {
    let world = World::new();
    world.session(0, 200).await;
    world.wait_until("it is claimed", || world.claims(0) == [Epoch(1)]).await;
    world.forwarder.send(Retire).await.unwrap();
    world.wait_until("its feed stops", || world.log.forsaken.borrow().len() == 1).await;
    let (forwarder, beats) = (world.forwarder.downgrade(), world.store.count(Call::Beat));
    let World { forwarder: last, store, .. } = world;
    drop(last);
    let end = Instant::now() + DEADLINE;
    while forwarder.upgrade().is_some() {
        assert!(Instant::now() < end, "the forwarder is still there");
        tokio::task::yield_now().await;
    }
    assert_eq!(store.count(Call::Beat), beats);
}

#[actix_rt::test]
async fn a_session_that_the_database_refuses_rests_before_it_is_claimed_again() {
    let rest = Duration::from_millis(300);
    let world = World::with(|feed| feed.backoff_max = rest);
    world.session(0, 200).await;
    world.wait_until("it is claimed", || world.claims(0) == [Epoch(1)]).await;
    let refused = Instant::now();
    world.forwarder.do_send(FeedEnded { session: session(0), epoch: Epoch(1), rest: true });
    world.session(1, 200).await;
    world.wait_until("others are claimed at once", || world.claims(1) == [Epoch(1)]).await;
    world.advanced(0);
    world.wait_until("it is claimed again", || world.claims(0) == [Epoch(1), Epoch(2)]).await;
    assert!(refused.elapsed() >= rest, "{:?}", refused.elapsed());
}

#[actix_rt::test]
async fn a_claim_in_flight_when_the_drain_begins_goes_back_as_it_was() {
    let world = World::with(|feed| feed.sweep = NEVER);
    world.leased().await;
    for number in 0..3 {
        world.session(number, 200).await;
        world.store.alter(session(number), |row| {
            (row.generation, row.settled, row.fed) =
                (Generation(1), number < 2, if number < 2 { 150 } else { 0 });
        });
    }
    world.store.pause(Call::Claim, true);
    (0..3).for_each(|number| world.advanced(number));
    world.forwarder.send(Ping).await.unwrap();
    let drain = actix_rt::spawn(world.forwarder.send(Drain));
    world.forwarder.send(Ping).await.unwrap();
    world.store.pause(Call::Claim, false);
    assert_eq!(drain.await.unwrap().unwrap(), 0);
    assert!(world.log.claims.borrow().is_empty(), "no feed begins");
    let claimed = world.store.with(|tables| tables.sessions.values().filter(|row| row.epoch.0 == 1).count());
    assert!(claimed > 0, "the claim was made");
    for number in 0..3 {
        let row = world.store.row(session(number)).unwrap();
        let settled = number < 2;
        assert_eq!((row.owner(), row.settled, row.fed), (None, settled, if settled { 150 } else { 0 }));
        assert_eq!(row.generation, Generation(1));
    }
}

#[actix_rt::test]
async fn a_claim_that_answers_after_the_drain_is_left_to_the_end_of_the_lease() {
    let world = World::with(|feed| feed.sweep = NEVER);
    world.leased().await;
    world.session(0, 200).await;
    world.store.pause(Call::Claim, true);
    world.advanced(0);
    world.forwarder.send(Ping).await.unwrap();
    assert_eq!(world.forwarder.send(Drain).await.unwrap(), 0, "in time");
    assert!(!world.store.with(|tables| tables.leases.contains_key(&me())), "whoever comes may take it");
    world.store.pause(Call::Claim, false);
}
