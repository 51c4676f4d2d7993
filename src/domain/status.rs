//! Where sessions, videos and flows stand.

/// Where a session of ours stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SessionState {
    /// Bytes are still coming.
    Open,
    /// All bytes are stored; the feed finishes.
    Sealed,
    /// DISTRIBUTED. Final.
    Done,
    /// Removed. Final.
    Expired,
    /// Parked with a reason; only `retry` leaves it.
    Failed,
}

impl SessionState {
    /// As `uploader.session.state` stores it.
    pub fn as_str(self) -> &'static str {
        match self {
            SessionState::Open => "OPEN",
            SessionState::Sealed => "SEALED",
            SessionState::Done => "DONE",
            SessionState::Expired => "EXPIRED",
            SessionState::Failed => "FAILED",
        }
    }

    /// Reads what [`SessionState::as_str`] wrote.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Open, Self::Sealed, Self::Done, Self::Expired, Self::Failed]
            .into_iter()
            .find(|state| state.as_str() == text)
    }
}

/// Status of a row in `videos`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum VideoStatus {
    /// No chunk yet.
    Created,
    /// Some bytes of some flow are stored.
    Uploading,
    /// All flows play.
    Distributed,
    /// Given up, or withdrawn by somebody.
    Blocked,
}

/// Status of a row in `flows`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FlowStatus {
    /// No chunk yet.
    Created,
    /// Some bytes are stored.
    Uploading,
    /// All bytes are stored.
    Processing,
    /// It plays.
    Distributed,
    /// Given up.
    Hidden,
}
