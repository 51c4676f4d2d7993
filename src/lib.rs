//! `uploader-v4` takes each chunk of a video upload from AMQP, makes it durable, answers it, and feeds the bytes, in
//! order and each once, to the one fflow replica that runs this upload's ffmpeg.
//!
//! Read it in the order of the roads: [`messages`] are what the actors say to each other, [`domain`] decides,
//! [`actors`] execute, [`gateways`] speak to the outside; [`app`] puts them together.

pub mod actors;
pub mod allocator;
pub mod app;
pub mod cli;
pub mod clock;
pub mod config;
pub mod domain;
pub mod fault;
pub mod gateways;
pub mod http;
pub mod lease;
pub mod messages;
pub mod metrics;
pub mod moderation;
pub mod readiness;
pub mod supervision;
mod tasks;
pub mod telemetry;
#[doc(hidden)]
pub mod testkit;
pub mod ticket;
pub mod trace;
