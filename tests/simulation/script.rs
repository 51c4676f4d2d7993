//! What a world is made of, and what came of it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use uploader_v4::domain::ids::{SessionId, VideoId};
use uploader_v4::testkit::memory_store::Lie;

use super::chance::{Bug, Chance, Event};

/// How a client uploads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// One chunk after another.
    Plain,
    /// Some chunks before their predecessors.
    Eager,
    /// Some chunks twice.
    Doubling,
}

/// One file.
pub struct Upload {
    pub session: SessionId,
    pub video: VideoId,
    pub file: Vec<u8>,
    pub manner: Manner,
    /// Its client waits up to so many milliseconds before each chunk.
    pub pace: u64,
    /// Where its client has had enough: the end, or earlier.
    pub stop_at: usize,
    /// Its client begins within so many milliseconds.
    pub begin_within: u64,
}

/// What a world is made of.
#[derive(Debug, Clone, Default)]
pub struct Script {
    pub seed: u64,
    /// 0 leaves it to chance.
    pub replicas: usize,
    /// Faults and a nemesis; without them everything is fair.
    pub storm: bool,
    pub bugs: Vec<Bug>,
    /// The world lasts as long, even if all is quiet.
    pub least: Duration,
    pub lie: Option<Untruth>,
}

/// A double that does not do what it says.
#[derive(Debug, Clone, Copy)]
pub enum Untruth {
    /// The spool changes a byte.
    Spool,
    /// The database.
    Store(Lie),
}

/// What came of it.
#[derive(Debug, Default)]
pub struct Played {
    pub violation: Option<String>,
    pub trace: Vec<Event>,
    /// Sessions by their ends.
    pub ends: BTreeMap<&'static str, usize>,
    pub faults: usize,
    pub bitten: usize,
    pub bytes: usize,
    /// ffmpeg processes begun.
    pub processes: usize,
    /// Why replicas ended that were not asked to.
    pub given_up: Vec<String>,
    pub ended_at: u64,
}

/// Some files of some videos.
pub fn uploads(chance: &Arc<Chance>, storm: bool) -> Vec<Upload> {
    let videos: Vec<VideoId> = (0..1 + chance.below(3)).map(|_| VideoId(chance.uuid())).collect();
    let mut uploads = Vec::new();
    let poisoned = if storm && chance.one_in(4) { Some(chance.below(3)) } else { None };
    for number in 0..2 + chance.below(5) {
        let file = chance.bytes(300 + chance.below(3_500));
        let manner = [Manner::Plain, Manner::Eager, Manner::Doubling][chance.below(3)];
        let stop_at = if storm && chance.one_in(9) { chance.below(file.len()) } else { file.len() };
        let session = SessionId(chance.uuid());
        // Two that fail for their own sake would look like an outage to each other.
        if poisoned == Some(number) {
            chance.poison(&session.to_string());
        }
        let video = videos[chance.below(videos.len())];
        let (begin_within, pace) = if storm { (8_000, [20, 300, 900][chance.below(3)]) } else { (500, 20) };
        uploads.push(Upload { session, video, file, manner, stop_at, begin_within, pace });
    }
    uploads
}
