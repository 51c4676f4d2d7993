//! The contracts that are files are the ones that the service keeps: their examples are its test cases.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

mod chunks;
mod document;
mod fflow;
mod health;
mod replies;
mod situations;
