//! One run of the janitor: its parts one after another, each with a deadline.

use std::fmt::Display;
use std::future::Future;
use std::time::Duration;

use actix::MailboxError;
use tracing::warn;

use super::JanitorParts;
use crate::domain::ids::SessionId;
use crate::messages::{DropFlow, ExpireSessions, Expiry, JanitorReport, SweepStrays};

/// The longest that one part may take; what it has not done by then is left to the next run.
const PART_WITHIN: Duration = Duration::from_secs(60);
/// Full batches that one part takes in one run.
const BATCHES: usize = 20;

/// How far a part came, and what went wrong last.
#[derive(Default)]
struct Tally {
    done: usize,
    error: Option<String>,
}

impl Tally {
    fn count(&mut self, outcome: Result<(), String>) {
        match outcome {
            Ok(()) => self.done += 1,
            Err(error) => self.error = Some(error),
        }
    }
}

/// Everything once: first sessions are ended, then what has ended is cleaned. Says what was done, and after which
/// folder the next run goes on.
pub(super) async fn run(parts: JanitorParts, after: Option<SessionId>) -> (JanitorReport, Option<SessionId>) {
    let mut report = JanitorReport::default();
    let error = &mut report.error;
    report.expiry = part("abandoned uploads", error, parts.expire()).await.unwrap_or_default();
    remember("abandoned uploads", error, report.expiry.error.clone());
    let (buried, after) = part("spool folders", error, parts.folders(after)).await.unwrap_or((0, after));
    report.buried = buried;
    let given_up = part("failed uploads", error, parts.give_up()).await.unwrap_or_default();
    report.given_up = given_up.done;
    remember("failed uploads", error, given_up.error);
    let cleaned = part("ended uploads", error, parts.clean()).await.unwrap_or_default();
    report.cleaned = cleaned.done;
    remember("ended uploads", error, cleaned.error);
    report.strays = part("strays", error, parts.strays()).await.unwrap_or_default();
    report.tombstones = part("tombstones", error, parts.tombstones()).await.unwrap_or_default();
    report.replicas = part("replicas", error, parts.replicas()).await.unwrap_or_default();
    (report, after)
}

/// Carries out one part within its deadline.
async fn part<T>(
    name: &'static str,
    error: &mut Option<String>,
    work: impl Future<Output = Result<T, String>>,
) -> Option<T> {
    let why = match tokio::time::timeout(PART_WITHIN, work).await {
        Ok(Ok(done)) => return Some(done),
        Ok(Err(why)) => why,
        Err(_) => format!("not done within {PART_WITHIN:?}"),
    };
    remember(name, error, Some(why));
    None
}

/// The one place where a part's failure is logged.
fn remember(name: &'static str, error: &mut Option<String>, why: Option<String>) {
    if let Some(why) = why {
        warn!(part = name, error = why, "could not be cleaned now, the next run tries again");
        *error = Some(format!("{name}: {why}"));
    }
}

impl JanitorParts {
    async fn expire(&self) -> Result<Expiry, String> {
        let limit = self.config.batch;
        let mut all = Expiry::default();
        for _ in 0..BATCHES {
            let ask = ExpireSessions { ttl: self.config.video_ttl, limit };
            let round = self.expire.send(ask).await.map_err(gone)?;
            let full = round.deleted + round.blocked >= u64::from(limit) || round.removed >= u64::from(limit);
            all.deleted += round.deleted;
            all.blocked += round.blocked;
            all.removed += round.removed;
            all.error = round.error.or(all.error);
            if !full {
                break;
            }
        }
        Ok(all)
    }

    /// Goes through the folders page by page; after the last page it begins anew.
    async fn folders(&self, mut after: Option<SessionId>) -> Result<(usize, Option<SessionId>), String> {
        let limit = self.config.batch as usize;
        let mut buried = 0;
        for _ in 0..BATCHES {
            let page = self.spool.folders(after, limit).await.map_err(text)?;
            let judged = self.store.judge_folders(&page).await.map_err(text)?;
            buried += judged.buried.len();
            for session in judged.late {
                self.discard(session).await?;
            }
            after = page.last().copied().filter(|_| page.len() == limit);
            if after.is_none() {
                break;
            }
        }
        Ok((buried, after))
    }

    async fn give_up(&self) -> Result<Tally, String> {
        let due = self.store.give_up_bytes(self.config.video_ttl, self.config.batch).await.map_err(text)?;
        let mut tally = Tally::default();
        for session in due {
            tally.count(self.discard(session).await);
        }
        Ok(tally)
    }

    async fn clean(&self) -> Result<Tally, String> {
        let mut tally = Tally::default();
        for _ in 0..BATCHES {
            let (before, due) = (tally.done, self.store.uncleaned(self.config.batch).await.map_err(text)?);
            for session in &due {
                tally.count(self.clean_one(*session).await);
            }
            if due.len() < self.config.batch as usize || tally.done == before {
                break;
            }
        }
        Ok(tally)
    }

    /// The bytes go even if Redis is away: they are what takes room.
    async fn clean_one(&self, session: SessionId) -> Result<(), String> {
        let unrouted = self.drop_flow.send(DropFlow { session }).await.map_err(gone)?;
        self.discard(session).await?;
        if !unrouted {
            return Err("the route could not be removed".to_owned());
        }
        self.store.set_cleaned(session).await.map_err(text)
    }

    /// The rows first: a folder without rows is found again, rows without a folder are not.
    async fn discard(&self, session: SessionId) -> Result<(), String> {
        self.store.drop_runs(session).await.map_err(text)?;
        self.spool.remove(session).await.map_err(text)
    }

    async fn strays(&self) -> Result<usize, String> {
        Ok(self.sweep.send(SweepStrays).await.map_err(gone)?.gone)
    }

    async fn tombstones(&self) -> Result<u64, String> {
        let (ttl, limit) = (self.config.tombstone_ttl, self.config.batch);
        let mut forgotten = 0;
        for _ in 0..BATCHES {
            let gone = self.store.forget_tombstones(ttl, limit).await.map_err(text)?;
            forgotten += gone;
            if gone < u64::from(limit) {
                break;
            }
        }
        Ok(forgotten)
    }

    async fn replicas(&self) -> Result<u64, String> {
        self.store.forget_replicas(self.config.batch).await.map_err(text)
    }
}

fn text(error: impl Display) -> String {
    error.to_string()
}

fn gone(error: MailboxError) -> String {
    format!("the actor asked is not there: {error}")
}
