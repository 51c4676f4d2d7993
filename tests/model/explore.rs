//! Runs the model checker: all states of a model, or the first one in which a mutant breaks a rule.

use std::collections::{BTreeSet, HashSet};
use std::fmt::Debug;
use std::hash::{Hash, Hasher};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use stateright::{Checker, Expectation, HasDiscoveries, Model};

/// Steps within which a world without faults must come to its end.
const STEPS: usize = 400;

/// Whether wider bounds are asked for: `MODEL_BOUNDS=wide`, as `make model` does.
pub fn wide() -> bool {
    std::env::var("MODEL_BOUNDS").is_ok_and(|bounds| bounds == "wide")
}

/// Explores every state, prints how many there are, and asserts that no rule is broken and that nothing which should be
/// possible is missing.
pub fn holds<M>(name: &str, model: M)
where
    M: Model + Send + Sync + 'static,
    M::State: Hash + Debug + Send + Sync + Clone + PartialEq,
    M::Action: Debug + Clone + PartialEq,
{
    let missing = explore(name, model);
    assert!(missing.is_empty(), "{name}: never happens: {missing:?}");
}

/// The same for a model that is too small for everything that should be possible to be so.
pub fn holds_without_examples<M>(name: &str, model: M)
where
    M: Model + Send + Sync + 'static,
    M::State: Hash + Debug + Send + Sync + Clone + PartialEq,
    M::Action: Debug + Clone + PartialEq,
{
    explore(name, model);
}

/// Every state; returns what should be possible and is not.
fn explore<M>(name: &str, model: M) -> Vec<&'static str>
where
    M: Model + Send + Sync + 'static,
    M::State: Hash + Debug + Send + Sync + Clone + PartialEq,
    M::Action: Debug + Clone + PartialEq,
{
    let began = Instant::now();
    let builder = model.checker().finish_when(HasDiscoveries::AnyFailures);
    // Depth first keeps little in memory beside the states it has seen; breadth first finds a short way to what is broken.
    let checker: Box<dyn Checker<M>> =
        if wide() { Box::new(builder.spawn_dfs().join()) } else { Box::new(builder.spawn_bfs().join()) };
    let (states, steps) = (checker.unique_state_count(), checker.state_count());
    let depth = checker.max_depth();
    println!("{name}: {states} states, {steps} steps, depth {depth}, {:.1} s", began.elapsed().as_secs_f64());
    let mut missing = Vec::new();
    for property in checker.model().properties() {
        let found = checker.discovery(property.name);
        match (property.expectation, found) {
            (Expectation::Sometimes, None) => missing.push(property.name),
            (Expectation::Sometimes, Some(_)) => {}
            (Expectation::Always | Expectation::Eventually, Some(path)) => {
                panic!("{name}: broken: {}\n{}", property.name, story(path.into_vec()));
            }
            (Expectation::Always | Expectation::Eventually, None) => {}
        }
    }
    assert!(checker.is_done(), "{name}: states are left");
    missing
}

/// Explores until `property` is broken, prints how, and returns the state in which it is. A mutant that nobody finds fails.
pub fn finds<M>(name: &str, model: M, property: &'static str) -> M::State
where
    M: Model + Send + Sync + 'static,
    M::State: Hash + Debug + Send + Sync + Clone + PartialEq,
    M::Action: Debug + Clone + PartialEq,
{
    let wanted = BTreeSet::from([property]);
    let checker = model.checker().finish_when(HasDiscoveries::AnyOf(wanted)).spawn_bfs().join();
    let states = checker.unique_state_count();
    let path = checker.discovery(property);
    let path = path.unwrap_or_else(|| panic!("{name}: nobody noticed in {states} states: {property}"));
    let states_of_path = path.into_vec();
    println!("{name}: found after {} steps, {states} states: {property}", states_of_path.len() - 1);
    states_of_path.into_iter().last().unwrap().0
}

/// A path as lines to read: each step, and the state at its end.
fn story<S: Debug, A: Debug>(path: Vec<(S, Option<A>)>) -> String {
    let steps = path.iter().filter_map(|(_, action)| action.as_ref()).map(|action| format!("  {action:?}\n"));
    let steps: String = steps.collect();
    let end = path.last().map(|(state, _)| format!("{state:#?}")).unwrap_or_default();
    format!("{steps}{end}")
}

/// Lets a property tell of the first state that breaks it, which breadth-first search makes a nearest one: the checker
/// would go on and keep the last one of those that it has at hand.
#[derive(Default)]
pub struct First(AtomicBool);

impl First {
    /// Whether this is the first time.
    pub fn is(&self) -> bool {
        !self.0.swap(true, Ordering::Relaxed)
    }
}

/// Whether a world comes to its end once faults stop, for every state that is asked about.
///
/// The rest of each world's way is driven without faults, one fixed step after the other. Where ways meet they go on
/// alike, so each state is driven through once: those on a way that ended well are remembered.
#[derive(Default)]
pub struct Endings(Mutex<HashSet<u64>>);

impl Endings {
    /// Drives `state` by `step`, which returns nothing at the end; says whether that end satisfies `well`.
    pub fn reached<S>(&self, state: &S, step: impl Fn(&S) -> Option<S>, well: impl Fn(&S) -> bool) -> bool
    where
        S: Hash + Clone,
    {
        let mut way = Vec::new();
        let mut here = state.clone();
        while way.len() < STEPS {
            let print = print(&here);
            if self.0.lock().unwrap().contains(&print) {
                return self.remember(way);
            }
            way.push(print);
            match step(&here) {
                Some(next) => here = next,
                None => return well(&here) && self.remember(way),
            }
        }
        false
    }

    fn remember(&self, way: Vec<u64>) -> bool {
        self.0.lock().unwrap().extend(way);
        true
    }
}

fn print(state: &impl Hash) -> u64 {
    let mut hasher = xxhash_rust::xxh3::Xxh3::new();
    state.hash(&mut hasher);
    hasher.finish()
}
