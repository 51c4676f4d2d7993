//! fflow over HTTP: create, push, finish, delete. No redirects, no retries, bodies read up to a bound.

pub(crate) mod answer;
mod client;
#[cfg(test)]
mod tests;

use async_trait::async_trait;
use bytes::Bytes;

pub use self::client::AwcFflow;
use crate::domain::feed::Trouble;
use crate::domain::ids::FlowName;
use crate::domain::route::FlowUrl;

/// How a request to fflow ended when it was not a 2xx. What each one means is for the domain to say.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FflowError {
    /// The connection was refused or never opened: surely nothing was sent.
    #[error("not reached: {0}")]
    NotSent(String),
    /// An answer that is no 2xx, with the beginning of its body (or its `message`).
    #[error("answered {status}: {message}")]
    Status {
        /// HTTP status.
        status: u16,
        /// For the log and `last_error`; at most 300 characters.
        message: String,
    },
    /// No answer in time, a reset, or an answer that cannot be read: it may have been applied.
    #[error("no answer: {0}")]
    Unknown(String),
}

impl From<FflowError> for Trouble {
    fn from(error: FflowError) -> Self {
        match error {
            FflowError::NotSent(why) => Trouble::NotSent(why),
            FflowError::Status { status, message } => Trouble::Status(status, message),
            FflowError::Unknown(why) => Trouble::Unknown(why),
        }
    }
}

/// Speaks to the replicas of fflow.
///
/// Its futures are not `Send`: the HTTP client belongs to the arbiter that made it.
#[async_trait(?Send)]
pub trait Fflow {
    /// `POST <base>/<name>`; the address in the answer, unchecked.
    async fn create(&self, name: &FlowName) -> Result<String, FflowError>;
    /// `POST <flow>/push` with one block.
    async fn push(&self, flow: &FlowUrl, block: Bytes) -> Result<(), FflowError>;
    /// `POST <flow>/finish`; the files go to `saving_path` on holder.
    async fn finish(&self, flow: &FlowUrl, saving_path: &str) -> Result<(), FflowError>;
    /// `DELETE <flow>/delete`.
    async fn delete(&self, flow: &FlowUrl) -> Result<(), FflowError>;
}
