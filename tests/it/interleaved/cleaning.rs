//! The janitor ends what its search found only after it has looked again, on locked rows and in a later statement; and
//! bytes that go are given up in the row first.

use std::time::Duration;

use sea_orm::DatabaseConnection;
use uploader_v4::domain::ids::VideoId;
use uploader_v4::gateways::spool::{Spool, SpoolError};
use uploader_v4::gateways::upload_store::chunks::Outcome;
use uploader_v4::gateways::upload_store::cleaning::{CleaningStore, Expired, PgCleaningStore, Stage as Of};
use uploader_v4::gateways::upload_store::desk::{Intervened, OperatorDesk, PgDesk};
use uploader_v4::gateways::upload_store::feeds::{FeedStore, PgFeedStore};

use super::stage::{At, Crossed, Stage, id, replica, run};
use super::writer::Writer;
use crate::world::{Upload, bytes};

/// The time-to-live of these tests.
const TTL: Duration = Duration::from_secs(3600);

/// An upload with its first half stored, two hours ago; the farm has been consuming since yesterday.
async fn abandoned(stage: &Stage, writer: &Writer) -> Upload {
    let upload = stage.world.announce_one(2000).await;
    writer.put(&upload, 0, &bytes(8, 1000)).await;
    stage.beat(replica(), 3600.0).await;
    let since = "UPDATE uploader.service SET consuming_since = clock_timestamp() - interval '1 day'";
    stage.world.execute(since, Vec::new()).await;
    for table in ["videos", "flows"] {
        let old = format!("UPDATE {table} SET created_at = now() - interval '2 hours'");
        stage.world.execute(&old, Vec::new()).await;
    }
    stage.set(&upload, "last_activity = clock_timestamp() - interval '2 hours'").await;
    upload
}

/// What a janitor may do with what its search found.
#[derive(Clone, Copy, Debug)]
enum Janitor {
    Real,
    /// It ends what the search found.
    WithoutALook,
    /// It looks in the statement that locks.
    LockAndLookInOne,
}

impl Janitor {
    async fn ends(self, db: &DatabaseConnection, videos: &[VideoId]) -> Expired {
        let used = match self {
            Janitor::Real => return PgCleaningStore::new(db.clone()).expire(videos, TTL).await.unwrap(),
            Janitor::WithoutALook => "false",
            Janitor::LockAndLookInOne => {
                "EXISTS (SELECT 1 FROM uploader.session o WHERE o.video_id = s.video_id \
                 AND o.last_activity > clock_timestamp() - interval '1 hour')"
            }
        };
        let end = format!(
            "UPDATE uploader.session s SET state = 'EXPIRED', epoch = epoch + 1, owner = NULL, \
             ended_at = clock_timestamp() WHERE s.video_id = $1 AND s.state = 'OPEN' AND NOT {used}"
        );
        let ended = run(db, &end, [videos[0].0.into()]).await.unwrap().rows_affected();
        Expired { emptied: if ended == 0 { Vec::new() } else { videos.to_vec() }, blocked: Vec::new() }
    }
}

/// The search has found the upload; its next chunk is being committed when the janitor comes to end it.
async fn chunk_against(janitor: Janitor) -> (Expired, String, bool) {
    let stage = Stage::new().await;
    let (one, two) = (Writer::new(&stage, &stage.one), PgCleaningStore::new(stage.two.clone()));
    let upload = abandoned(&stage, &one).await;
    let found = two.abandoned(Of::Uploads, TTL, None, 10).await.unwrap().videos;
    assert_eq!(found, [VideoId(upload.video)]);
    let stored = one.stored(&upload, 1000, &bytes(9, 500)).await;
    let gate = stage.gate(At::Row("UPDATE ON upload_sessions")).await;
    let chunk = [stored];
    let Crossed { one: outcomes, two: mut ended, waited } =
        stage.cross(gate, one.commit(&chunk), janitor.ends(&stage.two, &found)).await;
    assert!(matches!(outcomes[..], [Outcome::Committed(_)]), "acked: {outcomes:?}");
    if let Janitor::Real = janitor {
        // Passed over while it was held, and in use now that it is free.
        assert_eq!(ended, Expired::default());
        ended = janitor.ends(&stage.two, &found).await;
    }
    (ended, stage.row(&upload, "state, committed").await, waited)
}

#[tokio::test]
async fn an_upload_that_goes_on_after_the_search_found_it_is_left_alone() {
    let (ended, row, waited) = chunk_against(Janitor::Real).await;
    assert_eq!((ended, row.as_str(), waited), (Expired::default(), "OPEN 1500", false));
}

#[tokio::test]
async fn a_janitor_without_a_second_look_ends_a_live_upload() {
    let (ended, row, waited) = chunk_against(Janitor::WithoutALook).await;
    assert_eq!((ended.emptied.len(), row.as_str(), waited), (1, "EXPIRED 1500", true));
}

#[tokio::test]
async fn a_look_in_the_statement_that_locks_sees_the_upload_as_it_was_and_ends_it() {
    let (ended, row, waited) = chunk_against(Janitor::LockAndLookInOne).await;
    assert_eq!((ended.emptied.len(), row.as_str(), waited), (1, "EXPIRED 1500", true));
}

/// A whole file, FAILED longer ago than its bytes are kept.
async fn failed_long_ago(stage: &Stage) -> Upload {
    let upload = stage.world.announce_one(1000).await;
    Writer::new(stage, &stage.world.db).put(&upload, 0, &bytes(10, 1000)).await;
    stage.set(&upload, "state = 'FAILED', ended_at = clock_timestamp() - interval '2 hours'").await;
    stage.world.execute("UPDATE flows SET status = 'HIDDEN' WHERE id = $1", vec![upload.flow.into()]).await;
    stage
        .world
        .execute("UPDATE videos SET status = 'BLOCKED' WHERE id = $1", vec![upload.video.into()])
        .await;
    upload
}

/// Whether the session can be fed: what it would read.
async fn bytes_of(stage: &Stage, upload: &Upload) -> Result<usize, SpoolError> {
    let runs = PgFeedStore::new(stage.world.db.clone()).runs(id(upload), 0, 1000).await.unwrap();
    let spool = Writer::new(stage, &stage.world.db).spool;
    spool.read(id(upload), &runs, 0, 1000).await.map(|bytes| bytes.len())
}

#[tokio::test]
async fn a_retry_in_the_moment_in_which_bytes_are_given_up_waits_and_is_refused() {
    let stage = Stage::new().await;
    let upload = failed_long_ago(&stage).await;
    let (janitor, desk) = (PgCleaningStore::new(stage.one.clone()), PgDesk::new(stage.two.clone()));
    let gate = stage.gate(At::Commit("UPDATE ON uploader.session")).await;
    let crossed = stage.cross(gate, janitor.give_up_bytes(TTL, 10), desk.retry(id(&upload))).await;
    assert_eq!(crossed.one.unwrap(), [id(&upload)]);
    let retried = crossed.two.unwrap();
    assert!(crossed.waited && matches!(retried, Intervened::Refused(_)), "{retried:?}");
    assert_eq!(stage.row(&upload, "state").await, "FAILED");
}

#[tokio::test]
async fn bytes_of_a_session_that_is_being_retried_are_not_given_up() {
    let stage = Stage::new().await;
    let upload = failed_long_ago(&stage).await;
    let (desk, janitor) = (PgDesk::new(stage.one.clone()), PgCleaningStore::new(stage.two.clone()));
    let gate = stage.gate(At::Commit("UPDATE ON uploader.session")).await;
    let crossed = stage.cross(gate, desk.retry(id(&upload)), janitor.give_up_bytes(TTL, 10)).await;
    assert!(matches!(crossed.one.unwrap(), Intervened::Done(_)));
    assert_eq!((crossed.two.unwrap(), crossed.waited), (Vec::new(), false));
    assert_eq!(
        (stage.row(&upload, "state").await.as_str(), bytes_of(&stage, &upload).await.unwrap()),
        ("SEALED", 1000)
    );
}

#[tokio::test]
async fn files_that_go_before_the_row_says_so_leave_a_retry_without_its_bytes() {
    let stage = Stage::new().await;
    let upload = failed_long_ago(&stage).await;
    // The mutant's first half: the files. Its second, `spool_gone_at`, comes too late.
    Writer::new(&stage, &stage.one).spool.remove(id(&upload)).await.unwrap();
    let retried = PgDesk::new(stage.two.clone()).retry(id(&upload)).await.unwrap();
    assert!(matches!(retried, Intervened::Done(_)), "{retried:?}");
    let given_up = PgCleaningStore::new(stage.one.clone()).give_up_bytes(TTL, 10).await.unwrap();
    assert!(given_up.is_empty(), "the row is SEALED by now");
    assert_eq!(stage.row(&upload, "state").await, "SEALED");
    let lost = bytes_of(&stage, &upload).await;
    assert!(matches!(lost, Err(SpoolError::Damaged(_))), "{lost:?}");
}
