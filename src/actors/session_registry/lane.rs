//! One session's chunks in this replica: the one on its way into the spool, and those that wait behind it.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;

use crate::domain::chunk::{Chunk, ChunkFacts};
use crate::domain::ids::{CorrelationId, Timestamp};
use crate::domain::session::{Admission, Next, Refusal, Session, Terms};
use crate::gateways::spool::Stored;
use crate::ticket::Ticket;

/// A chunk with the duty to answer it.
pub(super) struct Held {
    pub(super) facts: ChunkFacts,
    pub(super) arrived: Timestamp,
    pub(super) attempts: u32,
    /// Freed as soon as the bytes are durable.
    pub(super) body: Bytes,
    /// Set once they are.
    pub(super) stored: Option<Stored>,
    /// When that was.
    pub(super) stored_at: Timestamp,
    correlation: CorrelationId,
    ticket: Ticket,
    aside: bool,
    waited: Duration,
    looked: Timestamp,
}

impl Held {
    pub(super) fn new(chunk: Chunk, ticket: Ticket, now: Timestamp) -> Self {
        Held {
            facts: chunk.facts,
            arrived: now,
            attempts: 0,
            body: chunk.body,
            stored: None,
            stored_at: now,
            correlation: chunk.correlation,
            ticket,
            aside: false,
            waited: Duration::ZERO,
            looked: now,
        }
    }

    pub(super) fn accept(self) {
        self.ticket.accept(self.correlation);
    }

    pub(super) fn refuse(self, refusal: Refusal) {
        self.ticket.refuse(self.correlation, refusal);
    }

    pub(super) fn unavailable(self) {
        self.ticket.unavailable(self.correlation);
    }

    pub(super) fn span(&self) -> tracing::Span {
        self.ticket.span().clone()
    }
}

/// What an evaluation of a lane found to do.
pub(super) enum Found {
    /// Nothing can be stored now.
    Nothing,
    /// This chunk is on its way now; the caller stores it and then calls [`Lane::advanced`] or [`Lane::back`].
    Store(Box<Held>, Admission),
}

/// The limits of waiting, and how many chunks of all sessions wait.
pub(super) struct Room<'a> {
    pub(super) per_session: usize,
    pub(super) in_all: usize,
    pub(super) aside: &'a mut usize,
}

/// One session's chunks in this replica.
#[derive(Default)]
pub(super) struct Lane {
    queue: VecDeque<Held>,
    /// A chunk of this session is being stored or committed.
    pub(super) busy: bool,
    /// A look at this session is under way or asked for.
    pub(super) looking: bool,
}

impl Lane {
    pub(super) fn push(&mut self, held: Held) {
        self.queue.push_back(held);
    }

    /// Puts a chunk back that could not be stored or committed; it is the next to be looked at.
    pub(super) fn back(&mut self, held: Held, now: Timestamp) {
        self.idle_since(now);
        self.queue.push_front(held);
    }

    /// The chunk on its way is done: the time until now does not count as waiting for it.
    pub(super) fn idle_since(&mut self, now: Timestamp) {
        self.busy = false;
        self.queue.iter_mut().for_each(|held| held.looked = now);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty() && !self.busy
    }

    /// Whether anything here waits for a look that nobody has asked for.
    pub(super) fn wants_look(&self) -> bool {
        !self.queue.is_empty() && !self.busy && !self.looking
    }

    /// Takes out what has waited longer than `deadline` since it arrived.
    pub(super) fn overdue(&mut self, now: Timestamp, deadline: Duration, room: &mut Room<'_>) -> Vec<Held> {
        let (late, rest): (VecDeque<Held>, VecDeque<Held>) =
            self.queue.drain(..).partition(|held| held.arrived.until(now) >= deadline);
        self.queue = rest;
        *room.aside -= late.iter().filter(|held| held.aside).count();
        late.into()
    }

    /// Asks `decide` about the waiting chunks in file order, answers those that can be answered, and picks the one
    /// that can be stored now.
    pub(super) fn evaluate(
        &mut self,
        session: &Session,
        terms: Terms,
        now: Timestamp,
        room: &mut Room<'_>,
        decide: impl Fn(&Session, &ChunkFacts, &Terms) -> (Session, Next),
    ) -> Found {
        let mut waiting: Vec<Held> = self.queue.drain(..).collect();
        waiting.sort_by_key(|held| held.facts.start);
        let mut found = Found::Nothing;
        for mut held in waiting {
            if matches!(found, Found::Store(..)) {
                self.queue.push_back(held);
                continue;
            }
            held.wait_on(now, self.queue.is_empty());
            let (_, next) = decide(session, &held.facts, &Terms { waited: held.waited, ..terms });
            found = self.act(held, next, room);
        }
        self.busy = matches!(found, Found::Store(..));
        found
    }

    fn act(&mut self, mut held: Held, next: Next, room: &mut Room<'_>) -> Found {
        let was_aside = std::mem::take(&mut held.aside);
        *room.aside -= usize::from(was_aside);
        match next {
            Next::Repeat => held.accept(),
            Next::Refuse(refusal) => held.refuse(refusal),
            Next::StepAside => self.step_aside(held, room),
            Next::Accept(admission) => return Found::Store(Box::new(held), admission),
        }
        Found::Nothing
    }

    fn step_aside(&mut self, mut held: Held, room: &mut Room<'_>) {
        let here = self.queue.iter().filter(|held| held.aside).count();
        if here >= room.per_session || *room.aside >= room.in_all {
            return held.refuse(Refusal::crowded());
        }
        held.aside = true;
        *room.aside += 1;
        self.queue.push_back(held);
    }
}

impl Held {
    /// Time passes for an early chunk only while no predecessor of it is held here.
    fn wait_on(&mut self, now: Timestamp, no_predecessor: bool) {
        if self.aside && no_predecessor {
            self.waited += self.looked.until(now);
        }
        self.looked = now;
    }
}
