//! Tells an mp4 that cannot be read from a pipe: one with its index behind its data.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

/// The most top-level atoms that are looked at.
const ATOMS: usize = 64;

/// True for an mp4 or mov whose `mdat` comes before its `moov`. Anything else, and anything odd, is false:
/// ffmpeg is the judge of that.
pub(crate) fn has_its_index_at_the_end(path: &Path) -> bool {
    let Ok(mut file) = File::open(path) else { return false };
    let mut kinds = Vec::new();
    while kinds.len() < ATOMS {
        let Some((kind, size)) = next_atom(&mut file) else { break };
        match &kind {
            b"moov" => return kinds.contains(b"mdat") && kinds.first() == Some(b"ftyp"),
            _ => kinds.push(kind),
        }
        if i64::try_from(size).is_ok_and(|size| file.seek(SeekFrom::Current(size)).is_err()) {
            break;
        }
    }
    false
}

/// The kind of the next atom and how many bytes follow its header.
fn next_atom(file: &mut File) -> Option<([u8; 4], u64)> {
    let mut header = [0; 8];
    file.read_exact(&mut header).ok()?;
    let size = u32::from_be_bytes(header[..4].try_into().ok()?);
    let kind = header[4..].try_into().ok()?;
    if size != 1 {
        return Some((kind, u64::from(size).checked_sub(8)?));
    }
    let mut long = [0; 8];
    file.read_exact(&mut long).ok()?;
    Some((kind, u64::from_be_bytes(long).checked_sub(16)?))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    fn atom(kind: &[u8; 4], body: &[u8]) -> Vec<u8> {
        let size = u32::try_from(body.len() + 8).unwrap();
        [&size.to_be_bytes(), kind.as_slice(), body].concat()
    }

    fn judged(bytes: &[u8]) -> bool {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("video");
        std::fs::write(&path, bytes).unwrap();
        has_its_index_at_the_end(&path)
    }

    #[test]
    fn the_place_of_the_index_is_told() {
        let (kind, index, data) = (atom(b"ftyp", b"isom"), atom(b"moov", b"index"), atom(b"mdat", b"data"));
        assert!(judged(&[kind.clone(), data.clone(), index.clone()].concat()));
        assert!(!judged(&[kind.clone(), index, data.clone()].concat()));
        assert!(!judged(&[kind, data].concat()));
    }

    #[test]
    fn a_long_size_is_understood_and_garbage_is_left_to_ffmpeg() {
        let long = [[0, 0, 0, 1].as_slice(), b"mdat", &20_u64.to_be_bytes(), b"data"].concat();
        assert!(judged(&[atom(b"ftyp", b"isom"), long, atom(b"moov", b"")].concat()));
        assert!(!judged(b"GARBAGE WITHOUT ANY ATOMS"));
        assert!(!judged(b""));
        assert!(!judged(&[0; 64]));
    }
}
