//! Waiting for a session that was tried again: until it plays, has failed, or the time is over.

use std::fmt::{self, Display, Formatter};
use std::time::Duration;

use serde::Serialize;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::domain::ids::SessionId;
use crate::fault::{Classified, Fault};
use crate::gateways::upload_store::desk::{OperatorDesk, SessionDetail};

/// Between two looks.
const LOOK: Duration = Duration::from_millis(500);

/// How the wait ended.
#[derive(Debug, Serialize)]
pub(super) struct Watched {
    /// The last state seen; none when the row is gone.
    state: Option<String>,
    last_error: Option<String>,
    waited_seconds: f64,
}

impl Watched {
    pub(super) fn plays(&self) -> bool {
        self.state.as_deref() == Some("DONE")
    }

    fn is_over(&self) -> bool {
        !matches!(self.state.as_deref(), Some("OPEN" | "SEALED"))
    }
}

/// Looks until the session is over or `within` has passed. A database that is away for a moment ends nothing.
pub(super) async fn until_over(
    desk: &dyn OperatorDesk,
    session: SessionId,
    within: Duration,
) -> anyhow::Result<Watched> {
    let began = Instant::now();
    let mut looks = interval(LOOK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut told = String::new();
    loop {
        looks.tick().await;
        let is_late = began.elapsed() >= within;
        let detail = match desk.show(session).await {
            Ok(detail) => detail,
            Err(error) if error.fault() == Fault::Transient && !is_late => continue,
            Err(error) => return Err(error.into()),
        };
        tell(detail.as_ref(), &mut told);
        let (state, last_error) = detail.map(|detail| (detail.line.state, detail.line.last_error)).unzip();
        let waited_seconds = began.elapsed().as_secs_f64();
        let watched = Watched { state, last_error: last_error.flatten(), waited_seconds };
        if watched.is_over() || is_late {
            return Ok(watched);
        }
    }
}

/// A line for each change, as long as there is something to wait for.
fn tell(detail: Option<&SessionDetail>, told: &mut String) {
    let Some(detail) = detail.filter(|detail| detail.ended_at.is_none()) else { return };
    let line = &detail.line;
    let owner = line.owner.as_deref().unwrap_or("nobody yet");
    let doing = if detail.finish_sent_at.is_some() { ", finishing" } else { "" };
    let news = format!(
        "{}: fed by {owner}, process {}{doing}, {} strikes",
        line.state, line.generation, line.strikes
    );
    if news != *told {
        eprintln!("{news}");
        *told = news;
    }
}

impl Display for Watched {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let waited = self.waited_seconds;
        match self.state.as_deref() {
            Some("DONE") => write!(f, "it plays, after {waited:.1} s"),
            None => write!(f, "its row is gone, after {waited:.1} s"),
            Some(state) if self.is_over() => {
                write!(f, "it is {state} after {waited:.1} s: {}", self.last_error.as_deref().unwrap_or("-"))
            }
            Some(state) => write!(f, "it is {state} still, after {waited:.1} s, and goes on"),
        }
    }
}
