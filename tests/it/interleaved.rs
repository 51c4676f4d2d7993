//! Rules that live inside SQL: the real statements of two replicas, each on a connection of its own, cross at a chosen
//! point, and the outcome is right. In the same crossing a mutant, the statement without the rule, goes wrong: that is
//! what shows that the crossing matters and that the rule is what saves it.

mod batches;
mod cancelled;
mod claims;
mod cleaning;
mod completion;
mod consuming;
mod extensions;
mod guards;
mod owners;
mod questions;
mod quota;
mod runs;
mod stage;
mod unknown;
mod writer;
