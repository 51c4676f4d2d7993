//! Whoever looks at the world from outside: what must hold at every moment, and what must be left when all is quiet.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use uploader_v4::clock;
use uploader_v4::domain::ids::SessionId;
use uploader_v4::domain::invariants::{self, Sighting, Violation};
use uploader_v4::domain::status::{SessionState, VideoStatus};
use uploader_v4::testkit::memory_store::Row;

use super::replica::VIDEO_TTL;
use super::world::World;

/// A row as the invariants see it; none before its first chunk.
pub fn sighting(row: &Row) -> Option<Sighting> {
    let (committed, epoch, generation) = (row.committed(), row.epoch, row.generation);
    row.state().map(|state| Sighting { state, committed, epoch, generation })
}

/// What was seen last.
#[derive(Default)]
pub struct Onlooker {
    seen: RefCell<BTreeMap<SessionId, Sighting>>,
    parked: RefCell<BTreeSet<SessionId>>,
}

impl Onlooker {
    /// One look at everything.
    pub fn look(&self, world: &World) {
        for upload in &world.uploads {
            let Some(row) = world.store.row(upload.session) else { continue };
            if let Err(broken) = self.judge(world, upload.session, &row) {
                world.chance.violated(format!("{}: {broken}", upload.session));
            }
        }
    }

    fn judge(&self, world: &World, session: SessionId, row: &Row) -> Result<(), Violation> {
        invariants::session_is_sound(&row.session())?;
        let Some(now) = sighting(row) else { return Ok(()) };
        let before = self.seen.borrow_mut().insert(session, now);
        if before.is_none_or(|before| before.state != now.state) {
            world.say(&format!("{session} is {}", now.state.as_str()));
        }
        if now.state == SessionState::Failed {
            self.parked.borrow_mut().insert(session);
        }
        let Some(before) = before else { return Ok(()) };
        invariants::progress_is_sound(&before, &now)?;
        let expires = before.state == SessionState::Open && now.state == SessionState::Expired;
        let unused = row.ended_at.unwrap_or_else(clock::now);
        if expires && row.last_activity.until(unused) < VIDEO_TTL {
            return Err(Violation("expired while it was in use".to_owned()));
        }
        Ok(())
    }
}

/// What every ffmpeg process got, and that its name was used once.
pub fn judge_farm(world: &World) {
    let files: BTreeMap<String, &[u8]> =
        world.uploads.iter().map(|upload| (upload.session.to_string(), upload.file.as_slice())).collect();
    for (name, flow) in world.fflow.flows() {
        let session = name.split('~').next().unwrap_or_default();
        let file = files.get(session).copied().unwrap_or_default();
        if let Err(broken) = invariants::process_is_sound(file, &flow.bytes, flow.finished.is_some()) {
            world.chance.violated(format!("process {name}: {broken}"));
        }
    }
    for (name, times) in world.fflow.begun() {
        if times > 1 {
            world.chance.violated(format!("{times} processes were begun under the name {name}"));
        }
    }
}

/// What is still going on, or left behind; nothing when all is quiet.
pub fn unrest(world: &World) -> Option<String> {
    let waiting = (world.broker.queued(), world.broker.unsettled());
    if waiting != (0, 0) {
        return Some(format!("{} chunks wait, {} are unsettled", waiting.0, waiting.1));
    }
    if world.replicas.borrow().iter().any(Option::is_none) {
        return Some("a replica is down".to_owned());
    }
    if let Some(running) = world.unfinished() {
        return Some(format!("client {running} is at work"));
    }
    for upload in &world.uploads {
        let row = world.store.row(upload.session);
        let over = row.as_ref().is_none_or(|row| match row.state() {
            // Of a blocked video nothing more is taken, and what was never begun leaves nothing to end.
            None => row.video_status == VideoStatus::Blocked,
            Some(_) => !row.is_live(),
        });
        if !over {
            return Some(format!("session {} is {:?}", upload.session, row.and_then(|row| row.state())));
        }
        if row.as_ref().is_some_and(|row| row.is_final() && !(row.cleaned && row.runs.is_empty())) {
            return Some(format!("session {} is not cleaned", upload.session));
        }
    }
    left_behind(world)
}

fn left_behind(world: &World) -> Option<String> {
    let strays = world.store.with(|tables| tables.strays.len());
    if strays > 0 {
        return Some(format!("{strays} strays"));
    }
    if let Some((name, _)) = world.fflow.flows().into_iter().find(|(_, flow)| flow.is_live()) {
        return Some(format!("process {name} runs and nobody wants it"));
    }
    let is_final = |session: &SessionId| world.store.row(*session).is_none_or(|row| row.is_final());
    if let Some(session) = world.spool.sessions().into_iter().find(is_final) {
        return Some(format!("session {session} has a folder"));
    }
    world.routes.sessions().into_iter().find(is_final).map(|session| format!("session {session} has a route"))
}

/// Failures of a session's processes that it takes to fail it: two, if it was alone in the farm for long.
const LEAST_TROUBLES: usize = 2;

impl Onlooker {
    /// The last judgement.
    pub fn judge_ends(&self, world: &World) {
        self.look(world);
        judge_farm(world);
        judge_answers(world);
        for (upload, acked) in world.uploads.iter().zip(world.acked()) {
            let troubles = world.chance.troubles(&upload.session.to_string());
            let complete = acked == upload.file.len();
            let end = invariants::ending_is_sound(
                self.end_of(world, upload.session),
                complete,
                troubles,
                LEAST_TROUBLES,
            );
            if let Err(broken) = end {
                world.chance.violated(format!("session {}: {broken}", upload.session));
            }
        }
    }

    /// A parked session ends with its video later on, and counts as parked.
    fn end_of(&self, world: &World, session: SessionId) -> Option<SessionState> {
        let parked = self.parked.borrow().contains(&session);
        let state = world.store.row(session).and_then(|row| row.state());
        if parked { Some(SessionState::Failed) } else { state }
    }
}

/// Every chunk has its answer, and no delivery two. A reply kept under an alarm may have ended with its replica.
fn judge_answers(world: &World) {
    for (correlation, answered) in world.answers() {
        let delivered = world.broker.handed(&correlation);
        let due = !world.broker.settled_under_alarm(&correlation);
        if let Err(broken) = invariants::answers_are_sound(delivered, answered, due) {
            world.chance.violated(format!("chunk {correlation}: {broken}"));
        }
    }
    if world.broker.unknown_tags() > 0 {
        world.chance.violated(format!("{} deliveries were settled twice", world.broker.unknown_tags()));
    }
}
