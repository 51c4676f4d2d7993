//! Each safeguard of the chunk road, taken out: the model finds what it is there for.

use super::world::{Piece, Script, State};
use super::{ChunkRoad, END, RULES, Safeguard};
use crate::explore;

use Piece::{A, AB, B, Past, X, Y};

const FAULTS: u8 = 2;

fn mutant(without: Safeguard, total: i64, sent: &'static [Piece]) -> ChunkRoad {
    let proper = sent.iter().all(|piece| matches!(piece, A | B));
    ChunkRoad::new(vec![Script { total, sent, proper }], FAULTS, Some(without))
}

/// The mutant breaks a rule that has these words.
fn breaks(without: Safeguard, total: i64, sent: &'static [Piece], words: &str) {
    let end: State =
        explore::finds(&format!("chunk road without {without:?}"), mutant(without, total, sent), RULES);
    let broken = end.broken.unwrap_or_default();
    assert!(broken.contains(words), "{broken}");
}

/// The mutant does not come to its end.
fn gets_stuck(without: Safeguard, sent: &'static [Piece]) {
    explore::finds(&format!("chunk road without {without:?}"), mutant(without, 2, sent), END);
}

#[test]
fn a_redelivered_chunk_is_refused_unless_recent_ones_are_known() {
    breaks(Safeguard::RecentAnswersAtAll, 2, &[A], "is refused when it comes again");
}

#[test]
fn a_redelivered_chunk_of_an_ended_session_is_refused_unless_recent_is_asked_first() {
    breaks(Safeguard::RecentAnswersFirst, 2, &[AB], "is refused when it comes again");
}

#[test]
fn another_chunk_of_the_same_place_is_acked_unless_digests_are_compared() {
    breaks(Safeguard::RecentTellsDigests, 2, &[A, X], "is not stored");
}

#[test]
fn an_ended_session_takes_chunks_unless_its_state_counts() {
    breaks(Safeguard::StateCounts, 2, &[A, B], "EXPIRED became OPEN");
}

#[test]
fn a_removed_session_comes_back_unless_its_rows_must_be_there() {
    breaks(Safeguard::RowsMustBeThere, 2, &[A], "came back");
}

#[test]
fn a_blocked_video_takes_chunks_unless_its_status_counts() {
    breaks(Safeguard::VideoCounts, 2, &[A], "that nobody wants");
}

#[test]
fn a_hidden_flow_takes_chunks_unless_its_status_counts() {
    breaks(Safeguard::FlowCounts, 2, &[A], "that nobody wants");
}

#[test]
fn an_upload_of_another_uploader_is_joined_unless_uploaded_bytes_count() {
    breaks(Safeguard::UploadedBytesCount, 2, &[A], "another uploader");
}

#[test]
fn a_chunk_past_the_end_is_taken_unless_the_end_counts() {
    breaks(Safeguard::EndOfFileCounts, 2, &[A, Past], "past the end");
}

#[test]
fn bytes_are_stored_twice_or_with_a_gap_unless_only_the_next_byte_is_taken() {
    breaks(Safeguard::OnlyTheNextByte, 2, &[A, AB], "committed fell from 2 to 1");
}

#[test]
fn a_chunk_that_overtook_its_predecessor_is_refused_unless_it_steps_aside() {
    breaks(Safeguard::EarlyStepsAside, 2, &[A, B], "refused without a fault");
}

#[test]
fn an_early_chunk_without_predecessor_waits_for_ever_unless_its_time_ends() {
    gets_stuck(Safeguard::WaitingEnds, &[B]);
}

#[test]
fn more_is_reserved_than_there_is_unless_the_quota_counts() {
    breaks(Safeguard::QuotaCounts, 2, &[A], "beyond the quota");
}

#[test]
fn an_admitted_session_is_stopped_by_the_quota_unless_only_first_chunks_meet_it() {
    breaks(Safeguard::QuotaIsForTheFirst, 2, &[A, B], "an admitted session is stopped by the quota");
}

#[test]
fn committed_bytes_are_nowhere_unless_they_are_stored_first() {
    breaks(Safeguard::SpoolBeforeCommit, 2, &[A], "committed");
}

#[test]
fn a_chunk_is_taken_as_if_nothing_had_happened_unless_it_is_judged_again_on_locked_rows() {
    breaks(Safeguard::JudgedAgain, 2, &[A, X], "that nobody wants");
}

#[test]
fn one_chunk_is_committed_over_another_unless_rows_are_locked() {
    breaks(Safeguard::RowsAreLocked, 2, &[A, X], "is not stored");
}

#[test]
fn an_acked_chunk_is_lost_unless_it_is_committed_before() {
    breaks(Safeguard::CommitBeforeReply, 2, &[A], "is not stored");
}

#[test]
fn a_delivery_goes_unanswered_unless_the_reply_comes_before_the_ack() {
    gets_stuck(Safeguard::ReplyBeforeAck, &[A]);
}

#[test]
fn a_run_takes_in_bytes_of_nobody_unless_it_is_extended_only_at_its_end() {
    breaks(Safeguard::RunsEndAtRecordEnd, 2, &[A, Y, B], "stored");
}

#[test]
fn a_torn_record_is_read_unless_a_file_is_left_after_a_failed_append() {
    breaks(Safeguard::FailedFileIsLeft, 2, &[A], "committed");
}

#[test]
fn a_lost_commit_is_acked_unless_its_rows_are_read_again() {
    breaks(Safeguard::UnknownIsReadAgain, 2, &[A], "is not stored");
}

#[test]
fn another_delivery_goes_unanswered_unless_links_tell_deliveries_apart() {
    gets_stuck(Safeguard::LinksTellDeliveriesApart, &[A, B]);
}

#[test]
fn a_session_that_never_began_comes_back_unless_every_upload_gets_a_tombstone() {
    breaks(Safeguard::EveryUploadGetsATombstone, 2, &[A], "came back");
}

#[test]
fn a_redelivered_chunk_of_an_expired_session_is_refused_unless_its_tombstone_remembers() {
    breaks(Safeguard::TombstoneKeepsRecent, 2, &[A], "is refused when it comes again");
}
