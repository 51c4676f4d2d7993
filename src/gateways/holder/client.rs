//! The real look: awc, a few requests at once, everything bounded.

use std::collections::BTreeSet;
use std::time::Duration;

use async_trait::async_trait;
use awc::http::header::{CONTENT_LENGTH, CONTENT_RANGE, HeaderMap, RANGE};
use awc::http::{Method, StatusCode};
use awc::{Client, Connector};
use futures_util::{StreamExt, TryStreamExt, stream};
use tokio::time::timeout;
use url::Url;
use xxhash_rust::xxh3::Xxh3;

use super::place::{Folder, MOST_FILES};
use super::{Holder, Sight, dash, hls};
use crate::config::HolderConfig;
use crate::domain::ids::{FlowId, VideoId};
use crate::gateways::tls;

/// Requests of one look at once: it shares holder with the viewers.
const AT_ONCE: usize = 8;
/// Connections of all looks together; more wait for one.
const CONNECTIONS: usize = 64;
/// Bytes of one manifest.
const MOST_BYTES: usize = 4 << 20;
/// Playlists that a master playlist may have.
const MOST_PLAYLISTS: usize = 64;
/// The whole look. The longest video has some 50,000 files, a few milliseconds each.
const LOOK_DEADLINE: Duration = Duration::from_secs(120);

/// Looks at holder with awc. Not `Send`: it is made inside the arbiter that uses it.
pub struct AwcHolder {
    client: Client,
    base: Url,
    timeout: Duration,
}

impl AwcHolder {
    /// A client of the holder at the configured address; `None` if none is configured.
    pub fn new(config: &HolderConfig) -> Option<Self> {
        let connector = Connector::new().limit(CONNECTIONS).timeout(config.timeout);
        let connector = match tls::client(&config.trust) {
            Ok(trusted) => connector.rustls_0_23(trusted),
            // It then refuses https.
            Err(_) => connector,
        };
        let client =
            Client::builder().connector(connector).timeout(config.timeout).disable_redirects().finish();
        Some(AwcHolder { client, base: config.base_url.clone()?, timeout: config.timeout })
    }

    /// Whether anything answers at the configured address: the status of a HEAD.
    ///
    /// # Errors
    /// Nothing answered in time; says why.
    pub async fn knock(&self) -> Result<u16, String> {
        match timeout(self.timeout, self.client.head(self.base.as_str()).send()).await {
            Ok(Ok(response)) => Ok(response.status().as_u16()),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err(format!("no answer within {:?}", self.timeout)),
        }
    }

    /// Looks at everything; what ends the look early is the `Err`.
    async fn whole(&self, video: VideoId, flow: FlowId) -> Result<u64, Sight> {
        let folder =
            Folder::new(&self.base, &video.to_string(), &flow.to_string()).map_err(Sight::Unreachable)?;
        let mut seen = Xxh3::new();
        let mut files = BTreeSet::new();
        self.read_dash(&folder, &mut seen, &mut files).await?;
        self.read_hls(&folder, &mut seen, &mut files).await?;
        let lengths = self.lengths(&folder, &files).await?;
        for (url, length) in files.iter().zip(lengths) {
            seen.update(url.as_str().as_bytes());
            seen.update(&length.to_le_bytes());
        }
        Ok(seen.digest())
    }

    async fn read_dash(
        &self,
        folder: &Folder,
        seen: &mut Xxh3,
        files: &mut BTreeSet<Url>,
    ) -> Result<(), Sight> {
        let url = folder.file("dash/manifest.mpd").map_err(Sight::NotWhole)?;
        let bytes = self.manifest(folder, &url).await?;
        seen.update(&bytes);
        let names = dash::read(&bytes).map_err(|reason| not_whole(folder, &url, &reason))?;
        collect(folder, &url, names, files)
    }

    async fn read_hls(
        &self,
        folder: &Folder,
        seen: &mut Xxh3,
        files: &mut BTreeSet<Url>,
    ) -> Result<(), Sight> {
        let url = folder.file("hls/manifest.m3u8").map_err(Sight::NotWhole)?;
        let bytes = self.manifest(folder, &url).await?;
        seen.update(&bytes);
        match hls::read(&bytes).map_err(|reason| not_whole(folder, &url, &reason))? {
            hls::Referred::Files(names) => collect(folder, &url, names, files),
            hls::Referred::Playlists(names) => self.read_playlists(folder, &url, names, seen, files).await,
        }
    }

    async fn read_playlists(
        &self,
        folder: &Folder,
        master: &Url,
        names: Vec<String>,
        seen: &mut Xxh3,
        files: &mut BTreeSet<Url>,
    ) -> Result<(), Sight> {
        let mut playlists = BTreeSet::new();
        collect(folder, master, names, &mut playlists)?;
        if playlists.len() > MOST_PLAYLISTS {
            return Err(not_whole(folder, master, &format!("has more than {MOST_PLAYLISTS} playlists")));
        }
        for url in playlists {
            let bytes = self.manifest(folder, &url).await?;
            seen.update(&bytes);
            match hls::read(&bytes).map_err(|reason| not_whole(folder, &url, &reason))? {
                hls::Referred::Files(names) => collect(folder, &url, names, files)?,
                hls::Referred::Playlists(_) => {
                    return Err(not_whole(folder, &url, "is a master playlist in another"));
                }
            }
        }
        Ok(())
    }

    /// The bytes of a manifest.
    async fn manifest(&self, folder: &Folder, url: &Url) -> Result<Vec<u8>, Sight> {
        let mut response = self.client.get(url.as_str()).send().await.map_err(unreachable)?;
        if response.status() != StatusCode::OK {
            return Err(missing(folder, url, response.status()));
        }
        let mut bytes = Vec::new();
        loop {
            let next = timeout(self.timeout, response.next()).await;
            let Some(part) = next.map_err(|_| Sight::Unreachable("stopped in mid-answer".to_owned()))? else {
                return Ok(bytes);
            };
            let part = part.map_err(|error| Sight::Unreachable(error.to_string()))?;
            if bytes.len() + part.len() > MOST_BYTES {
                return Err(not_whole(folder, url, &format!("is longer than {MOST_BYTES} bytes")));
            }
            bytes.extend_from_slice(&part);
        }
    }

    /// The length of each file, in their order; the first that is missing or empty ends it.
    async fn lengths(&self, folder: &Folder, files: &BTreeSet<Url>) -> Result<Vec<u64>, Sight> {
        stream::iter(files).map(|url| self.length(folder, url)).buffered(AT_ONCE).try_collect().await
    }

    async fn length(&self, folder: &Folder, url: &Url) -> Result<u64, Sight> {
        let head = self.client.head(url.as_str()).send().await.map_err(unreachable)?;
        let length = match head.status() {
            StatusCode::OK => header_number(head.headers()),
            StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_IMPLEMENTED => None,
            status => return Err(missing(folder, url, status)),
        };
        let length = match length {
            Some(length) => length,
            None => self.length_by_range(folder, url).await?,
        };
        if length == 0 { Err(not_whole(folder, url, "is empty")) } else { Ok(length) }
    }

    /// For servers that know no HEAD: asks for one byte, and reads the length from the answer's head.
    async fn length_by_range(&self, folder: &Folder, url: &Url) -> Result<u64, Sight> {
        let request = self.client.request(Method::GET, url.as_str()).insert_header((RANGE, "bytes=0-0"));
        let response = request.send().await.map_err(unreachable)?;
        let length = match response.status() {
            StatusCode::OK => header_number(response.headers()),
            StatusCode::PARTIAL_CONTENT => range_total(response.headers()),
            // No first byte: the file is empty.
            StatusCode::RANGE_NOT_SATISFIABLE => Some(0),
            status => return Err(missing(folder, url, status)),
        };
        length.ok_or_else(|| not_whole(folder, url, "is of unknown length"))
    }
}

#[async_trait(?Send)]
impl Holder for AwcHolder {
    async fn look(&self, video: VideoId, flow: FlowId) -> Sight {
        match timeout(LOOK_DEADLINE, self.whole(video, flow)).await {
            Ok(Ok(fingerprint)) => Sight::Whole { fingerprint },
            Ok(Err(sight)) => sight,
            Err(_) => Sight::Unreachable(format!("no whole look within {LOOK_DEADLINE:?}")),
        }
    }
}

/// Adds where `names`, found in the file at `from`, lead.
fn collect(folder: &Folder, from: &Url, names: Vec<String>, into: &mut BTreeSet<Url>) -> Result<(), Sight> {
    for name in names {
        into.insert(folder.refer(from, &name).map_err(|reason| not_whole(folder, from, &reason))?);
        if into.len() > MOST_FILES {
            return Err(not_whole(
                folder,
                from,
                &format!("and its like refer to more than {MOST_FILES} files"),
            ));
        }
    }
    Ok(())
}

fn not_whole(folder: &Folder, url: &Url, reason: &str) -> Sight {
    Sight::NotWhole(format!("{} {reason}", folder.name(url)))
}

/// An answer other than the file. Only one that speaks of the file itself says that it is not there.
fn missing(folder: &Folder, url: &Url, status: StatusCode) -> Sight {
    let text = format!("{} answered {}", folder.name(url), status.as_u16());
    let busy = status.is_server_error() || matches!(status.as_u16(), 401 | 407 | 408 | 429);
    if busy { Sight::Unreachable(text) } else { Sight::NotWhole(text) }
}

fn unreachable(error: awc::error::SendRequestError) -> Sight {
    Sight::Unreachable(tls::explained(error.to_string()))
}

fn header_number(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// The total in `bytes 0-0/1234`.
fn range_total(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_RANGE)?.to_str().ok()?.rsplit_once('/')?.1.parse().ok()
}
