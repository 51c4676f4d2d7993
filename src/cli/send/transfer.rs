//! Carries out what the window decides: reads, sends, listens, connects again.
//!
//! Holds the chunks that are unanswered only as long as the broker's client needs to write them: whatever must be sent
//! again is read again.

use std::time::Duration;

use uuid::Uuid;

use super::progress::Progress;
use super::source::Source;
use super::stop::Stop;
use super::window::{Chunk, Cut, Step, Window};
use crate::clock;
use crate::config::AmqpConfig;
use crate::domain::ids::{SessionId, Timestamp};
use crate::domain::retry::Backoff;
use crate::gateways::broker::{BrokerError, ChunkSender, Outgoing, Verdict};

/// A broker that does not come back within this time is given up.
const AWAY: Duration = Duration::from_secs(60);
/// Waits between attempts to connect again.
const AGAIN: Backoff = Backoff { min: Duration::from_millis(200), max: Duration::from_secs(5) };
/// How long answers under way are waited for after a signal.
const FAREWELL: Duration = Duration::from_secs(5);
/// The bar moves at least this often.
const TICK: Duration = Duration::from_secs(1);

/// Why not everything was sent.
#[derive(Debug)]
pub(super) enum Halt {
    /// A signal came.
    Interrupted,
    /// It can go on later.
    GaveUp(String),
    /// The service will not have it.
    Refused(String),
}

/// One file on its way.
pub(super) struct Transfer<'a> {
    pub config: &'a AmqpConfig,
    pub source: &'a Source,
    pub session: SessionId,
    pub stop: &'a Stop,
    sender: ChunkSender,
    window: Window,
    progress: Progress,
    leave_by: Option<Timestamp>,
}

/// The connection's name for operators.
const NAME: &str = "send";

/// A connection to send on.
///
/// # Errors
/// [`BrokerError`], within the deadlines of its steps.
pub(super) async fn connect(config: &AmqpConfig) -> Result<ChunkSender, BrokerError> {
    ChunkSender::open(config, NAME).await
}

impl<'a> Transfer<'a> {
    /// A file of which `stored` bytes are there already.
    pub fn new(
        config: &'a AmqpConfig,
        source: &'a Source,
        session: SessionId,
        stop: &'a Stop,
        sender: ChunkSender,
        (stored, cut): (i64, Cut),
    ) -> Self {
        let window = Window::new(source.bytes(), stored, cut, Uuid::new_v4(), clock::now());
        let progress = Progress::sending(source.bytes(), stored);
        Transfer { config, source, session, stop, sender, window, progress, leave_by: None }
    }

    /// Sends until everything is stored, or it cannot go on. Gives how many bytes are stored either way.
    pub async fn run(mut self) -> (i64, Result<(), Halt>) {
        let result = self.send_all().await;
        let stored = self.window.stored();
        self.sender.close().await;
        (stored, result)
    }

    async fn send_all(&mut self) -> Result<(), Halt> {
        loop {
            self.mind_the_signal()?;
            match self.window.step(clock::now()) {
                Step::Send(chunk) => self.send(chunk).await?,
                Step::Wait(until) => self.listen(until).await?,
                Step::Done => return Ok(()),
                Step::Resting => return Err(Halt::Interrupted),
                Step::GiveUp(reason) => return Err(Halt::GaveUp(reason)),
            }
            self.progress.reach(self.window.stored());
        }
    }

    /// After a signal nothing new is sent, and what is under way has a few seconds.
    fn mind_the_signal(&mut self) -> Result<(), Halt> {
        let now = clock::now();
        match self.leave_by {
            None if self.stop.is_asked() => {
                self.progress.note("stopping: waiting for the answers under way");
                self.window.close();
                self.leave_by = Some(now.after(FAREWELL));
                Ok(())
            }
            Some(leave_by) if leave_by <= now => Err(Halt::Interrupted),
            Some(_) | None => Ok(()),
        }
    }

    async fn send(&mut self, chunk: Chunk) -> Result<(), Halt> {
        let read = self.source.read(chunk.start, chunk.size).await;
        let body = read.map_err(|error| Halt::GaveUp(format!("{error:#}")))?;
        let outgoing = Outgoing { session: self.session, start: chunk.start, id: chunk.id, body: &body };
        match self.sender.send(&outgoing).await {
            Ok(()) => Ok(()),
            Err(error) => self.reconnect(error).await,
        }
    }

    async fn listen(&mut self, until: Timestamp) -> Result<(), Halt> {
        let wait = clock::now().until(until).min(TICK);
        let heard = tokio::select! {
            answer = self.sender.answer() => answer,
            () = tokio::time::sleep(wait) => return Ok(()),
            () = self.stop.asked(), if self.leave_by.is_none() => return Ok(()),
            () = self.stop.insisted(), if self.leave_by.is_some() => return Err(Halt::Interrupted),
        };
        match heard {
            Ok((id, verdict)) => self.hear(id, verdict),
            Err(error) => self.reconnect(error).await,
        }
    }

    fn hear(&mut self, id: Uuid, verdict: Verdict) -> Result<(), Halt> {
        if let Verdict::Nack { reason, retryable: true, .. } = &verdict {
            self.progress.note(&format!("not taken yet: {reason}"));
        }
        self.window.answered(id, verdict, clock::now()).map_err(Halt::Refused)
    }

    /// Replaces the connection; everything unanswered is sent again on the new one.
    async fn reconnect(&mut self, lost: BrokerError) -> Result<(), Halt> {
        if self.leave_by.is_some() {
            return Err(Halt::Interrupted);
        }
        self.progress.note(&format!("{lost}; connecting again"));
        let end = clock::now().after(AWAY);
        let mut attempt = 0;
        loop {
            let opened = tokio::select! {
                opened = self.open_later(attempt) => opened,
                () = self.stop.asked() => return Err(Halt::Interrupted),
            };
            match opened {
                Ok(sender) => {
                    self.sender = sender;
                    self.window.lost(clock::now());
                    return Ok(());
                }
                Err(error) if clock::now() >= end => {
                    return Err(Halt::GaveUp(format!(
                        "the broker did not come back within {AWAY:?}: {error}"
                    )));
                }
                Err(_) => attempt += 1,
            }
        }
    }

    async fn open_later(&self, attempt: u32) -> Result<ChunkSender, BrokerError> {
        tokio::time::sleep(AGAIN.wait(attempt, fastrand::f64())).await;
        connect(self.config).await
    }
}
