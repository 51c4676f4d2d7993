//! What feeds ask of many sessions at once: each gets the answer to its own question.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::future::join_all;
use uploader_v4::domain::ids::{ReplicaId, SessionId};
use uploader_v4::domain::status::SessionState;
use uploader_v4::gateways::upload_store::StoreError;
use uploader_v4::gateways::upload_store::feeds::{FeedStore, PgFeedStore, Told};

use super::stage::{Stage, id, replica};
use super::writer::Writer;
use crate::world::{Upload, bytes};

/// A session with one chunk of a thousand bytes, fed by `me`; and what its feed knows of it.
async fn fed(stage: &Stage, writer: &Writer, me: ReplicaId) -> (Upload, Told) {
    let upload = stage.world.announce_one(3000).await;
    writer.put(&upload, 0, &bytes(1, 1000)).await;
    let claim = stage.claim(me, &upload).await;
    let told = Told { session: claim.session, epoch: claim.epoch, committed: 1000, sealed: false };
    (upload, told)
}

#[tokio::test]
async fn only_rows_that_say_something_new_are_sent() {
    let stage = Stage::new().await;
    let (writer, me) = (Writer::new(&stage, &stage.two), replica());
    let mut told = Vec::new();
    let mut uploads = Vec::new();
    for _ in 0..6 {
        let (upload, known) = fed(&stage, &writer, me).await;
        uploads.push(upload);
        told.push(known);
    }
    let store = PgFeedStore::new(stage.world.db.clone());
    assert_eq!(store.news(me, &told).await.unwrap(), []);

    let [same, grown, sealed, taken, gone, released] = &uploads[..] else { unreachable!() };
    writer.put(grown, 1000, &bytes(2, 1000)).await;
    stage.set(sealed, "state = 'SEALED', committed = total_bytes").await;
    stage.set(taken, &format!("owner = '{}', epoch = epoch + 1", replica().0)).await;
    stage.set(released, "owner = NULL").await;
    let delete = "DELETE FROM uploader.session WHERE session_id = $1";
    assert_eq!(stage.world.execute(delete, vec![gone.session.into()]).await, 1);

    let news: BTreeMap<SessionId, _> = store.news(me, &told).await.unwrap().into_iter().collect();
    assert_eq!(news.len(), 5);
    assert!(!news.contains_key(&id(same)));
    assert_eq!(news[&id(grown)].as_ref().unwrap().committed, 2000);
    assert_eq!(news[&id(sealed)].as_ref().unwrap().state, SessionState::Sealed);
    assert_eq!(news[&id(taken)].as_ref().unwrap().epoch.0, told[3].epoch.0 + 1);
    assert_eq!(news[&id(gone)], None);
    assert_eq!(news[&id(released)].as_ref().unwrap().owner, None);

    told[1].committed = 2000;
    (told[2].committed, told[2].sealed) = (3000, true);
    let again: Vec<SessionId> =
        store.news(me, &told[..3]).await.unwrap().into_iter().map(|of| of.0).collect();
    assert_eq!(again, [], "what was told is no news");
}

#[tokio::test]
async fn a_question_that_is_refused_takes_no_other_with_it() {
    let stage = Stage::new().await;
    let (writer, me) = (Writer::new(&stage, &stage.two), replica());
    let mut uploads = Vec::new();
    for _ in 0..9 {
        uploads.push(fed(&stage, &writer, me).await.0);
    }
    let broken = &uploads[4];
    for statement in [
        "ALTER TABLE uploader.run RENAME TO run_stored".to_owned(),
        format!(
            "CREATE VIEW uploader.run AS SELECT session_id, start, length, writer, record_end, \
             position / (session_id <> '{}')::int AS position FROM uploader.run_stored",
            broken.session
        ),
    ] {
        stage.world.execute(&statement, Vec::new()).await;
    }
    let store = PgFeedStore::new(stage.world.db.clone());
    let answers = join_all(uploads.iter().map(|upload| store.runs(id(upload), 0, 1000))).await;
    for (answer, upload) in answers.into_iter().zip(&uploads) {
        if upload.session == broken.session {
            assert!(matches!(answer, Err(StoreError::Refused(_))), "{answer:?}");
        } else {
            assert_eq!(answer.unwrap().len(), 1);
        }
    }
}

#[tokio::test]
async fn questions_of_many_feeds_are_answered_each_by_its_own_runs() {
    let stage = Stage::new().await;
    let (one, two) = (Writer::new(&stage, &stage.one), Writer::new(&stage, &stage.two));
    let mut uploads = Vec::new();
    for number in 0..20_i64 {
        let upload = stage.world.announce_one(3000).await;
        let size = 100 + number as usize;
        // Replicas that take turns: a run for each chunk.
        one.put(&upload, 0, &bytes(1, size)).await;
        two.put(&upload, size, &bytes(2, size)).await;
        one.put(&upload, 2 * size, &bytes(3, size)).await;
        uploads.push((upload, size as i64));
    }
    let store = PgFeedStore::new(stage.world.db.clone());
    let given_up = store.runs(id(&uploads[0].0), 0, 1);
    assert!(tokio::time::timeout(Duration::from_millis(1), given_up).await.is_err(), "it waits for others");
    let second = uploads.iter().map(|(upload, size)| store.runs(id(upload), *size, 2 * size));
    let from_second = uploads.iter().map(|(upload, size)| store.runs(id(upload), size + 1, 3 * size));
    let (second, from_second) = tokio::join!(join_all(second), join_all(from_second));
    for ((answer, more), (_, size)) in second.into_iter().zip(from_second).zip(&uploads) {
        let stretches = |answer: Result<Vec<_>, _>| -> Vec<(i64, i64)> {
            let runs: Vec<uploader_v4::gateways::spool::Run> = answer.unwrap();
            runs.iter().map(|run| (run.start, run.length)).collect()
        };
        assert_eq!(stretches(answer), [(*size, *size)]);
        assert_eq!(stretches(more), [(*size, *size), (2 * size, *size)]);
    }
    assert_eq!(
        store.runs(SessionId(uuid::Uuid::new_v4()), 0, 10).await.unwrap(),
        [],
        "a session without bytes"
    );
}
