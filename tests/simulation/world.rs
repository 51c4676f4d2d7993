//! One world: neighbours in memory, some replicas, some uploads, and a storm over them. Played from one seed.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::LocalSet;
use tokio::time::Instant;
use uploader_v4::clock;
use uploader_v4::domain::ids::{FlowId, ReplicaId};
use uploader_v4::domain::session::SharedRows;
use uploader_v4::domain::status::{FlowStatus, SessionState, VideoStatus};
use uploader_v4::testkit::memory_broker::MemoryBroker;
use uploader_v4::testkit::memory_fflow::MemoryFflow;
use uploader_v4::testkit::memory_holder::MemoryHolder;
use uploader_v4::testkit::memory_routes::MemoryRoutes;
use uploader_v4::testkit::memory_spool::{Health, MemorySpool};
use uploader_v4::testkit::memory_store::MemoryStore;
use uploader_v4::ticket::Reply;

use super::chance::Chance;
use super::client::Client;
use super::nemesis;
use super::onlooker::{self, Onlooker};
use super::replica::Replica;
use super::script::{Played, Script, Untruth, Upload, uploads};

/// Replicas of fflow.
pub const FARM: usize = 3;
/// The world is looked at this often.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// All is quiet this long after the storm, or never.
const QUIET_WITHIN: Duration = Duration::from_secs(900);

pub struct World {
    pub chance: Arc<Chance>,
    pub store: MemoryStore,
    pub spool: MemorySpool,
    pub broker: MemoryBroker,
    pub routes: MemoryRoutes,
    pub fflow: MemoryFflow,
    pub holder: MemoryHolder,
    pub uploads: Vec<Upload>,
    /// `None` while one is down, or in somebody's hands.
    pub replicas: RefCell<Vec<Option<Replica>>>,
    begun: RefCell<usize>,
    answers: RefCell<BTreeMap<String, Vec<Reply>>>,
    ends: RefCell<BTreeMap<usize, usize>>,
}

impl World {
    fn new(script: &Script) -> Self {
        let chance = Chance::new(script.seed, script.bugs.clone());
        let holder = MemoryHolder::default();
        let world = World {
            store: MemoryStore::default(),
            spool: MemorySpool::written_by(ReplicaId(chance.uuid())),
            broker: MemoryBroker::new(32),
            routes: MemoryRoutes::default(),
            fflow: MemoryFflow::new(FARM, holder.clone()),
            holder,
            uploads: uploads(&chance, script.storm),
            replicas: RefCell::default(),
            begun: RefCell::default(),
            answers: RefCell::default(),
            ends: RefCell::default(),
            chance,
        };
        match script.lie {
            Some(Untruth::Spool) => world.spool.corrupt_silently(),
            Some(Untruth::Store(lie)) => world.store.tell_a_lie(lie),
            None => {}
        }
        // A process on a replica that nobody has heard of cannot be deleted: the farm has worked before.
        world.store.know_farm((1..=FARM).map(MemoryFflow::replica));
        world.uploads.iter().for_each(|upload| world.announce(upload));
        world
    }

    /// As gateway announces an upload.
    fn announce(&self, upload: &Upload) {
        let shared = SharedRows {
            flow: FlowId(self.chance.uuid()),
            video: upload.video,
            total_bytes: upload.file.len() as i64,
            uploaded_bytes: 0,
            flow_status: FlowStatus::Created,
            video_status: VideoStatus::Created,
        };
        self.store.put(upload.session, shared);
    }

    /// A new replica takes this place; the first place is the standalone's.
    pub fn begin(&self, place: usize) {
        let number = self.begun.replace_with(|number| *number + 1) + 1;
        let replica = Replica::start(self, format!("r{number}"), place == 0);
        self.replicas.borrow_mut()[place] = Some(replica);
    }

    pub fn say(&self, words: &str) {
        self.chance.say("--", words);
    }

    pub fn sent(&self, correlation: &str) {
        self.answers.borrow_mut().insert(correlation.to_owned(), Vec::new());
    }

    /// The first answer to a chunk.
    pub async fn answer(&self, correlation: &str, within: Duration) -> Option<Reply> {
        let first = || self.answers.borrow().get(correlation).and_then(|replies| replies.first().cloned());
        let end = Instant::now() + within;
        while first().is_none() && Instant::now() < end {
            let left = end - Instant::now();
            self.broker.until(left, |broker| broker.has_replies() || first().is_some()).await;
            self.hand_out();
        }
        first()
    }

    fn hand_out(&self) {
        for reply in self.broker.take_replies() {
            let (mut answers, name) = (self.answers.borrow_mut(), reply.correlation.as_str().to_owned());
            answers.entry(name).or_default().push(reply);
        }
    }

    /// A client has ended, with so many bytes acked.
    pub fn ended(&self, upload: usize, acked: usize) {
        self.ends.borrow_mut().insert(upload, acked);
    }

    pub fn unfinished(&self) -> Option<usize> {
        (0..self.uploads.len()).find(|upload| !self.ends.borrow().contains_key(upload))
    }

    pub fn acked(&self) -> Vec<usize> {
        self.ends.borrow().values().copied().collect()
    }

    /// How often each chunk was answered.
    pub fn answers(&self) -> Vec<(String, usize)> {
        self.hand_out();
        self.answers.borrow().iter().map(|(name, replies)| (name.clone(), replies.len())).collect()
    }

    /// Everything that was broken works again; what is down or frozen comes back by itself.
    fn heal(&self) {
        self.say("the storm is over");
        self.chance.set_stormy(false);
        self.store.set_away(false);
        self.spool.set_health(Health::Sound);
        self.routes.set_away(false);
        self.broker.block(false);
    }

    fn given_up(&self) -> Vec<String> {
        let replicas = self.replicas.borrow();
        let exits = replicas.iter().flatten().filter_map(|replica| replica.exit().and_then(Result::err));
        exits.collect()
    }

    fn ends_by_state(&self) -> BTreeMap<&'static str, usize> {
        let mut ends = BTreeMap::new();
        for upload in &self.uploads {
            let state = self.store.row(upload.session).and_then(|row| row.state());
            *ends.entry(state.map_or("NONE", |state: SessionState| state.as_str())).or_default() += 1;
        }
        ends
    }

    fn played(&self) -> Played {
        Played {
            violation: self.chance.violation(),
            trace: self.chance.trace(),
            ends: self.ends_by_state(),
            faults: self.chance.faults(),
            bitten: self.chance.bitten(),
            bytes: self.uploads.iter().map(|upload| upload.file.len()).sum(),
            processes: self.fflow.begun().len(),
            given_up: self.given_up(),
            ended_at: clock::now().0,
        }
    }
}

/// Plays a world from its first millisecond to its quiet end, on this thread.
pub fn play(script: &Script) -> Played {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    fastrand::seed(script.seed);
    let world = LocalSet::new();
    world.block_on(&runtime.expect("a runtime"), async {
        clock::begin();
        tell(Rc::new(World::new(script)), script).await
    })
}

async fn tell(world: Rc<World>, script: &Script) -> Played {
    let places = if script.replicas > 0 { script.replicas } else { 2 + world.chance.below(2) };
    world.replicas.borrow_mut().resize_with(places, || None);
    (0..places).for_each(|place| world.begin(place));
    for upload in 0..world.uploads.len() {
        tokio::task::spawn_local(Client::new(world.clone(), upload).run());
    }
    let nemesis = script.storm.then(|| {
        world.chance.set_stormy(true);
        let (world, storm) = (world.clone(), world.chance.millis(10_000, 45_000));
        tokio::task::spawn_local(async move {
            nemesis::rage(&world, storm).await;
            world.heal();
        })
    });
    watch(&world, nemesis, Instant::now() + script.least).await;
    world.played()
}

/// Looks on until all is quiet, a rule is broken, or a replica has given up.
async fn watch(world: &Rc<World>, mut nemesis: Option<tokio::task::JoinHandle<()>>, least: Instant) {
    let (onlooker, mut calm_since) = (Onlooker::default(), None);
    let mut looks: usize = 0;
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        looks += 1;
        world.fflow.settle();
        onlooker.look(world);
        if looks.is_multiple_of(8) {
            onlooker::judge_farm(world);
        }
        if world.chance.violation().is_some() || !world.given_up().is_empty() {
            return;
        }
        let raging = nemesis.as_ref().is_some_and(|nemesis| !nemesis.is_finished());
        if raging || Instant::now() < least {
            continue;
        }
        nemesis = None;
        let since = *calm_since.get_or_insert_with(Instant::now);
        let Some(unrest) = onlooker::unrest(world) else {
            return onlooker.judge_ends(world);
        };
        if since.elapsed() > QUIET_WITHIN {
            return world.chance.violated(format!("not quiet {QUIET_WITHIN:?} after the storm: {unrest}"));
        }
    }
}
