//! A chunk extends a run only where the run's records end: between them may lie a record that was never committed.

use sea_orm::DatabaseConnection;
use uploader_v4::gateways::spool::{Spool, SpoolError, Stored};
use uploader_v4::gateways::upload_store::chunks::Outcome;
use uploader_v4::gateways::upload_store::feeds::{FeedStore, PgFeedStore};

use super::stage::{Stage, id, run};
use super::writer::Writer;
use crate::world::{Upload, bytes};

/// Extends a run that ends where the chunk begins, whatever lies between their records.
async fn extend(db: &DatabaseConnection, stored: &Stored) {
    let (facts, place) = (stored.facts(), stored.place());
    let update = "UPDATE uploader.run SET length = length + $2, record_end = $3 \
                  WHERE session_id = $1 AND start + length = $4 AND writer = $5";
    let values = [
        facts.session.0.into(),
        i64::from(facts.size).into(),
        place.record_end.into(),
        facts.start.into(),
        place.writer.0.into(),
    ];
    assert_eq!(run(db, update, values).await.unwrap().rows_affected(), 1);
}

/// One writer's file with a record in the middle whose commit never came to anything: somebody held the session's row
/// until its client gave up. What was committed after it has the same place in the upload, and other bytes.
async fn with_a_record_that_was_given_up(
    stage: &Stage,
    writer: &Writer,
    given_up: &[u8],
    taken: &[u8],
) -> (Upload, Stored) {
    let upload = stage.world.announce_one(3000).await;
    writer.put(&upload, 0, &bytes(4, 1000)).await;
    let lost = writer.stored(&upload, 1000, given_up).await;
    let holding = stage
        .world
        .hold("UPDATE uploader.session SET strikes = 0 WHERE session_id = $1", upload.session)
        .await;
    assert_eq!(writer.commit(&[lost]).await, [Outcome::NotNow]);
    holding.commit().await.unwrap();
    let stored = writer.stored(&upload, 1000, taken).await;
    assert_eq!(stored.place().writer, lost.place().writer, "in the same file, behind it");
    (upload, stored)
}

async fn read(stage: &Stage, upload: &Upload) -> (usize, Result<Vec<u8>, SpoolError>) {
    let runs = PgFeedStore::new(stage.world.db.clone()).runs(id(upload), 0, 2000).await.unwrap();
    let spool = Writer::new(stage, &stage.one).spool;
    let read = spool.read(id(upload), &runs, 0, 2000).await;
    (runs.len(), read.map(|bytes| bytes.to_vec()))
}

#[tokio::test]
async fn bytes_behind_a_record_that_was_given_up_are_read_as_they_were_committed() {
    let stage = Stage::new().await;
    let writer = Writer::new(&stage, &stage.two);
    let (wrong, right) = (bytes(5, 1000), bytes(6, 1000));
    let (upload, stored) = with_a_record_that_was_given_up(&stage, &writer, &wrong, &right).await;
    assert!(matches!(writer.commit(&[stored]).await[..], [Outcome::Committed(_)]));
    let (runs, read) = read(&stage, &upload).await;
    assert_eq!((runs, read.unwrap()), (2, [bytes(4, 1000), right].concat()));
}

#[tokio::test]
async fn a_run_that_is_extended_over_such_a_record_reads_the_bytes_that_were_given_up() {
    let stage = Stage::new().await;
    let writer = Writer::new(&stage, &stage.two);
    let (wrong, right) = (bytes(5, 1000), bytes(6, 1000));
    let (upload, stored) = with_a_record_that_was_given_up(&stage, &writer, &wrong, &right).await;
    extend(&stage.two, &stored).await;
    let (runs, read) = read(&stage, &upload).await;
    assert_eq!((runs, read.unwrap()), (1, [bytes(4, 1000), wrong].concat()), "another video, without a word");
}
