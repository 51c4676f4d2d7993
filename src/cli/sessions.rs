//! `sessions`: look at uploads, try a failed one again, end a live one.

mod text;
mod watch;

use std::time::Duration;

use anyhow::Context;
use clap::{Args, Subcommand, ValueEnum};
use serde::Serialize;
use uuid::Uuid;

use super::output::Output;
use super::{Outcome, actor};
use crate::config::{Config, LogConfig};
use crate::domain::ids::{SessionId, VideoId};
use crate::domain::status::SessionState;
use crate::gateways::spool::{self, FolderSize};
use crate::gateways::upload_store::desk::{
    Change, Filter, Intervened, OperatorDesk, PgDesk, SessionDetail, SessionLine,
};
use crate::gateways::upload_store::{StoreError, pool};
use crate::telemetry;

/// Where interventions are logged.
const AUDIT: &str = "audit";

const EXAMPLES: &str = "\
Examples:
  uploader-v4 sessions ls --failed             what needs a look
  uploader-v4 sessions show ID                 everything of one, and what can be done
  uploader-v4 sessions retry ID --wait         feed it again and wait until it plays
  uploader-v4 sessions expire ID               end an upload that nobody wants
  uploader-v4 sessions ls --json | jq -r '.sessions[].session_id'";

/// Look at uploads, try a failed one again, end a live one.
///
/// Everything is read from and decided in the database: the commands may run on any host, while the service runs or
/// not. `retry` and `expire` write a line into the log, with the one who asked, whatever came of it.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Sessions {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand, Debug)]
enum What {
    /// List sessions, the newest activity first.
    #[command(visible_alias = "list")]
    Ls(Ls),
    /// Tell everything of one session, and what can be done.
    Show {
        /// The session's id.
        session: Uuid,
    },
    /// Feed a FAILED session again from its stored bytes; its client does nothing.
    ///
    /// The session becomes SEALED and some replica takes it up within seconds. Its video is UPLOADING again, unless
    /// another of its flows failed too. Refused (exit code 3) when bytes are missing or were given up.
    Retry {
        /// The session's id.
        session: Uuid,
        /// Do not return before it plays or has failed again; progress goes to standard error.
        #[arg(long)]
        wait: bool,
        /// Wait no longer than this, such as 90s or 2h; the session goes on all the same.
        #[arg(long, default_value = "1h", value_parser = humantime::parse_duration, requires = "wait")]
        timeout: Duration,
    },
    /// End a session that is not over: later chunks are refused, what it left behind is removed.
    ///
    /// Its flow becomes HIDDEN and its video BLOCKED, which ends the waiting of its client. The replica that feeds it
    /// is fenced by the database; the janitor removes route, bytes and ffmpeg process. It cannot be undone: to upload the
    /// file after all, its user begins a new video.
    Expire {
        /// The session's id.
        session: Uuid,
        /// Also when the whole file is stored and its video is being made.
        #[arg(long)]
        force: bool,
    },
}

#[derive(Args, Debug)]
struct Ls {
    /// Only sessions in this state; may be repeated.
    #[arg(long, value_enum)]
    state: Vec<State>,
    /// Short for `--state failed`.
    #[arg(long)]
    failed: bool,
    /// Only sessions of this video.
    #[arg(long)]
    video: Option<Uuid>,
    /// At most so many.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    limit: u32,
}

#[derive(ValueEnum, Clone, Copy, Debug)]
enum State {
    Open,
    Sealed,
    Done,
    Expired,
    Failed,
}

impl From<State> for SessionState {
    fn from(state: State) -> Self {
        match state {
            State::Open => SessionState::Open,
            State::Sealed => SessionState::Sealed,
            State::Done => SessionState::Done,
            State::Expired => SessionState::Expired,
            State::Failed => SessionState::Failed,
        }
    }
}

#[derive(Serialize)]
struct Listed {
    sessions: Vec<SessionLine>,
}

/// One session, and its folder in the spool as this host sees it.
#[derive(Serialize)]
struct Shown {
    #[serde(flatten)]
    detail: SessionDetail,
    /// None when there is none here.
    spool_folder: Option<FolderSize>,
}

/// No session of this id.
#[derive(Serialize)]
struct Unknown {
    session_id: String,
    refused: &'static str,
}

/// What became of an intervention.
#[derive(Serialize)]
struct Intervention {
    session_id: String,
    action: &'static str,
    done: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    refused: Option<String>,
    #[serde(flatten)]
    change: Option<Change>,
    /// What was waited for, if it was.
    #[serde(skip_serializing_if = "Option::is_none")]
    waited: Option<watch::Watched>,
}

pub(super) async fn run(ask: &Sessions, config: &Config, output: Output) -> anyhow::Result<Outcome> {
    telemetry::init(&audible(&config.log)).context("logging cannot be set up")?;
    let db = pool::open(&config.database, 1).await.context("the database cannot be reached")?;
    anyhow::ensure!(
        migration::check(&db).await?.is_usable(),
        "the schema uploader is not there, or not of this version: run `uploader-v4 migrate`"
    );
    let desk = PgDesk::new(db);
    match &ask.what {
        What::Ls(ls) => list(&desk, ls, output).await,
        What::Show { session } => show(&desk, *session, config, output).await,
        What::Retry { session, wait, timeout } => {
            let intervened = desk.retry(SessionId(*session)).await;
            let mut retried = audited("retry", *session, intervened, config)?;
            if *wait && retried.done {
                let watched = watch::until_over(&desk, SessionId(*session), *timeout).await;
                retried.waited =
                    Some(watched.context("it is SEALED again, how it goes on cannot be seen now")?);
            }
            conclude(&retried, output)
        }
        What::Expire { session, force } => {
            let reason = format!("ended by an operator ({})", actor::name(config));
            let intervened = desk.expire(SessionId(*session), *force, &reason).await;
            conclude(&audited("expire", *session, intervened, config)?, output)
        }
    }
}

/// The audit is heard whatever else is not.
fn audible(config: &LogConfig) -> LogConfig {
    LogConfig { filter: format!("{},{AUDIT}=info", config.filter), ..config.clone() }
}

async fn list(desk: &PgDesk, ls: &Ls, output: Output) -> anyhow::Result<Outcome> {
    let failed = ls.failed.then_some(SessionState::Failed);
    let states = ls.state.iter().copied().map(SessionState::from).chain(failed).collect();
    let filter = Filter { states, video: ls.video.map(VideoId), limit: ls.limit };
    output.print(&Listed { sessions: desk.list(&filter).await? })?;
    Ok(Outcome::Done)
}

async fn show(desk: &PgDesk, session: Uuid, config: &Config, output: Output) -> anyhow::Result<Outcome> {
    let Some(detail) = desk.show(SessionId(session)).await? else {
        let refused = "there is no such session: it never got a chunk, or it ended and its time here is over";
        output.print(&Unknown { session_id: session.to_string(), refused })?;
        return Ok(Outcome::Refused);
    };
    // What the rows say is worth more than an answer that the volume keeps back.
    let spool_folder =
        spool::folder_size(&config.spool.dir, SessionId(session)).await.unwrap_or_else(|error| {
            tracing::warn!(%error, "the spool cannot be looked at from here");
            None
        });
    output.print(&Shown { detail, spool_folder })?;
    Ok(Outcome::Done)
}

/// One line in the log for each intervention, whatever came of it.
fn audited(
    action: &'static str,
    session: Uuid,
    intervened: Result<Intervened<Change>, StoreError>,
    config: &Config,
) -> anyhow::Result<Intervention> {
    let (refused, change, error) = match intervened {
        Ok(Intervened::Done(change)) => (None, Some(change), None),
        Ok(Intervened::Refused(refused)) => (Some(refused.0), None, None),
        Err(error) => (None, None, Some(error)),
    };
    tracing::info!(
        target: AUDIT,
        action,
        session.id = %session,
        video.id = change.as_ref().and_then(|change| change.video_id.as_deref()),
        before = change.as_ref().and_then(|change| change.before.as_deref()),
        after = change.as_ref().map(|change| change.after.as_str()),
        refused = refused.as_deref(),
        error = error.as_ref().map(tracing::field::display),
        actor = actor::name(config),
        "intervention"
    );
    if let Some(error) = error {
        let advice =
            format!("not done as far as is known; `uploader-v4 sessions show {session}` tells how it stands");
        return Err(anyhow::Error::new(error).context(advice));
    }
    let done = refused.is_none();
    Ok(Intervention { session_id: session.to_string(), action, done, refused, change, waited: None })
}

fn conclude(intervention: &Intervention, output: Output) -> anyhow::Result<Outcome> {
    output.print(intervention)?;
    Ok(match &intervention.waited {
        _ if !intervention.done => Outcome::Refused,
        Some(watched) if !watched.plays() => Outcome::Unwell,
        Some(_) | None => Outcome::Done,
    })
}
