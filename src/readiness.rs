//! The board on which every part of the service writes how it fares; `/readyz` reads it out.

mod janitor;

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::SystemTime;

use serde::Serialize;

pub use self::janitor::{JanitorStatus, LastRun};
use crate::messages::JanitorReport;
use crate::metrics;

/// What the service depends on, or a condition of its own that readiness depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Dependency {
    /// The broker.
    Amqp,
    /// PostgreSQL with the service's own schema.
    Database,
    /// The tables that the whole system shares.
    SharedTables,
    /// The stored bytes.
    Spool,
    /// The route cache.
    Redis,
    /// The farm of ffmpeg processes.
    Fflow,
    /// The server of finished videos.
    Holder,
    /// The actors of this process.
    Lines,
    /// The shutdown of this process; down while it leaves.
    Draining,
}

impl Dependency {
    /// All of them, in the order of the report.
    pub const ALL: [Dependency; 9] = [
        Self::Amqp,
        Self::Database,
        Self::SharedTables,
        Self::Spool,
        Self::Redis,
        Self::Fflow,
        Self::Holder,
        Self::Lines,
        Self::Draining,
    ];

    /// Whether chunks can be taken without it: they can be stored while nothing can be fed.
    fn is_optional(self) -> bool {
        match self {
            Self::Redis | Self::Fflow | Self::Holder => true,
            Self::Amqp | Self::Database | Self::SharedTables | Self::Spool | Self::Lines | Self::Draining => {
                false
            }
        }
    }

    /// Its name in the report and in metrics.
    fn word(self) -> &'static str {
        match self {
            Self::Amqp => "amqp",
            Self::Database => "database",
            Self::SharedTables => "shared_tables",
            Self::Spool => "spool",
            Self::Redis => "redis",
            Self::Fflow => "fflow",
            Self::Holder => "holder",
            Self::Lines => "lines",
            Self::Draining => "draining",
        }
    }

    /// What holds before anybody has written about it.
    fn at_start(self) -> State {
        if self.is_optional() || self == Self::Draining {
            State::Up
        } else {
            State::Down(Readiness::STARTING.into())
        }
    }
}

/// How a dependency fares.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "state", content = "reason", rename_all = "snake_case")]
pub enum State {
    /// As it should be.
    Up,
    /// The service does its work in spite of this reason.
    Degraded(String),
    /// The service cannot do its work for this reason.
    Down(String),
}

/// The service's state as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Status {
    /// Everything is up.
    #[serde(rename = "ready")]
    Ready,
    /// Something is degraded, nothing is down.
    #[serde(rename = "degraded")]
    Degraded,
    /// Something is down.
    #[serde(rename = "not ready")]
    NotReady,
}

/// The whole board at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Snapshot {
    /// The worst of all states.
    pub status: Status,
    /// Each dependency's state.
    pub dependencies: BTreeMap<Dependency, State>,
    /// What the janitor did, where it is enabled. Its failures do not count: cleaning is nobody's precondition.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub janitor: Option<JanitorStatus>,
}

/// The board; clones share it.
#[derive(Debug, Clone)]
pub struct Readiness {
    states: Arc<RwLock<BTreeMap<Dependency, State>>>,
    janitor: Arc<RwLock<Option<JanitorStatus>>>,
}

impl Default for Readiness {
    fn default() -> Self {
        Self::new()
    }
}

impl Readiness {
    /// The reason of what is down because nobody has written about it yet.
    pub const STARTING: &'static str = "starting";

    /// How the reason begins while the spool's volume is full: chunks are not taken until feeding has freed it.
    pub const FULL: &'static str = "volume full";

    /// Whether the spool's volume is full.
    pub fn spool_is_full(&self) -> bool {
        matches!(self.get(Dependency::Spool), State::Down(reason) if reason.starts_with(Self::FULL))
    }

    /// A board on which everything that chunks need is down, "starting", until somebody writes otherwise.
    pub fn new() -> Self {
        let states = Dependency::ALL.into_iter().map(|dependency| {
            let state = dependency.at_start();
            metrics::dependency(dependency.word(), state == State::Up, false);
            (dependency, state)
        });
        Self { states: Arc::new(RwLock::new(states.collect())), janitor: Arc::default() }
    }

    /// Writes a dependency's state; a change is logged. Redis, fflow and holder are degraded at worst.
    pub fn set(&self, dependency: Dependency, state: State) {
        let state = match state {
            State::Down(reason) if dependency.is_optional() => State::Degraded(reason),
            other => other,
        };
        let mut states = self.states.write().unwrap_or_else(PoisonError::into_inner);
        let status = worst(&states);
        let before = states.insert(dependency, state.clone());
        let now = worst(&states);
        drop(states);
        if before.as_ref() != Some(&state) {
            log_change(dependency, &state);
            log_turn(status, now);
            // The first time that something is up is no reconnection.
            let starting = matches!(&before, Some(State::Down(reason)) if reason == Self::STARTING);
            metrics::dependency(dependency.word(), state == State::Up, !starting);
        }
    }

    /// One dependency's state.
    pub fn get(&self, dependency: Dependency) -> State {
        let states = self.states.read().unwrap_or_else(PoisonError::into_inner);
        states.get(&dependency).cloned().unwrap_or(State::Up)
    }

    /// The whole board.
    pub fn snapshot(&self) -> Snapshot {
        let dependencies = self.states.read().unwrap_or_else(PoisonError::into_inner).clone();
        let status = worst(&dependencies);
        let janitor = self.janitor.read().unwrap_or_else(PoisonError::into_inner).clone();
        Snapshot { status, dependencies, janitor }
    }

    /// The janitor is enabled here and runs next at this time.
    pub fn janitor_waits(&self, next: SystemTime) {
        self.change_janitor(|status| status.waits(next));
    }

    /// The janitor is at work.
    pub fn janitor_runs(&self) {
        self.change_janitor(JanitorStatus::runs);
    }

    /// The janitor has run.
    pub fn janitor_ran(&self, report: &JanitorReport, ended: SystemTime) {
        self.change_janitor(|status| status.ran(report.clone(), ended));
    }

    fn change_janitor(&self, change: impl FnOnce(&mut JanitorStatus)) {
        let mut status = self.janitor.write().unwrap_or_else(PoisonError::into_inner);
        change(status.get_or_insert_default());
    }
}

fn worst(states: &BTreeMap<Dependency, State>) -> Status {
    states.values().fold(Status::Ready, |worst, state| match (worst, state) {
        (_, State::Down(_)) | (Status::NotReady, _) => Status::NotReady,
        (_, State::Degraded(_)) | (Status::Degraded, _) => Status::Degraded,
        (Status::Ready, State::Up) => Status::Ready,
    })
}

/// Whether chunks can be taken is what a start and an outage are timed by.
fn log_turn(before: Status, now: Status) {
    match (before == Status::NotReady, now == Status::NotReady) {
        (true, false) => tracing::info!("ready"),
        (false, true) => tracing::warn!("not ready"),
        (true, true) | (false, false) => {}
    }
}

fn log_change(dependency: Dependency, state: &State) {
    match state {
        State::Up => tracing::info!(?dependency, "up"),
        State::Degraded(reason) => tracing::warn!(?dependency, reason, "degraded"),
        State::Down(reason) => tracing::warn!(?dependency, reason, "down"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all_up() -> Readiness {
        let board = Readiness::new();
        Dependency::ALL.into_iter().for_each(|dependency| board.set(dependency, State::Up));
        board
    }

    #[test]
    fn a_new_board_is_not_ready() {
        assert_eq!(Readiness::new().snapshot().status, Status::NotReady);
        assert_eq!(all_up().snapshot().status, Status::Ready);
    }

    #[test]
    fn one_thing_down_outweighs_all_that_is_degraded() {
        let board = all_up();
        board.set(Dependency::Spool, State::Degraded("nearly full".into()));
        assert_eq!(board.snapshot().status, Status::Degraded);
        board.clone().set(Dependency::Amqp, State::Down("connection refused".into()));
        assert_eq!(board.snapshot().status, Status::NotReady);
        board.set(Dependency::Amqp, State::Up);
        assert_eq!(board.snapshot().status, Status::Degraded);
    }

    #[test]
    fn what_only_the_feed_needs_is_degraded_at_worst() {
        let board = all_up();
        for dependency in [Dependency::Redis, Dependency::Fflow, Dependency::Holder] {
            board.set(dependency, State::Down("gone".into()));
            assert_eq!(board.get(dependency), State::Degraded("gone".into()));
        }
        assert_eq!(board.snapshot().status, Status::Degraded);
    }
}
