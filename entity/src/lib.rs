//! Rows of the tables that the whole video platform shares. They hold no behaviour.
//!
//! The entities are generated from a database, see `entity/generate.sh`; the enums of their status columns are written
//! by hand. Nothing here creates or changes a table.

pub mod flow;
pub mod status;
pub mod upload_session;
pub mod video;

pub use status::{FlowStatus, VideoStatus};
