//! The router alone, between neighbours in memory.
#![allow(clippy::unwrap_used)]

use std::cell::Cell;

use url::Url;
use uuid::Uuid;

use super::*;
use crate::domain::ids::{Generation, SessionId};
use crate::gateways::upload_store::farm::Worked;
use crate::messages::WorkedStep;
use crate::testkit::memory_fflow::{Call, Fate, MemoryFflow, ORIGIN};
use crate::testkit::memory_holder::MemoryHolder;
use crate::testkit::memory_routes::{MemoryFarm, MemoryRoutes};

const DEADLINE: Duration = Duration::from_secs(10);

struct World {
    fflow: MemoryFflow,
    routes: MemoryRoutes,
    farm: MemoryFarm,
    readiness: Readiness,
    router: Addr<FflowRouter>,
}

fn config() -> FflowConfig {
    FflowConfig {
        base_url: Url::parse(ORIGIN).unwrap(),
        allowed: Vec::new(),
        create_timeout: Duration::from_secs(10),
        push_timeout: Duration::from_secs(10),
        finish_timeout: Duration::from_secs(10),
        delete_timeout: Duration::from_millis(50),
        body_limit: 1024,
        refused_pause: Duration::from_millis(200),
        trust: Default::default(),
    }
}

impl World {
    fn new() -> Self {
        let fflow = MemoryFflow::new(2, MemoryHolder::default());
        Self::with(Rc::new(fflow.clone()), fflow)
    }

    fn with(spoken_to: Rc<dyn Fflow>, fflow: MemoryFflow) -> Self {
        let (routes, farm, readiness) = (MemoryRoutes::default(), MemoryFarm::default(), Readiness::new());
        let (cache, tables) = (Arc::new(routes.clone()), Arc::new(farm.clone()));
        let allowed = AllowList::new([ORIGIN]);
        let router = FflowRouter::new(spoken_to, cache, tables, allowed, config(), readiness.clone());
        let router = Supervisor::start(move |_| router);
        World { fflow, routes, farm, readiness, router }
    }

    async fn open(&self, session: SessionId) -> Opened {
        self.router.send(OpenFlow { session, name: Generation(1).name(session), trace: None }).await.unwrap()
    }

    async fn resolve(&self, generation: i32, stored: Option<&str>) -> Option<String> {
        let stored = stored.map(str::to_owned);
        let asked = ResolveFlow { session: session(1), generation: Generation(generation), stored };
        self.router.send(asked).await.unwrap().map(|url| url.as_str().to_owned())
    }

    async fn sweep(&self) -> Swept {
        self.router.send(round()).await.unwrap().unwrap()
    }

    fn shown(&self, dependency: Dependency) -> String {
        format!("{:?}", self.readiness.get(dependency))
    }
}

fn session(number: u128) -> SessionId {
    SessionId(Uuid::from_u128(number))
}

fn name(number: u128) -> FlowName {
    Generation(1).name(session(number))
}

fn url(replica: usize, name: &FlowName) -> FlowUrl {
    route::at_replica(&MemoryFflow::replica(replica), name, &AllowList::new([ORIGIN])).unwrap()
}

async fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + DEADLINE;
    while !holds() {
        assert!(Instant::now() < end, "not within {DEADLINE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[actix_rt::test]
async fn an_opened_flow_has_its_address_and_its_replica_is_known_to_all() {
    let world = World::new();
    assert_eq!(world.open(session(1)).await, Opened::At(url(1, &name(1))));
    world.fflow.script(Call::Create, Fate::Address(format!("{}/", MemoryFflow::replica(2))));
    assert_eq!(world.open(session(2)).await, Opened::At(url(2, &name(2))));
    let both = [MemoryFflow::replica(1), MemoryFflow::replica(2)];
    wait_until("both replicas are written down", || world.farm.replicas() == both).await;
}

#[actix_rt::test]
async fn a_refused_address_pauses_creates_and_names_the_setting() {
    let world = World::new();
    world.fflow.script(Call::Create, Fate::Address("http://evil:4050/r1/".into()));
    assert!(matches!(world.open(session(1)).await, Opened::RefusedAddress(_)));
    assert!(world.shown(Dependency::Fflow).contains("UPLOADER_FFLOW_ALLOWED"));
    assert!(matches!(world.open(session(2)).await, Opened::NotSent(_)));
    assert_eq!(world.fflow.count(Call::Create), 1);
    let end = Instant::now() + DEADLINE;
    while !matches!(world.open(session(3)).await, Opened::At(_)) {
        assert!(Instant::now() < end, "creates are still paused");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(world.fflow.count(Call::Create), 2);
    assert_eq!(world.readiness.get(Dependency::Fflow), State::Up);
    assert_eq!(world.fflow.count(Call::Delete), 0);
}

#[actix_rt::test]
async fn a_failed_create_says_whether_its_name_is_used() {
    let world = World::new();
    world.fflow.script(Call::Create, Fate::NotSent);
    assert!(matches!(world.open(session(1)).await, Opened::NotSent(_)));
    for fate in [Fate::Status(500), Fate::LostBefore, Fate::LostAfter] {
        world.fflow.script(Call::Create, fate);
        assert!(matches!(world.open(session(1)).await, Opened::Failed(_)));
    }
    assert!(world.shown(Dependency::Fflow).contains("creates fail"));
}

#[actix_rt::test]
async fn a_route_in_redis_is_enough() {
    let world = World::new();
    world.router.send(PublishRoute { session: session(1), url: url(2, &name(1)) }).await.unwrap();
    assert_eq!(world.resolve(1, None).await, Some(url(2, &name(1)).to_string()));
    assert_eq!(world.routes.sets(), 1);
}

#[actix_rt::test]
async fn a_stale_foreign_or_lost_route_is_mended_from_the_row() {
    let world = World::new();
    let second = Generation(2).name(session(1));
    let stored = url(1, &second).to_string();
    let stale = url(1, &name(1)).to_string();
    for value in [stale.as_str(), &format!("http://evil:4050/{second}"), "", "garbage"] {
        world.routes.put(session(1), value);
        assert_eq!(world.resolve(2, Some(&stored)).await.as_ref(), Some(&stored), "{value}");
        assert_eq!(world.routes.value(session(1)).as_ref(), Some(&stored), "{value}");
    }
    world.routes.empty();
    assert_eq!(world.resolve(2, Some(&stale)).await, None);
    assert_eq!(world.resolve(2, Some("http://evil/x")).await, None);
    assert_eq!(world.resolve(2, None).await, None);
    assert_eq!(world.routes.value(session(1)), None);
}

#[actix_rt::test]
async fn without_redis_routes_come_from_the_row() {
    let world = World::new();
    let stored = url(1, &name(1)).to_string();
    world.routes.set_away(true);
    assert_eq!(world.resolve(1, Some(&stored)).await.as_ref(), Some(&stored));
    assert!(!world.router.send(DropFlow { session: session(1) }).await.unwrap());
    assert!(world.shown(Dependency::Redis).contains("Degraded"));
    world.routes.set_away(false);
    assert_eq!(world.resolve(1, Some(&stored)).await.as_ref(), Some(&stored));
    assert_eq!(world.readiness.get(Dependency::Redis), State::Up);
    assert!(world.router.send(DropFlow { session: session(1) }).await.unwrap());
    assert_eq!(world.routes.value(session(1)), None);
}

#[actix_rt::test]
async fn evidence_is_gathered_by_replica_and_outlives_an_outage_of_the_database() {
    let world = World::new();
    world.farm.set_away(true);
    let worked = |number, replica, step| FlowWorked {
        session: session(number),
        url: url(replica, &name(number)),
        step,
    };
    world.router.send(worked(1, 1, WorkedStep::Push)).await.unwrap();
    world.router.send(worked(2, 1, WorkedStep::Push)).await.unwrap();
    world.router.send(worked(3, 2, WorkedStep::Finish)).await.unwrap();
    // The first attempt comes after a second, and fails.
    tokio::time::timeout(FLUSH * 3 / 2, std::future::pending::<()>()).await.unwrap_err();
    assert!(world.farm.evidence().is_empty());
    world.farm.set_away(false);
    wait_until("the evidence is written down", || !world.farm.evidence().is_empty()).await;
    let first = Worked { base: MemoryFflow::replica(1), push: Some(session(2)), finish: None };
    let second = Worked { base: MemoryFflow::replica(2), push: None, finish: Some(session(3)) };
    assert_eq!(world.farm.evidence(), [first, second]);
}

#[actix_rt::test]
async fn strays_are_ended_and_forgotten_when_answered() {
    let world = World::new();
    let Opened::At(running) = world.open(session(1)).await else { panic!() };
    world.farm.put_stray(name(1), session(1), Some(running.replica()), Duration::ZERO);
    world.farm.put_stray(name(2), session(2), Some(running.replica()), Duration::ZERO);
    assert_eq!(world.sweep().await, Swept { seen: 2, gone: 2 });
    assert!(world.fflow.flow(name(1).as_str()).unwrap().deleted);
    assert!(world.farm.stray_names().is_empty());
    assert_eq!(world.sweep().await, Swept::default());
}

#[actix_rt::test]
async fn a_stray_without_an_answer_stays_until_it_is_too_old() {
    let world = World::new();
    world.fflow.always(Call::Delete, Some(Fate::Hang));
    world.farm.put_stray(name(1), session(1), Some(&MemoryFflow::replica(1)), Duration::from_secs(3600));
    assert_eq!(world.sweep().await, Swept { seen: 1, gone: 0 });
    world.farm.put_stray(name(1), session(1), Some(&MemoryFflow::replica(1)), Duration::from_secs(25 * 3600));
    assert_eq!(world.sweep().await, Swept { seen: 1, gone: 1 });
    assert_eq!(world.fflow.count(Call::Delete), 2);
}

#[actix_rt::test]
async fn a_stray_of_unknown_place_is_asked_for_everywhere_once_its_create_cannot_arrive() {
    let world = World::new();
    world.open(session(8)).await;
    world.open(session(9)).await;
    wait_until("both replicas are written down", || world.farm.replicas().len() == 2).await;
    world.farm.put_stray(name(1), session(1), None, Duration::from_secs(1));
    assert_eq!(world.sweep().await, Swept { seen: 1, gone: 0 });
    // The balancer's address and the two replicas.
    assert_eq!(world.fflow.count(Call::Delete), 3);
    world.farm.put_stray(name(1), session(1), None, Duration::from_secs(120));
    assert_eq!(world.sweep().await, Swept { seen: 1, gone: 1 });
}

#[actix_rt::test]
async fn nothing_is_sent_to_a_stray_outside_the_allowed_origins() {
    let world = World::new();
    world.farm.put_stray(name(1), session(1), Some("http://evil:4050/r1"), Duration::from_secs(120));
    assert_eq!(world.sweep().await, Swept { seen: 1, gone: 0 });
    assert_eq!(world.fflow.count(Call::Delete), 0);
}

/// Counts how many deletes are under way at once.
#[derive(Default)]
struct Counting {
    now: Cell<usize>,
    most: Cell<usize>,
}

#[async_trait::async_trait(?Send)]
impl Fflow for Counting {
    async fn create(&self, _: &FlowName) -> Result<String, FflowError> {
        Err(FflowError::NotSent(String::new()))
    }
    async fn push(&self, _: &FlowUrl, _: bytes::Bytes) -> Result<(), FflowError> {
        Ok(())
    }
    async fn finish(&self, _: &FlowUrl, _: &str) -> Result<(), FflowError> {
        Ok(())
    }
    async fn delete(&self, _: &FlowUrl) -> Result<(), FflowError> {
        self.now.set(self.now.get() + 1);
        self.most.set(self.most.get().max(self.now.get()));
        tokio::task::yield_now().await;
        self.now.set(self.now.get() - 1);
        Ok(())
    }
}

#[actix_rt::test]
async fn at_most_four_strays_are_deleted_at_once() {
    let counting = Rc::new(Counting::default());
    let world = World::with(counting.clone(), MemoryFflow::new(1, MemoryHolder::default()));
    for number in 0..30 {
        world.farm.put_stray(name(number), session(number), Some(&MemoryFflow::replica(1)), Duration::ZERO);
    }
    assert_eq!(world.sweep().await, Swept { seen: 30, gone: 30 });
    assert_eq!(counting.most.get(), 4);
}

#[actix_rt::test]
async fn without_the_database_a_sweep_does_nothing() {
    let world = World::new();
    world.farm.set_away(true);
    assert_eq!(world.sweep().await, Swept::default());
    assert_eq!(world.fflow.count(Call::Delete), 0);
}

/// A round with time for everything.
fn round() -> SweepStrays {
    SweepStrays { until: Instant::now() + strays::ROUND }
}

/// Stops the router as a crash of its line would.
#[derive(Message)]
#[rtype(result = "()")]
struct Stop;

impl Handler<Stop> for FflowRouter {
    type Result = ();

    fn handle(&mut self, _: Stop, ctx: &mut Self::Context) {
        ctx.stop();
    }
}

#[actix_rt::test]
async fn a_restarted_router_sweeps_and_resolves_again() {
    let world = World::new();
    world.fflow.script(Call::Delete, Fate::Hang);
    world.farm.put_stray(name(1), session(1), Some(&MemoryFflow::replica(1)), Duration::ZERO);
    world.router.do_send(round());
    wait_until("a sweep is under way", || world.fflow.count(Call::Delete) == 1).await;
    world.router.send(Stop).await.unwrap();
    assert_eq!(world.sweep().await, Swept { seen: 1, gone: 1 });
    let stored = url(1, &name(1)).to_string();
    assert_eq!(world.resolve(1, Some(&stored)).await, Some(stored));
    world.router.send(Ping).await.unwrap();
}

#[actix_rt::test]
async fn a_retired_router_sweeps_no_more_and_is_gone() {
    let world = World::new();
    world.fflow.script(Call::Delete, Fate::Hang);
    world.farm.put_stray(name(1), session(1), Some(&MemoryFflow::replica(1)), Duration::ZERO);
    world.router.do_send(round());
    wait_until("a sweep is under way", || world.fflow.count(Call::Delete) == 1).await;
    world.router.send(Retire).await.unwrap();
    let router = world.router.downgrade();
    drop(world.router);
    wait_until("the router is gone", || router.upgrade().is_none()).await;
    assert_eq!(world.farm.stray_names(), [name(1)], "left to the next one");
}
