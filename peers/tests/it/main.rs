//! The neighbours, tried from outside.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod client;
mod fflow;
mod gateway;
mod holder;
mod process;
mod recording;
mod video;
