//! A bug in each actor in turn, while chunks are under way: what its panic takes down is built anew, and no chunk is lost.

use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tracing::Subscriber;
use tracing::span::{Id, Record};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;

use super::chance::Bug;
use super::script::{Played, Script};
use super::world::play;

/// What is logged at ERROR.
#[derive(Clone, Default)]
struct Errors(Arc<Mutex<Vec<u8>>>);

impl Write for Errors {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Panics the first time that a session's id is written into a span: only ChunkValidator does.
struct Trap(Mutex<usize>);

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Trap {
    fn on_record(&self, _: &Id, record: &Record<'_>, _: Context<'_, S>) {
        let mut sprung = false;
        record.record(&mut |field: &tracing::field::Field, _: &dyn std::fmt::Debug| {
            sprung |= field.name() == "session.id";
        });
        let mut left = self.0.lock().unwrap();
        if sprung && *left > 0 {
            *left -= 1;
            drop(left);
            panic!("a span panics, as the test wants it");
        }
    }
}

/// Plays a fair world of one replica and says what was logged at ERROR.
fn with_bug(script: &Script, trap: usize) -> (Played, String) {
    let (errors, trap) = (Errors::default(), Trap(Mutex::new(trap)));
    let writer = errors.clone();
    let log = tracing_subscriber::fmt::layer()
        .with_ansi(false)
        .without_time()
        .with_writer(move || writer.clone())
        .with_filter(tracing_subscriber::filter::LevelFilter::ERROR);
    let subscriber = tracing_subscriber::registry().with(log).with(trap);
    let played = tracing::subscriber::with_default(subscriber, || play(script));
    let text = String::from_utf8(errors.0.lock().unwrap().clone()).unwrap();
    (played, text)
}

fn script(seed: u64, replicas: usize, bugs: Vec<Bug>) -> Script {
    Script { seed, replicas, bugs, least: Duration::from_secs(3), ..Script::default() }
}

fn assert_all_done(what: &str, played: &Played) {
    if played.violation.is_some() {
        played.trace.iter().for_each(|event| println!("{event}"));
    }
    assert_eq!(played.violation, None, "{what}");
    assert!(played.given_up.is_empty(), "{what}: {:?}", played.given_up);
    assert_eq!(played.ends.keys().copied().collect::<Vec<_>>(), ["DONE"], "{what}");
}

/// The bug bites at different moments; each time everything is DONE in the end, and the log tells of the dead actor.
fn survives(actor: &str, calls: &[&'static str]) {
    survives_in(&[1, 2], actor, calls);
}

/// The same in worlds of so many replicas.
fn survives_in(worlds: &[usize], actor: &str, calls: &[&'static str]) {
    // The janitor's first round comes after its pause.
    let least = Duration::from_secs(if actor == "JanitorScheduler" { 30 } else { 3 });
    for call in calls {
        for (seed, skip) in [(1, 0), (2, 1), (3, 7)] {
            let bug = Bug { call, skip, times: 1 };
            for &replicas in worlds {
                let script = Script { least, ..script(seed, replicas, vec![bug]) };
                let (played, errors) = with_bug(&script, 0);
                let what = format!("{actor}: {call} after {skip}, {replicas} replicas");
                assert_all_done(&what, &played);
                if played.bitten > 0 && actor != "SessionFeed" {
                    assert!(errors.contains("is built anew") && errors.contains(actor), "{what}: {errors}");
                }
                assert!(played.bitten > 0 || skip > 0, "{what}: it was never called");
            }
        }
    }
}

#[test]
fn a_consumer_that_panics_is_built_anew() {
    survives("AmqpConsumer", &["broker.deliver", "broker.publish", "broker.ack", "broker.connect"]);
}

#[test]
fn a_validator_that_panics_is_built_anew() {
    for seed in 0..4 {
        let (played, errors) = with_bug(&script(seed, 1 + seed as usize % 2, Vec::new()), 1);
        assert_all_done("ChunkValidator", &played);
        assert!(errors.contains("is built anew") && errors.contains("ChunkValidator"), "{errors}");
    }
}

#[test]
fn a_registry_that_panics_is_built_anew() {
    survives("SessionRegistry", &["store.look", "spool.append", "store.commit"]);
}

#[test]
fn a_forwarder_that_panics_is_built_anew() {
    survives("FflowForwarder", &["store.beat", "store.claim", "store.news"]);
}

#[test]
fn a_router_that_panics_is_built_anew() {
    survives("FflowRouter", &["fflow.create", "store.farm", "routes.ping"]);
}

#[test]
fn a_feed_that_panics_is_claimed_anew() {
    let writes = ["store.number", "store.record", "store.mark", "store.complete"];
    survives("SessionFeed", &["fflow.push", "fflow.finish", "spool.read", "holder.look"]);
    survives("SessionFeed", &writes);
    // A replica that stored all of a session knows where its bytes are.
    survives_in(&[2], "SessionFeed", &["store.runs"]);
}

#[test]
fn a_janitor_that_panics_is_built_anew() {
    survives("JanitorScheduler", &["spool.folders"]);
}

#[test]
fn a_line_that_keeps_dying_is_given_up_loudly() {
    for (actor, call) in [
        ("AmqpConsumer", "broker.connect"),
        ("SessionRegistry", "store.look"),
        ("FflowForwarder", "store.beat"),
        ("FflowRouter", "routes.ping"),
    ] {
        let bug = Bug { call, skip: 0, times: usize::MAX };
        let (played, errors) = with_bug(&script(1, 1, vec![bug]), 0);
        assert_eq!(played.violation, None);
        let [why] = played.given_up.as_slice() else { panic!("{actor} is not given up") };
        assert!(why.contains("giving up") && why.contains(actor), "{why}");
        assert!(errors.matches("is built anew").count() > 1, "{errors}");
    }
}
