//! The status of videos and flows, stored as upper-case strings.

#![allow(missing_docs)] // of what the derive macro adds

use sea_orm::entity::prelude::*;

/// How far a video is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EnumIter, DeriveActiveEnum)]
#[sea_orm(rs_type = "String", db_type = "String(StringLen::None)", rename_all = "SCREAMING_SNAKE_CASE")]
pub enum VideoStatus {
    /// Announced; no byte of it is stored.
    Created,
    /// Some bytes are stored.
    Uploading,
    /// All its flows are distributed.
    Distributed,
    /// It never will be.
    Blocked,
}

/// How far one file of a video is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EnumIter, DeriveActiveEnum)]
#[sea_orm(rs_type = "String", db_type = "String(StringLen::None)", rename_all = "SCREAMING_SNAKE_CASE")]
pub enum FlowStatus {
    /// Announced; no byte of it is stored.
    Created,
    /// Some bytes are stored.
    Uploading,
    /// All bytes are stored.
    Processing,
    /// Its streams are served.
    Distributed,
    /// They never will be.
    Hidden,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use sea_orm::{ActiveEnum, Iterable};

    use super::*;

    #[test]
    fn statuses_are_stored_in_upper_case() {
        let videos: Vec<_> = VideoStatus::iter().map(|status| status.to_value()).collect();
        assert_eq!(videos, ["CREATED", "UPLOADING", "DISTRIBUTED", "BLOCKED"]);
        let flows: Vec<_> = FlowStatus::iter().map(|status| status.to_value()).collect();
        assert_eq!(flows, ["CREATED", "UPLOADING", "PROCESSING", "DISTRIBUTED", "HIDDEN"]);
        assert_eq!(FlowStatus::try_from_value(&"HIDDEN".to_owned()).unwrap(), FlowStatus::Hidden);
        assert!(VideoStatus::try_from_value(&"created".to_owned()).is_err());
    }
}
