//! The promises, checked in every state that small worlds can reach.
//!
//! Each model is a world around the real `decide`: what it returns is data, which the actors carry out in production and
//! the model carries out here, with each of two replicas, the broker, PostgreSQL and the spool moving in any order and
//! with faults between any two steps. A *mutant* is a model with one safeguard taken out; it has to be found.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

mod chunk_road;
mod end_of_life;
mod explore;
mod feed_road;
