//! Writes whose outcome must be known, and reads that must succeed. PostgreSQL may be away for as long as it takes;
//! what it understood and refuses is not tried again.

use std::future::Future;
use std::time::Duration;

use tracing::warn;

use super::FeedParts;
use crate::domain::feed::Event;
use crate::domain::retry::Backoff;
use crate::domain::status::SessionState;
use crate::fault::{Classified, Fault};
use crate::gateways::upload_store::StoreError;
use crate::gateways::upload_store::feeds::{FeedRow, Guard, Written};

/// While PostgreSQL is away a feed has nothing else to do than to wait for it.
const BACKOFF: Backoff = Backoff { min: Duration::from_millis(100), max: Duration::from_secs(2) };

/// Whether a row shows that a write of unknown outcome was done.
pub(super) type Landed<'a> = &'a dyn Fn(&FeedRow) -> bool;

/// Writes until the outcome is known: `after` if it was done, [`Event::Fenced`] if the row belongs to somebody else.
///
/// After an error the row is read under its lock, and only a row that is as it was before is written again. What is
/// refused ends in [`Event::Refused`].
pub(super) async fn settle<W, F>(
    parts: &FeedParts,
    guard: Guard,
    write: W,
    landed: Landed<'_>,
    after: Event,
) -> Event
where
    W: Fn() -> F,
    F: Future<Output = Result<Written, StoreError>>,
{
    let mut attempt = 0;
    loop {
        match write().await {
            Ok(Written::Done) => return after,
            Ok(Written::Fenced) => return Event::Fenced,
            Err(error) => match error.fault() {
                Fault::Transient => warn!(%error, "a write of unknown outcome, reading the row again"),
                Fault::Poison | Fault::Fatal => return Event::Refused(error.to_string()),
            },
        }
        tokio::time::sleep(BACKOFF.wait(attempt, fastrand::f64())).await;
        attempt += 1;
        match read(|| parts.store.row_locked(guard.session)).await {
            Ok(Some(row)) if landed(&row) => return after,
            Ok(Some(row)) if row.owned_by(&guard) && row.generation == guard.generation => {}
            Ok(Some(_) | None) => return Event::Fenced,
            Err(refused) => return refused,
        }
    }
}

/// A row that ended in `state` under this ownership.
pub(super) fn ended(guard: Guard, state: SessionState) -> impl Fn(&FeedRow) -> bool {
    move |row| row.epoch == guard.epoch && row.state == state
}

/// Reads until it succeeds, or is refused: [`Event::Refused`].
pub(super) async fn read<R, F, T>(read: R) -> Result<T, Event>
where
    R: Fn() -> F,
    F: Future<Output = Result<T, StoreError>>,
{
    let mut attempt = 0;
    loop {
        match read().await {
            Ok(value) => return Ok(value),
            Err(error) => {
                if error.fault() != Fault::Transient {
                    return Err(Event::Refused(error.to_string()));
                }
                if attempt == 0 {
                    warn!(%error, "reading a session failed, trying again");
                }
                tokio::time::sleep(BACKOFF.wait(attempt, fastrand::f64())).await;
                attempt += 1;
            }
        }
    }
}
