//! The refusals that no rule of `decide` makes: one place for every word a sender may read.

use super::{Refusal, RefusalKind};

impl Refusal {
    /// It is no chunk at all; `reason` says which header or size is wrong.
    pub fn malformed(reason: String) -> Self {
        Refusal { reason, expected: None, retryable: false, kind: RefusalKind::Malformed }
    }

    /// As many early chunks wait already as may.
    pub fn crowded() -> Self {
        let reason = "too many early chunks wait already, send them in order".to_owned();
        Refusal { reason, expected: None, retryable: true, kind: RefusalKind::Crowded }
    }

    /// PostgreSQL refuses this one chunk for a reason of its content.
    pub fn unrecordable() -> Self {
        let reason = "the chunk cannot be recorded".to_owned();
        Refusal { reason, expected: None, retryable: false, kind: RefusalKind::Inconsistent }
    }

    /// A dependency was away for the whole of the chunk's time.
    pub fn unavailable() -> Self {
        let reason = "temporarily unavailable".to_owned();
        Refusal { reason, expected: None, retryable: true, kind: RefusalKind::Unavailable }
    }
}
