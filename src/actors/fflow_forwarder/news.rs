//! Learning of what others did to the rows of sessions that are fed here.

use std::ops::Bound;

use actix::prelude::*;
use tracing::warn;

use super::{FflowForwarder, Running};
use crate::domain::feed::Claim;
use crate::domain::ids::{ReplicaId, SessionId};
use crate::domain::status::SessionState;
use crate::gateways::upload_store::feeds::{FeedRow, Guard, Told};
use crate::messages::{Advance, Forsake};

/// Rows compared by one query. Most of many feeds have nothing new, and the database looks at the row of each.
const PART: usize = 1_000;

impl FflowForwarder {
    /// One query for many feeds: bytes that other replicas stored, and rows that are no longer ours. After a lapse the
    /// lease is valid again when all rows have been compared that were read after the heartbeat came back.
    pub(super) fn poll_rows(&mut self, ctx: &mut Context<Self>) {
        if self.running.is_empty() || self.polling {
            return;
        }
        self.polling = true;
        let regained = self.regained.take();
        let told = if regained.is_some() { self.told_after(None, usize::MAX) } else { self.next_part() };
        let (me, store) = (self.parts.me, self.parts.store.clone());
        let read = async move { store.news(me, &told).await };
        ctx.spawn(read.into_actor(self).map(move |result, forwarder, ctx| {
            forwarder.polling = false;
            match result {
                Ok(news) => {
                    news.into_iter().for_each(|(session, row)| forwarder.compare(session, row));
                    let lease = forwarder.parts.replica.lease;
                    regained.into_iter().for_each(|sent| forwarder.parts.keeper.extend(sent, lease));
                }
                Err(error) => warn!(%error, "feeds could not learn of new bytes"),
            }
            if forwarder.regained.is_some() {
                forwarder.poll_rows(ctx);
            }
        }));
    }

    /// The feeds behind those that were compared last, or the first ones again.
    fn next_part(&mut self) -> Vec<Told> {
        let told = self.told_after(self.compared, PART);
        self.compared = told.get(PART - 1).map(|last| last.session);
        told
    }

    fn told_after(&self, last: Option<SessionId>, most: usize) -> Vec<Told> {
        let from = last.map_or(Bound::Unbounded, Bound::Excluded);
        self.running.range((from, Bound::Unbounded)).map(|(_, running)| running.told).take(most).collect()
    }

    fn compare(&mut self, session: SessionId, row: Option<FeedRow>) {
        let me = self.parts.me;
        let Some(running) = self.running.get_mut(&session) else {
            return;
        };
        match row {
            Some(row) if row.owned_by(&running.guard(me)) => {
                let sealed = row.state == SessionState::Sealed;
                running.advance(Advance { committed: row.committed, sealed, run: None, trace: None });
            }
            // Its own Complete or release looks the same from outside, and a row read before the claim is older.
            Some(row) if row.epoch <= running.told.epoch => {}
            Some(_) | None => running.feed.forsake.do_send(Forsake),
        }
    }
}

impl Running {
    /// Passes on what the row says. What was read before the newest bytes were stored here is told all the same.
    pub(super) fn advance(&mut self, news: Advance) {
        self.told.committed = self.told.committed.max(news.committed);
        self.told.sealed |= news.sealed;
        self.feed.advance.do_send(news);
    }

    fn guard(&self, owner: ReplicaId) -> Guard {
        let Told { session, epoch, .. } = self.told;
        Guard { session, owner, epoch, generation: Default::default() }
    }
}

/// A feed knows what its claim says.
pub(super) fn told_by(claim: &Claim) -> Told {
    let Claim { session, epoch, committed, sealed, .. } = *claim;
    Told { session, epoch, committed, sealed }
}
