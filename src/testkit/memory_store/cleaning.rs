//! The janitor's store in memory.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;

use super::{Call, MemoryStore, Row, Tables};
use crate::clock;
use crate::domain::ids::{FlowId, FlowName, SessionId, Timestamp, VideoId};
use crate::domain::session::OwnRow;
use crate::domain::session::SharedRows;
use crate::domain::status::{FlowStatus, SessionState, VideoStatus};
use crate::gateways::upload_store::StoreError;
use crate::gateways::upload_store::cleaning::{Abandoned, CleaningStore, Expired, Folders, Stage};

/// What an abandoned video has.
struct Judged {
    plays: bool,
    flows: usize,
    open: bool,
}

impl Judged {
    fn is_at(&self, stage: Stage) -> bool {
        match stage {
            Stage::Uploads => self.flows > 0,
            Stage::Emptied => self.flows == 0 && !self.open,
        }
    }
}

impl Tables {
    /// Whether somebody takes chunks now.
    pub(super) fn consumed(&self) -> bool {
        self.consuming.iter().any(|(replica, consuming)| *consuming && self.lives(*replica))
    }

    /// The unfinished videos that nobody has used for `ttl`.
    fn judged(&self, ttl: Duration) -> BTreeMap<VideoId, Judged> {
        let long = |since: Timestamp| since.until(clock::now()) > ttl;
        if !self.consumed() || !self.consuming_since.is_some_and(long) {
            return BTreeMap::new();
        }
        let mut videos: BTreeMap<VideoId, Vec<&Row>> = BTreeMap::new();
        self.sessions.values().for_each(|row| videos.entry(row.video).or_default().push(row));
        let known = videos.into_iter().filter(|(video, _)| !self.videos_gone.contains(video));
        known.filter_map(|(video, rows)| judge(&rows, long).map(|judged| (video, judged))).collect()
    }

    fn still(&self, stage: Stage, ttl: Duration, videos: &[VideoId]) -> Vec<(VideoId, bool)> {
        let judged = self.judged(ttl).into_iter().filter(|(video, judged)| {
            let held = self.sessions.values().any(|row| row.video == *video && row.locked);
            videos.contains(video) && judged.is_at(stage) && !held
        });
        judged.map(|(video, judged)| (video, judged.plays)).collect()
    }

    fn expire(&mut self, video: VideoId, plays: bool) {
        let mut strays = Vec::new();
        for (id, row) in self.sessions.iter_mut().filter(|(_, row)| row.video == video) {
            let state = row.state();
            let ends = state == Some(SessionState::Open) || (state == Some(SessionState::Failed) && !plays);
            if ends || (row.own.is_none() && row.shared.is_some()) {
                strays.extend(row.expire(*id, "no activity"));
            }
            match plays {
                true if row.flow_status != FlowStatus::Distributed => {
                    row.set_statuses(FlowStatus::Hidden, VideoStatus::Blocked);
                }
                true => row.set_statuses(row.flow_status, VideoStatus::Blocked),
                false => (row.shared, row.flow_gone) = (None, true),
            }
        }
        strays.into_iter().for_each(|(name, base)| self.stray(name, base));
    }

    fn expire_removed(&mut self, limit: u32) -> u64 {
        let orphaned = |row: &Row| row.state().is_some() && !row.is_final() && row.shared.is_none();
        let orphans: Vec<SessionId> =
            self.sessions.iter().filter(|(_, row)| orphaned(row)).map(|(id, _)| *id).collect();
        let mut strays = Vec::new();
        for id in orphans.iter().take(limit as usize) {
            strays.extend(self.sessions.get_mut(id).and_then(|row| row.expire(*id, "removed by another")));
        }
        strays.into_iter().for_each(|(name, base)| self.stray(name, base));
        orphans.len().min(limit as usize) as u64
    }

    fn judge_folders(&mut self, folders: &[SessionId]) -> Folders {
        let mut judged = Folders::default();
        for id in folders {
            match self.sessions.get_mut(id) {
                None => {
                    self.sessions.insert(*id, Row::tombstone(*id));
                    judged.buried.push(*id);
                }
                Some(row) if row.own.is_none() && row.shared.is_none() => {
                    row.expire(*id, "removed by another");
                    judged.buried.push(*id);
                }
                Some(row) if (row.is_final() && row.cleaned) || row.spool_gone => judged.late.push(*id),
                Some(_) => {}
            }
        }
        judged
    }

    fn give_up_bytes(&mut self, ttl: Duration, limit: u32) -> Vec<SessionId> {
        let long = |at: Timestamp| at.until(clock::now()) > ttl;
        let due = self.sessions.iter_mut().filter(|(_, row)| {
            row.state() == Some(SessionState::Failed) && !row.spool_gone && row.ended_at.is_some_and(long)
        });
        let due = due.take(limit as usize).map(|(id, row)| {
            row.spool_gone = true;
            *id
        });
        due.collect()
    }
}

/// What a video has, if it is unfinished and nobody has used it for long.
fn judge(rows: &[&Row], long: impl Fn(Timestamp) -> bool) -> Option<Judged> {
    let in_state = |state| rows.iter().any(|row| row.state() == Some(state));
    let flows: Vec<&&Row> = rows.iter().filter(|row| !row.flow_gone).collect();
    let plays = |row: &&&Row| row.flow_status == FlowStatus::Distributed;
    let judged =
        Judged { plays: flows.iter().any(plays), flows: flows.len(), open: in_state(SessionState::Open) };
    let has_sessions = rows.iter().any(|row| row.own.is_some());
    let unfinished = rows.first().is_some_and(|row| match row.video_status {
        VideoStatus::Blocked => judged.open || (has_sessions && judged.flows == 0),
        status => status != VideoStatus::Distributed,
    });
    let all_play = !flows.is_empty() && flows.iter().all(plays);
    let ended = |row: &&Row| row.ended_at.filter(|_| row.state() != Some(SessionState::Expired));
    let used = rows.iter().flat_map(|row| [Some(row.last_activity), ended(row)]).flatten().max();
    let abandoned = unfinished && !in_state(SessionState::Sealed) && !all_play && used.is_none_or(long);
    abandoned.then_some(judged)
}

impl Row {
    /// Of a session that has no other row.
    fn tombstone(id: SessionId) -> Self {
        let shared = SharedRows {
            flow: FlowId(id.0),
            video: VideoId(id.0),
            total_bytes: 0,
            uploaded_bytes: 0,
            flow_status: FlowStatus::Hidden,
            video_status: VideoStatus::Blocked,
        };
        let mut row = Row { shared: None, flow_gone: true, ..Row::new(shared, 0) };
        row.expire(id, "removed by another");
        row
    }

    /// Ends it; its process, if it may have one, and where it runs if that is known.
    fn expire(&mut self, id: SessionId, reason: &str) -> Option<(FlowName, Option<String>)> {
        let name = self.generation.name(id);
        let base =
            self.flow_url.take().and_then(|url| url.strip_suffix(&format!("/{name}")).map(str::to_owned));
        let own = self.own.get_or_insert_with(|| OwnRow {
            state: SessionState::Expired,
            committed: 0,
            recent: Default::default(),
            last_error: None,
            owner: None,
        });
        (own.state, own.owner, own.last_error) = (SessionState::Expired, None, Some(reason.to_owned()));
        (self.settled, self.next_attempt, self.ended_at) = (false, None, Some(clock::now()));
        self.epoch.0 += 1;
        (self.generation.0 > 0).then_some((name, base))
    }
}

#[async_trait]
impl CleaningStore for MemoryStore {
    async fn abandoned(
        &self,
        stage: Stage,
        ttl: Duration,
        after: Option<VideoId>,
        limit: u32,
    ) -> Result<Abandoned, StoreError> {
        self.meet(Call::Clean, |tables| {
            let judged = tables.judged(ttl).into_iter().filter(|(_, judged)| judged.is_at(stage));
            let videos =
                judged.map(|(video, _)| video).filter(|video| after.is_none_or(|after| *video > after));
            let videos: Vec<VideoId> = videos.take(limit as usize).collect();
            let next = videos.last().copied().filter(|_| videos.len() == limit as usize);
            Ok(Abandoned { videos, next })
        })
        .await
    }

    async fn expire(&self, videos: &[VideoId], ttl: Duration) -> Result<Expired, StoreError> {
        self.meet(Call::Clean, |tables| {
            let mut expired = Expired::default();
            for (video, plays) in tables.still(Stage::Uploads, ttl, videos) {
                tables.expire(video, plays);
                let fate = if plays { &mut expired.blocked } else { &mut expired.emptied };
                fate.push(video);
            }
            Ok(expired)
        })
        .await
    }

    async fn remove(&self, videos: &[VideoId], ttl: Duration) -> Result<u64, StoreError> {
        self.meet(Call::Clean, |tables| {
            let gone = tables.still(Stage::Emptied, ttl, videos);
            tables.videos_gone.extend(gone.iter().map(|(video, _)| *video));
            Ok(gone.len() as u64)
        })
        .await
    }

    async fn expire_removed(&self, limit: u32) -> Result<u64, StoreError> {
        self.meet(Call::Clean, |tables| Ok(tables.expire_removed(limit))).await
    }

    async fn judge_folders(&self, folders: &[SessionId]) -> Result<Folders, StoreError> {
        self.meet(Call::Clean, |tables| Ok(tables.judge_folders(folders))).await
    }

    async fn give_up_bytes(&self, ttl: Duration, limit: u32) -> Result<Vec<SessionId>, StoreError> {
        self.meet(Call::Clean, |tables| Ok(tables.give_up_bytes(ttl, limit))).await
    }

    async fn uncleaned(&self, after: Option<SessionId>, limit: u32) -> Result<Vec<SessionId>, StoreError> {
        self.meet(Call::Clean, |tables| {
            let later = |id: &SessionId| after.is_none_or(|after| *id > after);
            let due = tables.sessions.iter().filter(|(id, row)| later(id) && row.is_final() && !row.cleaned);
            Ok(due.map(|(id, _)| *id).take(limit as usize).collect())
        })
        .await
    }

    async fn drop_runs(&self, sessions: &[SessionId]) -> Result<(), StoreError> {
        self.meet(Call::Clean, |tables| {
            for id in sessions {
                tables.sessions.entry(*id).and_modify(|row| row.runs.clear());
            }
            Ok(())
        })
        .await
    }

    async fn set_cleaned(&self, sessions: &[SessionId]) -> Result<(), StoreError> {
        self.meet(Call::Clean, |tables| {
            let ended =
                tables.sessions.iter_mut().filter(|(id, row)| sessions.contains(id) && row.is_final());
            ended.for_each(|(_, row)| row.cleaned = true);
            Ok(())
        })
        .await
    }

    /// Runs live in their sessions' rows here.
    async fn forget_runs(&self, _: u32) -> Result<u64, StoreError> {
        self.meet(Call::Clean, |_| Ok(0)).await
    }

    async fn forget_tombstones(&self, ttl: Duration, limit: u32) -> Result<u64, StoreError> {
        self.meet(Call::Clean, |tables| {
            let old = |row: &Row| row.ended_at.is_some_and(|at| at.until(clock::now()) > ttl);
            let due = tables.sessions.iter().filter(|(_, row)| row.is_final() && row.cleaned && old(row));
            let due: Vec<SessionId> = due.map(|(id, _)| *id).take(limit as usize).collect();
            due.iter().for_each(|id| _ = tables.sessions.remove(id));
            Ok(due.len() as u64)
        })
        .await
    }

    /// A lease that has ended does no harm here.
    async fn forget_replicas(&self, _: u32) -> Result<u64, StoreError> {
        self.meet(Call::Clean, |_| Ok(0)).await
    }
}
