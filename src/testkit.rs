//! In-memory doubles of the gateways, for actor-level tests and the simulation.

pub mod memory_broker;
pub mod memory_cleaning;
pub mod memory_fflow;
pub mod memory_holder;
pub mod memory_routes;
pub mod memory_spool;
pub mod memory_store;
