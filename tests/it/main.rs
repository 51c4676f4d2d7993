//! The real service against real servers: one binary, a world of its own for each test.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

mod broker;
mod certificates;
mod chunk_road;
mod client;
mod farm;
mod faults;
mod feed_road;
mod hostile;
mod janitor;
mod real_video;
mod refusals;
mod rogue;
mod routes;
mod secrets;
mod tls;
mod world;
