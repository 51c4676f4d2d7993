//! A spool in memory that fills up, fails or rots on demand.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use uuid::Uuid;

use super::weather::{Lot, Sky, pass};
use crate::domain::chunk::ChunkFacts;
use crate::domain::ids::{FlowId, ReplicaId, SessionId, VideoId};
use crate::domain::session::{self, Admission, Next, OwnRow, Session, SharedRows, Terms};
use crate::domain::status::{FlowStatus, SessionState, VideoStatus};
use crate::gateways::spool::{RecordPlace, Run, Spool, SpoolError, Stored, Volume};

/// What the next calls come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Health {
    /// They succeed.
    #[default]
    Sound,
    /// Appends find no space.
    Full,
    /// Nothing can be read or written.
    Away,
    /// Reads find other bytes than were written.
    Damaged,
}

/// Clones share their content, like replicas on one volume; each clone made by [`MemorySpool::replica`] has a writer
/// of its own.
#[derive(Debug, Clone)]
pub struct MemorySpool {
    state: Arc<Mutex<Content>>,
    writer: ReplicaId,
    sky: Sky,
}

#[derive(Debug, Default)]
struct Content {
    health: Health,
    marker: Option<Uuid>,
    folders: HashMap<SessionId, Folder>,
    appends: usize,
    kept: Option<SessionId>,
    forgetful: bool,
}

#[derive(Debug, Default)]
struct Folder {
    ends: HashMap<ReplicaId, i64>,
    records: BTreeMap<(ReplicaId, i64), (i64, Bytes)>,
}

impl Default for MemorySpool {
    fn default() -> Self {
        MemorySpool::written_by(ReplicaId(Uuid::new_v4()))
    }
}

impl MemorySpool {
    /// An empty volume, seen by this writer.
    pub fn written_by(writer: ReplicaId) -> Self {
        MemorySpool { state: Arc::default(), writer, sky: Sky::default() }
    }

    /// The same volume, seen by another writer.
    pub fn replica(&self) -> Self {
        self.seen_by(ReplicaId(Uuid::new_v4()), Sky::default())
    }

    /// The same volume, seen by this writer under a weather of its own.
    pub fn seen_by(&self, writer: ReplicaId, sky: Sky) -> Self {
        MemorySpool { state: self.state.clone(), writer, sky }
    }

    /// A lie: from now on the last byte of each record is another one, and no read notices.
    pub fn corrupt_silently(&self) {
        self.content().forgetful = true;
    }

    /// The sessions that have folders.
    pub fn sessions(&self) -> Vec<SessionId> {
        let mut sessions: Vec<SessionId> = self.content().folders.keys().copied().collect();
        sessions.sort();
        sessions
    }

    /// The bytes that these runs hold from 0 on, as far as they are there.
    pub fn stored(&self, session: SessionId, runs: &[Run]) -> Vec<u8> {
        let content = self.content();
        let length: i64 = runs.iter().map(|run| run.length).sum();
        let folder = content.folders.get(&session);
        folder
            .map(|folder| folder.gather(runs, 0, usize::try_from(length).unwrap_or(0)))
            .unwrap_or_default()
            .into()
    }

    /// From now on calls end like this.
    pub fn set_health(&self, health: Health) {
        self.content().health = health;
    }

    /// This session's folder cannot be removed.
    pub fn keep(&self, session: SessionId) {
        self.content().kept = Some(session);
    }

    /// How many appends succeeded so far.
    pub fn appends(&self) -> usize {
        self.content().appends
    }

    /// Whether a session has a folder.
    pub fn holds(&self, session: SessionId) -> bool {
        self.content().folders.contains_key(&session)
    }

    fn content(&self) -> MutexGuard<'_, Content> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn reachable(&self) -> Result<MutexGuard<'_, Content>, SpoolError> {
        let content = self.content();
        match content.health {
            Health::Away => Err(SpoolError::Io("the volume is away".into())),
            Health::Sound | Health::Full | Health::Damaged => Ok(content),
        }
    }
}

impl Folder {
    fn gather(&self, runs: &[Run], from: i64, length: usize) -> BytesMut {
        let mut gathered = BytesMut::with_capacity(length);
        for run in runs {
            let stretch = (run.place.writer, run.place.position)..(run.place.writer, run.place.record_end);
            for (start, body) in self.records.range(stretch).map(|(_, record)| record) {
                let at = from + gathered.len() as i64;
                if gathered.len() < length && *start <= at && at < start + body.len() as i64 {
                    let rest = &body[(at - start) as usize..];
                    gathered.extend_from_slice(&rest[..rest.len().min(length - gathered.len())]);
                }
            }
        }
        gathered
    }
}

impl MemorySpool {
    /// A call on its way meets the weather around `effect`.
    async fn meet<T>(
        &self,
        call: &'static str,
        session: SessionId,
        effect: impl FnOnce() -> Result<T, SpoolError>,
    ) -> Result<T, SpoolError> {
        let meeting = self.sky.go(call, &session.to_string()).await;
        let lost = || SpoolError::Io("lost, as the weather wants it".to_owned());
        let outcome = match meeting.lot {
            Lot::Fair => effect(),
            Lot::After => effect().and_then(|_| Err(lost())),
            Lot::Refused(_) => Err(SpoolError::Full("no space left".to_owned())),
            Lot::Before | Lot::Late(_) | Lot::NotSent | Lot::Panic => Err(lost()),
        };
        pass(meeting.after).await;
        outcome
    }

    fn write(&self, admission: Admission, mut body: Bytes) -> Result<Stored, SpoolError> {
        let mut content = self.reachable()?;
        if content.health == Health::Full {
            return Err(SpoolError::Full("no space left".into()));
        }
        if content.forgetful {
            let flipped = body.iter().enumerate().map(|(at, byte)| byte ^ u8::from(at + 1 == body.len()));
            body = flipped.collect();
        }
        content.appends += 1;
        let facts = admission.facts();
        let folder = content.folders.entry(facts.session).or_default();
        let end = folder.ends.entry(self.writer).or_default();
        let place =
            RecordPlace { writer: self.writer, position: *end, record_end: *end + 20 + body.len() as i64 };
        *end = place.record_end;
        folder.records.insert((self.writer, place.position), (facts.start, body));
        Ok(Stored::new(admission, place))
    }

    fn find(&self, session: SessionId, runs: &[Run], from: i64, length: usize) -> Result<Bytes, SpoolError> {
        let content = self.reachable()?;
        let damaged = |what: &str| SpoolError::Damaged(format!("session {session}: {what}"));
        if content.health == Health::Damaged {
            return Err(damaged("the record's checksum differs"));
        }
        let folder = content.folders.get(&session).ok_or_else(|| damaged("no folder"))?;
        let gathered = folder.gather(runs, from, length);
        if gathered.len() == length { Ok(gathered.freeze()) } else { Err(damaged("no run holds the range")) }
    }

    fn discard(&self, session: SessionId) -> Result<(), SpoolError> {
        let mut content = self.reachable()?;
        if content.kept == Some(session) {
            return Err(SpoolError::Io("kept, as scripted".to_owned()));
        }
        content.folders.remove(&session);
        Ok(())
    }
}

#[async_trait]
impl Spool for MemorySpool {
    async fn append(&self, admission: Admission, body: Bytes) -> Result<Stored, SpoolError> {
        let session = admission.facts().session;
        self.meet("spool.append", session, || self.write(admission, body)).await
    }

    async fn read(
        &self,
        session: SessionId,
        runs: &[Run],
        from: i64,
        length: usize,
    ) -> Result<Bytes, SpoolError> {
        self.meet("spool.read", session, || self.find(session, runs, from, length)).await
    }

    async fn close(&self, _session: SessionId) {}

    async fn remove(&self, session: SessionId) -> Result<(), SpoolError> {
        self.meet("spool.remove", session, || self.discard(session)).await
    }

    async fn folders(&self, after: Option<SessionId>, limit: usize) -> Result<Vec<SessionId>, SpoolError> {
        self.sky.go("spool.folders", "").await;
        let content = self.reachable()?;
        let mut folders: Vec<SessionId> = content.folders.keys().copied().collect();
        folders.retain(|session| after.is_none_or(|after| *session > after));
        folders.sort();
        folders.truncate(limit);
        Ok(folders)
    }

    async fn marker(&self) -> Result<Option<Uuid>, SpoolError> {
        Ok(self.reachable()?.marker)
    }

    async fn set_marker(&self, spool_id: Uuid) -> Result<(), SpoolError> {
        self.reachable()?.marker = Some(spool_id);
        Ok(())
    }

    async fn volume(&self) -> Result<Volume, SpoolError> {
        self.reachable().map(|_| Volume { total: 1 << 40, free: 1 << 39 })
    }
}

/// The admission of the chunk `[start, start + size)` in a session that has come so far, as the domain decides it;
/// `None` for a chunk that fits no file.
pub fn admitted(session: SessionId, start: i64, size: u32) -> Option<Admission> {
    let facts = ChunkFacts { session, start, size, digest: u128::from(size) };
    let own = OwnRow {
        state: SessionState::Open,
        committed: start,
        recent: Default::default(),
        last_error: None,
        owner: None,
    };
    let shared = SharedRows {
        flow: FlowId(session.0),
        video: VideoId(session.0),
        total_bytes: i64::MAX,
        uploaded_bytes: start,
        flow_status: FlowStatus::Uploading,
        video_status: VideoStatus::Uploading,
    };
    let terms = Terms {
        window_bytes: 0,
        reorder_wait: Default::default(),
        waited: Default::default(),
        spool_left: i64::MAX,
    };
    let stand = Session { own: (start > 0).then_some(own), shared: Some(shared), unreadable: None };
    match session::decide(&stand, &facts, &terms).1 {
        Next::Accept(admission) => Some(admission),
        Next::Repeat | Next::StepAside | Next::Refuse(_) => None,
    }
}
