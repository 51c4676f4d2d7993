//! Each safeguard taken out: the checker has to find what goes wrong.

use super::actions::Action::{self, *};
use super::faults;
use super::network::Back::Heard;
use super::road::{LIVE, Road, SAFE};
use super::safeguards::Safeguard;
use crate::explore;

/// The rule that is broken, and words of how, where the world can say it. A mutant that takes two faults to be seen is
/// looked at from the end of a `story` on that has the first one in it.
fn found(safeguard: Safeguard, story: &[Action], property: &'static str, how: &str) {
    let name = format!("feed road without {safeguard:?}");
    let world = explore::finds(&name, Road::after(story, 1, Some(safeguard)), property);
    let broken = world.broken.unwrap_or_default();
    println!("{name}: {broken}");
    assert!(broken.contains(how), "{name}: expected {how:?}, found {broken:?}");
}

macro_rules! mutants {
    ($($test:ident: $safeguard:ident, $property:ident, $how:literal;)*) => {
        $(#[test]
        fn $test() {
            found(Safeguard::$safeguard, &[], $property, $how);
        })*
    };
}

/// Nothing breaks without this one alone: another one stands behind it.
fn second_fence(safeguard: Safeguard) {
    second_fence_under(faults(), safeguard);
}

fn second_fence_under(faults: u8, safeguard: Safeguard) {
    let name = format!("feed road without {safeguard:?}, {faults} faults");
    explore::holds_without_examples(&name, Road::new(faults, Some(safeguard)));
}

mutants! {
    a_claim_that_leaves_settled_standing_feeds_bytes_twice: ClaimClearsSettled, SAFE, "";
    an_address_of_another_generation_is_a_strangers_process: AddressOfThisGeneration, SAFE, "";
    a_name_posted_twice_is_seen: NameOnce, SAFE, "created twice";
    a_name_posted_before_its_generation_is_written_is_seen: NumberBeforeCreate, SAFE, "";
    an_old_name_that_is_no_stray_runs_on: NumberLeavesStray, LIVE, "";
    a_marked_finish_that_is_not_watched_first_ships_twice: WatchFirst, SAFE, "";
    a_finish_sent_before_it_is_marked_ships_twice: MarkBeforeFinish, SAFE, "";
    an_unknown_finish_that_is_thrown_away_ships_twice: UnknownFinishIsWatched, SAFE, "";
    an_unknown_finish_that_is_sent_again_ships_twice: UnknownFinishIsNotRepeated, SAFE, "";
    a_process_that_is_out_of_reach_and_not_watched_ships_twice: GraceAfterDelete, SAFE, "";
    a_strike_without_evidence_is_seen: StrikeNeedsEvidence, SAFE, "without evidence";
    settled_with_something_in_doubt_feeds_bytes_twice: SettledWithoutDoubt, SAFE, "";
    settled_without_an_address_is_seen: SettledWithAddress, SAFE, "";
    a_release_that_is_not_the_last_act_feeds_bytes_twice: ReleaseIsLast, SAFE, "";
    a_session_that_is_mine_and_that_no_feed_serves_is_stuck: MineWithoutFeed, LIVE, "";
    a_session_of_a_dead_owner_is_stuck: DeadOwnersAreReplaced, LIVE, "";
    a_write_of_unknown_outcome_that_is_believed_is_seen: UnknownWriteIsRead, SAFE, "";
    a_failed_session_whose_process_is_no_stray_leaves_it_running: ParkLeavesStray, LIVE, "";
    an_expired_session_whose_process_is_no_stray_leaves_it_running: ExpiryLeavesStray, LIVE, "";
}

#[test]
fn a_write_that_counts_under_another_epoch_is_seen() {
    let story = [Claim(0), Panic(0)];
    found(Safeguard::GuardEpoch, &story, SAFE, "it was not handed over");
}

#[test]
fn a_write_that_counts_for_another_generation_creates_a_name_twice() {
    let story = [Claim(0), Store, GiveUp(0), ReadAgain(0), Arrive(1, Heard)];
    found(Safeguard::GuardGeneration, &story, SAFE, "created twice");
}

#[test]
fn an_idle_process_that_is_dropped_and_stays_settled_is_struck_for_it() {
    let story = [Claim(0), Leave(0)];
    found(Safeguard::IdleDropUnsettles, &story, SAFE, "has not failed");
}

#[test]
fn a_paused_feed_that_does_not_compare_its_row_ships_beside_the_next_owner() {
    let story =
        [Store, Claim(0), Arrive(0, Heard), Arrive(0, Heard), Arrive(0, Heard), Arrive(0, Heard), Lapse(0)];
    found(Safeguard::PausedFeedsCompare, &story, SAFE, "ships while another process ships");
}

macro_rules! second_fences {
    ($($(#[$why:meta])* $test:ident: $safeguard:ident;)*) => {
        $($(#[$why])*
        #[test]
        fn $test() {
            second_fence(Safeguard::$safeguard);
        })*
    };
}

second_fences! {
    /// An address counts only if it ends in the name of the current generation, which the row's old one does not.
    an_old_address_that_is_left_in_the_row_is_not_counted: NumberClearsAddress;
    /// What was fed counts only of a settled session, and a new generation is not settled.
    what_an_old_generation_was_fed_is_not_counted: NumberClearsFed;
    /// An old mark has the next owner watch for files that do not come: it loses time, and nothing else.
    an_old_mark_of_a_finish_costs_nothing_but_time: NumberClearsFinish;
    /// The next generation, or the session's end, leaves that name as a stray as well.
    the_process_of_a_fenced_create_is_found_by_whoever_comes_next: FencedLeavesStray;
    /// A request may arrive long after its sender lost its lease, however careful that one was when it was sent. Asking for
    /// the lease saves work in vain; that nothing breaks rests on names, epochs and marks.
    what_is_said_without_a_lease_breaks_nothing: LeaseBeforeSpeaking;
    /// Only a claim gives a session an owner, and each raises the epoch.
    the_owner_in_the_guard_says_what_the_epoch_says: GuardOwner;
    /// Whatever ends a session takes its owner away.
    the_state_in_the_guard_says_what_the_owner_says: GuardState;
}

/// As long as the other one is there.
#[test]
fn an_expiry_fences_twice() {
    second_fence_under(1, Safeguard::ExpiryRaisesEpoch);
    second_fence_under(1, Safeguard::ExpiryClearsOwner);
}

/// A mark that is left has the next owner watch for files that do not come.
#[test]
fn a_finish_that_is_not_taken_back_costs_nothing_but_time() {
    second_fence_under(1, Safeguard::SettledTakesFinishBack);
}

/// What is written again is guarded as it was the first time.
#[test]
fn a_read_that_does_not_ask_for_the_owner_is_followed_by_a_guarded_write() {
    second_fence_under(1, Safeguard::ReadAsksForTheOwner);
}
