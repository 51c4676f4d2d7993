//! The feed road: from a claim to DONE, FAILED or EXPIRED, whatever dies, pauses, is lost or comes late.
//!
//! `domain::feed::decide` is the one that runs in production; the steps that it returns are carried out here against a
//! row, Redis, a farm and a network of the model's own. What may never be seen is said in `domain::invariants`.
//!
//! Two replicas, one session of two blocks of which the second is stored at any moment, and at most so many faults as
//! the bounds say, of any kind at any step (`actions::Action::is_fault`). What waits may go on at once, and a deadline
//! is over whenever that is possible at all; one assumption about time is made (`Road::grace_may_end`). Strikes are
//! bounded at two. Not in it: the pace of pushes, damaged bytes, a farm without a holder address.

mod actions;
mod calm;
mod feeds;
mod happening;
mod mutants;
mod network;
mod replicas;
mod road;
mod safeguards;
mod store;
mod world;

use self::road::Road;
use crate::explore;

/// Faults of one run: any one, or any two.
fn faults() -> u8 {
    if explore::wide() { 2 } else { 1 }
}

#[test]
fn whatever_happens_no_rule_is_broken_and_once_faults_stop_every_upload_ends() {
    let faults = faults();
    explore::holds(&format!("feed road, {faults} faults"), Road::new(faults, None));
}

#[test]
fn without_faults_an_upload_is_done() {
    explore::holds_without_examples("feed road, no faults", Road::new(0, None));
}
