//! One feed alone: its neighbours are probes, its gateways are in memory.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::cell::RefCell;
use std::time::Instant;

use uuid::Uuid;

use super::*;
use crate::domain::feed::Evidence;
use crate::domain::ids::{Epoch, FlowId, FlowName, Generation, SessionId, VideoId};
use crate::domain::retry::Backoff;
use crate::domain::route::{self, AllowList};
use crate::domain::session::SharedRows;
use crate::domain::status::{FlowStatus, SessionState, VideoStatus};
use crate::gateways::fflow::FflowError;
use crate::gateways::upload_store::feeds::Wanted;
use crate::lease::LeaseKeeper;
use crate::messages::{Opened, WorkedStep};
use crate::testkit::memory_fflow::{self, Fate, MemoryFflow, MemoryFlow, ORIGIN};
use crate::testkit::memory_holder::MemoryHolder;
use crate::testkit::memory_spool::{Health, MemorySpool};
use crate::testkit::memory_store::{Call, Fault, MemoryStore, Row};

const DEADLINE: Duration = Duration::from_secs(10);
const TOTAL: i64 = 600;

/// What the feed told its neighbours.
#[derive(Default)]
struct Heard {
    opened: Vec<(FlowName, Generation)>,
    routes: std::collections::HashMap<SessionId, String>,
    dropped: usize,
    worked: Vec<WorkedStep>,
    ended: Vec<FeedEnded>,
    waits: Vec<bool>,
}

/// Router and forwarder in one.
struct Probe {
    heard: Rc<RefCell<Heard>>,
    fflow: MemoryFflow,
    store: MemoryStore,
}

impl Actor for Probe {
    type Context = Context<Self>;
}

impl Handler<OpenFlow> for Probe {
    type Result = ResponseFuture<Opened>;

    fn handle(&mut self, ask: OpenFlow, _: &mut Self::Context) -> Self::Result {
        let written = self.store.row(ask.session).map_or(Generation(-1), |row| row.generation);
        self.heard.borrow_mut().opened.push((ask.name.clone(), written));
        let fflow = self.fflow.clone();
        Box::pin(async move {
            match fflow.create(&ask.name).await {
                Ok(answer) => match route::from_answer(&answer, &ask.name, &AllowList::new([ORIGIN])) {
                    Ok(url) => Opened::At(url),
                    Err(why) => Opened::RefusedAddress(why),
                },
                Err(FflowError::NotSent(why)) => Opened::NotSent(why),
                Err(error) => Opened::Failed(error.to_string()),
            }
        })
    }
}

impl Handler<ResolveFlow> for Probe {
    type Result = Option<crate::domain::route::FlowUrl>;

    fn handle(&mut self, ask: ResolveFlow, _: &mut Self::Context) -> Self::Result {
        let name = ask.generation.name(ask.session);
        let shared = self.heard.borrow().routes.get(&ask.session).cloned();
        let allowed = AllowList::new([ORIGIN]);
        shared.or(ask.stored).and_then(|url| route::from_stored(&url, &name, &allowed))
    }
}

impl Handler<PublishRoute> for Probe {
    type Result = ();

    fn handle(&mut self, route: PublishRoute, _: &mut Self::Context) {
        self.heard.borrow_mut().routes.insert(route.session, route.url.to_string());
    }
}

impl Handler<DropFlow> for Probe {
    type Result = bool;

    fn handle(&mut self, ask: DropFlow, _: &mut Self::Context) -> bool {
        let mut heard = self.heard.borrow_mut();
        heard.dropped += 1;
        heard.routes.remove(&ask.session);
        true
    }
}

impl Handler<FlowWorked> for Probe {
    type Result = ();

    fn handle(&mut self, worked: FlowWorked, _: &mut Self::Context) {
        self.heard.borrow_mut().worked.push(worked.step);
    }
}

impl Handler<FeedEnded> for Probe {
    type Result = ();

    fn handle(&mut self, ended: FeedEnded, _: &mut Self::Context) {
        self.heard.borrow_mut().ended.push(ended);
    }
}

impl Handler<FeedWaits> for Probe {
    type Result = ();

    fn handle(&mut self, waits: FeedWaits, _: &mut Self::Context) {
        self.heard.borrow_mut().waits.push(waits.waiting);
    }
}

struct World {
    store: MemoryStore,
    spool: MemorySpool,
    fflow: MemoryFflow,
    holder: MemoryHolder,
    heard: Rc<RefCell<Heard>>,
    probe: Addr<Probe>,
    parts: Rc<FeedParts>,
    keeper: LeaseKeeper,
}

fn rules() -> Rules {
    let millis = Duration::from_millis;
    Rules {
        start_bytes: 100,
        push_block: 200,
        push_linger: millis(5),
        push_rate: 1 << 30,
        idle: Duration::from_secs(60),
        backoff: Backoff { min: millis(2), max: millis(10) },
        max_strikes: 3,
        strike_waits: vec![millis(5)],
        strike_span: Duration::from_secs(3600),
        holder: true,
        holder_poll: millis(5),
        finish_base: millis(200),
        finish_rate: 1 << 20,
        finish_grace: millis(100),
    }
}

impl World {
    fn new() -> Self {
        Self::with(rules())
    }

    fn with(rules: Rules) -> Self {
        let (store, spool, holder) =
            (MemoryStore::default(), MemorySpool::default(), MemoryHolder::default());
        let fflow = MemoryFflow::new(2, holder.clone());
        let heard = Rc::new(RefCell::new(Heard::default()));
        let probe = Probe { heard: heard.clone(), fflow: fflow.clone(), store: store.clone() }.start();
        let (keeper, lease) = crate::lease::lease();
        keeper.extend(clock::now(), Duration::from_secs(3600));
        let parts = FeedParts {
            me: me(),
            store: Arc::new(store.clone()),
            spool: Arc::new(spool.clone()),
            fflow: Rc::new(fflow.clone()),
            holder: rules.holder.then(|| Rc::new(holder.clone()) as Rc<dyn Holder>),
            router: RouterDesk {
                open: probe.clone().recipient(),
                resolve: probe.clone().recipient(),
                publish: probe.clone().recipient(),
                drop: probe.clone().recipient(),
                worked: probe.clone().recipient(),
            },
            rules,
            lease,
            replays: Arc::new(Semaphore::new(1)),
            readiness: crate::readiness::Readiness::new(),
            read_retry: Duration::from_millis(100),
            release_within: Duration::from_millis(150),
        };
        store.put(session(), shared());
        World { store, spool, fflow, holder, heard, probe, parts: Rc::new(parts), keeper }
    }

    /// The next bytes of the upload, up to `end`.
    async fn upload(&self, end: i64) {
        let from = self.row().committed() as usize;
        let bytes = &whole()[from..end as usize];
        self.store.upload(&self.spool, session(), bytes, 70).await.unwrap();
    }

    async fn claim(&self) -> Claim {
        let wanted =
            Wanted { me: me(), except: &[], only: None, limit: 1, start_bytes: 1, from_expired: true };
        self.store.claim(&wanted).await.unwrap().pop().expect("there is work")
    }

    async fn feed(&self) -> Addr<SessionFeed> {
        let claim = self.claim().await;
        let desk =
            ForwarderDesk { ended: self.probe.clone().recipient(), waits: self.probe.clone().recipient() };
        SessionFeed::new(claim, None, self.parts.clone(), desk).start()
    }

    /// A sealed session, and its feed.
    async fn sealed() -> (Self, Addr<SessionFeed>) {
        let world = World::new();
        world.upload(TOTAL).await;
        let feed = world.feed().await;
        (world, feed)
    }

    fn row(&self) -> Row {
        self.store.row(session()).unwrap()
    }

    fn flow(&self, generation: i32) -> MemoryFlow {
        self.fflow.flow(name(generation).as_str()).expect("the flow exists")
    }

    fn calls(&self, call: memory_fflow::Call) -> usize {
        self.fflow.count(call)
    }

    async fn wait_until(&self, what: &str, holds: impl Fn() -> bool) {
        let end = Instant::now() + DEADLINE;
        while !holds() {
            assert!(Instant::now() < end, "not within {DEADLINE:?}: {what}; {:?}", self.fflow.calls());
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    async fn ended(&self, epoch: i64) {
        let last = (session(), Epoch(epoch));
        let ended = |ended: &FeedEnded| (ended.session, ended.epoch) == last;
        self.wait_until("the feed has ended", || self.heard.borrow().ended.iter().any(ended)).await;
    }

    fn assert_distributed(&self, generation: i32) {
        let row = self.row();
        assert_eq!(row.state(), Some(SessionState::Done));
        assert_eq!((row.flow_status, row.video_status), (FlowStatus::Distributed, VideoStatus::Distributed));
        assert_eq!(row.generation, Generation(generation));
        assert!(row.cleaned && row.runs.is_empty() && row.shared.is_none());
        assert!(!self.spool.holds(session()));
        assert_eq!(self.flow(generation).bytes, whole());
        assert_eq!(self.flow(generation).finished, Some(format!("/{}/{}", shared().video, shared().flow)));
        assert!(self.heard.borrow().routes.is_empty());
    }

    fn strays(&self) -> Vec<FlowName> {
        self.store.with(|tables| tables.strays.keys().cloned().collect())
    }
}

fn me() -> ReplicaId {
    ReplicaId(Uuid::from_u128(77))
}

fn session() -> SessionId {
    SessionId(Uuid::from_u128(1))
}

fn name(generation: i32) -> FlowName {
    Generation(generation).name(session())
}

fn whole() -> Vec<u8> {
    (0..TOTAL).map(|offset| (offset % 251) as u8).collect()
}

fn shared() -> SharedRows {
    SharedRows {
        flow: FlowId(Uuid::from_u128(2)),
        video: VideoId(Uuid::from_u128(3)),
        total_bytes: TOTAL,
        uploaded_bytes: 0,
        flow_status: FlowStatus::Created,
        video_status: VideoStatus::Created,
    }
}

#[actix_rt::test]
async fn a_sealed_session_is_fed_in_order_finished_and_cleaned() {
    let (world, _feed) = World::sealed().await;
    world.ended(1).await;
    world.assert_distributed(1);
    assert_eq!(world.heard.borrow().opened, [(name(1), Generation(1))], "numbered before it is created");
    assert_eq!(world.flow(1).pushes, 3);
    assert_eq!(world.calls(memory_fflow::Call::Finish), 1);
    let worked = world.heard.borrow().worked.clone();
    assert_eq!(worked, [WorkedStep::Push, WorkedStep::Push, WorkedStep::Push, WorkedStep::Finish]);
    assert!(world.strays().is_empty());
}

#[actix_rt::test]
async fn an_open_session_is_fed_as_it_grows() {
    let world = World::new();
    world.upload(150).await;
    let feed = world.feed().await;
    world.wait_until("the first bytes are fed", || world.flow_bytes(1) == 150).await;
    for end in [200, 410, TOTAL] {
        world.upload(end).await;
        feed.do_send(Advance { committed: end, sealed: end == TOTAL, run: None, trace: None });
        if end < TOTAL {
            world.wait_until("the next bytes are fed", || world.flow_bytes(1) as i64 == end).await;
        }
    }
    world.ended(1).await;
    world.assert_distributed(1);
}

impl World {
    fn flow_bytes(&self, generation: i32) -> usize {
        self.fflow.flow(name(generation).as_str()).map_or(0, |flow| flow.bytes.len())
    }
}

#[actix_rt::test]
async fn a_write_of_unknown_outcome_is_read_again_and_done_once() {
    for call in [Call::Number, Call::Record, Call::Mark, Call::Complete] {
        for fault in [Fault::Before, Fault::After] {
            let world = World::new();
            world.upload(TOTAL).await;
            world.store.script(call, fault);
            let _feed = world.feed().await;
            world.ended(1).await;
            world.assert_distributed(1);
            let counts =
                [memory_fflow::Call::Create, memory_fflow::Call::Finish].map(|call| world.calls(call));
            assert_eq!(counts, [1, 1], "{call:?} {fault:?}");
            assert_eq!(world.flow(1).pushes, 3, "{call:?} {fault:?}");
        }
    }
}

#[actix_rt::test]
async fn an_outage_of_postgresql_costs_no_generation() {
    let (world, _feed) = World::sealed().await;
    world.store.set_away(true);
    let asked = world.store.count(Call::Row) + world.store.count(Call::Runs);
    let now = || world.store.count(Call::Row) + world.store.count(Call::Runs);
    world.wait_until("it is asked in vain", || now() >= asked + 2).await;
    world.store.set_away(false);
    world.ended(1).await;
    world.assert_distributed(1);
}

#[actix_rt::test]
async fn what_one_replica_stored_is_asked_for_once_however_often_it_is_pushed() {
    let world = World::new();
    world.upload(TOTAL).await;
    world.fflow.script(memory_fflow::Call::Push, Fate::Status(500));
    let _feed = world.feed().await;
    world.ended(1).await;
    world.assert_distributed(2);
    assert!(world.flow(2).pushes > 1);
    assert_eq!(world.store.count(Call::Runs), 1);
}

#[actix_rt::test]
async fn a_failed_push_is_replayed_from_byte_0_into_a_new_name() {
    for fate in [Fate::Status(500), Fate::Status(404), Fate::Status(413), Fate::LostBefore, Fate::LostAfter] {
        let world = World::new();
        world.upload(TOTAL).await;
        world.fflow.script(memory_fflow::Call::Push, fate.clone());
        let _feed = world.feed().await;
        world.ended(1).await;
        world.assert_distributed(2);
        assert_eq!(world.strays(), [name(1)], "{fate:?}");
        let base = world.store.with(|tables| tables.strays.get(&name(1)).cloned().flatten());
        assert_eq!(base, Some(MemoryFflow::replica(1)), "{fate:?}");
    }
}

#[actix_rt::test]
async fn a_create_that_fails_takes_the_next_name_and_one_that_was_not_sent_the_same() {
    let world = World::new();
    world.upload(TOTAL).await;
    for fate in [Fate::NotSent, Fate::Status(500), Fate::NotSent, Fate::LostAfter] {
        world.fflow.script(memory_fflow::Call::Create, fate);
    }
    let _feed = world.feed().await;
    world.ended(1).await;
    world.assert_distributed(3);
    let names: Vec<FlowName> = world.heard.borrow().opened.iter().map(|(name, _)| name.clone()).collect();
    assert_eq!(names, [name(1), name(1), name(2), name(2), name(3)]);
    assert_eq!(world.row().strikes, 0);
}

#[actix_rt::test]
async fn a_finish_without_an_answer_is_found_on_holder_and_never_asked_again() {
    let world = World::new();
    world.upload(TOTAL).await;
    world.fflow.script(memory_fflow::Call::Finish, Fate::LostAfter);
    let _feed = world.feed().await;
    world.ended(1).await;
    world.assert_distributed(1);
    assert_eq!(world.calls(memory_fflow::Call::Finish), 1);
    assert_eq!(world.calls(memory_fflow::Call::Delete), 0);
    assert!(world.heard.borrow().waits.contains(&true), "waiting for holder holds no slot");
}

#[actix_rt::test]
async fn a_finish_that_never_ships_is_deleted_before_the_next_generation() {
    let world = World::new();
    world.upload(TOTAL).await;
    world.fflow.script(memory_fflow::Call::Finish, Fate::Status(504));
    let _feed = world.feed().await;
    world.ended(1).await;
    world.assert_distributed(2);
    assert!(world.flow(1).deleted);
}

#[actix_rt::test]
async fn files_that_are_missing_after_a_reported_finish_are_no_success() {
    let world = World::with(Rules { max_strikes: 2, ..rules() });
    world.upload(TOTAL).await;
    world.holder.set_away(true);
    let _feed = world.feed().await;
    world.wait_until("holder is asked for it", || world.holder.looks() >= 3).await;
    assert_eq!(world.row().state(), Some(SessionState::Sealed));
    let garbage = holder_shows_nothing();
    world.holder.show(shared().video, shared().flow, garbage);
    world.holder.set_away(false);
    world.wait_until("the next generation begins", || world.row().generation == Generation(2)).await;
    world.ended(1).await;
    world.assert_distributed(2);
}

fn holder_shows_nothing() -> crate::gateways::holder::Sight {
    crate::gateways::holder::Sight::NotWhole("hls/manifest.m3u8 answered 404".to_owned())
}

#[actix_rt::test]
async fn strikes_with_evidence_fail_the_session_without_a_hot_loop() {
    let world = World::new();
    world.upload(TOTAL).await;
    world.fflow.always(memory_fflow::Call::Push, Some(Fate::Status(500)));
    world.store.set_evidence(Evidence { worked: true, lone: false });
    let _feed = world.feed().await;
    world.ended(1).await;
    let row = world.row();
    assert_eq!(row.state(), Some(SessionState::Failed));
    assert_eq!((row.flow_status, row.video_status), (FlowStatus::Hidden, VideoStatus::Blocked));
    let reason = row.own.unwrap().last_error.unwrap();
    assert!(reason.contains("answered 500"), "{reason}");
    assert_eq!(world.calls(memory_fflow::Call::Push), 3);
    assert!(world.spool.holds(session()), "kept for a retry");
    assert_eq!(world.strays(), [name(1), name(2), name(3)]);
    assert_eq!(world.heard.borrow().dropped, 1);
}

#[actix_rt::test]
async fn without_evidence_an_outage_of_fflow_ends_well() {
    let world = World::new();
    world.upload(TOTAL).await;
    world.fflow.always(memory_fflow::Call::Push, Some(Fate::LostBefore));
    let _feed = world.feed().await;
    world.wait_until("it has failed often", || world.calls(memory_fflow::Call::Push) >= 8).await;
    assert_eq!((world.row().strikes, world.row().state()), (0, Some(SessionState::Sealed)));
    world.fflow.always(memory_fflow::Call::Push, None);
    world.ended(1).await;
    world.assert_distributed(world.row().generation.0);
}

#[actix_rt::test]
async fn damaged_bytes_fail_the_session_with_that_reason() {
    let world = World::new();
    world.upload(TOTAL).await;
    world.spool.set_health(Health::Damaged);
    let _feed = world.feed().await;
    world.ended(1).await;
    let row = world.row();
    assert_eq!((row.state(), row.video_status), (Some(SessionState::Failed), VideoStatus::Blocked));
    let reason = row.own.unwrap().last_error.unwrap();
    assert!(reason.contains("checksum"), "{reason}");
    assert_eq!(world.calls(memory_fflow::Call::Push), 0, "no wrong byte is fed");
    assert!(world.spool.holds(session()));
}

#[actix_rt::test]
async fn a_spool_out_of_reach_is_waited_for() {
    let world = World::new();
    world.upload(TOTAL).await;
    world.spool.set_health(Health::Away);
    let _feed = world.feed().await;
    let reads = || world.store.count(Call::Runs);
    world.wait_until("it is read several times", || reads() >= 3).await;
    world.spool.set_health(Health::Sound);
    world.ended(1).await;
    world.assert_distributed(1);
}

#[actix_rt::test]
async fn bytes_that_are_damaged_for_a_moment_are_read_again() {
    let world = World::with(rules());
    world.upload(TOTAL).await;
    world.spool.set_health(Health::Damaged);
    let _feed = world.feed().await;
    world.wait_until("the first read is done", || world.store.count(Call::Runs) == 1).await;
    world.spool.set_health(Health::Sound);
    world.ended(1).await;
    world.assert_distributed(1);
}

#[actix_rt::test]
async fn a_feed_fenced_before_its_create_says_nothing_to_fflow() {
    let world = World::new();
    world.upload(TOTAL).await;
    world.store.pause(Call::Number, true);
    let _feed = world.feed().await;
    world.store.alter(session(), |row| row.take_over(ReplicaId(Uuid::from_u128(9))));
    world.store.pause(Call::Number, false);
    world.ended(1).await;
    assert!(world.fflow.calls().is_empty() && world.strays().is_empty());
    assert_eq!(world.row().generation, Generation(0));
}

#[actix_rt::test]
async fn a_feed_fenced_after_its_create_leaves_a_stray() {
    let world = World::new();
    world.upload(TOTAL).await;
    world.store.pause(Call::Record, true);
    let _feed = world.feed().await;
    world.wait_until("the process runs", || world.fflow.flow(name(1).as_str()).is_some()).await;
    world.store.alter(session(), |row| row.take_over(ReplicaId(Uuid::from_u128(9))));
    world.store.pause(Call::Record, false);
    world.ended(1).await;
    world.wait_until("its process is a stray", || world.strays() == [name(1)]).await;
    assert_eq!(world.calls(memory_fflow::Call::Push), 0);
    assert_eq!(world.row().owner(), Some(ReplicaId(Uuid::from_u128(9))));
}

#[actix_rt::test]
async fn a_session_removed_by_another_stops_its_feed() {
    let world = World::new();
    world.upload(TOTAL).await;
    world.store.pause(Call::Mark, true);
    let _feed = world.feed().await;
    world.wait_until("all is fed", || world.flow_bytes(1) as i64 == TOTAL).await;
    world.store.remove(session());
    world.store.pause(Call::Mark, false);
    world.ended(1).await;
    assert_eq!(world.calls(memory_fflow::Call::Finish), 0);
}

#[actix_rt::test]
async fn a_forsaken_feed_stops_at_once() {
    let world = World::new();
    world.upload(150).await;
    let feed = world.feed().await;
    world.wait_until("it is fed", || world.flow_bytes(1) == 150).await;
    let before = world.fflow.calls().len();
    feed.send(Forsake).await.unwrap();
    world.ended(1).await;
    world.wait_until("the actor is gone", || !feed.connected()).await;
    assert_eq!(world.fflow.calls().len(), before);
    assert_eq!(world.store.count(Call::Release), 0);
}

#[actix_rt::test]
async fn a_settled_hand_over_goes_on_with_the_same_process() {
    let world = World::new();
    world.upload(300).await;
    let feed = world.feed().await;
    world.wait_until("it is fed", || world.flow_bytes(1) == 300).await;
    feed.send(ReleaseFeed).await.unwrap();
    world.ended(1).await;
    let row = world.row();
    assert_eq!((row.settled, row.fed, row.owner()), (true, 300, None));
    world.upload(TOTAL).await;
    let _feed = world.feed().await;
    assert!(!world.row().settled, "the claim clears it");
    world.ended(2).await;
    world.assert_distributed(1);
    assert_eq!(world.calls(memory_fflow::Call::Create), 1);
}

#[actix_rt::test]
async fn a_settled_hand_over_finds_its_flow_in_the_row_when_redis_is_empty() {
    let world = World::new();
    world.upload(300).await;
    let feed = world.feed().await;
    world.wait_until("it is fed", || world.flow_bytes(1) == 300).await;
    feed.send(ReleaseFeed).await.unwrap();
    world.ended(1).await;
    world.heard.borrow_mut().routes.clear();
    world.upload(TOTAL).await;
    let _feed = world.feed().await;
    world.ended(2).await;
    world.assert_distributed(1);
}

#[actix_rt::test]
async fn an_idle_feed_releases_itself() {
    let world = World::with(Rules { idle: Duration::from_millis(30), ..rules() });
    world.upload(150).await;
    let feed = world.feed().await;
    world.ended(1).await;
    assert_eq!((world.row().settled, world.row().fed), (true, 150));
    world.wait_until("the actor is gone", || !feed.connected()).await;
}

#[actix_rt::test]
async fn a_release_during_a_push_that_never_ends_is_unsettled_and_in_time() {
    let world = World::new();
    world.upload(TOTAL).await;
    world.fflow.script(memory_fflow::Call::Push, Fate::Hang);
    let feed = world.feed().await;
    world.wait_until("a push is under way", || world.calls(memory_fflow::Call::Push) == 1).await;
    feed.send(ReleaseFeed).await.unwrap();
    world.ended(1).await;
    let row = world.row();
    assert_eq!((row.settled, row.owner(), row.fed), (false, None, 0));
    let _feed = world.feed().await;
    world.ended(2).await;
    world.assert_distributed(2);
    assert_eq!(world.strays(), [name(1)]);
}

#[actix_rt::test]
async fn a_release_is_sent_once_whatever_comes_of_it() {
    for fault in [Fault::Before, Fault::After] {
        let world = World::new();
        world.upload(150).await;
        let feed = world.feed().await;
        world.wait_until("it is fed", || world.flow_bytes(1) == 150).await;
        world.store.script(Call::Release, fault);
        feed.send(ReleaseFeed).await.unwrap();
        world.ended(1).await;
        assert_eq!(world.store.count(Call::Release), 1);
        assert_eq!(world.row().owner().is_some(), fault == Fault::Before);
    }
}

#[actix_rt::test]
async fn a_release_in_the_middle_of_a_finish_leaves_it_to_work_on() {
    let world = World::with(Rules { finish_base: Duration::from_secs(60), ..rules() });
    world.upload(TOTAL).await;
    world.fflow.script(memory_fflow::Call::Finish, Fate::Hang);
    let feed = world.feed().await;
    world.wait_until("a finish is under way", || world.calls(memory_fflow::Call::Finish) == 1).await;
    feed.send(ReleaseFeed).await.unwrap();
    world.ended(1).await;
    assert!(!world.row().settled && world.row().finish_sent.is_some());
    let _feed = world.feed().await;
    world.wait_until("the next owner looks for it", || world.holder.looks() >= 2).await;
    world.holder.ship(&format!("/{}/{}", shared().video, shared().flow), 1);
    world.ended(2).await;
    assert_eq!(world.row().state(), Some(SessionState::Done));
    assert_eq!(world.row().generation, Generation(1));
    let counts = [memory_fflow::Call::Finish, memory_fflow::Call::Delete].map(|call| world.calls(call));
    assert_eq!(counts, [1, 0]);
}

#[actix_rt::test]
async fn without_a_lease_nothing_is_said_to_fflow() {
    let world = World::new();
    world.keeper.extend(crate::domain::ids::Timestamp(0), Duration::ZERO);
    world.upload(TOTAL).await;
    let _feed = world.feed().await;
    world.wait_until("it is numbered", || world.row().generation == Generation(1)).await;
    world.probe.send(DropFlow { session: session() }).await.unwrap();
    assert!(world.fflow.calls().is_empty());
    world.keeper.extend(clock::now(), Duration::from_secs(60));
    world.ended(1).await;
    world.assert_distributed(1);
}

#[actix_rt::test]
async fn replays_take_turns() {
    let world = World::new();
    world.upload(TOTAL).await;
    world.fflow.script(memory_fflow::Call::Push, Fate::Status(404));
    let turn = world.parts.replays.clone().acquire_owned().await.unwrap();
    let _feed = world.feed().await;
    world.wait_until("it replays", || world.row().generation == Generation(2)).await;
    world.wait_until("it is ready to push", || world.store.count(Call::Record) >= 2).await;
    world.probe.send(DropFlow { session: session() }).await.unwrap();
    assert_eq!(world.flow_bytes(2), 0);
    drop(turn);
    world.ended(1).await;
    world.assert_distributed(2);
}

#[actix_rt::test]
async fn a_spool_that_cannot_be_removed_is_left_to_the_janitor() {
    let world = World::new();
    world.upload(TOTAL).await;
    world.store.pause(Call::Complete, true);
    let _feed = world.feed().await;
    world.wait_until("it is seen whole twice", || world.holder.looks() >= 2).await;
    world.spool.set_health(Health::Away);
    world.store.pause(Call::Complete, false);
    world.ended(1).await;
    assert_eq!(world.row().state(), Some(SessionState::Done));
    assert!(!world.row().cleaned);
}

#[actix_rt::test]
async fn what_the_database_refuses_hands_the_session_back_to_rest() {
    let calls = [Call::Number, Call::Record, Call::Runs, Call::Mark, Call::Complete];
    for call in calls {
        let world = World::new();
        world.upload(TOTAL).await;
        world.store.script(call, Fault::Refused);
        let _feed = world.feed().await;
        world.ended(1).await;
        assert_eq!(world.store.count(call), 1, "{call:?} is not tried again");
        assert!(world.heard.borrow().ended.iter().all(|ended| ended.rest), "{call:?}");
        assert_eq!(
            (world.row().owner(), world.row().state()),
            (None, Some(SessionState::Sealed)),
            "{call:?}"
        );
        let _feed = world.feed().await;
        world.ended(2).await;
        assert_eq!(world.row().state(), Some(SessionState::Done), "{call:?}");
        assert!(!world.heard.borrow().ended.last().unwrap().rest, "{call:?}");
    }
}

#[actix_rt::test]
async fn a_row_that_cannot_be_read_again_after_a_lost_write_hands_the_session_back() {
    let world = World::new();
    world.upload(TOTAL).await;
    world.store.script(Call::Number, Fault::Before);
    world.store.script(Call::Row, Fault::Refused);
    let _feed = world.feed().await;
    world.ended(1).await;
    assert!(world.heard.borrow().ended[0].rest);
    assert_eq!((world.store.count(Call::Number), world.row().owner()), (1, None));
}
