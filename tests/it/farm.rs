//! The real neighbours: three fflow replicas with real ffmpeg behind nginx, and holder.

use std::path::{Path, PathBuf};
use std::time::Duration;

use devstack::{Balancer, Nginx, PortLease, Process, Workspace};

use crate::world::SOON;

pub struct Farm {
    pub nginx: Nginx,
    pub holder_url: String,
    processes: Vec<Process>,
    _ports: Vec<PortLease>,
}

impl Farm {
    /// `manners` are more arguments of every fflow.
    pub async fn start(workspace: &Workspace, manners: &[&str]) -> Self {
        let take = || PortLease::take().unwrap();
        let (balancer, ftp, http) = (take(), take(), take());
        let passive = PortLease::take_block(20).unwrap();
        let first = passive[0].number();
        let holder = start(workspace, "holder", |command| {
            command
                .args(["--root", workspace.folder("holder").unwrap().to_str().unwrap()])
                .args(["--ftp", &ftp.address(), "--http", &http.address()])
                .args(["--passive-ports", &format!("{first}-{}", first + 19)])
        });
        let mut processes = vec![holder];
        let replicas: Vec<PortLease> = (0..3).map(|_| take()).collect();
        for (number, port) in (1..).zip(&replicas) {
            let work = workspace.folder(&format!("fflow{number}")).unwrap();
            processes.push(start(workspace, "fflow", |command| {
                command
                    .args(["--listen", &port.address(), "--prefix", &format!("/r{number}")])
                    .args(["--public-url", &format!("http://{}/r{number}", balancer.address())])
                    .args(["--ftp", &ftp.address(), "--work-dir", work.to_str().unwrap()])
                    .args(manners)
            }));
        }
        let holder_url = format!("http://{}", http.address());
        healthy(&holder_url).await;
        for port in &replicas {
            healthy(&format!("http://{}", port.address())).await;
        }
        let config = Balancer::new(replicas.iter().map(PortLease::number).collect());
        let text = config.render(balancer.number());
        let nginx = Nginx::start(workspace, balancer, &text).await.unwrap();
        let ports = replicas.into_iter().chain(passive).chain([ftp, http]).collect();
        Farm { nginx, holder_url, processes, _ports: ports }
    }

    /// Whether every fflow, and holder, is still there.
    pub fn all_run(&self) -> bool {
        self.processes.iter().all(Process::is_running)
    }

    /// Bytes and SHA-256 that a flow has got, as its replica says; `None` while it does not know the flow.
    pub async fn received(&self, flow_url: &str) -> Option<(u64, String)> {
        let answer = devstack::http::get(flow_url, Duration::from_secs(5)).await.ok()?.success().ok()?;
        let seen: serde_json::Value = serde_json::from_slice(&answer.body).ok()?;
        Some((seen["receivedBytes"].as_u64()?, seen["sha256"].as_str()?.to_owned()))
    }
}

fn start(
    workspace: &Workspace,
    program: &str,
    arguments: impl FnOnce(devstack::ProcessBuilder) -> devstack::ProcessBuilder,
) -> Process {
    let path = Path::new(env!("CARGO_BIN_EXE_uploader-v4")).with_file_name(program);
    assert!(path.exists(), "{program} is not built: run `make test`");
    arguments(Process::command(path).name(program).log(workspace.log(program))).start().unwrap()
}

async fn healthy(url: &str) {
    let url = format!("{url}/healthz");
    devstack::wait_until(&url, SOON, async || {
        devstack::http::get(&url, Duration::from_secs(5)).await.is_ok_and(|answer| answer.status == 200)
    })
    .await
    .unwrap();
}

/// Makes a video with sound that ffmpeg can read from a pipe.
pub async fn video(workspace: &Workspace, seconds: u32) -> Vec<u8> {
    mp4(workspace, seconds, &["-movflags", "+faststart"]).await
}

/// The same as cameras write it: its index is at the end, and ffmpeg cannot read it from a pipe.
pub async fn video_with_its_index_at_the_end(workspace: &Workspace, seconds: u32) -> Vec<u8> {
    mp4(workspace, seconds, &[]).await
}

async fn mp4(workspace: &Workspace, seconds: u32, options: &[&str]) -> Vec<u8> {
    let file: PathBuf = workspace.path().join("video.mp4");
    let picture = format!("testsrc2=size=640x360:rate=25:duration={seconds}");
    let sound = format!("sine=frequency=440:duration={seconds}");
    let ffmpeg = Process::command(
        devstack::tools::in_path("ffmpeg").expect("ffmpeg is not installed: run `make test`"),
    )
    .args(["-v", "error", "-y", "-f", "lavfi", "-i", &picture, "-f", "lavfi", "-i", &sound])
    .args(["-c:v", "libx264", "-preset", "ultrafast", "-b:v", "2500k", "-c:a", "aac"])
    .args(options)
    .arg(file.to_str().unwrap())
    .log(workspace.log("make-video"))
    .start()
    .unwrap();
    assert!(ffmpeg.wait_exit(crate::world::LATE).await.unwrap().success(), "{}", ffmpeg.log_tail(20));
    std::fs::read(file).unwrap()
}

/// Decodes a stream whole, without an error, and says how long it is in seconds.
pub async fn decoded(workspace: &Workspace, url: &str) -> f64 {
    let log = workspace.log("decode");
    let ffmpeg = Process::command(devstack::tools::in_path("ffmpeg").unwrap())
        .args(["-v", "error", "-i", url, "-f", "null", "-"])
        .log(&log)
        .start()
        .unwrap();
    let status = ffmpeg.wait_exit(crate::world::LATE).await.unwrap();
    let errors = ffmpeg.log_tail(20);
    assert!(status.success() && errors.trim().is_empty(), "{url}: {errors}");
    let probe = Process::command(devstack::tools::in_path("ffprobe").unwrap())
        .args(["-v", "error", "-show_entries", "format=duration", "-of", "csv=p=0", url])
        .log(workspace.path().join("duration.log"))
        .start()
        .unwrap();
    probe.wait_exit(SOON).await.unwrap();
    probe.log_tail(1).trim().parse().unwrap()
}
