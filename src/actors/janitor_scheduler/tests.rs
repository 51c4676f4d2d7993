//! The janitor alone: what it asks of its neighbours, and what it does when they fail.
#![allow(clippy::unwrap_used)]

use std::sync::Mutex;
use std::time::Duration;

use uuid::Uuid;

use super::*;
use crate::config::{Config, ConfigSources};
use crate::gateways::spool::Spool;
use crate::messages::{Expiry, Swept};
use crate::testkit::memory_cleaning::MemoryCleaning;
use crate::testkit::memory_spool::{Health, MemorySpool, admitted};

const DEADLINE: Duration = Duration::from_secs(10);

/// Answers for the registry and the router.
#[derive(Clone, Default)]
struct Probe {
    asked: Arc<Mutex<Vec<ExpireSessions>>>,
    dropped: Arc<Mutex<Vec<SessionId>>>,
    redis_away: Arc<Mutex<bool>>,
    /// By when the sweeps were to end.
    sweeps: Arc<Mutex<Vec<Instant>>>,
    /// Whether the last sweep ended some: the next one ends none.
    swept: Arc<Mutex<bool>>,
}

impl Actor for Probe {
    type Context = Context<Self>;
}

impl Handler<ExpireSessions> for Probe {
    type Result = Expiry;

    fn handle(&mut self, asked: ExpireSessions, _: &mut Self::Context) -> Expiry {
        self.asked.lock().unwrap().push(asked);
        Expiry { emptied: 1, ..Expiry::default() }
    }
}

impl Handler<DropFlow> for Probe {
    type Result = bool;

    fn handle(&mut self, DropFlow { session }: DropFlow, _: &mut Self::Context) -> bool {
        self.dropped.lock().unwrap().push(session);
        !*self.redis_away.lock().unwrap()
    }
}

impl Handler<SweepStrays> for Probe {
    type Result = Option<Swept>;

    fn handle(&mut self, SweepStrays { until }: SweepStrays, _: &mut Self::Context) -> Option<Swept> {
        self.sweeps.lock().unwrap().push(until);
        let mut swept = self.swept.lock().unwrap();
        *swept = !*swept;
        Some(Swept { seen: 3, gone: if *swept { 2 } else { 0 } })
    }
}

struct World {
    store: MemoryCleaning,
    spool: MemorySpool,
    probe: Probe,
    janitor: Addr<JanitorScheduler>,
    readiness: Readiness,
}

impl World {
    fn new(interval: Duration) -> Self {
        let (store, spool, probe) = (MemoryCleaning::default(), MemorySpool::default(), Probe::default());
        let (neighbour, readiness) = (probe.clone().start(), Readiness::new());
        let mut config = Config::load(ConfigSources::default()).unwrap().0.janitor;
        (config.interval, config.batch) = (interval, 2);
        let parts = JanitorParts {
            store: Arc::new(store.clone()),
            spool: Arc::new(spool.clone()),
            expire: neighbour.clone().recipient(),
            drop_flow: neighbour.clone().recipient(),
            sweep: neighbour.recipient(),
            config,
            readiness: readiness.clone(),
        };
        let janitor = Supervisor::start(move |_| JanitorScheduler::new(parts));
        World { store, spool, probe, janitor, readiness }
    }

    /// One whose own clock does not strike during a test.
    fn still() -> Self {
        Self::new(Duration::from_secs(3600))
    }

    async fn run(&self) -> JanitorReport {
        self.janitor.send(RunOnce).await.unwrap()
    }

    async fn fill(&self, number: u128) -> SessionId {
        let admission = admitted(session(number), 0, 4).unwrap();
        self.spool.append(admission, bytes::Bytes::from_static(b"data")).await.unwrap();
        session(number)
    }
}

fn session(number: u128) -> SessionId {
    SessionId(Uuid::from_u128(number))
}

#[actix_rt::test]
async fn a_run_ends_buries_cleans_and_reports() {
    let world = World::still();
    let (ended, live, late) = (world.fill(1).await, world.fill(2).await, world.fill(3).await);
    let (unknown, failed) = (world.fill(4).await, world.fill(5).await);
    world.store.with(|content| {
        content.known = vec![ended, live, failed];
        content.emptied = vec![VideoId(Uuid::from_u128(9))];
        content.uncleaned = vec![ended];
        content.cleaned = vec![late];
        content.failed = vec![failed];
        content.tombstones = 1;
    });
    let report = world.run().await;
    assert_eq!((report.videos_deleted, report.folders_buried, report.sessions_cleaned), (1, 1, 2));
    assert_eq!((report.failed_given_up, report.strays_gone, report.tombstones_forgotten), (1, 2, 1));
    assert_eq!(report.folders_removed, 1);
    let shown = world.readiness.snapshot().janitor.unwrap();
    assert_eq!(shown.last_run.unwrap().report, report);
    assert!(shown.last_success_at.is_some());
    assert_eq!(report.error, None);
    assert!(world.spool.holds(live));
    for gone in [ended, late, unknown, failed] {
        assert!(!world.spool.holds(gone), "{gone}");
    }
    assert_eq!(*world.probe.dropped.lock().unwrap(), [ended, unknown]);
    let again = world.run().await;
    assert_eq!((again.folders_buried, again.sessions_cleaned, again.failed_given_up), (0, 0, 0));
}

#[actix_rt::test]
async fn without_redis_the_bytes_go_and_the_route_is_left_to_the_next_run() {
    let world = World::still();
    let ended = world.fill(1).await;
    world.store.with(|content| content.uncleaned = vec![ended]);
    *world.probe.redis_away.lock().unwrap() = true;
    let report = world.run().await;
    assert!(report.error.unwrap().contains("route"));
    assert!(!world.spool.holds(ended));
    *world.probe.redis_away.lock().unwrap() = false;
    assert_eq!(world.run().await.sessions_cleaned, 1);
}

#[actix_rt::test]
async fn a_part_that_fails_does_not_stop_the_others() {
    let world = World::still();
    let ended = world.fill(1).await;
    world.store.with(|content| content.uncleaned = vec![ended]);
    world.spool.set_health(Health::Away);
    let report = world.run().await;
    assert!(report.error.unwrap().contains("away"));
    assert_eq!((report.sessions_cleaned, report.strays_gone), (0, 2));
    world.spool.set_health(Health::Sound);
    world.store.with(|content| content.away = true);
    assert_eq!(world.run().await.strays_gone, 2);
    world.store.with(|content| content.away = false);
    assert_eq!(world.run().await.sessions_cleaned, 1);
}

#[actix_rt::test]
async fn what_cannot_be_cleaned_does_not_stand_in_the_way_of_the_others() {
    let world = World::still();
    let mut sessions = Vec::new();
    for number in 1..=9 {
        sessions.push(world.fill(number).await);
    }
    world.store.with(|content| content.uncleaned.clone_from(&sessions));
    world.spool.keep(sessions[0]);
    let report = world.run().await;
    assert_eq!(report.sessions_cleaned, 8);
    assert!(report.error.is_some());
    assert_eq!(world.store.with(|content| content.uncleaned.clone()), [sessions[0]]);
    assert!(world.readiness.snapshot().janitor.unwrap().last_success_at.is_none());
}

#[actix_rt::test]
async fn its_clock_strikes_again_after_each_run() {
    let world = World::new(Duration::from_millis(5));
    let end = Instant::now() + DEADLINE;
    while world.probe.asked.lock().unwrap().len() < 3 {
        assert!(Instant::now() < end, "three runs");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let asked = world.probe.asked.lock().unwrap()[0];
    assert_eq!(asked, ExpireSessions { ttl: Duration::from_secs(3600), limit: 2, after: None });
}

#[actix_rt::test]
async fn sweeping_holds_a_run_up_no_longer_than_the_pause_that_was_chosen() {
    for (interval, bound) in [(100, 100), (3_600_000, 60_000)] {
        let world = World::new(Duration::from_millis(interval));
        world.run().await;
        let until = world.probe.sweeps.lock().unwrap()[0];
        assert!(until <= Instant::now() + Duration::from_millis(bound), "with a pause of {interval} ms");
    }
}

#[actix_rt::test]
async fn a_retired_janitor_is_gone_before_its_next_run() {
    let world = World::still();
    world.janitor.send(Retire).await.unwrap();
    let (janitor, end) = (world.janitor.downgrade(), Instant::now() + DEADLINE);
    drop(world.janitor);
    while janitor.upgrade().is_some() {
        assert!(Instant::now() < end, "the janitor is still there");
        tokio::task::yield_now().await;
    }
}
