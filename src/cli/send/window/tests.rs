//! The window against answers of every kind, and against a service in small that reorders, refuses and forgets.
#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;

const NOW: Timestamp = Timestamp(1_000);

fn window(total: i64, stored: i64, chunk: i64, in_flight: usize) -> Window {
    Window::new(total, stored, Cut { chunk, in_flight }, Uuid::nil(), NOW)
}

/// All that the window sends at this moment.
fn sent(window: &mut Window, now: Timestamp) -> Vec<Chunk> {
    let step = || match window.step(now) {
        Step::Send(chunk) => Some(chunk),
        _ => None,
    };
    std::iter::from_fn(step).collect()
}

fn starts(chunks: &[Chunk]) -> Vec<i64> {
    chunks.iter().map(|chunk| chunk.start).collect()
}

fn nack(expected: Option<i64>, retryable: bool) -> Verdict {
    Verdict::Nack { reason: "no".into(), expected, retryable }
}

fn later(span: Duration) -> Timestamp {
    NOW.after(span)
}

#[test]
fn no_more_than_the_agreed_number_is_unanswered_and_the_last_chunk_is_short() {
    let mut window = window(25, 0, 10, 2);
    let first = sent(&mut window, NOW);
    assert_eq!(starts(&first), [0, 10]);
    window.answered(first[0].id, Verdict::Ack, NOW).unwrap();
    let last = sent(&mut window, NOW);
    assert_eq!((starts(&last), last[0].size), (vec![20], 5));
    window.answered(last[0].id, Verdict::Ack, NOW).unwrap();
    assert_eq!((window.stored(), window.step(NOW)), (25, Step::Done));
}

#[test]
fn a_file_that_is_stored_needs_nothing() {
    assert_eq!(window(10, 10, 4, 1).step(NOW), Step::Done);
}

#[test]
fn a_resumed_file_begins_where_it_stopped() {
    assert_eq!(starts(&sent(&mut window(30, 7, 10, 8), NOW)), [7, 17, 27]);
}

#[test]
fn after_a_lost_connection_all_that_is_unanswered_is_sent_again_under_its_id() {
    let mut window = window(100, 0, 10, 3);
    let before = sent(&mut window, NOW);
    window.answered(before[0].id, Verdict::Ack, NOW).unwrap();
    let more = sent(&mut window, NOW);
    window.lost(NOW);
    let again = sent(&mut window, NOW);
    assert_eq!(again, [before[1], before[2], more[0]]);
}

#[test]
fn an_expected_offset_above_the_chunk_moves_the_window_there() {
    let mut window = window(100, 0, 10, 2);
    let chunks = sent(&mut window, NOW);
    window.answered(chunks[0].id, nack(Some(25), false), NOW).unwrap();
    assert_eq!(window.stored(), 25);
    assert_eq!(starts(&sent(&mut window, NOW)), [25, 35]);
    window.answered(chunks[1].id, nack(Some(25), false), NOW).unwrap();
    assert_eq!(sent(&mut window, NOW), [], "an answer from before the move means nothing");
}

#[test]
fn an_expected_offset_on_a_border_keeps_what_is_under_way() {
    let mut window = window(100, 0, 10, 3);
    let chunks = sent(&mut window, NOW);
    window.answered(chunks[0].id, nack(Some(20), false), NOW).unwrap();
    assert_eq!(starts(&sent(&mut window, NOW)), [30, 40]);
    window.answered(chunks[2].id, Verdict::Ack, NOW).unwrap();
    assert_eq!(window.stored(), 30);
}

#[test]
fn a_chunk_that_may_be_taken_later_is_sent_later() {
    for answer in [nack(None, true), nack(Some(0), true), nack(Some(0), false)] {
        let mut window = window(100, 0, 10, 2);
        let chunks = sent(&mut window, NOW);
        window.answered(chunks[1].id, answer, NOW).unwrap();
        assert_eq!(window.step(NOW), Step::Wait(later(LATER.min)));
        assert_eq!(sent(&mut window, later(LATER.min)), [chunks[1]]);
    }
}

#[test]
fn a_final_refusal_ends_it_with_its_reason() {
    for answer in [nack(None, false), nack(Some(0), false), nack(Some(1_000), false)] {
        let mut window = window(100, 0, 10, 2);
        let chunks = sent(&mut window, NOW);
        assert_eq!(window.answered(chunks[0].id, answer, NOW), Err("no".to_owned()));
    }
}

#[test]
fn a_missing_answer_is_asked_for_once_more_and_then_given_up() {
    let mut window = window(10, 0, 10, 1);
    let chunk = sent(&mut window, NOW);
    assert_eq!(window.step(NOW), Step::Wait(later(SILENCE)));
    assert_eq!(sent(&mut window, later(SILENCE)), chunk);
    assert!(matches!(window.step(later(2 * SILENCE)), Step::GiveUp(reason) if reason.contains("byte 0")));
}

#[test]
fn refusals_without_end_end_with_the_last_reason() {
    let mut window = window(10, 0, 10, 1);
    let mut now = NOW;
    let reason = loop {
        match window.step(now) {
            Step::Send(chunk) => window.answered(chunk.id, nack(None, true), now).unwrap(),
            Step::Wait(until) => now = until,
            Step::GiveUp(reason) => break reason,
            other => panic!("{other:?}"),
        }
    };
    assert!(reason.ends_with("at last: no"), "{reason}");
    assert_eq!(now, later(PATIENCE));
}

#[test]
fn closed_it_waits_for_what_is_under_way_and_sends_nothing() {
    let mut window = window(100, 0, 10, 2);
    let chunks = sent(&mut window, NOW);
    window.close();
    window.answered(chunks[0].id, nack(None, true), NOW).unwrap();
    assert!(matches!(window.step(later(LATER.max)), Step::Wait(_)));
    window.answered(chunks[1].id, Verdict::Ack, NOW).unwrap();
    assert_eq!((window.step(NOW), window.stored()), (Step::Resting, 20));
}

/// What may become of the oldest message under way.
#[derive(Debug, Clone, Copy)]
enum Fate {
    Handled,
    AnswerLost,
    Late,
    Refused,
    Cut,
    ResumedByAnother(i64),
}

fn fate() -> impl Strategy<Value = Fate> {
    prop_oneof![
        6 => Just(Fate::Handled),
        1 => Just(Fate::AnswerLost),
        2 => Just(Fate::Late),
        1 => Just(Fate::Refused),
        1 => Just(Fate::Cut),
        1 => (1..40i64).prop_map(Fate::ResumedByAnother),
    ]
}

/// The service in small: stores what comes next, repeats its `ack` for what it knows, refuses the rest by offset.
#[derive(Default)]
struct Service {
    committed: i64,
    known: Vec<(i64, i64)>,
}

impl Service {
    fn take(&mut self, chunk: Chunk) -> Verdict {
        if self.known.contains(&(chunk.start, chunk.size)) {
            return Verdict::Ack;
        }
        if chunk.start != self.committed {
            return nack(Some(self.committed), chunk.start > self.committed);
        }
        self.committed += chunk.size;
        self.known.push((chunk.start, chunk.size));
        Verdict::Ack
    }
}

proptest! {
    #[test]
    fn whatever_happens_under_way_every_byte_arrives_once(
        total in 1..400i64,
        chunk in 1..50i64,
        in_flight in 1..9usize,
        fates in prop::collection::vec(fate(), 0..60),
    ) {
        let mut window = window(total, 0, chunk, in_flight);
        let mut service = Service::default();
        let mut under_way = VecDeque::new();
        let mut fates = fates.into_iter();
        let mut now = NOW;
        loop {
            match window.step(now) {
                Step::Done => break,
                Step::Send(piece) => under_way.push_back(piece),
                Step::Wait(until) if under_way.is_empty() => now = until,
                Step::Wait(_) => {
                    let piece = under_way.pop_front().unwrap();
                    match fates.next().unwrap_or(Fate::Handled) {
                        Fate::Handled => {
                            let answer = service.take(piece);
                            window.answered(piece.id, answer, now).unwrap();
                        }
                        // One silence is forgiven for each chunk; a second one ends the upload on purpose.
                        Fate::AnswerLost if window.pieces.iter().all(|piece| piece.silences == 0) => {
                            service.take(piece);
                        }
                        Fate::AnswerLost | Fate::Late => under_way.push_back(piece),
                        Fate::Refused => window.answered(piece.id, nack(None, true), now).unwrap(),
                        Fate::Cut => {
                            under_way.clear();
                            window.lost(now);
                        }
                        Fate::ResumedByAnother(bytes) => {
                            service.committed = (service.committed + bytes).min(total);
                            under_way.push_back(piece);
                        }
                    }
                }
                other => prop_assert!(false, "{:?} at {} of {}", other, window.stored(), total),
            }
            prop_assert!(window.stored() <= service.committed);
            prop_assert!(window.pieces.len() <= in_flight);
        }
        prop_assert_eq!(service.committed, total);
    }
}
