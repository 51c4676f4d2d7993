//! Everything that a world leaves to chance, from one seed; and the trace of what came of it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use uploader_v4::clock;
use uploader_v4::testkit::weather::{Lot, Meeting, Sky, Weather};
use uuid::Uuid;

/// One line of the trace.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    at: u64,
    who: Arc<str>,
    what: What,
}

#[derive(Debug, Clone, PartialEq)]
enum What {
    Call { call: &'static str, of: Box<str>, meeting: Meeting },
    Said(String),
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>7} ms {:<5} ", self.at, self.who)?;
        match &self.what {
            What::Said(words) => write!(f, "{words}"),
            What::Call { call, of, meeting } => {
                write!(f, "{call} {of}")?;
                if meeting.lot == Lot::Fair { Ok(()) } else { write!(f, " -> {:?}", meeting.lot) }
            }
        }
    }
}

/// A call that panics, once `skip` of its kind were made, for `times` times.
#[derive(Debug, Clone, Copy)]
pub struct Bug {
    pub call: &'static str,
    pub skip: usize,
    pub times: usize,
}

/// The chances of one call, in thousandths.
#[derive(Clone, Copy, Default)]
struct Odds {
    not_sent: u32,
    before: u32,
    after: u32,
    late: u32,
    refused: u32,
    statuses: &'static [u16],
}

fn odds(call: &str) -> Odds {
    let lost = |before, after| Odds { before, after, ..Odds::default() };
    match call {
        "store.beat" | "store.look" | "store.news" | "store.row" | "store.runs" => lost(15, 5),
        "store.clean" | "store.farm" | "store.tidy" => lost(40, 20),
        "spool.append" => Odds { refused: 5, statuses: &[0], ..lost(20, 20) },
        "spool.read" => lost(20, 0),
        "spool.remove" => lost(50, 50),
        "routes.get" | "routes.set" | "routes.remove" | "routes.ping" => lost(60, 40),
        "broker.connect" => lost(150, 0),
        "broker.publish" | "broker.ack" | "broker.give_back" => lost(10, 10),
        "fflow.create" => Odds { not_sent: 40, late: 25, refused: 25, statuses: &[500, 503], ..lost(20, 25) },
        "fflow.push" => {
            Odds { not_sent: 4, late: 6, refused: 8, statuses: &[404, 413, 500, 504], ..lost(6, 8) }
        }
        "fflow.finish" => {
            Odds { not_sent: 40, late: 60, refused: 60, statuses: &[404, 500, 504], ..lost(40, 80) }
        }
        "fflow.delete" => Odds { not_sent: 40, late: 40, refused: 20, statuses: &[500], ..lost(40, 40) },
        "holder.look" => lost(80, 0),
        call if call.starts_with("store.") => lost(30, 40),
        _ => Odds::default(),
    }
}

struct Inner {
    rng: fastrand::Rng,
    trace: Vec<Event>,
    stormy: bool,
    poisoned: BTreeSet<String>,
    troubles: BTreeMap<String, usize>,
    faults: usize,
    violation: Option<String>,
    bugs: Vec<Bug>,
    bitten: usize,
}

/// Chance itself; one for a world.
pub struct Chance(Mutex<Inner>);

impl Chance {
    pub fn new(seed: u64, bugs: Vec<Bug>) -> Arc<Self> {
        let inner = Inner {
            rng: fastrand::Rng::with_seed(seed),
            trace: Vec::new(),
            stormy: false,
            poisoned: BTreeSet::new(),
            troubles: BTreeMap::new(),
            faults: 0,
            violation: None,
            bugs,
            bitten: 0,
        };
        Arc::new(Chance(Mutex::new(inner)))
    }

    /// The weather as this one meets it.
    pub fn sky(self: &Arc<Self>, who: &str) -> Sky {
        Sky::of(Arc::new(Climate { chance: self.clone(), who: who.into() }))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn below(&self, bound: usize) -> usize {
        self.lock().rng.usize(0..bound.max(1))
    }

    pub fn one_in(&self, bound: usize) -> bool {
        self.below(bound) == 0
    }

    pub fn millis(&self, from: u64, to: u64) -> Duration {
        Duration::from_millis(self.lock().rng.u64(from..to))
    }

    pub fn uuid(&self) -> Uuid {
        Uuid::from_u128(self.lock().rng.u128(..))
    }

    pub fn bytes(&self, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        self.lock().rng.fill(&mut bytes);
        bytes
    }

    /// A line of the trace.
    pub fn say(&self, who: &str, words: impl Into<String>) {
        let what = What::Said(words.into());
        self.lock().trace.push(Event { at: clock::now().0, who: who.into(), what });
    }

    /// A rule is broken; the first one counts.
    pub fn violated(&self, why: impl Into<String>) {
        let why = why.into();
        self.say("!!", why.clone());
        self.lock().violation.get_or_insert(why);
    }

    pub fn violation(&self) -> Option<String> {
        self.lock().violation.clone()
    }

    /// From now on calls meet faults, or no longer do.
    pub fn set_stormy(&self, stormy: bool) {
        self.lock().stormy = stormy;
    }

    /// Every push of this session fails.
    pub fn poison(&self, session: &str) {
        self.lock().poisoned.insert(session.to_owned());
    }

    /// Something was done to a process of this session.
    pub fn trouble(&self, flow: &str) {
        *self.lock().troubles.entry(session_of(flow)).or_default() += 1;
    }

    pub fn troubles(&self, session: &str) -> usize {
        self.lock().troubles.get(session).copied().unwrap_or(0)
    }

    pub fn faults(&self) -> usize {
        self.lock().faults
    }

    /// How often a bug bit.
    pub fn bitten(&self) -> usize {
        self.lock().bitten
    }

    pub fn trace(&self) -> Vec<Event> {
        self.lock().trace.clone()
    }
}

/// A process's name begins with its session's id.
fn session_of(flow: &str) -> String {
    flow.split('~').next().unwrap_or_default().to_owned()
}

impl Inner {
    fn draw(&mut self, call: &'static str, of: &str) -> Meeting {
        if self.bites(call) {
            return Meeting { lot: Lot::Panic, ..Meeting::default() };
        }
        let waits = self.rng.u32(0..4) == 0;
        let mut wait =
            |bound| if waits { Duration::from_millis(self.rng.u64(0..bound)) } else { Duration::ZERO };
        let (before, after) = (wait(12), wait(6));
        let push = call == "fflow.push";
        let lot = match call {
            _ if push && self.poisoned.contains(&session_of(of)) => Lot::Refused(500),
            _ if self.stormy => self.lot(odds(call)),
            _ => Lot::Fair,
        };
        if lot != Lot::Fair {
            self.faults += 1;
            if push || call == "fflow.finish" || call == "fflow.delete" {
                *self.troubles.entry(session_of(of)).or_default() += 1;
            }
        }
        Meeting { before, lot, after }
    }

    fn lot(&mut self, odds: Odds) -> Lot {
        let mut left = self.rng.u32(0..1000);
        let mut falls = |share: u32| {
            let falls = left < share;
            left = left.saturating_sub(if falls { 0 } else { share });
            falls
        };
        if falls(odds.not_sent) {
            Lot::NotSent
        } else if falls(odds.before) {
            Lot::Before
        } else if falls(odds.after) {
            Lot::After
        } else if falls(odds.late) {
            Lot::Late(Duration::from_millis(self.rng.u64(10..20_000)))
        } else if falls(odds.refused) {
            Lot::Refused(odds.statuses[self.rng.usize(0..odds.statuses.len())])
        } else {
            Lot::Fair
        }
    }

    fn bites(&mut self, call: &str) -> bool {
        let Some(bug) = self.bugs.iter_mut().find(|bug| bug.call == call && bug.times > 0) else {
            return false;
        };
        if bug.skip > 0 {
            bug.skip -= 1;
            return false;
        }
        bug.times -= 1;
        self.bitten += 1;
        true
    }
}

struct Climate {
    chance: Arc<Chance>,
    who: Arc<str>,
}

impl Weather for Climate {
    fn meet(&self, call: &'static str, of: &str) -> Meeting {
        let mut inner = self.chance.lock();
        let meeting = inner.draw(call, of);
        let what = What::Call { call, of: of.into(), meeting };
        inner.trace.push(Event { at: clock::now().0, who: self.who.clone(), what });
        meeting
    }
}
