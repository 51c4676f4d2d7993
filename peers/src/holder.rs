//! holder: takes streams over FTP and serves them over HTTP, from one folder.

mod files;

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;

use anyhow::{Context, ensure};
use libunftp::ServerBuilder;
use unftp_sbe_fs::Filesystem;

/// An FTP session without a command for so long is ended.
const IDLE_SESSION_SECONDS: u64 = 300;

/// What holder is started with.
#[derive(Debug, Clone, clap::Parser)]
#[command(name = "holder", about = "Takes streams over anonymous FTP and serves them over HTTP")]
pub struct Options {
    /// Folder of the files, made if absent
    #[arg(long)]
    pub root: PathBuf,
    /// Address of the FTP server
    #[arg(long)]
    pub ftp: SocketAddr,
    /// Ports of passive transfers, first-last
    #[arg(long, value_parser = port_range)]
    pub passive_ports: RangeInclusive<u16>,
    /// Address of the HTTP server
    #[arg(long)]
    pub http: SocketAddr,
}

/// Serves until SIGTERM or SIGINT.
///
/// # Errors
/// When the folder cannot be made or an address not be listened on.
pub async fn run(options: Options) -> anyhow::Result<()> {
    tokio::fs::create_dir_all(&options.root)
        .await
        .with_context(|| format!("root folder {}", options.root.display()))?;
    let root = tokio::fs::canonicalize(&options.root).await?;
    tracing::info!(ftp = %options.ftp, http = %options.http, "holder listens");
    tokio::select! {
        ended = serve_ftp(options.ftp, root.clone(), options.passive_ports) => {
            ended.with_context(|| format!("FTP on {}", options.ftp))
        }
        ended = files::serve(options.http, root) => ended.with_context(|| format!("HTTP on {}", options.http)),
    }
}

async fn serve_ftp(
    listen: SocketAddr,
    root: PathBuf,
    passive_ports: RangeInclusive<u16>,
) -> anyhow::Result<()> {
    let storage = move || {
        Filesystem::new(&root).unwrap_or_else(|error| {
            // A session cannot be refused here, and without its folder a holder is of no use.
            tracing::error!(root = %root.display(), %error, "the root folder is gone");
            std::process::exit(1)
        })
    };
    let server = ServerBuilder::new(Box::new(storage))
        .greeting("holder")
        .passive_ports(passive_ports)
        .idle_session_timeout(IDLE_SESSION_SECONDS)
        .build()?;
    Ok(server.listen(listen.to_string()).await?)
}

fn port_range(text: &str) -> anyhow::Result<RangeInclusive<u16>> {
    let (first, last) = text.split_once('-').context("expected first-last")?;
    let range = first.trim().parse()?..=last.trim().parse()?;
    ensure!(!range.is_empty(), "the last port lies before the first");
    Ok(range)
}
