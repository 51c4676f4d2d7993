//! The file that is sent: opened once, read where it is asked for, and watched for changes of its length.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, bail, ensure};

use crate::domain::chunk::digest;
use crate::domain::recent::Recent;

/// A local file of a known length.
#[derive(Debug, Clone)]
pub(super) struct Source {
    file: Arc<File>,
    bytes: i64,
}

impl Source {
    /// Opens a regular file that is not empty.
    pub fn open(path: &Path) -> anyhow::Result<Self> {
        let named = || format!("{} cannot be read", path.display());
        let file = File::open(path).with_context(named)?;
        let about = file.metadata().with_context(named)?;
        ensure!(about.is_file(), "{} is no regular file", path.display());
        ensure!(about.len() > 0, "{} is empty, there is nothing to upload", path.display());
        let bytes = i64::try_from(about.len()).with_context(named)?;
        Ok(Source { file: Arc::new(file), bytes })
    }

    /// Its length, as it was when it was opened.
    pub fn bytes(&self) -> i64 {
        self.bytes
    }

    /// The bytes of one chunk. An error if the file is not as long any more as it was announced.
    pub async fn read(&self, start: i64, size: i64) -> anyhow::Result<Vec<u8>> {
        let source = self.clone();
        tokio::task::spawn_blocking(move || source.read_now(start, size)).await?
    }

    fn read_now(&self, start: i64, size: i64) -> anyhow::Result<Vec<u8>> {
        let length = self.file.metadata().context("the file cannot be read")?.len();
        if i64::try_from(length).ok() != Some(self.bytes) {
            bail!("the file has {length} bytes now, it had {} when it was opened", self.bytes);
        }
        let (start, size) = (u64::try_from(start)?, usize::try_from(size)?);
        let mut bytes = vec![0; size];
        self.file.read_exact_at(&mut bytes, start).context("the file cannot be read")?;
        Ok(bytes)
    }

    /// The first byte of a stored chunk that is not what this file holds there; `None` for the same file.
    pub async fn differs(&self, stored: &Recent) -> anyhow::Result<Option<i64>> {
        for (start, size, stored) in stored.chunks() {
            if start + i64::from(size) > self.bytes {
                return Ok(Some(start));
            }
            if digest(&self.read(start, size.into()).await?) != stored {
                return Ok(Some(start));
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::io::Write;

    use super::*;
    use crate::domain::chunk::ChunkFacts;
    use crate::domain::ids::SessionId;

    fn file(bytes: &[u8]) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(bytes).unwrap();
        file
    }

    #[actix_rt::test]
    async fn a_chunk_is_read_where_it_stands() {
        let file = file(b"0123456789");
        let source = Source::open(file.path()).unwrap();
        assert_eq!(source.bytes(), 10);
        assert_eq!(source.read(3, 4).await.unwrap(), b"3456");
    }

    #[actix_rt::test]
    async fn a_file_that_grows_or_shrinks_meanwhile_is_noticed() {
        let mut file = file(b"0123456789");
        let source = Source::open(file.path()).unwrap();
        file.write_all(b"x").unwrap();
        assert!(source.read(0, 4).await.unwrap_err().to_string().contains("11 bytes now"));
        file.as_file().set_len(4).unwrap();
        assert!(source.read(0, 4).await.unwrap_err().to_string().contains("4 bytes now"));
    }

    #[test]
    fn nothing_is_refused_and_so_is_what_is_no_file() {
        assert!(Source::open(file(b"").path()).unwrap_err().to_string().contains("is empty"));
        assert!(Source::open(Path::new("/")).unwrap_err().to_string().contains("no regular file"));
        assert!(Source::open(Path::new("/absent")).unwrap_err().to_string().contains("/absent"));
    }

    #[actix_rt::test]
    async fn another_file_of_the_same_length_is_told_apart() {
        let mut recent = Recent::default();
        let session = SessionId(uuid::Uuid::nil());
        for (start, body) in [(0, b"01234"), (5, b"56789")] {
            recent.remember(&ChunkFacts { session, start, size: 5, digest: digest(body) });
        }
        let (same, other) = (file(b"0123456789abc"), file(b"01234567x9abc"));
        let differs = async |file: &tempfile::NamedTempFile| {
            Source::open(file.path()).unwrap().differs(&recent).await.unwrap()
        };
        assert_eq!(differs(&same).await, None);
        assert_eq!(differs(&other).await, Some(5));
        assert_eq!(differs(&file(b"0123456")).await, Some(5));
    }
}
