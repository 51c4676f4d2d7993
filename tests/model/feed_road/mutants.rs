//! Each safeguard taken out: the checker has to find what goes wrong.

use super::road::{LIVE, Road, SAFE};
use super::safeguards::Safeguard;
use crate::explore;

/// The rule that is broken, and words of how, where the world can say it.
fn found(safeguard: Safeguard, property: &'static str, how: &str) {
    let name = format!("feed road without {safeguard:?}");
    let world = explore::finds(&name, Road::new(1, Some(safeguard)), property);
    let broken = world.broken.unwrap_or_default();
    println!("{name}: {broken}");
    assert!(broken.contains(how), "{name}: expected {how:?}, found {broken:?}");
}

macro_rules! mutants {
    ($($test:ident: $safeguard:ident, $property:ident, $how:literal;)*) => {
        $(#[test]
        fn $test() {
            found(Safeguard::$safeguard, $property, $how);
        })*
    };
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
