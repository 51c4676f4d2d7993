//! Waits until the service has ended with an upload.

use std::time::Duration;

use super::progress::Progress;
use super::resume::{Ended, ended};
use super::stop::Stop;
use crate::clock;
use crate::domain::ids::SessionId;
use crate::fault::{Classified, Fault};
use crate::gateways::upload_store::StoreError;
use crate::gateways::upload_store::announce::{Announcements, Standing};

/// How often the database is asked.
const POLL: Duration = Duration::from_millis(500);
/// A database that is away for so long is given up.
const AWAY: Duration = Duration::from_secs(60);

/// Why it is not known how the upload ended.
#[derive(Debug)]
pub(super) enum Unknown {
    /// A signal came.
    Interrupted,
    /// The time is over, or the database is away.
    Late(String),
}

/// Waits for the end of an upload whose bytes are all stored, for `timeout` at most.
pub(super) async fn until_ended(
    announcements: &Announcements,
    session: SessionId,
    timeout: Duration,
    stop: &Stop,
) -> Result<Ended, Unknown> {
    let mut progress = Progress::waiting();
    let end = clock::now().after(timeout);
    let mut answered = clock::now();
    loop {
        match tokio::select! {
            standing = announcements.standing(session) => standing,
            () = stop.asked() => return Err(Unknown::Interrupted),
        } {
            Ok(standing) => {
                answered = clock::now();
                if let Some(ended) = verdict(standing, &mut progress) {
                    return Ok(ended);
                }
            }
            Err(error) => tolerate(&error, answered.until(clock::now()), &progress)?,
        }
        if clock::now() >= end {
            let limit = humantime::format_duration(timeout);
            return Err(Unknown::Late(format!("not distributed within {limit}, the service goes on")));
        }
        tokio::select! {
            () = tokio::time::sleep(POLL) => {}
            () = stop.asked() => return Err(Unknown::Interrupted),
        }
    }
}

fn verdict(standing: Option<Standing>, progress: &mut Progress) -> Option<Ended> {
    let Some(standing) = standing else {
        return Some(Ended::Failed("nothing is known of this upload any more".to_owned()));
    };
    let status = standing.flow_status.map(|status| format!("{status:?}").to_uppercase()).unwrap_or_default();
    match &standing.last_error {
        Some(error) => progress.say(&format!("{status}, at last: {error}")),
        None => progress.say(&status),
    }
    ended(&standing)
}

/// A database that is away for a while changes nothing.
fn tolerate(error: &StoreError, away: Duration, progress: &Progress) -> Result<(), Unknown> {
    if error.fault() == Fault::Transient && away < AWAY {
        progress.note(&format!("{error}; asking again"));
        return Ok(());
    }
    Err(Unknown::Late(error.to_string()))
}
