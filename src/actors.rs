//! Executing: one actor, one file. Each card says what the actor hears, tells, owns, and how it fails.

pub mod amqp_consumer;
pub mod chunk_validator;
pub mod fflow_forwarder;
pub mod fflow_router;
pub mod janitor_scheduler;
pub mod session_feed;
pub mod session_registry;
