//! Brings pushed bytes into ffmpeg's standard input, in the order of their pushes.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::AsyncWriteExt;
use tokio::process::ChildStdin;
use tokio::sync::{mpsc, oneshot};

use super::encoder::Ended;
use super::report::Progress;

/// A broken pipe may be seen before the end of the process that broke it; this bounds the time between.
const ENDING_DEADLINE: Duration = Duration::from_secs(5);

/// Bytes of one push.
pub(super) struct Write {
    pub(super) bytes: Bytes,
    /// Told whether ffmpeg took them.
    pub(super) taken: oneshot::Sender<bool>,
}

/// Writes until the pushes end, which ends ffmpeg's input, or until ffmpeg is dead.
///
/// An ffmpeg that has succeeded before the end of the file has no use for the rest: it counts as taken.
pub(super) async fn feed(
    mut stdin: ChildStdin,
    mut writes: mpsc::UnboundedReceiver<Write>,
    mut ended: Ended,
    progress: Arc<Mutex<Progress>>,
) {
    while let Some(write) = writes.recv().await {
        let taken = take(&mut stdin, &write.bytes, &mut ended).await;
        if taken {
            progress.lock().unwrap_or_else(PoisonError::into_inner).took(&write.bytes);
        }
        // A pusher that did not wait is no reason to stop.
        let _ = write.taken.send(taken);
        if !taken {
            return;
        }
    }
}

async fn take(stdin: &mut ChildStdin, bytes: &[u8], ended: &mut Ended) -> bool {
    let written = tokio::select! {
        written = stdin.write_all(bytes) => written.is_ok(),
        _ = ended.wait_for(Option::is_some) => false,
    };
    written || succeeded(ended).await
}

async fn succeeded(ended: &mut Ended) -> bool {
    let ending = tokio::time::timeout(ENDING_DEADLINE, ended.wait_for(Option::is_some)).await;
    matches!(ending, Ok(Ok(ending)) if ending.as_ref().is_some_and(|ending| ending.success))
}
