//! What the disk allows: appending chunks to one file for each session, each made durable before the next.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context;

use super::content::Content;

/// As many at once as the service has deliveries by its prefetch.
const AT_ONCE: usize = 256;

/// Appends for as long as `window` to `sessions` files in `folder`, which is empty again afterwards; the number of
/// appends.
///
/// # Errors
/// When the folder cannot be written.
pub(crate) fn run(
    folder: &Path,
    content: &Content,
    bytes: usize,
    sessions: usize,
    window: Duration,
) -> anyhow::Result<u64> {
    std::fs::create_dir_all(folder).context("no folder for the disk's own round")?;
    let name = |number: usize| folder.join(number.to_string());
    let files: Vec<File> =
        (0..sessions).map(|number| File::create(name(number))).collect::<Result<_, _>>()?;
    let body = content.bytes(content.place(uuid::Uuid::nil(), 0, bytes));
    let share = files.len().div_ceil(AT_ONCE.min(sessions));
    let end = Instant::now() + window;
    let appended: std::io::Result<u64> = std::thread::scope(|scope| {
        let workers: Vec<_> =
            files.chunks(share).map(|mine| scope.spawn(move || append_in_turn(mine, body, end))).collect();
        let joined = workers.into_iter().map(|worker| {
            worker.join().unwrap_or_else(|_| Err(std::io::Error::other("an appender panicked")))
        });
        joined.sum()
    });
    let appended = appended.context("cannot append")?;
    drop(files);
    std::fs::remove_dir_all(folder).context("cannot empty the folder of the disk's own round")?;
    Ok(appended)
}

fn append_in_turn(files: &[File], body: &[u8], end: Instant) -> std::io::Result<u64> {
    let mut appended = 0;
    for mut file in files.iter().cycle() {
        if Instant::now() >= end {
            break;
        }
        file.write_all(body)?;
        file.sync_data()?;
        appended += 1;
    }
    Ok(appended)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn appends_are_counted_and_the_folder_is_gone() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("disk");
        let count = run(&folder, &Content::new(), 512, 300, Duration::from_millis(50)).unwrap();
        assert!(count > 0);
        assert!(!folder.exists());
    }
}
