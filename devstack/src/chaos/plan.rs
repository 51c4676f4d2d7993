//! What the nemesis will do, decided before it begins: the same seed and length give the same plan.

use std::time::Duration;

use fastrand::Rng;

use super::fault::{Fault, Wrong};
use super::links::{Link, REPLICAS};

/// How many replicas either fflow has.
pub(super) const FARM: usize = 3;

/// A fault and when it is due, counted from the nemesis's beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Due {
    pub(super) at: Duration,
    pub(super) fault: Fault,
}

impl Due {
    fn falls_into_a_storm(&self) -> bool {
        self.at.as_millis() % MINUTE.as_millis() < STORM.as_millis()
    }

    /// The replica that is left alone in the calm of this minute.
    fn spared(&self) -> usize {
        (self.at.as_secs() / MINUTE.as_secs()) as usize % REPLICAS
    }

    fn leaves_somebody_at_work(&self) -> bool {
        self.falls_into_a_storm() || !self.fault.stops_all() && self.fault.stops() != Some(self.spared())
    }
}

/// Faults that come one after another; lanes run side by side, so that faults of different lanes meet.
pub(super) type Lane = Vec<Due>;

/// The lanes for `length`, from `seed`.
pub(super) fn plan(seed: u64, length: Duration, lease: Duration) -> Vec<Lane> {
    let mut rng = Rng::with_seed(seed);
    let decks: [(Deck, f64, f64); 6] = [
        (replicas, 2.0, 6.0),
        (farm, 1.0, 4.0),
        (answers, 0.5, 2.0),
        (servers, 4.0, 9.0),
        (cables, 0.7, 2.5),
        (spool, 5.0, 10.0),
    ];
    let mut lanes: Vec<Lane> =
        decks.iter().map(|(deck, least, most)| lane(*deck, *least, *most, length, lease, &mut rng)).collect();
    lanes.iter_mut().for_each(|lane| lane.retain(Due::leaves_somebody_at_work));
    lanes
}

/// Of each minute, the part in which all replicas at once may be kept from their work; in the other one a replica is left
/// alone, each minute the next. An upload is abandoned when it was silent for as long as the service has taken chunks
/// without a break: in an unbroken storm none ever is, and all room is taken by uploads that were cut.
const STORM: Duration = Duration::from_secs(30);
const MINUTE: Duration = Duration::from_secs(60);

/// One fault of every kind of a lane.
type Deck = fn(&mut Rng, Duration) -> Vec<Fault>;

/// Shuffles a deck and deals it, a new one when it is used up, with pauses of `least` to `most` seconds.
fn lane(deck: Deck, least: f64, most: f64, length: Duration, lease: Duration, rng: &mut Rng) -> Lane {
    let mut lane = Lane::new();
    let mut cards = Vec::new();
    let mut at = Duration::from_secs_f64(rng.f64() * least);
    loop {
        if cards.is_empty() {
            cards = deck(rng, lease);
            rng.shuffle(&mut cards);
        }
        let Some(fault) = cards.pop() else { return lane };
        at += Duration::from_secs_f64(least + rng.f64() * (most - least));
        if at >= length {
            return lane;
        }
        lane.push(Due { at, fault });
    }
}

fn seconds(rng: &mut Rng, least: f64, most: f64) -> Duration {
    Duration::from_secs_f64(least + rng.f64() * (most - least))
}

fn replicas(rng: &mut Rng, lease: Duration) -> Vec<Fault> {
    let beyond = lease + seconds(rng, 1.0, 4.0);
    vec![
        Fault::KillUploader(rng.usize(0..REPLICAS), seconds(rng, 0.0, 2.0)),
        Fault::KillUploader(rng.usize(0..REPLICAS), seconds(rng, 0.0, 1.0)),
        Fault::TerminateUploader(rng.usize(0..REPLICAS)),
        Fault::FreezeUploader(rng.usize(0..REPLICAS), beyond),
    ]
}

fn farm(rng: &mut Rng, _: Duration) -> Vec<Fault> {
    vec![
        Fault::KillRecorder(rng.usize(1..=FARM), seconds(rng, 0.5, 4.0)),
        Fault::KillFflow(rng.usize(0..FARM), seconds(rng, 0.2, 2.0)),
        Fault::KillFfmpeg { real: false },
        Fault::KillFfmpeg { real: false },
        Fault::KillFfmpeg { real: true },
    ]
}

fn answers(rng: &mut Rng, _: Duration) -> Vec<Fault> {
    let wrongs = [500, 404, 413, 504].map(Wrong::Status).into_iter();
    let wrongs = wrongs.chain([Wrong::ResetAfter, Wrong::ResetAfter, Wrong::TimeoutAfter]);
    // A 413 answers a body, and a finish has next to none.
    let finish = |rng: &mut Rng, wrong| wrong != Wrong::Status(413) && rng.u8(0..3) == 0;
    wrongs
        .map(|wrong| {
            let finish = finish(rng, wrong);
            let times = if finish { 1 } else { rng.usize(1..=3) };
            Fault::WrongAnswers { finish, wrong, times }
        })
        .collect()
}

fn servers(rng: &mut Rng, _: Duration) -> Vec<Fault> {
    vec![
        Fault::RestartBroker { kill: rng.bool() },
        Fault::RestartDatabase { crash: rng.bool(), pause: seconds(rng, 0.0, 3.0) },
        Fault::EmptyRedis,
        Fault::RestartRedis(seconds(rng, 0.5, 4.0)),
    ]
}

fn cables(rng: &mut Rng, _: Duration) -> Vec<Fault> {
    let mut faults = Vec::new();
    for link in Link::all() {
        // What a browser or a gateway loses with its cable is lost: more of that would leave nobody to watch.
        let costly = matches!(link, Link::GatewayBroker | Link::GatewayDatabase | Link::ClientGateway(_));
        faults.push(match rng.u8(0..if costly { 3 } else { 4 }) {
            0 => Fault::Delay(link, seconds(rng, 0.02, 0.3), seconds(rng, 1.0, 4.0)),
            1 => Fault::Cut(link),
            2 => Fault::HalfClose(link, rng.bool()),
            _ => Fault::Stall(link, seconds(rng, 0.5, 4.0)),
        });
    }
    faults
}

fn spool(rng: &mut Rng, _: Duration) -> Vec<Fault> {
    vec![Fault::ExhaustQuota(seconds(rng, 1.0, 3.0)), Fault::FillSpool(seconds(rng, 1.0, 4.0))]
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    const LEASE: Duration = Duration::from_secs(3);

    #[test]
    fn the_same_seed_gives_the_same_plan_and_another_one_another() {
        let minute = Duration::from_secs(60);
        assert_eq!(plan(7, minute, LEASE), plan(7, minute, LEASE));
        assert_ne!(plan(7, minute, LEASE), plan(8, minute, LEASE));
    }

    #[test]
    fn faults_are_in_order_and_end_with_the_plan() {
        let length = Duration::from_secs(20);
        for lane in (0..50).flat_map(|seed| plan(seed, length, LEASE)) {
            assert!(lane.is_sorted_by_key(|due| due.at), "{lane:?}");
            assert!(lane.iter().all(|due| due.at < length), "{lane:?}");
        }
    }

    #[test]
    fn a_minute_has_a_fault_of_every_kind() {
        for seed in 0..50 {
            let planned = plan(seed, Duration::from_secs(60), LEASE);
            let mut kinds: Vec<_> = planned.iter().flatten().map(|due| due.fault.kind()).collect();
            kinds.sort_unstable();
            kinds.dedup();
            assert!(kinds.len() >= 15, "seed {seed}: {kinds:?}");
        }
    }

    #[test]
    fn each_minute_has_half_a_minute_in_which_somebody_takes_chunks() {
        let planned = plan(5, Duration::from_secs(600), LEASE);
        let stops: Vec<_> = planned.iter().flatten().filter(|due| due.fault.stops_all()).collect();
        assert!(stops.len() > 20, "{}", stops.len());
        assert!(stops.iter().all(|due| due.at.as_secs() % 60 < 30), "{stops:?}");
        for minute in 0..10 {
            let calm = |due: &&Due| due.at.as_secs() / 60 == minute && due.at.as_secs() % 60 >= 30;
            let stopped = planned.iter().flatten().filter(calm).filter_map(|due| due.fault.stops());
            let stopped: HashSet<usize> = stopped.collect();
            assert!(!stopped.is_empty(), "the others are not left alone");
            assert!(!stopped.contains(&(minute as usize % REPLICAS)), "minute {minute}: {stopped:?}");
        }
    }

    #[test]
    fn a_frozen_replica_is_frozen_beyond_its_lease() {
        let planned = plan(3, Duration::from_secs(300), LEASE);
        let freezes = planned.iter().flatten().filter_map(|due| match due.fault {
            Fault::FreezeUploader(_, time) => Some(time),
            _ => None,
        });
        let freezes: Vec<_> = freezes.collect();
        assert!(!freezes.is_empty() && freezes.iter().all(|time| *time > LEASE), "{freezes:?}");
    }
}
