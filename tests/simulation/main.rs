//! The real actors of several replicas in one thread, on neighbours in memory, under a clock that is moved by hand and
//! faults that one seed decides.
//!
//! `SEED=7` plays one world and prints its log and trace; `SEEDS=5000` plays more worlds than usual.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod chance;
mod client;
mod nemesis;
mod onlooker;
mod panics;
mod replica;
mod script;
mod world;

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use uploader_v4::testkit::memory_store::Lie;

use script::{Played, Script, Untruth};
use world::play;

/// Worlds in a run, unless `SEEDS` says otherwise.
const SEEDS: u64 = 300;
/// Lines of the trace that a failure shows.
const LAST_LINES: usize = 400;

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().expect("a number"))
}

fn storm(seed: u64, lie: Option<Untruth>) -> Script {
    Script { seed, storm: true, lie, ..Script::default() }
}

/// Plays worlds on all cores until `stop` says so of one.
fn play_all(
    seeds: std::ops::Range<u64>,
    lie: Option<Untruth>,
    stop: impl Fn(&Played) -> bool + Sync,
) -> Vec<(u64, Played)> {
    let (next, played) = (AtomicU64::new(seeds.start), Mutex::new(Vec::new()));
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::SeqCst);
            if seed >= seeds.end {
                return;
            }
            let mut world = play(&storm(seed, lie));
            let stops = stop(&world);
            if world.violation.is_none() {
                world.trace.clear();
            }
            played.lock().unwrap().push((seed, world));
            if stops {
                next.store(seeds.end, Ordering::SeqCst);
            }
        }
    };
    std::thread::scope(|scope| (0..cores).for_each(|_| drop(scope.spawn(work))));
    played.into_inner().unwrap()
}

fn show(seed: u64, played: &Played, lines: usize) {
    let from = played.trace.len().saturating_sub(lines);
    played.trace[from..].iter().for_each(|event| println!("{event}"));
    println!("seed {seed}: {}", played.violation.as_deref().unwrap_or("all is well"));
    println!("ends {:?}, {} faults, {} ms", played.ends, played.faults, played.ended_at);
}

/// Logs of the service to standard output while `work` runs on this thread.
fn logged<T>(work: impl FnOnce() -> T) -> T {
    let log = tracing_subscriber::fmt()
        .with_env_filter("uploader_v4=info")
        .without_time()
        .with_ansi(false)
        .with_test_writer()
        .finish();
    tracing::subscriber::with_default(log, work)
}

#[test]
fn every_promise_holds_in_every_storm() {
    if let Some(seed) = number("SEED") {
        let played = logged(|| play(&storm(seed, None)));
        show(seed, &played, usize::MAX);
        assert_eq!(played.violation, None);
        return;
    }
    let seeds = number("SEEDS").unwrap_or(SEEDS);
    let played = play_all(0..seeds, None, |world| world.violation.is_some());
    if let Some((seed, world)) = played.iter().find(|(_, world)| world.violation.is_some()) {
        show(*seed, world, LAST_LINES);
        panic!(
            "replay it: SEED={seed} cargo test -p uploader-v4 --test simulation every_promise -- --nocapture"
        );
    }
    let mut ends: BTreeMap<&str, usize> = BTreeMap::new();
    for (state, count) in played.iter().flat_map(|(_, world)| &world.ends) {
        *ends.entry(state).or_default() += count;
    }
    let sum = |of: fn(&Played) -> usize| -> usize { played.iter().map(|(_, world)| of(world)).sum() };
    let (faults, bytes) = (sum(|world| world.faults), sum(|world| world.bytes));
    let (processes, span) = (sum(|world| world.processes), sum(|world| world.ended_at as usize) / 1000);
    println!(
        "{seeds} worlds, {ends:?}, {bytes} bytes, {processes} processes, {faults} faults, {span} simulated s"
    );
    let sessions: usize = ends.values().sum();
    let done = ends.get("DONE").copied().unwrap_or(0);
    assert!(
        done * 10 >= sessions * 7,
        "most sessions are DONE, or the storm hides what is to be seen: {ends:?}"
    );
}

#[test]
fn the_same_seed_plays_the_same_world() {
    for seed in 1_000..1_004 {
        let (once, again) = (play(&storm(seed, None)), play(&storm(seed, None)));
        let differs = once.trace.iter().zip(&again.trace).position(|(one, other)| one != other);
        if let Some(at) = differs {
            let from = at.saturating_sub(20);
            once.trace[from..=at].iter().for_each(|event| println!("{event}"));
            println!("but the second time:\n{}", again.trace[at]);
        }
        assert_eq!((differs, once.trace.len()), (None, again.trace.len()), "seed {seed}");
    }
}

/// A simulation that finds nothing proves nothing: each broken rule is found, within the seeds of a run.
fn is_found(lie: Untruth) {
    let played = play_all(0..SEEDS, Some(lie), |world| world.violation.is_some());
    let found = played.iter().find_map(|(seed, world)| Some((seed, world.violation.as_ref()?)));
    let (seed, violation) = found.unwrap_or_else(|| panic!("{lie:?} was not found in {SEEDS} worlds"));
    println!("{lie:?} is found with seed {seed}: {violation}");
}

#[test]
fn a_spool_that_changes_a_byte_is_found() {
    is_found(Untruth::Spool);
}

#[test]
fn writes_without_a_guard_are_found() {
    is_found(Untruth::Store(Lie::Unguarded));
}

#[test]
fn a_claim_that_does_not_clear_settled_is_found() {
    is_found(Untruth::Store(Lie::SettledStays));
}
