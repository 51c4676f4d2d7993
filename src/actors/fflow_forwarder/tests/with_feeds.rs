//! The whole feed line on neighbours in memory: forwarder, router and real feeds.

use tokio::sync::Semaphore;
use url::Url;

use super::*;
use crate::actors::fflow_router::FflowRouter;
use crate::actors::session_feed::{FeedParts, RouterDesk, SessionFeed};
use crate::domain::feed::Rules;
use crate::domain::ids::Generation;
use crate::domain::retry::Backoff;
use crate::domain::route::AllowList;
use crate::testkit::memory_fflow::{self, Fate, MemoryFflow, ORIGIN};
use crate::testkit::memory_holder::MemoryHolder;
use crate::testkit::memory_routes::{MemoryFarm, MemoryRoutes};

const SESSIONS: u128 = 5;

struct Line {
    store: MemoryStore,
    spool: MemorySpool,
    fflow: MemoryFflow,
    forwarder: Addr<FflowForwarder>,
    parts: Rc<FeedParts>,
}

fn rules() -> Rules {
    let millis = Duration::from_millis;
    Rules {
        start_bytes: 100,
        push_block: 50,
        push_linger: millis(2),
        push_rate: 1 << 30,
        idle: NEVER,
        backoff: Backoff { min: millis(2), max: millis(10) },
        max_strikes: 3,
        strike_waits: vec![millis(5)],
        strike_span: NEVER,
        holder: true,
        holder_poll: millis(5),
        finish_base: NEVER,
        finish_rate: 1 << 20,
        finish_grace: millis(50),
    }
}

fn router(fflow: &MemoryFflow) -> RouterDesk {
    let config = crate::config::FflowConfig {
        base_url: Url::parse(ORIGIN).unwrap(),
        ..Config::load(ConfigSources::default()).unwrap().0.fflow
    };
    let (routes, farm) = (Arc::new(MemoryRoutes::default()), Arc::new(MemoryFarm::default()));
    let (fflow, allowed) = (Rc::new(fflow.clone()), AllowList::new([ORIGIN]));
    let router = FflowRouter::new(fflow, routes, farm, allowed, config, Readiness::new());
    let router = Supervisor::start(move |_| router);
    RouterDesk {
        open: router.clone().recipient(),
        resolve: router.clone().recipient(),
        publish: router.clone().recipient(),
        drop: router.clone().recipient(),
        worked: router.recipient(),
    }
}

impl Line {
    fn new() -> Self {
        let (store, spool, holder) =
            (MemoryStore::default(), MemorySpool::default(), MemoryHolder::default());
        let fflow = MemoryFflow::new(2, holder.clone());
        let (keeper, lease) = lease::lease();
        let (config, mut replica) = config();
        replica.shutdown_release = Duration::from_secs(5);
        let parts = Rc::new(FeedParts {
            me: me(),
            store: Arc::new(store.clone()),
            spool: Arc::new(spool.clone()),
            fflow: Rc::new(fflow.clone()),
            holder: Some(Rc::new(holder)),
            router: router(&fflow),
            rules: rules(),
            lease,
            replays: Arc::new(Semaphore::new(4)),
            readiness: Readiness::new(),
            read_retry: Duration::from_millis(100),
            release_within: Duration::from_secs(4),
        });
        let feeds = parts.clone();
        let forwarder = ForwarderParts {
            me: me(),
            store: Arc::new(store.clone()),
            start_feed: Rc::new(move |claim, cause, desk| {
                FeedHandle::of(&SessionFeed::new(claim, cause, feeds.clone(), desk).start())
            }),
            replicas: Arc::new(store.clone()),
            keeper,
            config,
            replica,
            readiness: Readiness::new(),
        };
        let forwarder = Supervisor::start(move |_| FflowForwarder::new(forwarder));
        Line { store, spool, fflow, forwarder, parts }
    }

    async fn until(&self, what: &str, holds: impl Fn() -> bool) {
        let end = Instant::now() + DEADLINE;
        while !holds() {
            assert!(Instant::now() < end, "not within {DEADLINE:?}: {what}");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// Bytes that the newest generation of a session got.
    fn got(&self, number: u128) -> usize {
        let generation = self.store.row(session(number)).unwrap().generation;
        self.fflow.flow(generation.name(session(number)).as_str()).map_or(0, |flow| flow.bytes.len())
    }

    /// Every session is complete, and its last process got its bytes once and in order.
    async fn assert_distributed(&self) {
        let state = |number| self.store.row(session(number)).unwrap().state();
        self.until("all to be done", || (0..SESSIONS).all(|n| state(n) == Some(SessionState::Done))).await;
        for number in 0..SESSIONS {
            assert_eq!(self.got(number), TOTAL as usize, "{number}");
        }
    }
}

#[actix_rt::test]
async fn a_restarted_forwarder_with_feeds_under_way_brings_all_to_their_end() {
    let line = Line::new();
    // The first one's push never answers: its feed is in the middle of a request when the forwarder goes.
    line.fflow.script(memory_fflow::Call::Push, Fate::Hang);
    for number in 0..SESSIONS {
        put(&line.store, &line.spool, number, 300).await;
    }
    line.until("all are fed", || (0..SESSIONS).filter(|n| line.got(*n) == 300).count() >= 4).await;
    line.until("a push hangs", || line.fflow.count(memory_fflow::Call::Push) > 4 * 6).await;
    line.forwarder.send(Stop).await.unwrap();
    let again = |n| line.store.row(session(n)).unwrap().epoch >= Epoch(2);
    line.until("all are claimed anew", || (0..SESSIONS).all(again)).await;
    for number in 0..SESSIONS {
        let rest = vec![0; (TOTAL - 300) as usize];
        line.store.upload(&line.spool, session(number), &rest, 100).await.unwrap();
    }
    line.assert_distributed().await;
    for number in 0..SESSIONS {
        let row = line.store.row(session(number)).unwrap();
        assert_eq!((row.epoch, row.generation), (Epoch(2), Generation(2)), "one takeover each, {number}");
    }
    assert!(line.forwarder.send(ListFeeds).await.unwrap().0.is_empty());
    assert_eq!(Rc::strong_count(&line.parts), 2, "no feed is left: the line's own and this one");
}

#[actix_rt::test]
async fn a_drain_hands_every_feed_over_settled() {
    let line = Line::new();
    for number in 0..SESSIONS {
        put(&line.store, &line.spool, number, 300).await;
    }
    line.until("all are fed", || (0..SESSIONS).all(|n| line.got(n) == 300)).await;
    assert_eq!(line.forwarder.send(Drain).await.unwrap(), 0);
    for number in 0..SESSIONS {
        let row = line.store.row(session(number)).unwrap();
        let found = (row.owner(), row.settled, row.fed, row.generation);
        assert_eq!(found, (None, true, 300, Generation(1)), "{number}");
    }
}
