//! Deciding: pure functions over state, event and time. No I/O, clock, chance, log or actor.
//!
//! Read in this order: [`ids`], [`chunk`] (what came), [`session`] (what becomes of it), [`feed`] (how its
//! bytes reach ffmpeg), [`route`] (which addresses count), [`retry`] (when to try again), [`pace`] (how much at once),
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
pub mod session;
pub mod status;
pub mod trace;
