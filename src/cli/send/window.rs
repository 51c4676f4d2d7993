//! Which chunk goes next: a window that moves over a file, decided from answers and the time alone.
//!
//! Chunks are cut in file order, a few of them unanswered at once. The service stores them in this order, so an `ack`
//! says that everything below it is stored as well; a lost answer of an earlier chunk needs no second asking.

use std::collections::VecDeque;
use std::time::Duration;

use uuid::Uuid;

use crate::domain::ids::Timestamp;
use crate::domain::retry::Backoff;
use crate::gateways::broker::Verdict;

/// An answer that is missing for so long is asked for once more, and then no more.
const SILENCE: Duration = Duration::from_secs(60);
/// Without progress for so long it is given up, whatever the answers are.
pub(super) const PATIENCE: Duration = Duration::from_secs(180);
/// Waits before a chunk that may be taken later is sent again.
const LATER: Backoff = Backoff { min: Duration::from_millis(200), max: Duration::from_secs(5) };

/// How a file is cut, and how many chunks may be unanswered.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cut {
    /// Bytes of a chunk; the last one may be shorter.
    pub chunk: i64,
    /// Chunks unanswered at once.
    pub in_flight: usize,
}

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// Send this chunk. It counts as sent.
    Send(Chunk),
    /// Nothing, until an answer comes or this moment.
    Wait(Timestamp),
    /// Everything is stored.
    Done,
    /// It was closed, and nothing is unanswered.
    Resting,
    /// It is of no use to go on.
    GiveUp(String),
}

/// A part of the file under the id of its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Chunk {
    pub id: Uuid,
    pub start: i64,
    pub size: i64,
}

/// The state of one upload, as far as sending is concerned.
#[derive(Debug)]
pub(super) struct Window {
    total: i64,
    cut: Cut,
    /// Every byte below is stored.
    stored: i64,
    /// Everything from here on is not cut yet.
    next: i64,
    /// What is cut and not known to be stored, in file order and without gaps.
    pieces: VecDeque<Piece>,
    last_id: u128,
    progress_at: Timestamp,
    trouble: Option<String>,
    closed: bool,
}

#[derive(Debug)]
struct Piece {
    chunk: Chunk,
    state: State,
    silences: u32,
    refusals: u32,
}

#[derive(Debug, Clone, Copy)]
enum State {
    Due(Timestamp),
    Sent(Timestamp),
}

impl Window {
    /// A file of `total` bytes of which `stored` are; the ids of its chunks count up from `ids`.
    pub fn new(total: i64, stored: i64, cut: Cut, ids: Uuid, now: Timestamp) -> Self {
        Window {
            total,
            cut,
            stored,
            next: stored,
            pieces: VecDeque::new(),
            last_id: ids.as_u128(),
            progress_at: now,
            trouble: None,
            closed: false,
        }
    }

    /// Bytes known to be stored.
    pub fn stored(&self) -> i64 {
        self.stored
    }

    /// No chunk is sent any more.
    pub fn close(&mut self) {
        self.closed = true;
    }

    /// What to do now.
    pub fn step(&mut self, now: Timestamp) -> Step {
        if self.stored == self.total {
            return Step::Done;
        }
        if let Some(reason) = self.hopeless(now) {
            return Step::GiveUp(reason);
        }
        if self.closed {
            return if self.unanswered() == 0 { Step::Resting } else { Step::Wait(self.wake()) };
        }
        let due = |piece: &&mut Piece| matches!(piece.state, State::Due(due) if due <= now);
        if let Some(piece) = self.pieces.iter_mut().find(due) {
            piece.state = State::Sent(now);
            return Step::Send(piece.chunk);
        }
        match self.cut_one(now) {
            Some(chunk) => Step::Send(chunk),
            None => Step::Wait(self.wake()),
        }
    }

    /// Takes an answer. An error is the reason why the upload cannot go on; an id of an earlier window means nothing.
    pub fn answered(&mut self, id: Uuid, answer: Verdict, now: Timestamp) -> Result<(), String> {
        let Some(chunk) = self.pieces.iter().map(|piece| piece.chunk).find(|chunk| chunk.id == id) else {
            return Ok(());
        };
        match answer {
            Verdict::Ack => self.reached(chunk.start + chunk.size, now),
            Verdict::Nack { reason, expected: Some(byte), .. }
                if byte > chunk.start && byte <= self.total =>
            {
                self.trouble = Some(reason);
                self.reached(byte, now);
            }
            Verdict::Nack { reason, expected: Some(byte), .. } if byte < chunk.start => {
                self.again_later(id, reason, now);
            }
            Verdict::Nack { reason, retryable: true, .. } => self.again_later(id, reason, now),
            Verdict::Nack { reason, .. } => return Err(reason),
        }
        Ok(())
    }

    /// The connection is gone, and every answer under way with it: all that is unanswered is due again.
    pub fn lost(&mut self, now: Timestamp) {
        for piece in &mut self.pieces {
            piece.state = State::Due(now);
        }
    }

    /// Everything below `byte` is stored. A chunk that begins below and ends above was cut elsewhere than the service
    /// expects: what follows is cut anew.
    fn reached(&mut self, byte: i64, now: Timestamp) {
        if byte <= self.stored {
            return;
        }
        self.stored = byte;
        self.progress_at = now;
        self.pieces.retain(|piece| piece.chunk.start + piece.chunk.size > byte);
        if self.pieces.front().is_none_or(|piece| piece.chunk.start != byte) {
            self.pieces.clear();
            self.next = byte;
        }
    }

    fn again_later(&mut self, id: Uuid, reason: String, now: Timestamp) {
        if let Some(piece) = self.pieces.iter_mut().find(|piece| piece.chunk.id == id) {
            piece.state = State::Due(now.after(LATER.wait(piece.refusals, 1.0)));
            piece.refusals += 1;
        }
        self.trouble = Some(reason);
    }

    /// Why it is of no use to go on; notes answers that are overdue.
    fn hopeless(&mut self, now: Timestamp) -> Option<String> {
        if self.progress_at.after(PATIENCE) <= now {
            let trouble = self.trouble.as_ref().map(|reason| format!(", at last: {reason}"));
            return Some(format!("no progress for {PATIENCE:?}{}", trouble.unwrap_or_default()));
        }
        for piece in &mut self.pieces {
            let State::Sent(since) = piece.state else { continue };
            if since.after(SILENCE) > now {
                continue;
            }
            if piece.silences > 0 {
                let start = piece.chunk.start;
                return Some(format!(
                    "no answer to the chunk at byte {start}, sent twice: does the service run?"
                ));
            }
            piece.silences += 1;
            piece.state = State::Due(now);
        }
        None
    }

    fn unanswered(&self) -> usize {
        self.pieces.iter().filter(|piece| matches!(piece.state, State::Sent(_))).count()
    }

    /// The next part of the file, if there is room for it.
    fn cut_one(&mut self, now: Timestamp) -> Option<Chunk> {
        if self.pieces.len() >= self.cut.in_flight || self.next >= self.total {
            return None;
        }
        self.last_id = self.last_id.wrapping_add(1);
        let size = self.cut.chunk.min(self.total - self.next);
        let chunk = Chunk { id: Uuid::from_u128(self.last_id), start: self.next, size };
        self.next += size;
        self.pieces.push_back(Piece { chunk, state: State::Sent(now), silences: 0, refusals: 0 });
        Some(chunk)
    }

    /// When something becomes due or overdue by itself.
    fn wake(&self) -> Timestamp {
        let moments = self.pieces.iter().filter_map(|piece| match piece.state {
            State::Due(due) => (!self.closed).then_some(due),
            State::Sent(since) => Some(since.after(SILENCE)),
        });
        moments.fold(self.progress_at.after(PATIENCE), Timestamp::min)
    }
}

#[cfg(test)]
mod tests;
