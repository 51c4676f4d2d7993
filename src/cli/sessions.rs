//! `sessions`: look at uploads, try a failed one again, end a live one.

mod text;

use anyhow::Context;
use clap::{Args, Subcommand, ValueEnum};
use serde::Serialize;
use uuid::Uuid;

use super::output::Output;
use super::{Outcome, actor};
use crate::config::Config;
use crate::domain::ids::{SessionId, VideoId};
use crate::domain::status::SessionState;
use crate::gateways::upload_store::desk::{Change, Filter, Intervened, OperatorDesk, PgDesk, SessionLine};
use crate::gateways::upload_store::pool;
use crate::telemetry;

/// Look at uploads, try a failed one again, end a live one.
#[derive(Args, Debug)]
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
    },
    /// End a session that is not over: later chunks are refused, what it left behind is removed.
    ///
    /// Its flow becomes HIDDEN and its video BLOCKED, which ends the waiting of its client. The replica that feeds it
    /// is fenced by the database; the janitor removes route, bytes and ffmpeg process.
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
}

pub(super) async fn run(ask: &Sessions, config: &Config, output: Output) -> anyhow::Result<Outcome> {
    telemetry::init(&config.log).context("logging cannot be set up")?;
    let db = pool::open(&config.database, 1).await.context("the database cannot be reached")?;
    let desk = PgDesk::new(db);
    match &ask.what {
        What::Ls(ls) => list(&desk, ls, output).await,
        What::Show { session } => show(&desk, *session, output).await,
        What::Retry { session } => {
            let done = desk.retry(SessionId(*session)).await?;
            conclude("retry", *session, done, config, output)
        }
        What::Expire { session, force } => {
            let reason = format!("ended by an operator ({})", actor::name(config));
            let done = desk.expire(SessionId(*session), *force, &reason).await?;
            conclude("expire", *session, done, config, output)
        }
    }
}

async fn list(desk: &PgDesk, ls: &Ls, output: Output) -> anyhow::Result<Outcome> {
    let states = ls.state.iter().copied().map(SessionState::from).collect();
    let filter = Filter { states, video: ls.video.map(VideoId), limit: ls.limit };
    output.print(&Listed { sessions: desk.list(&filter).await? })?;
    Ok(Outcome::Done)
}

async fn show(desk: &PgDesk, session: Uuid, output: Output) -> anyhow::Result<Outcome> {
    let Some(detail) = desk.show(SessionId(session)).await? else {
        eprintln!(
            "uploader-v4: no session {session}: it never got a chunk, or it ended and its time here is over"
        );
        return Ok(Outcome::Refused);
    };
    output.print(&detail)?;
    Ok(Outcome::Done)
}

/// The audit: one line in the log for each intervention, whatever came of it.
fn conclude(
    action: &'static str,
    session: Uuid,
    intervened: Intervened<Change>,
    config: &Config,
    output: Output,
) -> anyhow::Result<Outcome> {
    let (refused, change) = match intervened {
        Intervened::Done(change) => (None, Some(change)),
        Intervened::Refused(refused) => (Some(refused.0), None),
    };
    tracing::info!(
        target: "audit",
        action,
        session.id = %session,
        video.id = change.as_ref().and_then(|change| change.video_id.as_deref()),
        before = change.as_ref().and_then(|change| change.before.as_deref()),
        after = change.as_ref().map(|change| change.after.as_str()),
        refused = refused.as_deref(),
        actor = actor::name(config),
        "intervention"
    );
    let done = refused.is_none();
    output.print(&Intervention { session_id: session.to_string(), action, done, refused, change })?;
    Ok(if done { Outcome::Done } else { Outcome::Refused })
}
