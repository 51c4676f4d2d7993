//! What breaks while uploads are under way, what their clients see of it, and how long it takes until all is well.
//!
//! The real program against real servers. By default the outages are short and the uploads few; `FIRE=full` makes them
//! as long and as many as docs/RELIABILITY.md tells of (`make fire`). What is asserted is the same. Each test prints one
//! line that begins with `FIRE`.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

mod broker_alarm;
mod browsers;
#[allow(dead_code, reason = "shared with tests/it")]
#[path = "../it/client.rs"]
mod client;
mod database_away;
mod frozen;
mod ftp_down;
mod outcome;
mod poisoned;
mod replay_caps;
mod size;
mod sudden_death;
#[allow(dead_code, reason = "shared with tests/it")]
#[path = "../it/world.rs"]
mod world;
