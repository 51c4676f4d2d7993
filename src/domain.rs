//! Deciding: pure functions over state, event and time. No I/O, clock, chance, log or actor.
//!
//! Read in this order: [`ids`], [`chunk`] (what came), [`session`] (what becomes of it), [`run`] (where its bytes
//! lie), [`feed`] (how they reach ffmpeg), [`route`] (which addresses count), [`retry`] (when to try again), [`pace`] (how much at once),
//! [`intervention`] (what an operator may do), [`invariants`].

pub mod chunk;
pub mod feed;
pub mod ids;
pub mod intervention;
pub mod invariants;
pub mod pace;
pub mod recent;
pub mod retry;
pub mod route;
pub mod run;
pub mod session;
pub mod status;
pub mod trace;
