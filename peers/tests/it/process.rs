//! Peers as processes of their own, and what a test waits for.

use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use actix_web::http::Method;
use devstack::PortLease;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::client::send;

pub const SOON: Duration = Duration::from_secs(20);

/// Waits for a condition; panics, naming it, at the deadline.
pub async fn wait_until(what: &str, holds: impl AsyncFnMut() -> bool) {
    devstack::wait::wait_until(what, SOON, holds).await.unwrap();
}

/// A running peer; killed when dropped.
pub struct Peer {
    child: Child,
}

impl Peer {
    /// Starts a binary of this crate and waits until it answers on `/healthz`.
    pub async fn start(binary: &str, arguments: &[&str], address: &str) -> Self {
        let child = Command::new(binary)
            .args(arguments)
            .env("RUST_LOG", "warn")
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let mut peer = Self { child };
        let url = format!("{address}/healthz");
        wait_until(&format!("{binary} answers on {url}"), async || {
            assert!(peer.child.try_wait().unwrap().is_none(), "{binary} has ended");
            matches!(send(Method::GET, &url, "text/plain", "").await, Some((200, _)))
        })
        .await;
        peer
    }

    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id() as i32), signal).unwrap();
    }

    pub async fn exit(&mut self) -> ExitStatus {
        let mut status = None;
        wait_until("the process ends", async || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        })
        .await;
        status.unwrap()
    }

    /// The ffmpeg processes that this peer has started.
    pub fn ffmpegs(&self) -> Vec<i32> {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.child.id())).unwrap();
        let children =
            tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("children")).ok());
        let pids: Vec<i32> = children
            .flat_map(|list| list.split(' ').filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>())
            .collect();
        pids.into_iter().filter(|pid| is_ffmpeg(*pid)).collect()
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Whether this process is an ffmpeg that still runs.
pub fn is_ffmpeg(pid: i32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    status.contains("Name:\tffmpeg\n") && !status.contains("State:\tZ")
}

pub fn kill_pid(pid: i32) {
    kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
}

/// fflow and holder side by side, as in a farm of one replica.
pub struct Farm {
    pub fflow: Peer,
    pub holder: Option<Peer>,
    /// The replica's address with its prefix.
    pub url: String,
    pub holder_url: String,
    pub root: PathBuf,
    _folder: tempfile::TempDir,
    _ports: Vec<PortLease>,
}

impl Farm {
    pub async fn start(more: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (http, ftp) = (PortLease::take().unwrap(), PortLease::take().unwrap());
        let passive = PortLease::take_block(20).unwrap();
        let root = folder.path().join("holder");
        let passive_range = format!("{}-{}", passive[0].number(), passive[19].number());
        let holder_url = format!("http://{}", http.address());
        let holder = Peer::start(
            env!("CARGO_BIN_EXE_holder"),
            &[
                "--root",
                root.to_str().unwrap(),
                "--ftp",
                &ftp.address(),
                "--passive-ports",
                &passive_range,
                "--http",
                &http.address(),
            ],
            &holder_url,
        )
        .await;
        let port = PortLease::take().unwrap();
        let (fflow, url) = start_fflow(folder.path().join("fflow"), &ftp.address(), &port, more).await;
        let ports = passive.into_iter().chain([http, ftp, port]).collect();
        Self { fflow, holder: Some(holder), url, holder_url, root, _folder: folder, _ports: ports }
    }
}

async fn start_fflow(work_dir: PathBuf, ftp: &str, port: &PortLease, more: &[&str]) -> (Peer, String) {
    let address = format!("http://{}", port.address());
    let url = format!("{address}/r1");
    let listen = port.address();
    let mut arguments = vec!["--listen", &listen, "--prefix", "/r1", "--public-url", &url, "--ftp", ftp];
    arguments.extend(["--work-dir", work_dir.to_str().unwrap()]);
    arguments.extend(more);
    (Peer::start(env!("CARGO_BIN_EXE_fflow"), &arguments, &address).await, url)
}
