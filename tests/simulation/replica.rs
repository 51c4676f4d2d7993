//! One replica: the service's own `run` on doubles, as a process that can be killed, frozen and told to leave.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::{JoinHandle, LocalSet};
use uploader_v4::app::{self, Exit, Foundation, Signals, Stores};
use uploader_v4::config::{Config, ConfigSources};
use uploader_v4::domain::ids::ReplicaId;
use uploader_v4::readiness::Readiness;
use uploader_v4::testkit::memory_broker::MemoryBroker;

use super::world::World;

/// The settings of every replica: real ones, with spans that fit a world of minutes and files of some KB.
pub fn config(name: &str, janitor: bool) -> Config {
    let (millis, secs) = (Duration::from_millis, Duration::from_secs);
    let mut config = Config::load(ConfigSources::default()).expect("the built-in settings are sound").0;
    config.replica.name = name.to_owned();
    config.fflow.allowed = vec![uploader_v4::testkit::memory_fflow::ORIGIN.parse().expect("an origin")];
    config.fflow.base_url = uploader_v4::testkit::memory_fflow::ORIGIN.parse().expect("an address");
    config.amqp.prefetch = 32;
    config.amqp.inflight_bytes = 1 << 20;
    config.chunk.max_bytes = 128;
    config.chunk.reorder_wait = secs(5);
    config.chunk.reorder_poll = millis(250);
    config.chunk.deadline = secs(20);
    let feed = &mut config.feed;
    (feed.start_bytes, feed.push_block, feed.push_rate) = (200, 400, 4096);
    (feed.idle, feed.flow_idle, feed.advance_poll) = (secs(10), secs(25), millis(500));
    // Uploads here last for seconds: with longer waits most of them would be one push, and there is little to disturb.
    feed.push_linger = secs(1);
    (feed.strike_span, feed.strike_waits) = (secs(40), vec![secs(1), secs(3)]);
    (feed.finish_base, feed.finish_grace, feed.backoff_max) = (secs(12), secs(6), secs(5));
    (feed.stray_interval, feed.replays, feed.max_feeds) = (secs(15), 2, 8);
    config.spool.read_retry = secs(4);
    config.holder.poll = secs(1);
    config.janitor.enabled = janitor;
    (config.janitor.interval, config.janitor.video_ttl) = (secs(10), VIDEO_TTL);
    config
}

/// Silence after which an upload is abandoned.
pub const VIDEO_TTL: Duration = Duration::from_secs(45);

/// A running replica; dropped, it is killed.
pub struct Replica {
    pub name: String,
    pub broker: MemoryBroker,
    tell: mpsc::Sender<()>,
    process: JoinHandle<()>,
    gate: Rc<Gate>,
    exit: Rc<RefCell<Option<anyhow::Result<Exit>>>>,
}

impl Replica {
    pub fn start(world: &World, name: String, janitor: bool) -> Self {
        let sky = world.chance.sky(&name);
        let broker = world.broker.consumer(sky.clone());
        let me = ReplicaId(world.chance.uuid());
        let store = Arc::new(world.store.under(sky.clone()));
        let foundation = Foundation {
            config: config(&name, janitor),
            readiness: Readiness::new(),
            me,
            stores: Stores {
                chunks: store.clone(),
                feeds: store.clone(),
                farm: store.clone(),
                cleaning: store.clone(),
                replicas: store,
            },
            routes: Arc::new(world.routes.under(sky.clone())),
            spool: Arc::new(world.spool.seen_by(me, sky.clone())),
            broker: Arc::new(broker.clone()),
            fflow: Rc::new(world.fflow.under(sky.clone())),
            holder: Some(Rc::new(world.holder.under(sky))),
            quota_bytes: 1 << 40,
        };
        let (tell, heard) = mpsc::channel(2);
        let (gate, exit): (Rc<Gate>, Rc<RefCell<_>>) = (Rc::default(), Rc::default());
        let (set, slot) = (LocalSet::new(), exit.clone());
        set.spawn_local(async move {
            let ended = app::run(&foundation, &mut Signals::heard(heard)).await;
            *slot.borrow_mut() = Some(ended);
        });
        let process = tokio::task::spawn_local(Process { set, gate: gate.clone(), exit: exit.clone() });
        world.chance.say(&name, format!("starts as {me}"));
        Replica { name, broker, tell, process, gate, exit }
    }

    /// SIGTERM.
    pub fn terminate(&self) {
        // A second one says nothing new here.
        let _ = self.tell.try_send(());
    }

    /// SIGSTOP, or SIGCONT.
    pub fn freeze(&self, frozen: bool) {
        self.gate.frozen.set(frozen);
        if let Some(waker) = self.gate.waker.take().filter(|_| !frozen) {
            waker.wake();
        }
    }

    /// How it ended: whether cleanly, or why not; `None` while it runs.
    pub fn exit(&self) -> Option<Result<(), String>> {
        let exit = self.exit.borrow();
        exit.as_ref().map(|exit| exit.as_ref().map(|_| ()).map_err(|error| format!("{error:#}")))
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        self.process.abort();
    }
}

#[derive(Default)]
struct Gate {
    frozen: Cell<bool>,
    waker: Cell<Option<Waker>>,
}

/// Everything that runs in one replica. Dropped, all of it is gone at once, like the threads of a killed process.
struct Process {
    set: LocalSet,
    gate: Rc<Gate>,
    exit: Rc<RefCell<Option<anyhow::Result<Exit>>>>,
}

impl Future for Process {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.gate.frozen.get() {
            self.gate.waker.set(Some(cx.waker().clone()));
            return Poll::Pending;
        }
        let set = Pin::new(&mut self.set).poll(cx);
        if self.exit.borrow().is_some() { Poll::Ready(()) } else { set }
    }
}
