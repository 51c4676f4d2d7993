//! `send`: upload a file as gateway would, and wait until it plays.

mod progress;
mod report;
mod resume;
mod source;
mod stop;
mod transfer;
mod waiting;
mod window;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use clap::error::ErrorKind;
use uuid::Uuid;

use self::report::{Ending, Report};
use self::resume::{Ended, Onward};
use self::source::Source;
use self::stop::Stop;
use self::transfer::{Halt, Transfer};
use self::waiting::Unknown;
use self::window::Cut;
use super::Outcome;
use super::output::Output;
use crate::clock;
use crate::config::{Config, parse_size};
use crate::domain::ids::SessionId;
use crate::gateways::broker::ChunkSender;
use crate::gateways::upload_store::announce::{Announcements, Standing};
use crate::gateways::upload_store::pool;

/// Upload a file as gateway would, and wait until it plays.
///
/// Creates a video with one flow and one upload session in the database, sends the file as chunks over AMQP, resends
/// what a lost connection left unanswered, and waits until the service has distributed it. A file that was interrupted
/// goes on where it stopped with --session. Replies come to a queue of its own: gateway never sees them.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Send {
    /// The file; ffmpeg must be able to read it from a pipe (an mp4 needs its index at the front).
    file: PathBuf,
    /// The video's title [default: the file's name]
    #[arg(long, value_parser = title, conflicts_with = "session")]
    title: Option<String>,
    /// Bytes of one chunk; at most `chunk.max_bytes` of the settings.
    #[arg(long, default_value = "64KiB", value_parser = size)]
    chunk_size: u64,
    /// Go on with this upload session; the file must be the one that it was begun with.
    #[arg(long, value_name = "ID")]
    session: Option<Uuid>,
    /// Chunks sent ahead without their answers; the service brings at most 8 into order.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u8).range(1..=8))]
    in_flight: u8,
    /// Leave as soon as every byte is stored.
    #[arg(long)]
    no_wait: bool,
    /// How long to wait until it plays once every byte is stored.
    #[arg(long, default_value = "10m", value_parser = humantime::parse_duration, conflicts_with = "no_wait")]
    timeout: Duration,
}

const EXAMPLES: &str = "\
Examples:
  uploader-v4 send clip.mp4
  uploader-v4 send clip.mp4 --title 'A clip' --chunk-size 1MiB --in-flight 8
  uploader-v4 send clip.mp4 --session 0f0e8a3c-5d1f-4a52-9f0e-7a4c1b0f9b11
  uploader-v4 --json send clip.mp4 --no-wait | jq -r .session_id

Ends with 0 when it plays (or is stored, with --no-wait), 1 when it was interrupted, given up or failed, and 3 when
there is nothing to upload or nothing to go on with. Memory: --in-flight x --chunk-size.";

/// `videos.title` holds so many characters.
const LONGEST_TITLE: usize = 255;

fn title(text: &str) -> Result<String, String> {
    let fits = text.chars().count() <= LONGEST_TITLE;
    fits.then(|| text.to_owned()).ok_or_else(|| format!("longer than {LONGEST_TITLE} characters"))
}

fn size(text: &str) -> Result<u64, String> {
    let bytes = parse_size(text).filter(|bytes| *bytes > 0);
    bytes.ok_or_else(|| "expected a size such as 64KiB, 1MiB or a number of bytes".to_owned())
}

pub(super) async fn run(ask: &Send, config: &Config, output: Output) -> anyhow::Result<Outcome> {
    let largest = config.chunk.max_bytes;
    if ask.chunk_size > largest {
        let complaint =
            format!("--chunk-size: the service takes at most {largest} bytes (chunk.max_bytes)\n");
        clap::Error::raw(ErrorKind::ValueValidation, complaint).exit();
    }
    let report = Errand { ask, config, stop: Stop::listen()? }.report().await?;
    output.print(&report)?;
    Ok(report.outcome())
}

/// One file to be sent.
struct Errand<'a> {
    ask: &'a Send,
    config: &'a Config,
    stop: Stop,
}

/// An upload that exists, and where it goes on.
struct Begun {
    session: SessionId,
    onward: Onward,
    report: Report,
}

impl Errand<'_> {
    async fn report(&self) -> anyhow::Result<Report> {
        let source = match Source::open(&self.ask.file) {
            Ok(source) => source,
            Err(error) => return Ok(Report::refused(&self.ask.file, format!("{error:#}"))),
        };
        let db = pool::open(&self.config.database, 1).await.context("the database cannot be reached")?;
        let announcements = Announcements::new(db);
        match self.ask.session {
            Some(session) => self.go_on(&announcements, &source, SessionId(session)).await,
            None => self.begin(&announcements, &source).await,
        }
    }

    /// A new upload. Nothing is created before everything that it needs was reached.
    async fn begin(&self, announcements: &Announcements, source: &Source) -> anyhow::Result<Report> {
        let largest = announcements.largest_file().await?;
        let mut report = Report::refused(&self.ask.file, String::new());
        if source.bytes() > largest {
            let bytes = source.bytes();
            let reason =
                format!("the file has {bytes} bytes, the shared tables hold numbers up to {largest} only");
            return Ok(report.end(Ending::Refused(reason)));
        }
        let sender = transfer::connect(&self.config.amqp).await.context("the broker cannot be reached")?;
        let announced = announcements.announce(&self.title(), source.bytes()).await?;
        let holder = self.config.holder.base_url.as_ref();
        report.name(announced.session, Some(announced.flow), Some(announced.video), holder);
        report.total_bytes = Some(source.bytes());
        eprintln!("session {} of video {}", announced.session, announced.video);
        let begun = Begun { session: announced.session, onward: Onward::Send(0), report };
        self.finish(announcements, source, begun, Some(sender)).await
    }

    /// An upload that was begun before.
    async fn go_on(
        &self,
        announcements: &Announcements,
        source: &Source,
        session: SessionId,
    ) -> anyhow::Result<Report> {
        let mut report = Report::refused(&self.ask.file, String::new());
        let Some(standing) = announcements.standing(session).await? else {
            let reason = format!("there is no upload session {session}");
            return Ok(report.end(Ending::Refused(reason)));
        };
        report.name(session, standing.flow, standing.video, self.config.holder.base_url.as_ref());
        report.total_bytes = Some(standing.total_bytes);
        report.stored_bytes = Some(standing.stored);
        let onward = match self.may_go_on(&standing, source).await? {
            Ok(onward) => onward,
            Err(reason) => return Ok(report.end(Ending::Refused(reason))),
        };
        let sender = match onward {
            Onward::Wait => None,
            Onward::Send(_) => {
                Some(transfer::connect(&self.config.amqp).await.context("the broker cannot be reached")?)
            }
        };
        self.finish(announcements, source, Begun { session, onward, report }, sender).await
    }

    async fn may_go_on(
        &self,
        standing: &Standing,
        source: &Source,
    ) -> anyhow::Result<Result<Onward, String>> {
        let onward = match resume::onward(standing, source.bytes()) {
            Ok(onward) => onward,
            Err(reason) => return Ok(Err(reason)),
        };
        Ok(match source.differs(&standing.recent).await? {
            None => Ok(onward),
            Some(byte) => {
                Err(format!("the chunk at byte {byte} was stored with other bytes: it is another file"))
            }
        })
    }

    /// Sends what is missing, if anything is, and waits.
    async fn finish(
        &self,
        announcements: &Announcements,
        source: &Source,
        begun: Begun,
        sender: Option<ChunkSender>,
    ) -> anyhow::Result<Report> {
        let Begun { session, onward, mut report } = begun;
        if let (Onward::Send(from), Some(sender)) = (onward, sender) {
            let began = clock::now();
            let cut =
                Cut { chunk: i64::try_from(self.ask.chunk_size)?, in_flight: self.ask.in_flight.into() };
            let transfer = Transfer::new(&self.config.amqp, source, session, &self.stop, sender, (from, cut));
            let (stored, sent) = transfer.run().await;
            report.stored_bytes = Some(stored);
            report.measure(stored - from, began.until(clock::now()));
            match sent {
                Ok(()) => {}
                Err(Halt::Interrupted) => return Ok(report.end(Ending::Interrupted)),
                Err(Halt::GaveUp(reason)) => return Ok(report.end(Ending::Unfinished(reason))),
                Err(Halt::Refused(reason)) => return Ok(report.end(Ending::Failed(reason))),
            }
        }
        let ending = self.wait(announcements, session).await;
        Ok(report.end(ending))
    }

    async fn wait(&self, announcements: &Announcements, session: SessionId) -> Ending {
        if self.ask.no_wait {
            return Ending::Stored;
        }
        match waiting::until_ended(announcements, session, self.ask.timeout, &self.stop).await {
            Ok(Ended::Distributed) => Ending::Distributed,
            Ok(Ended::Failed(reason)) => Ending::Failed(reason),
            Err(Unknown::Interrupted) => Ending::Interrupted,
            Err(Unknown::Late(reason)) => Ending::Unfinished(reason),
        }
    }

    fn title(&self) -> String {
        let name = || self.ask.file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let title = self.ask.title.clone().unwrap_or_else(name);
        title.chars().take(LONGEST_TITLE).collect()
    }
}
