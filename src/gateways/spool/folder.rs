//! What a session's folder holds on disk, for operators.

use std::io;
use std::path::Path;
use std::time::Duration;

use serde::Serialize;

use super::SpoolError;
use crate::domain::ids::SessionId;

/// A volume that does not answer must not hold an operator.
const DEADLINE: Duration = Duration::from_secs(5);

/// A session's folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct FolderSize {
    /// Writers' files.
    pub files: u64,
    /// Their bytes, with the records' headers and what was appended and never committed.
    pub bytes: u64,
}

/// Measures a session's folder in the spool directory `dir`; `None` when there is none.
///
/// # Errors
/// [`SpoolError::Io`] when the volume does not answer.
pub async fn folder_size(dir: &Path, session: SessionId) -> Result<Option<FolderSize>, SpoolError> {
    let folder = dir.join(session.to_string());
    let measured = tokio::time::timeout(DEADLINE, measure(&folder)).await;
    measured
        .unwrap_or_else(|_| Err(io::Error::other(format!("no answer within {DEADLINE:?}"))))
        .map_err(|error| SpoolError::Io(error.to_string()))
}

async fn measure(folder: &Path) -> io::Result<Option<FolderSize>> {
    let mut entries = match tokio::fs::read_dir(folder).await {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened?,
    };
    let mut size = FolderSize { files: 0, bytes: 0 };
    while let Some(entry) = entries.next_entry().await? {
        match entry.metadata().await {
            Ok(file) if file.is_file() => {
                size.files += 1;
                size.bytes += file.len();
            }
            Ok(_) => {}
            // Removed meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(Some(size))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[tokio::test]
    async fn a_folder_is_measured_and_a_missing_one_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let session = SessionId(uuid::Uuid::from_u128(7));
        assert_eq!(folder_size(dir.path(), session).await.unwrap(), None);
        let folder = dir.path().join(session.to_string());
        std::fs::create_dir(&folder).unwrap();
        assert_eq!(folder_size(dir.path(), session).await.unwrap(), Some(FolderSize { files: 0, bytes: 0 }));
        std::fs::write(folder.join("one"), [1; 10]).unwrap();
        std::fs::write(folder.join("two"), [2; 5]).unwrap();
        std::fs::create_dir(folder.join("other")).unwrap();
        assert_eq!(folder_size(dir.path(), session).await.unwrap(), Some(FolderSize { files: 2, bytes: 15 }));
    }
}
