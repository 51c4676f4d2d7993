//! In-memory doubles of the gateways, for actor-level tests and the simulation; and what is fuzzed.

pub mod fuzz;
pub mod memory_broker;
pub mod memory_cleaning;
pub mod memory_fflow;
pub mod memory_holder;
pub mod memory_routes;
pub mod memory_spool;
pub mod memory_store;
pub mod weather;
