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

#[test]
fn adhoc() {
    let faults: u8 = std::env::var("FAULTS").unwrap().parse().unwrap();
    let wanted = std::env::var("MUTANT").unwrap();
    use Safeguard::*;
    let all = [
        GuardEpoch,
        GuardOwner,
        GuardGeneration,
        GuardState,
        NumberClearsAddress,
        NumberClearsFed,
        NumberClearsFinish,
        SettledTakesFinishBack,
        PausedFeedsCompare,
        LeaseBeforeSpeaking,
        ReadAsksForTheOwner,
        FencedLeavesStray,
        ExpiryRaisesEpoch,
        ExpiryClearsOwner,
        IdleDropUnsettles,
        ClaimClearsSettled,
    ];
    let safeguard = all.into_iter().find(|one| format!("{one:?}") == wanted);
    let road = Road::new(faults, safeguard);
    use stateright::{Checker, HasDiscoveries, Model};
    let began = std::time::Instant::now();
    let checker = road
        .checker()
        .threads(1)
        .timeout(std::time::Duration::from_secs(std::env::var("LIMIT").unwrap().parse().unwrap()))
        .finish_when(HasDiscoveries::AnyFailures);
    let checker: Box<dyn Checker<Road>> = if std::env::var("DFS").is_ok() {
        Box::new(checker.spawn_dfs().join())
    } else {
        Box::new(checker.spawn_bfs().join())
    };
    println!(
        "{wanted} {faults}: {} states, depth {}, {:.1} s, done {}",
        checker.unique_state_count(),
        checker.max_depth(),
        began.elapsed().as_secs_f64(),
        checker.is_done()
    );
    for (name, path) in checker.discoveries() {
        let actions = path.clone().into_actions();
        let last = path.into_states().pop().unwrap();
        println!("  {name}: {:?}\n  {actions:?}", last.broken);
    }
}
