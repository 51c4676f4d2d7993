//! fflow: runs one real ffmpeg for each flow, feeds it over its standard input and ships DASH and HLS.
//!
//! By itself it is kind: a push is answered when ffmpeg has taken the bytes, a dead ffmpeg is told at once.
//! With `as_observed` it has the manners of the existing fflow: it buffers without bound and answers 201 at
//! once and even after ffmpeg was killed; a finish and a DELETE of a dead ffmpeg never answer; a push to an
//! ffmpeg that died of its input ends the whole process; a create answers with the replica's base address.

mod encoder;
mod farm;
mod feed;
mod flow;
mod http;
mod report;
mod ship;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;

use self::farm::Farm;

/// What one fflow replica is started with.
#[derive(Debug, Clone, clap::Parser)]
#[command(name = "fflow", about = "Feeds uploads to ffmpeg and ships DASH and HLS to holder")]
pub struct Options {
    /// Address to listen on
    #[arg(long)]
    pub listen: SocketAddr,
    /// Path prefix of this replica's calls, as its balancer routes them
    #[arg(long, default_value = "")]
    pub prefix: String,
    /// This replica's address as clients reach it, prefix included; a flow's is <PUBLIC_URL>/<name>
    #[arg(long)]
    pub public_url: String,
    /// holder's FTP server, host:port
    #[arg(long)]
    pub ftp: String,
    /// Folder for what ffmpeg writes, made if absent; each flow's part is removed when the flow ends
    #[arg(long)]
    pub work_dir: PathBuf,
    /// Have the manners of the existing fflow: unbounded buffer, no word about a dead ffmpeg
    #[arg(long)]
    pub as_observed: bool,
}

/// Serves until SIGTERM or SIGINT, then kills every ffmpeg.
///
/// # Errors
/// When the work folder cannot be made or the address not be listened on.
pub async fn run(options: Options) -> anyhow::Result<()> {
    tokio::fs::create_dir_all(&options.work_dir)
        .await
        .with_context(|| format!("work folder {}", options.work_dir.display()))?;
    let listen = options.listen;
    let farm = Arc::new(Farm::new(options));
    tracing::info!(%listen, "fflow listens");
    let served = http::serve(listen, Arc::clone(&farm)).await;
    farm.kill_all().await;
    served.with_context(|| format!("listening on {listen}"))
}
