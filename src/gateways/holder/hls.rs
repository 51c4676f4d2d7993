//! Reads an HLS playlist: what it refers to, and whether it is final.

use m3u8_rs::{MasterPlaylist, MediaPlaylist, Playlist};

/// What a playlist refers to, by name.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Referred {
    /// Files with media.
    Files(Vec<String>),
    /// Other playlists, each of which must be final.
    Playlists(Vec<String>),
}

/// Reads a playlist; a reason if it is none or not final yet.
pub(crate) fn read(bytes: &[u8]) -> Result<Referred, String> {
    match m3u8_rs::parse_playlist_res(bytes) {
        Ok(Playlist::MediaPlaylist(media)) => files(media).map(Referred::Files),
        Ok(Playlist::MasterPlaylist(master)) => playlists(master).map(Referred::Playlists),
        Err(_) => Err("is no playlist".to_owned()),
    }
}

fn files(media: MediaPlaylist) -> Result<Vec<String>, String> {
    if !media.end_list {
        return Err("has no EXT-X-ENDLIST".to_owned());
    }
    if media.segments.is_empty() {
        return Err("refers to nothing".to_owned());
    }
    let mut names = Vec::new();
    for segment in media.segments {
        names.extend(segment.map.map(|map| map.uri));
        names.extend(segment.key.and_then(|key| key.uri));
        names.push(segment.uri);
    }
    Ok(names)
}

fn playlists(master: MasterPlaylist) -> Result<Vec<String>, String> {
    let variants = master.variants.into_iter().map(|variant| variant.uri);
    let names: Vec<String> =
        variants.chain(master.alternatives.into_iter().filter_map(|media| media.uri)).collect();
    if names.is_empty() { Err("refers to nothing".to_owned()) } else { Ok(names) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const MEDIA: &str = "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:4\n#EXTINF:4.0,\nmanifest0.ts\n\
        #EXTINF:1.5,\nmanifest1.ts\n";

    #[test]
    fn a_final_playlist_names_its_files() {
        let text = format!("{MEDIA}#EXT-X-ENDLIST\n");
        let want = Referred::Files(vec!["manifest0.ts".into(), "manifest1.ts".into()]);
        assert_eq!(read(text.as_bytes()).unwrap(), want);
    }

    #[test]
    fn a_growing_empty_or_foreign_playlist_is_refused() {
        assert!(read(MEDIA.as_bytes()).unwrap_err().contains("ENDLIST"));
        assert!(read(b"#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXT-X-ENDLIST\n").is_err());
        assert!(read(b"<html>not found</html>").is_err());
        assert!(read(b"").is_err());
    }

    #[test]
    fn a_master_playlist_names_its_playlists() {
        let text = "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1280000\nlow/index.m3u8\n";
        assert_eq!(read(text.as_bytes()).unwrap(), Referred::Playlists(vec!["low/index.m3u8".into()]));
    }
}
