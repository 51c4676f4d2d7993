//! The feed road's store in memory.

use std::time::Duration;

use async_trait::async_trait;

use super::{Call, Lie, MemoryStore, Row, Tables};
use crate::clock;
use crate::domain::feed::{Claim, Evidence, Numbering, Work};
use crate::domain::ids::{FlowName, ReplicaId, SessionId, Timestamp};
use crate::domain::route::FlowUrl;
use crate::domain::status::{FlowStatus, SessionState, VideoStatus};
use crate::gateways::spool::Run;
use crate::gateways::upload_store::StoreError;
use crate::gateways::upload_store::feeds::{Ending, FeedRow, FeedStore, Guard, Told, Wanted, Written};

impl MemoryStore {
    /// A guarded write: `write` runs only on a row that is still the guard's.
    async fn guarded(
        &self,
        call: Call,
        guard: Guard,
        write: impl FnOnce(&mut Row, &mut Vec<(FlowName, Option<String>)>),
    ) -> Result<Written, StoreError> {
        self.meet(call, |tables| {
            let Some(row) = tables.guarded_row(&guard) else {
                return Ok(Written::Fenced);
            };
            let mut strays = Vec::new();
            write(row, &mut strays);
            strays.into_iter().for_each(|(name, base)| tables.stray(name, base));
            Ok(Written::Done)
        })
        .await
    }
}

#[async_trait]
impl FeedStore for MemoryStore {
    async fn claim(&self, wanted: &Wanted<'_>) -> Result<Vec<Claim>, StoreError> {
        self.meet(Call::Claim, |tables| Ok(tables.claim(wanted))).await
    }

    async fn news(
        &self,
        me: ReplicaId,
        told: &[Told],
    ) -> Result<Vec<(SessionId, Option<FeedRow>)>, StoreError> {
        self.meet(Call::News, |tables| {
            let row = |told: &Told| (told.session, tables.feed_row(told.session));
            let known = |told: &Told, row: &FeedRow| {
                let state = if told.sealed { SessionState::Sealed } else { SessionState::Open };
                let now = (row.owner, row.epoch, row.committed, row.state);
                now == (Some(me), told.epoch, told.committed, state)
            };
            let differs = |told: &&Told| !row(told).1.is_some_and(|row| known(told, &row));
            Ok(told.iter().filter(differs).map(row).collect())
        })
        .await
    }

    async fn row_locked(&self, session: SessionId) -> Result<Option<FeedRow>, StoreError> {
        self.meet(Call::Row, |tables| Ok(tables.feed_row(session))).await
    }

    async fn runs(&self, session: SessionId, from: i64, to: i64) -> Result<Vec<Run>, StoreError> {
        self.meet(Call::Runs, |tables| {
            let runs = tables.sessions.get(&session).map(|row| row.runs.clone()).unwrap_or_default();
            Ok(runs.into_iter().filter(|run| run.start < to && run.start + run.length > from).collect())
        })
        .await
    }

    async fn number(&self, guard: Guard, numbering: &Numbering) -> Result<Written, StoreError> {
        self.guarded(Call::Number, guard, |row, strays| {
            let now = clock::now();
            (row.generation, row.generation_at) = (numbering.generation, Some(now));
            (row.flow_url, row.fed, row.settled, row.finish_sent) = (None, 0, false, None);
            (row.farthest, row.strikes) = (numbering.farthest, numbering.strikes);
            row.next_attempt = Some(now.after(numbering.pause));
            row.failing = match numbering.failing {
                None => row.failing,
                Some(true) => row.failing.or(Some(now)),
                Some(false) => None,
            };
            row.note_error(numbering.error.clone());
            strays.extend(numbering.stray.clone().map(|name| (name, numbering.stray_base.clone())));
        })
        .await
    }

    async fn record(&self, guard: Guard, url: &FlowUrl) -> Result<Written, StoreError> {
        self.guarded(Call::Record, guard, |row, _| row.flow_url = Some(url.to_string())).await
    }

    async fn mark_finish(&self, guard: Guard) -> Result<Written, StoreError> {
        self.guarded(Call::Mark, guard, |row, _| row.finish_sent = Some(clock::now())).await
    }

    async fn complete(&self, guard: Guard, claim: &Claim) -> Result<Written, StoreError> {
        self.meet(Call::Complete, |tables| Ok(tables.complete(guard, claim))).await
    }

    async fn park(&self, guard: Guard, claim: &Claim, ending: &Ending) -> Result<Written, StoreError> {
        self.meet(Call::Park, |tables| Ok(tables.park(guard, claim, ending))).await
    }

    async fn release(&self, guard: Guard, settled: bool, fed: i64) -> Result<Written, StoreError> {
        self.guarded(Call::Release, guard, |row, _| {
            row.set_owner(None);
            (row.settled, row.fed) = (settled, if settled { fed } else { 0 });
            row.finish_sent = row.finish_sent.filter(|_| !settled);
        })
        .await
    }

    async fn weigh(&self, session: SessionId, work: Work) -> Result<Evidence, StoreError> {
        self.meet(Call::Weigh, |tables| {
            let fed = |row: &Row| row.is_live() && row.generation.0 > 0 && row.owner().is_some();
            let lone = !tables.sessions.iter().any(|(id, row)| *id != session && fed(row));
            let worked = tables.worked_since_numbered(session, work);
            Ok(tables.evidence.unwrap_or(Evidence { worked, lone }))
        })
        .await
    }

    async fn add_stray(&self, _: SessionId, name: &FlowName) -> Result<(), StoreError> {
        self.meet(Call::Tidy, |tables| {
            tables.stray(name.clone(), None);
            Ok(())
        })
        .await
    }

    async fn drop_runs(&self, session: SessionId) -> Result<(), StoreError> {
        self.meet(Call::Tidy, |tables| {
            tables.sessions.entry(session).and_modify(|row| row.runs.clear());
            Ok(())
        })
        .await
    }

    async fn set_cleaned(&self, session: SessionId) -> Result<(), StoreError> {
        self.meet(Call::Tidy, |tables| {
            let ended = tables.sessions.get_mut(&session).filter(|row| row.is_final());
            ended.into_iter().for_each(|row| row.cleaned = true);
            Ok(())
        })
        .await
    }

    async fn drop_idle_flows(&self, idle_seconds: f64, limit: i64) -> Result<u64, StoreError> {
        let idle = Duration::from_secs_f64(idle_seconds);
        self.meet(Call::Tidy, |tables| Ok(tables.drop_idle_flows(idle, limit))).await
    }
}

impl Tables {
    fn claim(&mut self, wanted: &Wanted<'_>) -> Vec<Claim> {
        let mut due: Vec<SessionId> = self.sessions.keys().copied().collect();
        due.retain(|id| self.sessions.get(id).is_some_and(|row| self.is_due(*id, row, wanted)));
        let rank = |id: &SessionId| {
            let row = self.sessions.get(id);
            (row.map(Row::state) != Some(Some(SessionState::Sealed)), row.map(|row| row.created))
        };
        due.sort_by_key(rank);
        due.truncate(usize::try_from(wanted.limit).unwrap_or(0));
        let stays = self.lie == Some(Lie::SettledStays);
        let claim = |id: SessionId| {
            let row = self.sessions.get_mut(&id)?;
            let claim = row.claim(id, wanted.me);
            row.settled = stays && claim.settled;
            Some(claim)
        };
        due.into_iter().filter_map(claim).collect()
    }

    fn feed_row(&self, session: SessionId) -> Option<FeedRow> {
        self.sessions.get(&session)?.feed_row(session)
    }

    fn guarded_row(&mut self, guard: &Guard) -> Option<&mut Row> {
        let lax = self.lie == Some(Lie::Unguarded);
        self.sessions.get_mut(&guard.session).filter(|row| row.admits(guard) || (lax && row.is_live()))
    }

    fn is_due(&self, id: SessionId, row: &Row, wanted: &Wanted<'_>) -> bool {
        let sealed = row.state() == Some(SessionState::Sealed);
        let work = row.is_live()
            && (sealed || row.committed() > row.fed)
            && (sealed || row.generation.0 > 0 || row.committed() >= wanted.start_bytes);
        let asked = wanted.only.is_none_or(|only| only.contains(&id));
        let rested = row.next_attempt.is_none_or(|at| at <= clock::now());
        let free = match row.owner() {
            None => true,
            Some(owner) if owner == wanted.me => true,
            Some(owner) => wanted.from_expired && !self.lives(owner),
        };
        work && asked && rested && free && !row.locked && !wanted.except.contains(&id)
    }

    fn complete(&mut self, guard: Guard, claim: &Claim) -> Written {
        let Some(row) = self.guarded_row(&guard) else {
            return Written::Fenced;
        };
        row.end(SessionState::Done);
        row.fed = row.committed();
        row.flow_status = FlowStatus::Distributed;
        row.shared = None;
        let mut flows = self.sessions.values().filter(|row| row.video == claim.video);
        let unfinished = |row: &Row| row.video_status != VideoStatus::Blocked;
        if flows.all(|row| row.flow_status == FlowStatus::Distributed && unfinished(row)) {
            self.set_video(claim, VideoStatus::Distributed);
        }
        Written::Done
    }

    fn park(&mut self, guard: Guard, claim: &Claim, ending: &Ending) -> Written {
        let Some(row) = self.guarded_row(&guard) else {
            return Written::Fenced;
        };
        row.end(SessionState::Failed);
        (row.settled, row.flow_url, row.fed) = (false, None, 0);
        row.flow_status = FlowStatus::Hidden;
        row.note_error(Some(ending.reason.clone()));
        ending.stray.iter().for_each(|name| self.stray(name.clone(), ending.stray_base.clone()));
        self.set_video(claim, VideoStatus::Blocked);
        Written::Done
    }

    fn drop_idle_flows(&mut self, idle: Duration, limit: i64) -> u64 {
        let silent = |row: &&mut Row| {
            let open = row.state() == Some(SessionState::Open) && row.owner().is_none() && row.settled;
            open && row.last_activity.until(clock::now()) > idle
        };
        let limit = usize::try_from(limit).unwrap_or(0);
        let mut names = Vec::new();
        for (id, row) in self.sessions.iter_mut() {
            let Some(row) = Some(row).filter(silent).filter(|_| names.len() < limit) else { continue };
            (row.settled, row.flow_url) = (false, None);
            names.push(row.generation.name(*id));
        }
        let dropped = names.len() as u64;
        names.into_iter().for_each(|name| self.stray(name, None));
        dropped
    }

    fn set_video(&mut self, claim: &Claim, status: VideoStatus) {
        let flows = self.sessions.values_mut().filter(|row| row.video == claim.video);
        flows.for_each(|row| row.set_statuses(row.flow_status, status));
    }
}

impl Row {
    fn claim(&mut self, session: SessionId, me: ReplicaId) -> Claim {
        let (owner, settled) = (self.owner(), self.settled);
        self.take_over(me);
        let ago = |at: Option<Timestamp>| at.map(|at| -> Duration { at.until(clock::now()) });
        Claim {
            session,
            flow: self.flow,
            video: self.video,
            total: self.total_bytes,
            committed: self.committed(),
            sealed: self.state() == Some(SessionState::Sealed),
            epoch: self.epoch,
            generation: self.generation,
            flow_url: self.flow_url.clone(),
            fed: self.fed,
            settled,
            farthest: self.farthest,
            strikes: self.strikes,
            finish_sent: ago(self.finish_sent),
            failing: ago(self.failing),
            owner_died: owner.is_some_and(|owner| owner != me),
        }
    }

    fn end(&mut self, state: SessionState) {
        if let Some(own) = &mut self.own {
            (own.state, own.owner) = (state, None);
            self.ended_at = Some(clock::now());
        }
    }

    fn note_error(&mut self, error: Option<String>) {
        if let (Some(own), Some(error)) = (&mut self.own, error) {
            own.last_error = Some(error);
        }
    }
}
