//! One flow: an ffmpeg, the pushes on their way into it, and the folder that it writes.

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tempfile::TempDir;
use tokio::sync::{mpsc, oneshot};

use super::encoder::{Encoder, Ending};
use super::feed::{self, Write};
use super::report::{Progress, Report, State};

pub(super) struct Flow {
    name: String,
    encoder: Encoder,
    /// `None` once a finish or a delete has ended ffmpeg's input. Unbounded because the kind mode has one push
    /// waiting for each open request, and the other mode is to have no bound.
    pushes: Mutex<Option<mpsc::UnboundedSender<Write>>>,
    progress: Arc<Mutex<Progress>>,
    folder: TempDir,
}

impl Flow {
    /// Starts ffmpeg in a folder of its own.
    ///
    /// # Errors
    /// When the folder cannot be made or ffmpeg not be started.
    pub(super) fn start(name: &str, work_dir: &Path) -> io::Result<Self> {
        let folder = tempfile::Builder::new().prefix("flow-").tempdir_in(work_dir)?;
        let (encoder, stdin) = Encoder::start(folder.path())?;
        let (pushes, writes) = mpsc::unbounded_channel();
        let progress = Arc::new(Mutex::new(Progress::new()));
        tokio::spawn(feed::feed(stdin, writes, encoder.ended.clone(), Arc::clone(&progress)));
        Ok(Self { name: name.to_owned(), encoder, pushes: Mutex::new(Some(pushes)), progress, folder })
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(super) fn report(&self) -> Report {
        self.progress().report(&self.name)
    }

    pub(super) fn set_state(&self, state: State) {
        self.progress().state = state;
    }

    /// How ffmpeg ended, if it has.
    pub(super) fn ending(&self) -> Option<Ending> {
        self.encoder.ending()
    }

    /// ffmpeg is dead and did not succeed; `None` while it lives or when it had all that it wanted.
    pub(super) fn failure(&self) -> Option<Ending> {
        self.ending().filter(|ending| !ending.success)
    }

    /// Queues bytes for ffmpeg; the receiver tells whether it took them. `None`: its input has been ended.
    pub(super) fn push(&self, bytes: Bytes) -> Option<oneshot::Receiver<bool>> {
        let pushes = self.pushes.lock().unwrap_or_else(PoisonError::into_inner);
        let (taken, wait) = oneshot::channel();
        // When the feed is gone, its dropped sender tells the waiter.
        let _ = pushes.as_ref()?.send(Write { bytes, taken });
        Some(wait)
    }

    /// Ends ffmpeg's input after what is queued; false when that was done before.
    pub(super) fn end_input(&self) -> bool {
        self.pushes.lock().unwrap_or_else(PoisonError::into_inner).take().is_some()
    }

    pub(super) fn kill(&self) {
        self.encoder.kill();
    }

    /// Waits for ffmpeg's end, however long it works.
    pub(super) async fn ended(&self) -> Option<Ending> {
        let mut ended = self.encoder.ended.clone();
        ended.wait_for(Option::is_some).await.ok()?.clone()
    }

    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
