//! Each safeguard of a video's end, taken out: the model finds what it is there for. Where one alone is not missed,
//! because another one fences the same, both are shown: that nothing breaks without it, and what breaks without all.

use uploader_v4::domain::status::{FlowStatus, SessionState, VideoStatus};

use super::world::{Late, Part, State};
use super::{EndOfLife, RULES, Safeguard};
use crate::explore;

const LEFT: u8 = 2;

fn sealed() -> Part {
    Part::stored(SessionState::Sealed, 2, FlowStatus::Processing)
}

fn open() -> Part {
    Part::stored(SessionState::Open, 1, FlowStatus::Uploading).with(&[Late::Second])
}

fn failed(bytes: i64) -> Part {
    Part::stored(SessionState::Failed, bytes, FlowStatus::Hidden)
}

fn breaks(without: &'static [Safeguard], video: VideoStatus, parts: [Part; 2], words: &str) {
    let mutant = EndOfLife::new(vec![State::new(video, parts, LEFT)], without);
    let end: State = explore::finds(&format!("end of life without {without:?}"), mutant, RULES);
    let broken = end.broken.unwrap_or_default();
    assert!(broken.contains(words), "{broken}");
}

/// Nothing breaks without it: something else does the same.
fn is_not_missed(without: &'static [Safeguard], parts: [Part; 2]) {
    let left = if explore::wide() { LEFT } else { 1 };
    let mutant = EndOfLife::new(vec![State::new(VideoStatus::Uploading, parts, left)], without);
    explore::holds_without_examples(&format!("end of life without {without:?}"), mutant);
}

#[test]
fn two_flows_that_finish_at_once_leave_their_video_behind_unless_it_is_locked() {
    let both = [sealed(), sealed()];
    breaks(
        &[Safeguard::VideoIsLocked],
        VideoStatus::Uploading,
        both,
        "Uploading with [Distributed, Distributed]",
    );
}

#[test]
fn the_second_of_two_flows_does_not_see_the_first_unless_it_locks_before_it_reads() {
    let both = [sealed(), sealed()];
    breaks(
        &[Safeguard::LockedBeforeRead],
        VideoStatus::Uploading,
        both,
        "Uploading with [Distributed, Distributed]",
    );
}

#[test]
fn a_video_is_distributed_too_early_unless_it_waits_for_all_flows() {
    breaks(
        &[Safeguard::VideoWaitsForAllFlows],
        VideoStatus::Uploading,
        [sealed(), open()],
        "the video is Distributed",
    );
}

#[test]
fn a_former_owner_ends_the_session_unless_the_guard_names_the_epoch() {
    breaks(&[Safeguard::GuardNamesEpoch], VideoStatus::Uploading, [sealed(), sealed()], "a former owner");
}

#[test]
fn the_epoch_alone_tells_owners_apart() {
    is_not_missed(&[Safeguard::GuardNamesOwner], [sealed(), open()]);
}

#[test]
fn a_feed_ends_what_has_ended_only_if_epoch_owner_and_state_all_let_it() {
    is_not_missed(&[Safeguard::GuardNamesState], [open(), sealed()]);
    is_not_missed(&[Safeguard::ExpiryRaisesEpoch], [open(), sealed()]);
    is_not_missed(&[Safeguard::ExpiryClearsOwner], [open(), sealed()]);
    let all = &[Safeguard::GuardNamesState, Safeguard::ExpiryRaisesEpoch, Safeguard::ExpiryClearsOwner];
    breaks(all, VideoStatus::Uploading, [open(), Part::announced()], "a former owner");
}

#[test]
fn the_next_claim_raises_the_epoch_of_a_session_that_is_tried_again() {
    is_not_missed(&[Safeguard::RetryRaisesEpoch], [sealed(), open()]);
}

#[test]
fn a_session_that_never_began_comes_back_unless_every_upload_gets_a_tombstone() {
    let announced = Part::announced().with(&[Late::First]);
    breaks(
        &[Safeguard::EveryUploadGetsATombstone],
        VideoStatus::Uploading,
        [sealed(), announced],
        "came back",
    );
}

#[test]
fn a_finished_session_expires_unless_only_live_ones_do() {
    breaks(
        &[Safeguard::OnlyLiveOnesExpire],
        VideoStatus::Uploading,
        [sealed(), open()],
        "DONE became EXPIRED",
    );
}

#[test]
fn a_whole_upload_expires_unless_sealed_ones_are_left() {
    breaks(
        &[Safeguard::SealedOnesAreLeft],
        VideoStatus::Uploading,
        [sealed(), open()],
        "an upload that was whole",
    );
}

#[test]
fn a_video_is_deleted_under_its_uploads_unless_it_is_emptied_first() {
    breaks(&[Safeguard::EmptiedVideosOnly], VideoStatus::Uploading, [open(), open()], "that had uploads");
}

#[test]
fn what_is_final_is_tried_again_unless_it_must_have_failed() {
    breaks(
        &[Safeguard::RetryOnlyFailed],
        VideoStatus::Uploading,
        [sealed(), open()],
        "EXPIRED became SEALED",
    );
}

#[test]
fn half_a_file_is_sealed_unless_only_whole_ones_are_tried_again() {
    breaks(
        &[Safeguard::RetryOnlyWhole],
        VideoStatus::Blocked,
        [failed(1), sealed()],
        "SEALED with 1 of 2 bytes",
    );
}

#[test]
fn a_session_without_bytes_is_tried_again_unless_that_is_looked_at() {
    breaks(
        &[Safeguard::RetryNeedsBytes],
        VideoStatus::Blocked,
        [failed(2), sealed()],
        "the bytes of a live session",
    );
}

#[test]
fn bytes_go_under_a_session_that_is_tried_again_unless_that_is_written_first() {
    breaks(
        &[Safeguard::MarkBeforeBytesGo],
        VideoStatus::Blocked,
        [failed(2), sealed()],
        "the bytes of a live session",
    );
}

#[test]
fn nothing_is_left_to_try_again_unless_parking_keeps_the_bytes() {
    breaks(
        &[Safeguard::ParkKeepsBytes],
        VideoStatus::Uploading,
        [sealed(), sealed()],
        "the bytes of a live session",
    );
}

#[test]
fn a_client_polls_for_ever_unless_a_retry_minds_the_other_flow() {
    let both = [failed(2), failed(2)];
    breaks(&[Safeguard::RetryMindsOtherFlows], VideoStatus::Blocked, both, "the video is Uploading with");
}

#[test]
fn bytes_go_under_a_session_whose_completion_was_lost_unless_its_row_is_read_again() {
    breaks(
        &[Safeguard::UnknownIsReadAgain],
        VideoStatus::Uploading,
        [sealed(), sealed()],
        "the bytes of a live session",
    );
}
