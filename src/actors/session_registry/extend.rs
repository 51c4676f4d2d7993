//! The usual chunk's short way: its session is as this replica saw it last, and one statement makes sure of that.

use std::time::Duration;

use actix::prelude::*;

use super::SessionRegistry;
use super::commit::BATCH_MAX;
use super::lane::Held;
use crate::domain::chunk::ChunkFacts;
use crate::domain::session::{self, Next};
use crate::gateways::upload_store::chunks::{Extension, Progress};

/// The longest that a durable chunk waits for others to be written with.
const GATHER: Duration = Duration::from_millis(6);
/// As many chunks on their way are worth a wait.
const MANY: usize = 8;

impl SessionRegistry {
    /// The session as last seen here, if by that the chunk is to be stored: it needs no look then. Of a session whose
    /// chunks replicas take in turn, it is supposed that others stored what is missing, within the window in which early
    /// chunks are taken: the chunk's place is compared when it is written.
    pub(super) fn known_to_be_next(&self, facts: &ChunkFacts) -> Option<Progress> {
        let terms = self.parts.terms(0);
        let next = |seen: &Progress| {
            let (_, next) = session::decide(&seen.session, facts, &terms);
            matches!(next, Next::Accept(_))
        };
        let seen = self.known.get(facts.session)?;
        if next(seen) {
            return Some(seen.clone());
        }
        self.known.supposed(facts.session, facts.start, terms.window_bytes).filter(next)
    }

    /// What a durable chunk makes of its session, if that is known and no status turns.
    pub(super) fn extension(&self, held: &Held) -> Option<Extension> {
        let stored = held.stored.as_ref()?;
        let seen = self.known_to_be_next(&held.facts)?;
        let terms = self.parts.terms(0);
        Extension::of(&seen, stored, |session, stored| session::decide(session, &stored.facts(), &terms))
    }

    /// One statement at a time; whatever becomes durable meanwhile is the next batch. A chunk whose session was not as
    /// seen is looked at again, and then judged on locked rows.
    pub(super) fn extend(&mut self, ctx: &mut Context<Self>) {
        if self.extending || self.to_extend.is_empty() || self.gathers(ctx) {
            return;
        }
        (self.extending, self.gathered) = (true, false);
        let count = self.to_extend.len().min(BATCH_MAX);
        let (batch, extensions): (Vec<_>, Vec<_>) = self.to_extend.drain(..count).unzip();
        let store = self.parts.store.clone();
        let write = async move {
            let result = store.extend(&extensions).await;
            (batch, result)
        };
        ctx.spawn(write.into_actor(self).map(|(batch, result), registry, ctx| {
            registry.extending = false;
            registry.committed(batch, result, ctx);
            registry.extend(ctx);
            registry.commit(ctx);
            registry.look(ctx);
        }));
    }

    /// While more chunks are on their way to the disk than are durable, the next statement waits a moment for them: most
    /// of what it costs is the same for many. With few on their way there is nothing to gain.
    fn gathers(&mut self, ctx: &mut Context<Self>) -> bool {
        let coming = self.appends.len();
        let more = coming >= MANY && self.to_extend.len() < coming.min(BATCH_MAX) && !self.gathered;
        if more && !std::mem::replace(&mut self.gathering, true) {
            ctx.run_later(GATHER, |registry, ctx| {
                (registry.gathering, registry.gathered) = (false, !registry.extending);
                registry.extend(ctx);
            });
        }
        more
    }
}
