//! One ffmpeg process: reads its standard input, writes DASH and HLS into a folder.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::{Notify, watch};

/// So much of ffmpeg's newest output is kept to say why it died.
const LAST_WORDS: usize = 2048;

/// Encodes once and hands the packets to both muxers. The playlist type makes HLS end with ENDLIST; DASH becomes
/// static by itself when the input ends.
const OUTPUTS: &str = "[f=dash:seg_duration=4]dash/manifest.mpd\
                       |[f=hls:hls_time=4:hls_playlist_type=vod]hls/manifest.m3u8";

/// How an ffmpeg process ended.
#[derive(Debug, Clone)]
pub(super) struct Ending {
    /// It read its input to the end and wrote everything.
    pub(super) success: bool,
    /// A signal ended it, not its input.
    pub(super) killed: bool,
    /// The end of what it wrote to standard error.
    pub(super) last_words: String,
}

/// Set once, when the process has ended.
pub(super) type Ended = watch::Receiver<Option<Ending>>;

/// A running ffmpeg without its standard input, which the caller owns.
pub(super) struct Encoder {
    pub(super) ended: Ended,
    kill: Arc<Notify>,
}

impl Encoder {
    /// Starts ffmpeg with its outputs below `folder`.
    ///
    /// # Errors
    /// When the folders cannot be made or ffmpeg cannot be started, mostly because it is not installed.
    pub(super) fn start(folder: &Path) -> io::Result<(Self, ChildStdin)> {
        for part in ["dash", "hls"] {
            std::fs::create_dir_all(folder.join(part))?;
        }
        let mut child = command(folder).spawn()?;
        let stdin = child.stdin.take().ok_or_else(|| io::Error::other("ffmpeg has no standard input"))?;
        let (tell, ended) = watch::channel(None);
        let kill = Arc::new(Notify::new());
        tokio::spawn(attend(child, Arc::clone(&kill), tell));
        Ok((Self { ended, kill }, stdin))
    }

    /// Kills the process; `ended` tells when it is gone.
    pub(super) fn kill(&self) {
        self.kill.notify_one();
    }

    /// How it ended, if it has.
    pub(super) fn ending(&self) -> Option<Ending> {
        self.ended.borrow().clone()
    }
}

/// Waits for the end of the process, or brings it about.
async fn attend(mut child: Child, kill: Arc<Notify>, tell: watch::Sender<Option<Ending>>) {
    let words = child.stderr.take().map(|stderr| tokio::spawn(last_words(stderr)));
    let status = tokio::select! {
        status = child.wait() => status,
        () = kill.notified() => match child.start_kill() {
            Ok(()) => child.wait().await,
            Err(error) => Err(error),
        },
    };
    let words = match words {
        Some(task) => task.await.unwrap_or_default(),
        None => String::new(),
    };
    tell.send_replace(Some(ending(status, words)));
}

fn ending(status: io::Result<ExitStatus>, last_words: String) -> Ending {
    match status {
        Ok(status) => Ending { success: status.success(), killed: status.code().is_none(), last_words },
        Err(error) => Ending { success: false, killed: true, last_words: error.to_string() },
    }
}

/// Reads everything, so that ffmpeg never waits for its reader, and keeps the end of it.
async fn last_words(mut stderr: impl AsyncRead + Unpin) -> String {
    let mut kept = Vec::new();
    let mut buffer = [0; 1024];
    while let Ok(count @ 1..) = stderr.read(&mut buffer).await {
        kept.extend_from_slice(&buffer[..count]);
        kept.drain(..kept.len().saturating_sub(LAST_WORDS));
    }
    String::from_utf8_lossy(&kept).trim().to_owned()
}

fn command(folder: &Path) -> Command {
    let mut command = match found_in_path("setpriv") {
        Some(setpriv) => {
            // ffmpeg goes with this process even when that is killed outright.
            let mut command = Command::new(setpriv);
            command.args(["--pdeathsig", "KILL", "--", "ffmpeg"]);
            command
        }
        None => Command::new("ffmpeg"),
    };
    command
        .args(["-hide_banner", "-loglevel", "error", "-nostats", "-y", "-i", "pipe:0"])
        .args(["-map", "0:v:0", "-map", "0:a:0?"])
        .args(["-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p"])
        .args(["-vf", "scale=trunc(iw/2)*2:trunc(ih/2)*2"])
        .args(["-force_key_frames", "expr:gte(t,n_forced*4)", "-c:a", "aac", "-ac", "2"])
        .args(["-flags", "+global_header", "-f", "tee", OUTPUTS])
        .current_dir(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

fn found_in_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(program)).find(|file| file.is_file())
}
