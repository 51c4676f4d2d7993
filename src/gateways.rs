//! Speaking: one outside system, one file: its trait, its real client, its errors sorted into classes.

pub mod broker;
pub mod collector;
pub mod fflow;
pub mod holder;
pub mod route_store;
pub mod spool;
mod tls;
pub mod upload_store;
