//! A replica's chunk road without its actors: look, decide, spool, commit.

use bytes::Bytes;
use sea_orm::DatabaseConnection;
use std::time::Duration;
use uploader_v4::domain::chunk::{self, ChunkFacts};
use uploader_v4::domain::session::{self, Admission, Next, Session, Terms};
use uploader_v4::gateways::spool::{FileSpool, Spool, Stored};
use uploader_v4::gateways::upload_store::chunks::{ChunkStore, Extension, Outcome, PgChunkStore, Progress};

use super::stage::{Stage, id};
use crate::world::Upload;

pub struct Writer {
    pub store: PgChunkStore,
    pub spool: FileSpool,
}

impl Writer {
    /// On one of the stage's connections, with files of its own in the spool that all share.
    pub fn new(stage: &Stage, db: &DatabaseConnection) -> Self {
        Writer { store: PgChunkStore::new(db.clone()), spool: FileSpool::new(&stage.world.spool) }
    }

    /// What an unlocked look shows.
    pub async fn look(&self, upload: &Upload) -> Session {
        self.store.look(&[id(upload)]).await.unwrap().sessions.remove(&id(upload)).unwrap()
    }

    /// Admits a chunk by an unlocked look, and makes its bytes durable.
    pub async fn stored(&self, upload: &Upload, start: usize, body: &[u8]) -> Stored {
        let admission = admitted(&self.look(upload).await, &facts(upload, start, body));
        self.spool.append(admission, Bytes::copy_from_slice(body)).await.unwrap()
    }

    /// What an unlocked look shows, and the last run.
    pub async fn seen(&self, upload: &Upload) -> Progress {
        let mut look = self.store.look(&[id(upload)]).await.unwrap();
        let run = look.last_runs.remove(&id(upload));
        Progress { session: look.sessions.remove(&id(upload)).unwrap(), run, supposed: false }
    }

    /// A chunk in the middle, admitted and durable, for a session as it is seen now.
    pub async fn extension(&self, upload: &Upload, start: usize, body: &[u8]) -> Extension {
        let seen = self.seen(upload).await;
        self.extension_of(&seen, upload, start, body).await
    }

    /// The same for a session that is taken to be as `seen`.
    pub async fn extension_of(
        &self,
        seen: &Progress,
        upload: &Upload,
        start: usize,
        body: &[u8],
    ) -> Extension {
        let stored = self.stored(upload, start, body).await;
        let judge = |session: &Session, stored: &Stored| judge(session, stored, 0);
        Extension::of(seen, &stored, judge).expect("a chunk in the middle")
    }

    /// Commits chunks in the middle as the registry does: their rows compared under their locks.
    pub async fn extend(&self, batch: &[Extension]) -> Vec<Outcome> {
        self.store.extend(batch).await.unwrap()
    }

    /// Commits as the registry does: each chunk judged on its locked rows.
    pub async fn commit(&self, batch: &[Stored]) -> Vec<Outcome> {
        self.store.commit(batch, &judge).await.unwrap()
    }

    /// The whole way of one chunk that nothing comes across.
    pub async fn put(&self, upload: &Upload, start: usize, body: &[u8]) {
        let stored = self.stored(upload, start, body).await;
        let outcomes = self.commit(&[stored]).await;
        assert!(matches!(outcomes[..], [Outcome::Committed(_)]), "{outcomes:?}");
    }
}

/// The registry's judge, with room for everything.
pub fn judge(session: &Session, stored: &Stored, reserved: i64) -> (Session, Next) {
    session::decide(session, &stored.facts(), &terms(i64::MAX - reserved))
}

/// What decides for one chunk, with so many bytes of quota left.
pub fn terms(spool_left: i64) -> Terms {
    Terms {
        window_bytes: 80 << 20,
        reorder_wait: Duration::from_secs(30),
        waited: Duration::ZERO,
        spool_left,
    }
}

pub fn facts(upload: &Upload, start: usize, body: &[u8]) -> ChunkFacts {
    let digest = chunk::digest(body);
    ChunkFacts { session: id(upload), start: start as i64, size: body.len() as u32, digest }
}

fn admitted(session: &Session, facts: &ChunkFacts) -> Admission {
    match session::decide(session, facts, &terms(i64::MAX)).1 {
        Next::Accept(admission) => admission,
        other => panic!("{other:?}"),
    }
}
