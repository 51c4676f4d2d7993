//! The real service against real servers: one binary, a world of its own for each test.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

mod broker;
mod certificates;
mod chunk_road;
mod client;
mod farm;
mod faults;
mod feed_road;
mod hand_over;
mod hostile;
mod janitor;
mod janitor_load;
mod leaving;
mod metrics;
mod operator;
mod real_video;
mod refusals;
mod rogue;
mod routes;
mod secrets;
mod send;
mod sessions;
mod strange_rows;
mod tls;
mod traces;
mod upgrade;
mod world;
