//! One run of the janitor: its parts one after another, each in bounded batches and with its time.

use std::collections::HashSet;
use std::fmt::Display;
use std::time::Duration;

use actix::MailboxError;
use futures_util::{StreamExt, future, stream};
use tokio::time::Instant;
use tracing::{debug, warn};

use super::{JanitorParts, Places};
use crate::domain::ids::SessionId;
use crate::domain::pace::Pace;
use crate::gateways::upload_store::cleaning::Stage;
use crate::messages::{DropFlow, ExpireSessions, JanitorReport, SweepStrays};

/// A part begins no further batch after this, or after the pause between two runs if that is shorter; what it has not
/// done by then is left to the next run. So the pause that an operator chose also bounds for how long one part, say the
/// processes of an fflow that does not answer, begins anything while the others wait.
const PART_WITHIN: Duration = Duration::from_secs(60);
/// A batch that takes longer than this beyond a part's time is given up.
const BATCH_WITHIN: Duration = Duration::from_secs(60);
/// Folders listed at once: each listing walks through the whole spool.
const FOLDERS: usize = 10_000;
/// Videos judged by one search for emptied ones.
const VIDEOS: u32 = 1_000;
/// Pause before the router is asked again while it sweeps on its own account.
const ROUTER_PAUSE: Duration = Duration::from_millis(200);
/// Folders removed at once: disks do not get faster by more.
const REMOVE_AT_ONCE: usize = 4;

/// How a part ended.
enum Left {
    Nothing,
    More,
}

type Part = Result<Left, String>;

/// A run under way.
pub(super) struct Run {
    parts: JanitorParts,
    places: Places,
    report: JanitorReport,
}

/// Everything once: first sessions are ended, then what has ended is cleaned. Says what was done, and where the next
/// run goes on.
pub(super) async fn run(parts: JanitorParts, places: Places) -> (JanitorReport, Places) {
    let mut run = Run { parts, places, report: JanitorReport::default() };
    run.part("abandoned uploads", Run::expire).await;
    if run.places.videos.is_none() {
        run.part("emptied videos", Run::remove).await;
    }
    run.part("spool folders", Run::folders).await;
    run.part("failed uploads", Run::give_up).await;
    run.part("ended uploads", Run::clean).await;
    run.part("strays", Run::strays).await;
    run.part("runs", Run::runs).await;
    run.part("tombstones", Run::tombstones).await;
    run.part("replicas", Run::replicas).await;
    (run.report, run.places)
}

impl Run {
    /// Carries out one part within its time; what it did counts even if it fails in the end.
    async fn part(&mut self, name: &'static str, work: impl AsyncFnOnce(&mut Self, Instant) -> Part) {
        let began = Instant::now();
        let within = PART_WITHIN.min(self.parts.config.interval);
        let until = began + within;
        let ended = tokio::time::timeout_at(until + BATCH_WITHIN, work(self, until)).await;
        debug!(part = name, duration_ms = began.elapsed().as_millis() as u64, "part ended");
        let why = match ended {
            Ok(Ok(Left::Nothing)) => return,
            Ok(Ok(Left::More)) => {
                self.report.more_is_left = true;
                return;
            }
            Ok(Err(why)) => why,
            Err(_) => format!("no end within {:?}", within + BATCH_WITHIN),
        };
        warn!(part = name, error = why, "could not be cleaned now, the next run tries again");
        self.report.error = Some(format!("{name}: {why}"));
    }

    /// One way through all videos, a page at a time.
    async fn expire(&mut self, until: Instant) -> Part {
        let mut error = None;
        loop {
            let (ttl, limit) = (self.parts.config.video_ttl, self.parts.config.batch);
            let ask = ExpireSessions { ttl, limit, after: self.places.videos };
            let round = self.parts.expire.send(ask).await.map_err(gone)?;
            self.report.videos_blocked += round.blocked;
            self.report.sessions_removed += round.removed;
            let stuck = round.next.is_some() && round.next == self.places.videos;
            self.places.videos = round.next;
            error = round.error.or(error);
            let done = round.next.is_none() && round.removed < u64::from(limit);
            match error {
                Some(why) if done || stuck => return Err(why),
                None if done => return Ok(Left::Nothing),
                _ if Instant::now() >= until => return error.map_or(Ok(Left::More), Err),
                _ => {}
            }
        }
    }

    /// One way through the videos whose uploads have ended. Each costs a walk through all flows, so they are left until
    /// no abandoned upload is: then fewer flows are there to walk through.
    async fn remove(&mut self, until: Instant) -> Part {
        let (ttl, limit) = (self.parts.config.video_ttl, self.parts.config.batch);
        let mut pace = Pace::new(1, limit as usize);
        loop {
            let (store, after) = (&self.parts.store, self.places.emptied);
            let page = store.abandoned(Stage::Emptied, ttl, after, VIDEOS).await.map_err(text)?;
            let mut videos = page.videos.as_slice();
            while !videos.is_empty() {
                let (batch, rest) = videos.split_at(pace.size().min(videos.len()));
                let began = Instant::now();
                self.report.videos_deleted += self.parts.store.remove(batch, ttl).await.map_err(text)?;
                pace.took(batch.len(), began.elapsed());
                videos = rest;
                if Instant::now() >= until {
                    self.places.emptied = batch.last().copied();
                    return Ok(Left::More);
                }
            }
            self.places.emptied = page.next;
            if page.next.is_none() {
                return Ok(Left::Nothing);
            }
        }
    }

    /// One way through all folders.
    async fn folders(&mut self, until: Instant) -> Part {
        let mut error = None;
        loop {
            let page = self.parts.spool.folders(self.places.folders, FOLDERS).await.map_err(text)?;
            for folders in page.chunks(self.parts.config.batch as usize) {
                error = self.judge(folders).await?.or(error);
                self.places.folders = folders.last().copied();
                if Instant::now() >= until {
                    return error.map_or(Ok(Left::More), Err);
                }
            }
            if page.len() < FOLDERS {
                self.places.folders = None;
                return error.map_or(Ok(Left::Nothing), Err);
            }
        }
    }

    async fn judge(&mut self, folders: &[SessionId]) -> Result<Option<String>, String> {
        let judged = self.parts.store.judge_folders(folders).await.map_err(text)?;
        self.report.folders_buried += judged.buried.len() as u64;
        let (done, error) = self.parts.discard(&judged.late).await?;
        self.report.folders_removed += done.len() as u64;
        Ok(error)
    }

    async fn give_up(&mut self, until: Instant) -> Part {
        let (ttl, limit) = (self.parts.config.video_ttl, self.parts.config.batch);
        let mut error = None;
        loop {
            let due = self.parts.store.give_up_bytes(ttl, limit).await.map_err(text)?;
            let (done, failed) = self.parts.discard(&due).await?;
            self.report.failed_given_up += done.len() as u64;
            error = failed.or(error);
            let full = due.len() >= limit as usize;
            if !full || Instant::now() >= until {
                return error.map_or(Ok(left(full)), Err);
            }
        }
    }

    /// One way through all sessions that have ended.
    async fn clean(&mut self, until: Instant) -> Part {
        let limit = self.parts.config.batch;
        let mut error = None;
        loop {
            let due = self.parts.store.uncleaned(self.places.ended, limit).await.map_err(text)?;
            let (done, failed) = self.parts.clean(&due).await?;
            self.report.sessions_cleaned += done as u64;
            error = failed.or(error);
            let full = due.len() >= limit as usize;
            self.places.ended = due.last().copied().filter(|_| full);
            if !full || Instant::now() >= until {
                return error.map_or(Ok(left(full)), Err);
            }
        }
    }

    /// Rounds as long as some of them are gone after each.
    async fn strays(&mut self, until: Instant) -> Part {
        loop {
            let swept = self.parts.sweep.send(SweepStrays { until }).await.map_err(gone)?;
            self.report.strays_gone += swept.map_or(0, |swept| swept.gone as u64);
            match swept {
                Some(swept) if swept.seen == 0 => return Ok(Left::Nothing),
                _ if Instant::now() >= until => return Ok(Left::More),
                // Those that are left cannot be ended now.
                Some(swept) if swept.gone == 0 => return Ok(Left::Nothing),
                Some(_) => {}
                // The router is at it on its own account.
                None => tokio::time::sleep(ROUTER_PAUSE).await,
            }
        }
    }

    async fn runs(&mut self, until: Instant) -> Part {
        let limit = self.parts.config.batch;
        loop {
            let gone = self.parts.store.forget_runs(limit).await.map_err(text)?;
            self.report.runs_forgotten += gone;
            let full = gone >= u64::from(limit);
            if !full || Instant::now() >= until {
                return Ok(left(full));
            }
        }
    }

    async fn tombstones(&mut self, until: Instant) -> Part {
        let (ttl, limit) = (self.parts.config.tombstone_ttl, self.parts.config.batch);
        loop {
            let gone = self.parts.store.forget_tombstones(ttl, limit).await.map_err(text)?;
            self.report.tombstones_forgotten += gone;
            let full = gone >= u64::from(limit);
            if !full || Instant::now() >= until {
                return Ok(left(full));
            }
        }
    }

    async fn replicas(&mut self, _: Instant) -> Part {
        let limit = self.parts.config.batch;
        let gone = self.parts.store.forget_replicas(limit).await.map_err(text)?;
        self.report.replicas_forgotten = gone;
        Ok(left(gone >= u64::from(limit)))
    }
}

impl JanitorParts {
    /// Route, bytes and runs of ended sessions; says how many are cleaned. The bytes go even if Redis is away: they are
    /// what takes room.
    async fn clean(&self, ended: &[SessionId]) -> Result<(usize, Option<String>), String> {
        let drops =
            ended.iter().map(async |session| self.drop_flow.send(DropFlow { session: *session }).await);
        let unrouted = future::try_join_all(drops).await.map_err(gone)?;
        let (discarded, mut error) = self.discard(ended).await?;
        let mut cleaned = Vec::with_capacity(ended.len());
        for (session, unrouted) in ended.iter().zip(unrouted) {
            if !unrouted {
                error = Some("the route could not be removed".to_owned());
            } else if discarded.contains(session) {
                cleaned.push(*session);
            }
        }
        self.store.set_cleaned(&cleaned).await.map_err(text)?;
        Ok((cleaned.len(), error))
    }

    /// Those whose bytes are gone now, and the last failure. The rows first: a folder without rows is found again, rows
    /// without a folder are not.
    async fn discard(&self, ended: &[SessionId]) -> Result<(HashSet<SessionId>, Option<String>), String> {
        if ended.is_empty() {
            return Ok((HashSet::new(), None));
        }
        self.store.drop_runs(ended).await.map_err(text)?;
        let removals = ended.iter().map(async |session| (*session, self.spool.remove(*session).await));
        let (mut gone, mut error) = (HashSet::with_capacity(ended.len()), None);
        let mut removals = stream::iter(removals).buffer_unordered(REMOVE_AT_ONCE);
        while let Some((session, removed)) = removals.next().await {
            match removed {
                Ok(()) => drop(gone.insert(session)),
                Err(why) => error = Some(text(why)),
            }
        }
        Ok((gone, error))
    }
}

fn left(full: bool) -> Left {
    if full { Left::More } else { Left::Nothing }
}

fn text(error: impl Display) -> String {
    error.to_string()
}

fn gone(error: MailboxError) -> String {
    format!("the actor asked is not there: {error}")
}
