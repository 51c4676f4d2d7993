//! The chunk road's store in memory.

use async_trait::async_trait;

use bytes::Bytes;

use super::{Call, MemoryStore, Row, Tables};
use crate::clock;
use crate::domain::chunk::ChunkFacts;
use crate::domain::ids::SessionId;
use crate::domain::session::{self, Next, OwnRow, Terms};
use crate::gateways::spool::{Run, Spool, Stored};
use crate::gateways::upload_store::StoreError;
use crate::gateways::upload_store::chunks::{ChunkStore, Extension, Judge, Look, Outcome, Progress};

const TERMS: Terms = Terms {
    window_bytes: 0,
    reorder_wait: std::time::Duration::ZERO,
    waited: std::time::Duration::ZERO,
    spool_left: i64::MAX,
};

impl MemoryStore {
    /// Stores the next bytes of a session in chunks of `size`, as another replica's chunk road would; says how many
    /// bytes fitted.
    pub async fn upload(
        &self,
        spool: &dyn Spool,
        session: SessionId,
        bytes: &[u8],
        size: usize,
    ) -> Result<usize, Box<dyn std::error::Error>> {
        let mut stored = 0;
        for piece in bytes.chunks(size) {
            let row = self.row(session).ok_or("no such session")?;
            let digest = xxhash_rust::xxh3::xxh3_128(piece);
            let facts = ChunkFacts { session, start: row.committed(), size: piece.len() as u32, digest };
            let Next::Accept(admission) = session::decide(&row.session(), &facts, &TERMS).1 else {
                break;
            };
            let place = spool.append(admission, Bytes::copy_from_slice(piece)).await?;
            self.commit(&[place], &|session, stored, _| session::decide(session, &stored.facts(), &TERMS))
                .await?;
            stored += piece.len();
        }
        Ok(stored)
    }
}

#[async_trait]
impl ChunkStore for MemoryStore {
    async fn look(&self, sessions: &[SessionId]) -> Result<Look, StoreError> {
        self.meet(Call::Look, |tables| {
            let mut look = Look { reserved: tables.reserved(), ..Look::default() };
            for id in sessions {
                let row = tables.sessions.get(id);
                look.sessions.insert(*id, row.map(Row::session).unwrap_or_default());
                look.last_runs.extend(row.and_then(|row| row.runs.last()).map(|run| (*id, *run)));
            }
            Ok(look)
        })
        .await
    }

    async fn extend(&self, batch: &[Extension]) -> Result<Vec<Outcome>, StoreError> {
        self.meet(Call::Commit, |tables| {
            if batch.iter().any(|extension| tables.refused.contains(&extension.session())) {
                return Err(StoreError::Refused("refused, as scripted".to_owned()));
            }
            Ok(batch.iter().map(|extension| tables.extend(extension)).collect())
        })
        .await
    }

    async fn commit(&self, batch: &[Stored], judge: Judge<'_>) -> Result<Vec<Outcome>, StoreError> {
        self.meet(Call::Commit, |tables| {
            if batch.iter().any(|stored| tables.refused.contains(&stored.facts().session)) {
                return Err(StoreError::Refused("refused, as scripted".to_owned()));
            }
            Ok(batch.iter().map(|stored| tables.commit(stored, judge)).collect())
        })
        .await
    }

    async fn reserved(&self) -> Result<i64, StoreError> {
        self.meet(Call::Look, |tables| Ok(tables.reserved())).await
    }
}

impl Tables {
    fn extend(&mut self, extension: &Extension) -> Outcome {
        let row = self.sessions.get_mut(&extension.session());
        let Some(row) = row.filter(|row| !row.locked && extension.fits(&row.session())) else {
            return Outcome::NotNow;
        };
        let mut recent = row.session().own.map(|own| own.recent).unwrap_or_default();
        recent.remember(extension.chunk());
        let after = extension.after(row.owner(), extension.supposed().then(|| recent.clone()));
        row.own = after.session.own.clone().map(|own| OwnRow { recent, ..own });
        row.shared = after.session.shared;
        row.put_run(after.run);
        row.last_activity = clock::now();
        Outcome::Committed(after)
    }

    fn commit(&mut self, stored: &Stored, judge: Judge<'_>) -> Outcome {
        let reserved = self.reserved();
        let row = self.sessions.get_mut(&stored.facts().session);
        let before = row.as_deref().map(Row::session).unwrap_or_default();
        let (after, next) = judge(&before, stored, reserved);
        let Some(row) = row else {
            return Outcome::Other(next);
        };
        if row.locked {
            return Outcome::NotNow;
        }
        if !matches!(next, Next::Accept(_)) {
            return Outcome::Other(next);
        }
        row.own = after.own.clone();
        row.shared = after.shared;
        if let Some(shared) = after.shared {
            (row.flow_status, row.video_status) = (shared.flow_status, shared.video_status);
        }
        let run = row.append(stored);
        row.last_activity = clock::now();
        Outcome::Committed(Progress { session: after, run: Some(run), supposed: false })
    }
}

impl Row {
    fn append(&mut self, stored: &Stored) -> Run {
        let run = Run::holding(self.runs.last(), &stored.facts(), stored.place());
        self.put_run(Some(run));
        run
    }

    fn put_run(&mut self, run: Option<Run>) {
        match self.runs.last_mut() {
            Some(last) if run.is_some_and(|run| last.start == run.start) => {
                run.into_iter().for_each(|run| *last = run)
            }
            Some(_) | None => self.runs.extend(run),
        }
    }
}
