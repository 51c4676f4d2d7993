//! Which fault explains that an upload ended early for its client. What no fault explains is the service's failure.

use std::time::Duration;

use super::chronicle::{End, Struck, Upload};
use super::fault::Fault;
use super::links::{Link, REPLICAS};
use super::parts::{TICK, VIDEO_TTL};

/// A gateway connects again within 5 s of its broker's return, and the kind one needs a moment to notice; more is for a
/// busy machine.
const AFTERMATH: Duration = Duration::from_secs(15);
/// The service keeps a chunk for 45 s while PostgreSQL or the spool is away.
const CHUNK_DEADLINE: Duration = Duration::from_secs(40);

/// A cleaning itself takes time on a busy machine: in the moment in which the service has consumed for long enough, every
/// upload that was cut in the storm before is due at once. A thousand of them took up to 9 s in a debug build.
const BUSY: Duration = Duration::from_secs(15);
/// A replica starts, connects and pauses before it cleans.
const COMES_BACK: Duration = Duration::from_secs(3);
/// The replica that cleans is the last one.
const CLEANS: usize = REPLICAS - 1;

/// The reason, as it is counted.
pub(super) fn broken(upload: &Upload, struck: &[Struck]) -> Option<&'static str> {
    let Some(End::Broken { sent, known, status, why }) = &upload.end else { return None };
    let met = |fits: &dyn Fn(&Fault) -> bool| {
        struck.iter().any(|one| fits(&one.fault) && one.meets(*sent, *known, AFTERMATH))
    };
    if *status == Some(400) {
        return refused(why, *known - *sent, &met);
    }
    if met(&takes_broker) {
        return Some("cut by broker");
    }
    if met(&takes_database) {
        return Some("cut by gateway's database");
    }
    if met(&|fault| hurts(fault, Link::ClientGateway(upload.line))) {
        return Some("cut at the client");
    }
    None
}

/// By how much an upload expired too late. Its time begins anew whenever consuming does, unless there was time enough to
/// end it before; `consuming` are the times since when the service says that it consumes. Only time in which somebody
/// can clean counts, and in which something can be abandoned: while nobody consumes nothing is.
pub(super) fn late_expiry(
    upload: &Upload,
    outlived: Duration,
    consuming: &[Duration],
    struck: &[Struck],
) -> Option<Duration> {
    let last = upload.acks.last().copied().unwrap_or(upload.begun);
    let expired = last + outlived;
    let mut since = last;
    for anew in consuming {
        let in_time = time_to_clean(since + VIDEO_TTL, *anew, struck) <= TICK + BUSY;
        if (since..=expired).contains(anew) && in_time {
            since = *anew;
        }
    }
    let late = time_to_clean(since + VIDEO_TTL, expired, struck).checked_sub(TICK + BUSY)?;
    Some(late).filter(|late| !late.is_zero())
}

/// How much of the time between the two the replica that cleans had.
fn time_to_clean(from: Duration, to: Duration, struck: &[Struck]) -> Duration {
    let mut outages: Vec<_> = struck.iter().filter(|one| stops_cleaning(&one.fault)).collect();
    outages.sort_by_key(|outage| outage.from);
    let (mut at, mut had) = (from, Duration::ZERO);
    for outage in outages {
        had += outage.from.min(to).saturating_sub(at);
        at = at.max(outage.to.map_or(to, |end| end + COMES_BACK));
    }
    had + to.saturating_sub(at)
}

/// What keeps the only replica that cleans from it, or everybody from consuming.
fn stops_cleaning(fault: &Fault) -> bool {
    match fault {
        Fault::KillUploader(replica, _)
        | Fault::TerminateUploader(replica)
        | Fault::FreezeUploader(replica, _) => *replica == CLEANS,
        _ => fault.stops_all() || hurts(fault, Link::UploaderDatabase(CLEANS)),
    }
}

/// Whether a fault of this kind fell into the time in question.
type Met<'a> = &'a dyn Fn(&dyn Fn(&Fault) -> bool) -> bool;

/// The service has said `nack`.
fn refused(why: &str, took: Duration, met: Met<'_>) -> Option<&'static str> {
    let spool = |fault: &Fault| matches!(fault, Fault::ExhaustQuota(_) | Fault::FillSpool(_));
    if why.contains("storage full") && met(&spool) {
        return Some("spool full");
    }
    let away = |fault: &Fault| spool(fault) || matches!(fault, Fault::RestartDatabase { .. });
    (why.contains("temporarily unavailable") && took >= CHUNK_DEADLINE && met(&away)).then_some("unavailable")
}

/// A chunk or its reply is gone with the broker, or with gateway's connection to it.
fn takes_broker(fault: &Fault) -> bool {
    matches!(fault, Fault::RestartBroker { .. }) || hurts(fault, Link::GatewayBroker)
}

/// gateway asks PostgreSQL before it publishes a chunk, and the existing one does not ask twice.
fn takes_database(fault: &Fault) -> bool {
    matches!(fault, Fault::RestartDatabase { .. }) || hurts(fault, Link::GatewayDatabase)
}

fn hurts(fault: &Fault, cable: Link) -> bool {
    match fault {
        Fault::Cut(link) | Fault::HalfClose(link, _) | Fault::Stall(link, _) => *link == cable,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::super::chronicle::Content;
    use super::*;

    fn upload(status: Option<u16>, why: &str) -> Upload {
        let (sent, known) = (Duration::from_secs(10), Duration::from_secs(12));
        Upload {
            session: String::new(),
            video: String::new(),
            flow: String::new(),
            total: 1,
            content: Content::Noise(1),
            line: 0,
            chunk: 1,
            acks: Vec::new(),
            acked: 0,
            begun: sent,
            end: Some(End::Broken { sent, known, status, why: why.to_owned() }),
        }
    }

    fn struck(fault: Fault, from: u64, to: u64) -> Vec<Struck> {
        let seconds = Duration::from_secs;
        vec![Struck { fault, from: seconds(from), to: Some(seconds(to)) }]
    }

    #[test]
    fn a_lost_reply_is_explained_by_a_restart_of_the_broker_at_that_time_only() {
        let restart = Fault::RestartBroker { kill: true };
        let cut = upload(Some(504), "no reply to the chunk in time");
        assert_eq!(broken(&cut, &struck(restart, 8, 11)), Some("cut by broker"));
        assert_eq!(broken(&cut, &struck(restart, 13, 15)), None);
        assert_eq!(broken(&cut, &struck(Fault::EmptyRedis, 8, 11)), None);
        assert_eq!(broken(&cut, &[]), None);
    }

    #[test]
    fn a_nack_is_never_explained_by_the_broker() {
        let restart = Fault::RestartBroker { kill: true };
        assert_eq!(broken(&upload(Some(400), "expected byte 5"), &struck(restart, 8, 11)), None);
    }

    #[test]
    fn a_full_spool_explains_its_own_refusal_and_no_other() {
        let full = struck(Fault::ExhaustQuota(Duration::from_secs(1)), 8, 11);
        assert_eq!(broken(&upload(Some(400), "storage full, try again later"), &full), Some("spool full"));
        assert_eq!(broken(&upload(Some(400), "temporarily unavailable"), &full), None);
        assert_eq!(broken(&upload(None, "timeout"), &full), None);
    }

    #[test]
    fn an_upload_expires_late_unless_somebody_has_only_just_begun_to_consume() {
        let cut = upload(Some(504), "");
        let outlived = Duration::from_secs(40);
        assert_eq!(late_expiry(&cut, outlived, &[], &[]), Some(outlived - VIDEO_TTL - TICK - BUSY));
        assert_eq!(late_expiry(&cut, outlived, &[Duration::from_secs(30)], &[]), None);
        assert_eq!(late_expiry(&cut, VIDEO_TTL, &[], &[]), None);
        let afterwards = [Duration::from_secs(60)];
        assert!(late_expiry(&cut, outlived, &afterwards, &[]).is_some());
    }

    #[test]
    fn an_upload_expires_late_while_its_cleaner_is_away_and_a_cleaning_longer_only() {
        let cut = upload(Some(504), "");
        let kill = |replica, from, to| struck(Fault::KillUploader(replica, Duration::ZERO), from, to);
        // Its time was over at 30; until 46 it may be cleaned. A replica comes back 3 s after its start.
        let late = |seconds, struck: &[Struck]| late_expiry(&cut, Duration::from_secs(seconds), &[], struck);
        assert_eq!(late(36, &[]), None);
        assert_eq!(late(53, &kill(CLEANS, 40, 54)), None);
        assert_eq!(late(55, &kill(CLEANS, 40, 54)), Some(Duration::from_secs(2)));
        assert!(late(53, &kill(0, 40, 54)).is_some(), "another replica");
        assert!(late(50, &kill(CLEANS, 50, 59)).is_some(), "it had its time before");
        assert!(late(50, &kill(CLEANS, 5, 20)).is_some(), "it was back long before");
        let twice = [kill(CLEANS, 40, 44), kill(CLEANS, 50, 56)].concat();
        assert_eq!(late(52, &twice), None, "16 s in all");
        assert!(late(57, &twice).is_some(), "an outage gives back no more than it has taken");
        let cable = Fault::Stall(Link::UploaderDatabase(CLEANS), Duration::from_secs(14));
        assert_eq!(late(50, &struck(cable, 40, 54)), None);
    }

    #[test]
    fn consuming_that_begins_anew_long_after_an_upload_was_due_excuses_nothing() {
        let cut = upload(Some(504), "");
        let begins = [Duration::from_secs(29), Duration::from_secs(300)];
        assert_eq!(late_expiry(&cut, Duration::from_secs(55), &begins, &[]), None);
        assert!(late_expiry(&cut, Duration::from_secs(311), &begins, &[]).is_some());
    }

    #[test]
    fn an_upload_that_was_due_for_a_moment_only_before_nobody_consumed_has_its_time_anew() {
        let cut = upload(Some(504), "");
        let away = struck(Fault::RestartBroker { kill: true }, 32, 44);
        let late =
            |outlived| late_expiry(&cut, Duration::from_secs(outlived), &[Duration::from_secs(45)], &away);
        assert_eq!(late(71), None);
        assert_eq!(late(73), Some(Duration::from_secs(2)));
    }

    #[test]
    fn the_death_of_a_replica_explains_nothing() {
        let killed = struck(Fault::KillUploader(1, Duration::ZERO), 8, 11);
        assert_eq!(broken(&upload(None, "timeout"), &killed), None);
    }
}
