//! What must be so when all is over, and what must not happen until then.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use peers::recording::{RecordedFlow, RecordingOptions};

use crate::browsers::Browsers;
use crate::world::World;

/// An fflow that keeps digests of what it is fed, and not the bytes.
pub fn hashing() -> RecordingOptions {
    RecordingOptions { keep_bytes: 0, ..RecordingOptions::default() }
}

/// Looks for what must not happen until `span` is over.
pub async fn never(what: &str, span: Duration, happens: impl AsyncFnMut() -> bool) {
    assert!(devstack::wait_until(what, span, happens).await.is_err(), "{what}");
}

/// How many sessions fit a condition on their row.
pub async fn sessions(world: &World, condition: &str) -> usize {
    let sql = format!("SELECT 1 FROM uploader.session WHERE {condition}");
    world.query(&sql, Vec::new()).await.len()
}

/// The files of all uploads play, within this time; says how long that took.
pub async fn all_distributed(world: &World, count: usize, deadline: Duration) -> Duration {
    let began = Instant::now();
    let play = async || {
        let sql = "SELECT 1 FROM flows WHERE status = 'DISTRIBUTED'";
        world.query(sql, Vec::new()).await.len() == count
    };
    if devstack::wait_until("all flows to be DISTRIBUTED", deadline, play).await.is_err() {
        let logs = world.workspace.path().display();
        panic!("after {deadline:?} not DISTRIBUTED: {:?}; logs are in {logs}", unfinished(world).await);
    }
    assert_eq!(sessions(world, "state = 'DONE'").await, count);
    began.elapsed()
}

/// The rows of sessions that are not over, as text.
async fn unfinished(world: &World) -> Vec<String> {
    let sql = "SELECT to_jsonb(s)::text FROM (SELECT state, committed, total_bytes, generation, owner, epoch, strikes, \
               finish_sent_at, last_error FROM uploader.session WHERE ended_at IS NULL) s";
    let rows = world.query(sql, Vec::new()).await;
    rows.iter().map(|row| row.try_get_by_index(0).unwrap()).collect()
}

/// For each upload exactly one process finished, and it was fed the file's bytes; no name was used twice.
pub fn each_fed_whole_and_once(world: &World, browsers: &Browsers) {
    let flows = world.fflow.flows();
    let names: BTreeSet<&str> = flows.iter().map(|flow| flow.name.as_str()).collect();
    assert_eq!(names.len(), flows.len(), "a name was used twice");
    assert!(flows.iter().all(|flow| !flow.concurrent_pushes_seen), "two pushes at once in one process");
    for (number, upload) in browsers.uploads.iter().enumerate() {
        let finished: Vec<_> = of(&flows, &upload.session.to_string()).filter(|flow| flow.finished).collect();
        assert_eq!(finished.len(), 1, "{finished:?}");
        assert_eq!(finished[0].sha256, browsers.digest(number), "{}", finished[0].name);
    }
}

/// The processes of one session.
pub fn of<'a>(flows: &'a [RecordedFlow], session: &str) -> impl Iterator<Item = &'a RecordedFlow> {
    flows.iter().filter(move |flow| flow.name.split('~').next() == Some(session))
}

/// Nothing of the ended sessions is left: runs, folders, rows without `cleaned_at`.
pub async fn nothing_left(world: &World, browsers: &Browsers) {
    for upload in &browsers.uploads {
        world.nothing_left(upload).await;
    }
}
