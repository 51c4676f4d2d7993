//! What `janitor` answers, as text.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

use super::super::output::age;
use crate::app::Forecast;
use crate::gateways::upload_store::cleaning::{DoomedSession, Listed};
use crate::messages::JanitorReport;

/// Why nothing was done.
#[derive(Serialize)]
pub(super) struct Refusal {
    pub(super) refused: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "refused: {}", self.refused)
    }
}

/// What a run did.
#[derive(Serialize)]
#[serde(transparent)]
pub(super) struct Cleaned(pub(super) JanitorReport);

impl fmt::Display for Cleaned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let report = &self.0;
        let lines = [
            (report.videos_deleted, "abandoned videos deleted"),
            (report.videos_blocked, "videos blocked: one of their files plays, the others were abandoned"),
            (report.sessions_removed, "uploads ended whose rows somebody else removed"),
            (report.sessions_cleaned, "ended uploads whose route and stored bytes are gone now"),
            (report.folders_buried, "folders of the spool that no row knew"),
            (report.folders_removed, "folders of the spool that came back after their upload had ended"),
            (report.failed_given_up, "failed uploads whose stored bytes were given up"),
            (report.strays_gone, "ffmpeg processes that nobody wanted"),
            (report.runs_forgotten, "rows about bytes that are no more"),
            (report.tombstones_forgotten, "ended uploads forgotten"),
            (report.replicas_forgotten, "dead replicas forgotten"),
        ];
        for (count, what) in lines.into_iter().filter(|(count, _)| *count > 0) {
            writeln!(f, "{count:>8}  {what}")?;
        }
        if let Some(error) = &report.error {
            writeln!(f, "not everything could be cleaned, run it again: {error}")?;
        }
        if report.more_is_left {
            writeln!(f, "more is left: run it again")?;
        }
        write!(f, "done in {:.1} s", report.duration.as_secs_f64())
    }
}

/// What a run would do.
#[derive(Serialize)]
#[serde(transparent)]
pub(super) struct Foreseen(pub(super) Forecast);

impl fmt::Display for Foreseen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Forecast { preview, folders } = &self.0;
        if let Some(why) = &preview.nothing_abandoned {
            writeln!(f, "no upload counts as abandoned now: {why}")?;
        }
        list(f, &preview.videos, "abandoned videos would end", |video| {
            let fate = if video.blocked { "blocked, it plays in part" } else { "deleted" };
            let (idle, files) = (age(Duration::from_millis(video.idle_ms)), (video.sessions, video.flows));
            format!(
                "{}  {fate}: {}, idle {idle}, {} of {} files begun",
                video.video_id, video.status, files.0, files.1
            )
        })?;
        list(f, &preview.removed_by_others, "uploads would end, others removed their rows", session)?;
        list(f, &preview.uncleaned, "ended uploads would lose route and stored bytes", session)?;
        list(f, &preview.failed, "failed uploads would lose their stored bytes", session)?;
        list(f, folders, "folders of the spool would be removed", ToString::to_string)?;
        list(f, &preview.strays, "ffmpeg processes would be deleted", |stray| {
            let place = stray.base_url.as_deref().unwrap_or("every known replica");
            format!("{}  at {place}, unwanted for {}", stray.name, age(Duration::from_millis(stray.age_ms)))
        })?;
        list(f, &preview.tombstones, "ended uploads would be forgotten", session)?;
        list(f, &preview.replicas, "dead replicas would be forgotten", |replica| {
            format!(
                "{}  {}, dead for {}",
                replica.replica_id,
                replica.name,
                age(Duration::from_millis(replica.lapsed_ms))
            )
        })?;
        write!(f, "nothing was changed")
    }
}

fn session(session: &DoomedSession) -> String {
    let reason = session.reason.as_deref().map_or_else(String::new, |reason| format!(", {reason}"));
    format!(
        "{}  {} for {}{reason}",
        session.session_id,
        session.state,
        age(Duration::from_millis(session.age_ms))
    )
}

fn list<T>(
    f: &mut fmt::Formatter<'_>,
    listed: &Listed<T>,
    what: &str,
    line: impl Fn(&T) -> String,
) -> fmt::Result {
    if listed.count == 0 {
        return Ok(());
    }
    writeln!(f, "{:>8}  {what}", listed.count)?;
    listed.first.iter().try_for_each(|entry| writeln!(f, "          {}", line(entry)))?;
    match listed.count - listed.first.len() as u64 {
        0 => Ok(()),
        more => writeln!(f, "          .. and {more} more"),
    }
}
