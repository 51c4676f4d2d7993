//! A video from the browser's side: made or taken, uploaded chunk by chunk, and looked at as a player does.

mod atoms;
mod check;
mod upload;
mod video;

pub(crate) use self::check::{Durations, check};
pub(crate) use self::upload::{Flow, Upload};
pub(crate) use self::video::Video;
