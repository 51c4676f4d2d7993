//! Notices a dead line, has it rebuilt with backoff, and gives up loudly when that does not help.
//!
//! actix restarts an actor that stops, but not one that panics: its mailbox is lost and its senders see it closed. A
//! *line* is a set of actors that stand and fall together; when one of them is dead the whole line is built anew.

use std::collections::VecDeque;
use std::time::Duration;

use actix::{Actor, Addr, Context, Handler, Recipient};

use crate::clock;
use crate::domain::ids::Timestamp;
use crate::domain::retry::Backoff;
use crate::messages::{Ping, Retire};
use crate::metrics;

/// Pause between two looks at the actors of a line.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// An actor that has not answered for this long is as good as dead.
const ANSWER_WITHIN: Duration = Duration::from_secs(20);
/// Rebuilds within [`REBUILD_SPAN`] before the process gives up.
const REBUILDS: usize = 5;
/// See [`REBUILDS`].
const REBUILD_SPAN: Duration = Duration::from_secs(60);
/// Waits before a rebuild.
const BACKOFF: Backoff = Backoff { min: Duration::from_millis(100), max: Duration::from_secs(5) };

/// How long all actors of a line that is given up may take together to hear of it.
const RETIRE_WITHIN: Duration = Duration::from_secs(1);

/// One actor of a line, as the watch sees it.
pub struct Pulse {
    /// Its name, for the log.
    name: &'static str,
    /// Asks whether it is there.
    ping: Recipient<Ping>,
    /// Ends it.
    retire: Recipient<Retire>,
}

impl Pulse {
    /// The pulse of an actor. It keeps the actor alive.
    pub fn of<A>(name: &'static str, actor: &Addr<A>) -> Self
    where
        A: Actor<Context = Context<A>> + Handler<Ping> + Handler<Retire>,
    {
        Pulse { name, ping: actor.clone().recipient(), retire: actor.clone().recipient() }
    }
}

/// Waits until an actor of the line is dead or no longer answers; says which.
pub async fn first_death(line: &[Pulse]) -> &'static str {
    loop {
        for pulse in line {
            let asked = clock::now();
            let answer = tokio::time::timeout(ANSWER_WITHIN, pulse.ping.send(Ping)).await;
            metrics::answered(pulse.name, asked.until(clock::now()));
            if !matches!(answer, Ok(Ok(()))) {
                return pulse.name;
            }
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Has every actor of a line drop what it holds, in this order. An actor with a clock or with work under way outlives
/// its addresses, and would go on beside the one that replaces it.
pub async fn retire(line: Vec<Pulse>) {
    let deadline = tokio::time::Instant::now() + RETIRE_WITHIN;
    for pulse in line {
        pulse.retire.do_send(Retire);
        // Heard when it answers what comes after. A dead one holds nothing; one that is busy retires later.
        let _ = tokio::time::timeout_at(deadline, pulse.ping.send(Ping)).await;
    }
}

/// How often lines may be rebuilt.
#[derive(Debug, Default)]
pub struct Budget {
    rebuilds: VecDeque<Timestamp>,
}

/// A line keeps dying: the process must end, so that its manager starts it clean.
#[derive(Debug, thiserror::Error)]
#[error("{line} died {REBUILDS} times within {} s, giving up", REBUILD_SPAN.as_secs())]
pub struct GivenUp {
    /// The actor that died last.
    pub line: &'static str,
}

impl Budget {
    /// Takes one rebuild out of the budget; says how long to wait before it.
    pub fn spend(&mut self, line: &'static str, now: Timestamp) -> Result<Duration, GivenUp> {
        while self.rebuilds.front().is_some_and(|at| at.until(now) >= REBUILD_SPAN) {
            self.rebuilds.pop_front();
        }
        if self.rebuilds.len() >= REBUILDS {
            return Err(GivenUp { line });
        }
        let wait = BACKOFF.wait(self.rebuilds.len() as u32, 1.0);
        self.rebuilds.push_back(now);
        Ok(wait)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use actix::{ActorContext, AsyncContext};

    use super::*;

    struct Fragile;

    impl actix::Actor for Fragile {
        type Context = actix::Context<Self>;
    }

    impl actix::Supervised for Fragile {}

    impl actix::Handler<Ping> for Fragile {
        type Result = ();

        fn handle(&mut self, _: Ping, _: &mut Self::Context) {}
    }

    impl actix::Handler<Retire> for Fragile {
        type Result = ();

        fn handle(&mut self, _: Retire, _: &mut Self::Context) {}
    }

    #[derive(actix::Message)]
    #[rtype(result = "()")]
    struct Break;

    impl actix::Handler<Break> for Fragile {
        type Result = ();

        fn handle(&mut self, _: Break, _: &mut Self::Context) {
            panic!("as a bug would");
        }
    }

    #[actix_rt::test]
    async fn an_actor_that_panicked_is_found_dead_and_the_others_alive() {
        let start = || actix::Supervisor::start(|_: &mut actix::Context<Fragile>| Fragile);
        let (sound, fragile) = (start(), start());
        let line = [Pulse::of("sound", &sound), Pulse::of("fragile", &fragile)];
        let alive = tokio::time::timeout(LOOK_EVERY * 2, first_death(&line)).await;
        assert!(alive.is_err(), "both are alive");
        fragile.do_send(Break);
        let dead = tokio::time::timeout(LOOK_EVERY * 4, first_death(&line)).await;
        assert_eq!(dead.unwrap(), "fragile");
    }

    /// Has a clock, as most actors here do, and tells when it is gone.
    struct Clockwork {
        retired: bool,
        gone: Arc<AtomicBool>,
    }

    impl Drop for Clockwork {
        fn drop(&mut self) {
            self.gone.store(true, Ordering::SeqCst);
        }
    }

    impl actix::Actor for Clockwork {
        type Context = actix::Context<Self>;

        fn started(&mut self, ctx: &mut Self::Context) {
            if !self.retired {
                ctx.run_interval(Duration::from_millis(1), |_, _| {});
            }
        }
    }

    impl actix::Supervised for Clockwork {}

    impl actix::Handler<Ping> for Clockwork {
        type Result = ();

        fn handle(&mut self, _: Ping, _: &mut Self::Context) {}
    }

    impl actix::Handler<Retire> for Clockwork {
        type Result = ();

        fn handle(&mut self, _: Retire, ctx: &mut Self::Context) {
            self.retired = true;
            ctx.stop();
        }
    }

    #[actix_rt::test]
    async fn an_actor_with_a_clock_outlives_its_addresses_until_it_retires() {
        let start = |gone: &Arc<AtomicBool>| {
            let clockwork = Clockwork { retired: false, gone: gone.clone() };
            actix::Supervisor::start(|_: &mut actix::Context<Clockwork>| clockwork)
        };
        let (left, retired) = (Arc::default(), Arc::default());
        drop(start(&left));
        retire(vec![Pulse::of("retired", &start(&retired))]).await;
        let end = tokio::time::Instant::now() + Duration::from_secs(5);
        while !retired.load(Ordering::SeqCst) {
            assert!(tokio::time::Instant::now() < end, "it is still there");
            tokio::task::yield_now().await;
        }
        assert!(!left.load(Ordering::SeqCst), "without a word it stays");
    }

    #[test]
    fn a_line_that_keeps_dying_is_given_up() {
        let mut budget = Budget::default();
        for n in 0..REBUILDS as u64 {
            assert!(budget.spend("registry", Timestamp(n * 1000)).is_ok());
        }
        assert_eq!(budget.spend("registry", Timestamp(6_000)).unwrap_err().line, "registry");
    }

    #[test]
    fn deaths_far_apart_are_forgiven() {
        let mut budget = Budget::default();
        for n in 0..100 {
            assert!(budget.spend("registry", Timestamp(n * 61_000 / 4)).is_ok(), "{n}");
        }
    }
}
