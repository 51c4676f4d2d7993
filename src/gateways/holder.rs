//! holder over HTTP: are the files of a flow there, whole?

mod client;
pub(crate) mod dash;
pub(crate) mod hls;
pub(crate) mod place;
#[cfg(test)]
mod tests;

use async_trait::async_trait;

pub use self::client::AwcHolder;
use crate::domain::ids::{FlowId, VideoId};

/// What a look at holder showed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sight {
    /// Both manifests are final and every file they refer to is there with a length above 0.
    /// The fingerprint (names and lengths) tells whether two looks saw the same.
    Whole {
        /// XXH3-64 over the manifests' bytes and all names and lengths.
        fingerprint: u64,
    },
    /// Something is missing or not final yet; says what.
    NotWhole(String),
    /// holder did not answer; says why. Nothing is known.
    Unreachable(String),
}

/// Looks at published files.
#[async_trait(?Send)]
pub trait Holder {
    /// Reads both manifests of a flow and asks for the length of each file they refer to. Bounded in time, in
    /// body size and in the number of files.
    async fn look(&self, video: VideoId, flow: FlowId) -> Sight;
}
