//! Stores chunks into their sessions and remembers how far each upload has come.
//!
//! Hears    AdmitChunk (ChunkValidator), ExpireSessions (JanitorScheduler), Ping and Retire (supervision)
//! Tells    SessionAdvanced to FflowForwarder; everything else goes through the ticket
//! Owns     the right to change how far a session is and to end it for want of use; the truth is in PostgreSQL, and what is
//!          remembered of it here only saves looks
//! Decides  nothing itself, see `domain::session`
//! Fails    a batch that PostgreSQL could not run is looked at again with backoff until the chunks' deadline; one that
//!          it refuses is halved until the culprit is alone; restarted, it drops its tickets and starts clean

mod commit;
mod expiry;
mod extend;
mod known;
mod lane;
mod volume;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use tracing::{error, warn};

use self::known::Known;
use self::lane::{Found, Held, Lane, Room};
use crate::clock;
use crate::config::ChunkConfig;
use crate::domain::ids::{SessionId, Timestamp};
use crate::domain::session::{self, Session, Terms};
use crate::gateways::spool::Spool;
use crate::gateways::upload_store::StoreError;
use crate::gateways::upload_store::chunks::{ChunkStore, Extension, Look, Progress};
use crate::gateways::upload_store::cleaning::CleaningStore;
use crate::messages::{AdmitChunk, ExpireSessions, Expiry, Ping, Retire, SessionAdvanced};
use crate::metrics;
use crate::readiness::Readiness;
use crate::tasks::Tasks;

/// What the registry is built from.
pub struct RegistryParts {
    /// The truth.
    pub store: Arc<dyn ChunkStore>,
    /// The same truth, for ending what is abandoned.
    pub cleaning: Arc<dyn CleaningStore>,
    /// The bytes.
    pub spool: Arc<dyn Spool>,
    /// Who hears of progress.
    pub forwarder: Recipient<SessionAdvanced>,
    /// Limits and waits.
    pub config: ChunkConfig,
    /// Silence after which an upload is abandoned.
    pub video_ttl: Duration,
    /// Bytes that all sessions together may reserve in the spool.
    pub quota_bytes: i64,
    /// Early chunks of all sessions that may wait: a quarter of the prefetch.
    pub early_chunks: usize,
    /// Where trouble is written.
    pub readiness: Readiness,
}

/// The registry of sessions; see the card above.
pub struct SessionRegistry {
    parts: RegistryParts,
    lanes: BTreeMap<SessionId, Lane>,
    known: Known,
    /// Whose waiting chunks need a look.
    to_look: Vec<SessionId>,
    looking: bool,
    failed_looks: u32,
    /// Durable chunks that only extend their sessions, as these were seen.
    to_extend: VecDeque<(Held, Extension)>,
    extending: bool,
    /// The next statement waits for more of them; it has waited long enough.
    gathering: bool,
    gathered: bool,
    /// Any other durable chunks that wait for a transaction, in batches that must stay apart.
    to_commit: VecDeque<Vec<Held>>,
    committing: bool,
    appends: Tasks<Self>,
    aside: usize,
    probed: Timestamp,
    retired: bool,
}

impl SessionRegistry {
    /// A registry that holds nothing yet.
    pub fn new(parts: RegistryParts) -> Self {
        SessionRegistry {
            known: Known::new(parts.video_ttl),
            parts,
            lanes: BTreeMap::new(),
            to_look: Vec::new(),
            looking: false,
            failed_looks: 0,
            to_extend: VecDeque::new(),
            extending: false,
            gathering: false,
            gathered: false,
            to_commit: VecDeque::new(),
            committing: false,
            appends: Tasks::default(),
            aside: 0,
            probed: Timestamp::default(),
            retired: false,
        }
    }
}

impl Actor for SessionRegistry {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        if self.retired {
            return;
        }
        metrics::mailbox_new("SessionRegistry");
        ctx.run_interval(self.parts.config.reorder_poll, |registry, ctx| registry.patrol(ctx));
    }
}

impl Supervised for SessionRegistry {
    /// What was in flight died with the old context: its tickets go back to the broker.
    fn restarting(&mut self, _: &mut Self::Context) {
        self.lanes.clear();
        self.known = Known::new(self.parts.video_ttl);
        self.to_look.clear();
        self.to_extend.clear();
        self.to_commit.clear();
        self.appends = Tasks::default();
        (self.looking, self.extending, self.committing) = (false, false, false);
        (self.gathering, self.gathered) = (false, false);
        (self.aside, self.failed_looks) = (0, 0);
    }
}

impl Handler<AdmitChunk> for SessionRegistry {
    type Result = ();

    fn handle(&mut self, message: AdmitChunk, ctx: &mut Self::Context) {
        metrics::taken_up("SessionRegistry");
        let id = message.chunk.facts.session;
        let next = self.known_to_be_next(&message.chunk.facts);
        let lane = self.lanes.entry(id).or_default();
        let alone = lane.is_empty() && !lane.looking;
        lane.push(Held::new(message.chunk, message.ticket, clock::now()));
        match next.filter(|_| alone) {
            Some(known) => self.evaluate(id, &known.session, 0, ctx),
            None => {
                self.ask_look(id);
                self.look(ctx);
            }
        }
    }
}

impl Handler<ExpireSessions> for SessionRegistry {
    type Result = ResponseFuture<Expiry>;

    /// Chunks on their way need no word of it: their commit is judged on locked rows.
    fn handle(&mut self, asked: ExpireSessions, _: &mut Self::Context) -> Self::Result {
        Box::pin(expiry::expire(self.parts.cleaning.clone(), asked))
    }
}

impl Handler<Retire> for SessionRegistry {
    type Result = ();

    fn handle(&mut self, _: Retire, ctx: &mut Self::Context) {
        self.retired = true;
        ctx.stop();
    }
}

impl Handler<Ping> for SessionRegistry {
    type Result = ();

    fn handle(&mut self, _: Ping, _: &mut Self::Context) {}
}

impl SessionRegistry {
    fn ask_look(&mut self, id: SessionId) {
        if let Some(lane) = self.lanes.get_mut(&id).filter(|lane| lane.wants_look()) {
            lane.looking = true;
            self.to_look.push(id);
        }
    }

    /// One read for all sessions that wait for a look; the next one gathers meanwhile.
    fn look(&mut self, ctx: &mut Context<Self>) {
        if self.looking || self.to_look.is_empty() {
            return;
        }
        self.looking = true;
        let ids = std::mem::take(&mut self.to_look);
        let store = self.parts.store.clone();
        let read = async move {
            let result = store.look(&ids).await;
            (ids, result)
        };
        ctx.spawn(
            read.into_actor(self).map(|(ids, result), registry, ctx| registry.looked(ids, result, ctx)),
        );
    }

    fn looked(&mut self, ids: Vec<SessionId>, result: Result<Look, StoreError>, ctx: &mut Context<Self>) {
        self.looking = false;
        self.failed_looks = if result.is_ok() { 0 } else { self.failed_looks + 1 };
        for id in &ids {
            self.lanes.entry(*id).and_modify(|lane| lane.looking = false);
        }
        match result {
            Ok(mut look) => ids.iter().for_each(|id| {
                let session = look.sessions.remove(id).unwrap_or_default();
                if let Some(what) = &session.unreadable {
                    error!(session.id = %id, what, "rows that cannot be read, their chunks are refused");
                }
                self.evaluate(*id, &session, look.reserved, ctx);
                let run = look.last_runs.remove(id);
                self.known.saw(*id, Progress { session, run, supposed: false }, clock::now());
            }),
            // The patrol asks again; a long outage is told at its 1st, 2nd, 4th, 8th .. failure.
            Err(error) if self.failed_looks.is_power_of_two() => {
                warn!(%error, sessions = ids.len(), failures = self.failed_looks, "sessions could not be read");
            }
            Err(_) => {}
        }
        self.look(ctx);
    }

    fn evaluate(&mut self, id: SessionId, session: &Session, reserved: i64, ctx: &mut Context<Self>) {
        let terms = self.parts.terms(reserved);
        let Some(lane) = self.lanes.get_mut(&id).filter(|lane| !lane.busy) else {
            return;
        };
        let mut room = self.parts.room(&mut self.aside);
        match lane.evaluate(session, terms, clock::now(), &mut room, session::decide) {
            Found::Store(held, admission) => self.store(*held, admission, ctx),
            Found::Nothing if lane.is_empty() => {
                self.lanes.remove(&id);
            }
            Found::Nothing => {}
        }
    }

    /// Answers what is overdue, and looks again at early chunks: their predecessors may be stored elsewhere.
    fn patrol(&mut self, ctx: &mut Context<Self>) {
        let (now, deadline) = (clock::now(), self.parts.config.deadline);
        self.known.age(now);
        let mut room = self.parts.room(&mut self.aside);
        let mut waiting = Vec::new();
        self.lanes.retain(|id, lane| {
            lane.overdue(now, deadline, &mut room).into_iter().for_each(Held::unavailable);
            if lane.wants_look() {
                waiting.push(*id);
            }
            !lane.is_empty()
        });
        waiting.into_iter().for_each(|id| self.ask_look(id));
        self.look(ctx);
        self.probe_volume(ctx);
    }
}

impl RegistryParts {
    fn terms(&self, reserved: i64) -> Terms {
        self.terms_of()(reserved)
    }

    /// The terms as a function of the bytes reserved, free of `self`: a batch takes it along.
    fn terms_of(&self) -> impl Fn(i64) -> Terms + Send + Sync + use<> {
        let window = self.config.max_bytes.saturating_mul(self.config.reorder_window_chunks);
        let (reorder_wait, quota) = (self.config.reorder_wait, self.quota_bytes);
        move |reserved| Terms {
            window_bytes: i64::try_from(window).unwrap_or(i64::MAX),
            reorder_wait,
            waited: Duration::ZERO,
            spool_left: quota.saturating_sub(reserved),
        }
    }

    fn room<'a>(&self, aside: &'a mut usize) -> Room<'a> {
        Room { per_session: self.config.reorder_per_session, in_all: self.early_chunks, aside }
    }
}

#[cfg(test)]
mod tests;
