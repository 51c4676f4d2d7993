//! Manifests as holder serves them, whoever wrote them.

use url::Url;

use crate::gateways::holder::hls::Referred;
use crate::gateways::holder::place::{Folder, MOST_FILES};
use crate::gateways::holder::{dash, hls};

const BASE: &str = "http://holder:8080/videos";
const ROOT: &str = "http://holder:8080/videos/v/f/";
/// Names that are followed, of each manifest.
const FOLLOWED: usize = 200;

/// Input: a manifest, read as DASH and as HLS.
pub fn manifests(data: &[u8]) {
    let Ok(folder) =
        Url::parse(BASE).map_err(|_| ()).and_then(|base| Folder::new(&base, "v", "f").map_err(|_| ()))
    else {
        panic!("{BASE} is an address")
    };
    match dash::read(data) {
        Ok(names) => lead_inside(&folder, "dash/manifest.mpd", &names),
        Err(reason) => assert!(!reason.is_empty()),
    }
    match hls::read(data) {
        Ok(Referred::Files(names) | Referred::Playlists(names)) => {
            lead_inside(&folder, "hls/manifest.m3u8", &names);
        }
        Err(reason) => assert!(!reason.is_empty()),
    }
}

fn lead_inside(folder: &Folder, manifest: &str, names: &[String]) {
    assert!(!names.is_empty(), "a manifest that refers to nothing is whole");
    assert!(manifest.starts_with("hls") || names.len() <= MOST_FILES, "{} names", names.len());
    let Ok(from) = folder.file(manifest) else { panic!("{manifest} is a name") };
    for url in names.iter().take(FOLLOWED).filter_map(|name| folder.refer(&from, name).ok()) {
        let inside = url.as_str().strip_prefix(ROOT);
        assert!(inside.is_some_and(|path| !path.is_empty()), "{url} is outside");
        assert!(!url.path().split('/').any(|part| part == ".."), "{url} climbs");
        assert!(url.query().is_none() && url.fragment().is_none(), "{url}");
    }
}
