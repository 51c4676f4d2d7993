//! Ships a flow's files to holder over FTP.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use suppaftp::FtpError;
use suppaftp::tokio::AsyncFtpStream;
use suppaftp::types::FileType;

const CONNECT_DEADLINE: Duration = Duration::from_secs(5);
/// For one file or one folder; segments are a few megabytes.
const STEP_DEADLINE: Duration = Duration::from_secs(60);

/// Puts the files of `folder`'s `dash` and `hls` under `<saving_path>/dash` and `<saving_path>/hls`.
///
/// Manifests go last, so that a player never finds one that refers to files still on their way.
///
/// # Errors
/// When holder cannot be reached, refuses a step, or takes longer than a minute for one.
pub(super) async fn ship(folder: &Path, saving_path: &str, ftp: &str) -> anyhow::Result<usize> {
    let mut holder = connect(ftp).await.with_context(|| format!("reaching holder at {ftp}"))?;
    step(holder.login("anonymous", "fflow@localhost")).await.context("logging in")?;
    step(holder.transfer_type(FileType::Binary)).await.context("binary transfer")?;
    let mut shipped = 0;
    for part in ["dash", "hls"] {
        let target = format!("{}/{part}", saving_path.trim_matches('/'));
        make_folders(&mut holder, &target).await?;
        for file in files(&folder.join(part)).await? {
            put(&mut holder, &file, &target).await.with_context(|| format!("shipping {}", file.display()))?;
            shipped += 1;
        }
    }
    // Everything is there; a lost goodbye changes nothing.
    let _ = tokio::time::timeout(CONNECT_DEADLINE, holder.quit()).await;
    Ok(shipped)
}

/// Its name is looked up each time: holder may have come back with another address.
async fn connect(ftp: &str) -> anyhow::Result<AsyncFtpStream> {
    let mut found = tokio::time::timeout(CONNECT_DEADLINE, tokio::net::lookup_host(ftp)).await??;
    let address = found.next().context("its name has no address")?;
    Ok(AsyncFtpStream::connect_timeout(address, CONNECT_DEADLINE).await?)
}

async fn put(holder: &mut AsyncFtpStream, file: &Path, target: &str) -> anyhow::Result<()> {
    let Some(name) = file.file_name().and_then(|name| name.to_str()) else { bail!("an unreadable name") };
    let mut content = tokio::fs::File::open(file).await?;
    step(holder.put_file(format!("/{target}/{name}"), &mut content)).await?;
    Ok(())
}

/// Makes the folder and those above it; the ones that exist are refused, which is no error here.
async fn make_folders(holder: &mut AsyncFtpStream, path: &str) -> anyhow::Result<()> {
    let mut made = String::new();
    for part in path.split('/') {
        made = format!("{made}/{part}");
        match tokio::time::timeout(STEP_DEADLINE, holder.mkdir(&made)).await? {
            Ok(()) | Err(FtpError::UnexpectedResponse(_)) => {}
            Err(error) => return Err(error).with_context(|| format!("making folder {made}")),
        }
    }
    Ok(())
}

/// The folder's files, manifests last.
async fn files(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut entries = tokio::fs::read_dir(folder).await?;
    while let Some(entry) = entries.next_entry().await? {
        if entry.file_type().await?.is_file() {
            found.push(entry.path());
        }
    }
    found.sort_by_key(|file| {
        let manifest = file.extension().is_some_and(|ending| ending == "mpd" || ending == "m3u8");
        (manifest, file.clone())
    });
    Ok(found)
}

async fn step<T>(work: impl Future<Output = Result<T, FtpError>>) -> anyhow::Result<T> {
    Ok(tokio::time::timeout(STEP_DEADLINE, work).await.context("no answer from holder")??)
}
