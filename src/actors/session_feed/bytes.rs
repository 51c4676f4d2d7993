//! The stored bytes of a feed: read until they are there, removed when they are no longer needed.

use std::time::Duration;

use bytes::Bytes;
use tracing::warn;

use super::steps::Errand;
use super::writes;
use crate::clock;
use crate::domain::feed::Event;
use crate::domain::run::Run;
use crate::gateways::spool::SpoolError;
use crate::messages::DropFlow;

/// Pause between two reads of bytes that were not there or not sound.
const READ_PAUSE: Duration = Duration::from_millis(200);

impl Errand {
    /// Reads until the bytes are there; damaged ones for `read_retry` only. Otherwise the event that says why not.
    /// `last` is the last run that PostgreSQL named: what one replica stored is one run, and asked for once.
    pub(super) async fn read(&self, from: i64, to: i64, last: &mut Option<Run>) -> Result<Bytes, Event> {
        let session = self.claim.session;
        let length = usize::try_from(to - from).unwrap_or(0);
        let known = [self.newest, *last].into_iter().flatten().find(|run| run.covers(from, to));
        if let Some(run) = known
            && let Ok(block) = self.parts.spool.read(session, &[run], from, length).await
        {
            return Ok(block);
        }
        let mut damaged_since = None;
        loop {
            let runs = writes::read(|| self.parts.store.runs(session, from, to)).await?;
            *last = runs.last().copied();
            let error = match self.parts.spool.read(session, &runs, from, length).await {
                Ok(block) => return Ok(block),
                Err(error) => error,
            };
            let since = *damaged_since.get_or_insert_with(clock::now);
            let sound = matches!(error, SpoolError::Io(_) | SpoolError::Full(_));
            if sound {
                damaged_since = None;
                warn!(%error, from, "stored bytes cannot be read, trying again");
            } else if since.until(clock::now()) >= self.parts.read_retry {
                return Err(Event::Damaged(error.to_string()));
            }
            tokio::time::sleep(READ_PAUSE).await;
        }
    }

    /// What cannot be removed now is found by the janitor: the row has no `cleaned_at`.
    pub(super) async fn clean_up(&self, keep_bytes: bool) -> Event {
        let session = self.claim.session;
        let unrouted = self.parts.router.drop.send(DropFlow { session }).await.unwrap_or(false);
        self.parts.spool.close(session).await;
        if !keep_bytes && let Err(error) = self.remove_bytes(unrouted).await {
            warn!(%error, "an ended session could not be cleaned, the janitor will");
        }
        Event::Cleaned
    }

    async fn remove_bytes(&self, unrouted: bool) -> Result<(), Box<dyn std::error::Error>> {
        let session = self.claim.session;
        self.parts.spool.remove(session).await?;
        self.parts.store.drop_runs(session).await?;
        if unrouted {
            self.parts.store.set_cleaned(session).await?;
        }
        Ok(())
    }
}
