//! From an admitted chunk to a committed one: spool, batch, transaction, answer.

use std::time::Duration;

use actix::prelude::*;
use bytes::Bytes;
use tracing::{Instrument, debug, warn};

use super::SessionRegistry;
use super::lane::Held;
use crate::clock;
use crate::domain::ids::SessionId;
use crate::domain::retry::Backoff;
use crate::domain::session::{self, Admission, Next, Refusal, Session};
use crate::domain::status::SessionState;
use crate::domain::trace::TraceParent;
use crate::fault::{Classified, Fault};
use crate::gateways::spool::{SpoolError, Stored};
use crate::gateways::upload_store::StoreError;
use crate::gateways::upload_store::chunks::{Outcome, Progress};
use crate::messages::SessionAdvanced;
use crate::metrics::{self, Stage};
use crate::readiness::{Dependency, Readiness, State};
use crate::trace;

/// Most chunks in one transaction: beyond it the statement's cost grows and the gain does not.
pub(super) const BATCH_MAX: usize = 512;
/// Waits after an append or a commit that must be done again. The patrol looks again too, so longer ones are vain.
const BACKOFF: Backoff = Backoff { min: Duration::from_millis(5), max: Duration::from_millis(100) };

impl SessionRegistry {
    /// Brings an admitted chunk into the spool; one that is durable already goes straight to the next batch.
    pub(super) fn store(&mut self, mut held: Held, admission: Admission, ctx: &mut Context<Self>) {
        if let Some(stored) = held.stored {
            held.stored = Some(Stored::new(admission, stored.place()));
            return self.gather(held, ctx);
        }
        let spool = self.parts.spool.clone();
        let body = std::mem::take(&mut held.body);
        let (span, began) = (held.span(), clock::now());
        let append = async move {
            let result = spool.append(admission, body.clone()).await;
            metrics::chunk_stage(Stage::Spool, began.until(clock::now()));
            (held, body, result)
        };
        let done = |(held, body, result), registry: &mut Self, ctx: &mut Context<Self>| {
            registry.appended(held, body, result, ctx);
        };
        self.appends.spawn(append.instrument(span), done, ctx);
    }

    fn appended(
        &mut self,
        mut held: Held,
        body: Bytes,
        result: Result<Stored, SpoolError>,
        ctx: &mut Context<Self>,
    ) {
        match result {
            Ok(stored) => {
                self.parts.readiness.set(Dependency::Spool, State::Up);
                held.stored = Some(stored);
                held.stored_at = clock::now();
                self.gather(held, ctx);
            }
            Err(error) => {
                // The board logs the change; a line for each of many held chunks would only bury it.
                debug!(%error, session.id = %held.facts.session, "chunk could not be spooled, trying again");
                let reason = match &error {
                    SpoolError::Full(why) => format!("{}: {why}", Readiness::FULL),
                    SpoolError::Io(_) | SpoolError::Damaged(_) | SpoolError::Foreign(_) => error.to_string(),
                };
                self.parts.readiness.set(Dependency::Spool, State::Down(reason));
                held.body = body;
                self.put_back(held, ctx);
            }
        }
    }

    fn gather(&mut self, held: Held, ctx: &mut Context<Self>) {
        if let Some(extension) = self.extension(&held) {
            self.to_extend.push_back((held, extension));
            return self.extend(ctx);
        }
        match self.to_commit.back_mut() {
            Some(batch) if batch.len() < BATCH_MAX => batch.push(held),
            Some(_) | None => self.to_commit.push_back(vec![held]),
        }
        self.commit(ctx);
    }

    /// One transaction at a time; whatever becomes durable meanwhile is the next batch.
    pub(super) fn commit(&mut self, ctx: &mut Context<Self>) {
        if self.committing {
            return;
        }
        let Some(batch) = self.to_commit.pop_front() else {
            return;
        };
        self.committing = true;
        let (store, parts) = (self.parts.store.clone(), self.parts.terms_of());
        let write = async move {
            let chunks: Vec<Stored> = batch.iter().filter_map(|held| held.stored).collect();
            let judge = |session: &Session, stored: &Stored, reserved: i64| {
                session::decide(session, &stored.facts(), &parts(reserved))
            };
            let result = store.commit(&chunks, &judge).await;
            (batch, result)
        };
        ctx.spawn(write.into_actor(self).map(|(batch, result), registry, ctx| {
            registry.committing = false;
            registry.committed(batch, result, ctx);
            registry.commit(ctx);
            registry.look(ctx);
        }));
    }

    pub(super) fn committed(
        &mut self,
        batch: Vec<Held>,
        result: Result<Vec<Outcome>, StoreError>,
        ctx: &mut Context<Self>,
    ) {
        match result {
            Ok(outcomes) => {
                tell(&batch, &outcomes);
                batch.into_iter().zip(outcomes).for_each(|(held, outcome)| self.conclude(held, outcome, ctx));
            }
            Err(error) if error.fault() == Fault::Transient => {
                warn!(%error, chunks = batch.len(), "batch could not be committed, looking again");
                batch.into_iter().for_each(|held| self.put_back(held, ctx));
            }
            Err(error) => self.halve(batch, &error),
        }
    }

    fn conclude(&mut self, held: Held, outcome: Outcome, ctx: &mut Context<Self>) {
        let id = held.facts.session;
        match outcome {
            Outcome::Committed(now) => {
                let trace = trace::of(&held.span());
                held.accept();
                self.report(id, &now, trace);
                self.go_on(id, Some(&now.session), ctx);
                self.known.put(id, now, clock::now());
            }
            Outcome::NotNow | Outcome::Other(Next::StepAside) | Outcome::Other(Next::Accept(_)) => {
                self.put_back(held, ctx);
            }
            Outcome::Other(Next::Repeat) => {
                self.known.forget(id);
                held.accept();
                self.go_on(id, None, ctx);
            }
            Outcome::Other(Next::Refuse(refusal)) => {
                self.known.forget(id);
                held.refuse(refusal);
                self.go_on(id, None, ctx);
            }
        }
    }

    fn report(&self, session: SessionId, now: &Progress, trace: Option<TraceParent>) {
        let Some(own) = &now.session.own else {
            return;
        };
        let sealed = own.state == SessionState::Sealed;
        let (committed, owner) = (own.committed, own.owner);
        let advanced = SessionAdvanced { session, committed, sealed, run: now.run, owner, trace };
        // Lost only while the forwarder is rebuilt; its sweep finds the session then.
        if self.parts.forwarder.connected() {
            metrics::posted("FflowForwarder");
        }
        self.parts.forwarder.do_send(advanced);
    }

    /// The chunk on its way is done: look at those behind it, on the rows as just committed if they are known.
    fn go_on(&mut self, id: SessionId, session: Option<&Session>, ctx: &mut Context<Self>) {
        let Some(lane) = self.lanes.get_mut(&id) else {
            return;
        };
        lane.idle_since(clock::now());
        if lane.is_empty() {
            self.lanes.remove(&id);
            return;
        }
        match session {
            Some(session) => self.evaluate(id, session, 0, ctx),
            None => self.ask_look(id),
        }
    }

    /// The chunk stays; after a pause its session is looked at again.
    fn put_back(&mut self, mut held: Held, ctx: &mut Context<Self>) {
        let id = held.facts.session;
        self.known.forget(id);
        let pause = BACKOFF.wait(held.attempts, fastrand::f64());
        held.attempts += 1;
        self.lanes.entry(id).or_default().back(held, clock::now());
        ctx.run_later(pause, move |registry, ctx| {
            registry.ask_look(id);
            registry.look(ctx);
        });
    }

    /// Refused for a reason of its content: halve until the culprit is alone, and answer only that one.
    fn halve(&mut self, mut batch: Vec<Held>, error: &StoreError) {
        if batch.len() > 1 {
            let second = batch.split_off(batch.len() / 2);
            self.to_commit.push_front(second);
            self.to_commit.push_front(batch);
            return;
        }
        for held in batch {
            let id = held.facts.session;
            tracing::error!(%error, session.id = %id, "the database refuses this chunk");
            held.refuse(Refusal::unrecordable());
            if let Some(lane) = self.lanes.get_mut(&id) {
                lane.idle_since(clock::now());
            }
            self.ask_look(id);
        }
    }
}

/// A batch as the metrics see it.
fn tell(batch: &[Held], outcomes: &[Outcome]) {
    let (now, mut bytes) = (clock::now(), 0);
    for (held, outcome) in batch.iter().zip(outcomes) {
        if matches!(outcome, Outcome::Committed(_)) {
            bytes += u64::from(held.facts.size);
            metrics::chunk_stage(Stage::Commit, held.stored_at.until(now));
        }
    }
    metrics::batch_committed(batch.len(), bytes);
}
