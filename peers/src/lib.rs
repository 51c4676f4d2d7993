//! The neighbours of `uploader-v4` for one machine and for its tests; none of them is part of the product.
//!
//! - [`gateway`]: the upload API that clients use; publishes chunks and awaits their replies
//! - [`fflow`]: runs one real ffmpeg for each flow and ships what it writes
//! - [`holder`]: takes the files over FTP and serves them over HTTP
//! - [`recording`]: an in-process fflow for tests, which remembers what it was told and fails on demand

mod answer;
pub mod fflow;
pub mod gateway;
pub mod holder;
mod media;
pub mod recording;
pub mod telemetry;
