//! The transactions of the end: what each one decides on the rows that it holds, and what it leaves when it lands.

use uploader_v4::domain::intervention::{Facts, OwnFacts, SharedFacts, expire, retry};
use uploader_v4::domain::recent::Recent;
use uploader_v4::domain::session::{Next, OwnRow, Session, Terms, decide};
use uploader_v4::domain::status::{FlowStatus, SessionState, VideoStatus};

use super::feeds::is_distributed;
use super::world::{Open, Part, State, TOTAL, Write, only};
use super::{EndOfLife, Safeguard};

const TERMS: Terms = Terms {
    window_bytes: TOTAL,
    reorder_wait: std::time::Duration::from_secs(1),
    waited: std::time::Duration::ZERO,
    spool_left: i64::MAX,
};

impl State {
    /// The janitor's view: nothing of the video is sealed, something of it is not over.
    fn is_unfinished(&self, minds_sealed: bool) -> bool {
        let any = |state: SessionState| self.parts.iter().any(|part| part.state() == Some(state));
        let flows: Vec<FlowStatus> = self.flows().into_iter().flatten().collect();
        let all_play = !flows.is_empty() && flows.iter().copied().all(is_distributed);
        let rows = self.parts.iter().any(|part| part.own.is_some());
        let in_question = match self.video {
            Some(VideoStatus::Created | VideoStatus::Uploading) => true,
            Some(VideoStatus::Blocked) => any(SessionState::Open) || (rows && flows.is_empty()),
            Some(VideoStatus::Distributed) | None => false,
        };
        in_question && !all_play && !(minds_sealed && any(SessionState::Sealed))
    }

    fn facts(&self, part: usize) -> Facts {
        let row = &self.parts[part];
        let own = row.own.as_ref().map(|own| OwnFacts {
            state: own.state,
            committed: own.committed,
            total_bytes: TOTAL,
            spool_gone: row.given_up,
            finish_sent: false,
        });
        let shared = match (row.upload, row.flow, self.video) {
            (Some(_), Some(flow), Some(video)) => {
                let other_hidden = self.parts[1 - part].flow == Some(FlowStatus::Hidden);
                Some(SharedFacts { flow, video, other_hidden })
            }
            _ => None,
        };
        Facts { own, shared }
    }
}

impl EndOfLife {
    /// The janitor's first transaction: uploads of an abandoned video.
    pub fn write_expiry(&self, state: &State) -> Option<Write> {
        let abandoned = state.is_unfinished(self.has(Safeguard::SealedOnesAreLeft));
        let flows: Vec<FlowStatus> = state.flows().into_iter().flatten().collect();
        let plays = flows.iter().copied().any(is_distributed);
        let ends = |part: &Part| match part.state() {
            Some(SessionState::Open) => true,
            Some(SessionState::Failed) => !plays,
            Some(SessionState::Sealed) => !self.has(Safeguard::SealedOnesAreLeft),
            Some(SessionState::Done) => !self.has(Safeguard::OnlyLiveOnesExpire),
            Some(SessionState::Expired) | None => false,
        };
        let buries = |part: &Part| {
            part.own.is_none() && part.upload.is_some() && self.has(Safeguard::EveryUploadGetsATombstone)
        };
        let (ending, burying) = (state.parts.each_ref().map(ends), state.parts.each_ref().map(buries));
        (abandoned && !flows.is_empty()).then_some(Write::Expire { ending, burying, plays })
    }

    /// Its second one: a video that has nothing any more.
    pub fn may_delete(&self, state: &State) -> bool {
        let emptied = state.flows() == [None, None]
            && !state.parts.iter().any(|part| part.state() == Some(SessionState::Open));
        state.is_unfinished(true) && (emptied || !self.has(Safeguard::EmptiedVideosOnly))
    }

    /// An operator tries again; nothing if that is refused.
    pub fn write_retry(&self, state: &State, part: usize) -> Option<Write> {
        let mut facts = state.facts(part);
        let own = facts.own.as_mut()?;
        let missing = |safeguard| !self.has(safeguard);
        if missing(Safeguard::RetryOnlyFailed) {
            own.state = SessionState::Failed;
        }
        if missing(Safeguard::RetryOnlyWhole) {
            own.committed = own.total_bytes;
        }
        own.spool_gone &= !missing(Safeguard::RetryNeedsBytes);
        if missing(Safeguard::RetryMindsOtherFlows) {
            facts.shared.iter_mut().for_each(|shared| shared.other_hidden = false);
        }
        let retry = retry(&facts).ok()?;
        Some(Write::Retry { part, unblock: retry.unblock })
    }

    /// An operator ends a session; nothing if that is refused.
    pub fn write_by_hand(&self, state: &State, part: usize) -> Option<Write> {
        let expiry = expire(&state.facts(part), true).ok()?;
        Some(Write::ByHand { part, own: expiry.own, block: expiry.block })
    }

    /// A late chunk is judged on locked rows: accepted, answered, or left waiting.
    pub fn judge_chunk(&self, state: &mut State, part: usize, late: usize) {
        let chunk = state.parts[part].late[late].facts();
        let (after, next) = decide(&state.session(part), &chunk, &TERMS);
        match next {
            Next::StepAside => return,
            Next::Repeat | Next::Refuse(_) => {}
            Next::Accept(_) => {
                let write = Write::Chunk { part, after };
                state.open.push(Open { locks_video: true, locks: only(part), write });
            }
        }
        state.parts[part].late.remove(late);
    }

    /// A commit lands.
    pub fn land(&self, state: &mut State, write: &Write) {
        let before = [state.session(0), state.session(1)];
        self.check(state, write);
        self.apply(state, write);
        for (part, before) in before.iter().enumerate() {
            let after = state.session(part);
            let rule = state.parts[part].history.change(before, &after);
            state.note(rule);
        }
    }

    /// What a write must not do, by what the rows say when it lands.
    fn check(&self, state: &mut State, write: &Write) {
        match write {
            Write::Complete { part, epoch, owner, .. } | Write::Park { part, epoch, owner } => {
                let row = &state.parts[*part];
                let owns = row.own.as_ref().and_then(|own| own.owner) == Some(*owner);
                let newest = row.is_live() && owns && row.epoch == *epoch;
                state.require(newest, "a former owner ended the session");
            }
            Write::Expire { ending, .. } => {
                let sealed = (0..2)
                    .any(|part| ending[part] && state.parts[part].state() == Some(SessionState::Sealed));
                state.require(!sealed, "the janitor ended an upload that was whole");
            }
            Write::DeleteVideo => {
                let empty = state.flows() == [None, None] && !state.parts.iter().any(Part::is_live);
                state.require(empty, "a video was deleted that had uploads");
            }
            Write::Retry { .. } | Write::ByHand { .. } | Write::Chunk { .. } => {}
        }
    }

    fn apply(&self, state: &mut State, write: &Write) {
        match write {
            Write::Complete { part, video_too, .. } => {
                let row = &mut state.parts[*part];
                end(row, SessionState::Done);
                row.flow = row.flow.map(|_| FlowStatus::Distributed);
                row.upload = None;
                if *video_too && matches!(state.video, Some(VideoStatus::Created | VideoStatus::Uploading)) {
                    state.video = Some(VideoStatus::Distributed);
                }
            }
            Write::Park { part, .. } => {
                end(&mut state.parts[*part], SessionState::Failed);
                withdraw(state, *part);
            }
            Write::Expire { ending, burying, plays } => {
                for (number, part) in state.parts.iter_mut().enumerate() {
                    if ending[number] || part.own.is_none() {
                        part.history.end();
                    }
                    self.expire_or_bury(part, ending[number], burying[number]);
                }
                if *plays { block(state) } else { empty(state) }
            }
            Write::DeleteVideo => {
                state.video = None;
                empty(state);
            }
            Write::Retry { part, unblock } => {
                let row = &mut state.parts[*part];
                row.epoch += i64::from(self.has(Safeguard::RetryRaisesEpoch));
                end(row, SessionState::Sealed);
                row.retried = true;
                row.flow = row.flow.map(|_| FlowStatus::Processing);
                if *unblock {
                    state.video = state.video.map(|_| VideoStatus::Uploading);
                }
            }
            Write::ByHand { part, own, block } => {
                self.expire_or_bury(&mut state.parts[*part], *own, !*own);
                state.parts[*part].history.end();
                if *block {
                    withdraw(state, *part);
                }
            }
            Write::Chunk { part, after } => advance(state, *part, after),
        }
    }

    /// EXPIRED: the row that is there, or a tombstone.
    pub fn expire_or_bury(&self, part: &mut Part, own: bool, bury: bool) {
        if bury && part.own.is_none() {
            let (committed, recent) = (0, Recent::default());
            let state = SessionState::Expired;
            part.own = Some(OwnRow { state, committed, recent, last_error: None, owner: None });
            part.epoch = 1;
        }
        if own {
            let owner = part.own.as_ref().and_then(|own| own.owner);
            end(part, SessionState::Expired);
            part.epoch += i64::from(self.has(Safeguard::ExpiryRaisesEpoch));
            if !self.has(Safeguard::ExpiryClearsOwner) {
                part.own.iter_mut().for_each(|own| own.owner = owner);
            }
        }
    }
}

fn end(part: &mut Part, state: SessionState) {
    part.own.iter_mut().for_each(|own| (own.state, own.owner) = (state, None));
}

/// HIDDEN and BLOCKED.
fn withdraw(state: &mut State, part: usize) {
    state.parts[part].flow = state.parts[part].flow.map(|_| FlowStatus::Hidden);
    state.video = state.video.map(|_| VideoStatus::Blocked);
}

/// Another flow plays: what does not is hidden.
fn block(state: &mut State) {
    for part in &mut state.parts {
        part.flow = part.flow.map(|flow| if is_distributed(flow) { flow } else { FlowStatus::Hidden });
    }
    state.video = state.video.map(|_| VideoStatus::Blocked);
}

fn empty(state: &mut State) {
    state.parts.iter_mut().for_each(|part| (part.flow, part.upload) = (None, None));
}

/// A chunk's commit, as `decide` returned the session.
fn advance(state: &mut State, part: usize, after: &Session) {
    let row = &mut state.parts[part];
    row.bytes = true;
    row.own = after.own.clone();
    if let Some(shared) = after.shared {
        (row.flow, row.upload) = (Some(shared.flow_status), Some(shared.uploaded_bytes));
        state.video = Some(shared.video_status);
    }
}
