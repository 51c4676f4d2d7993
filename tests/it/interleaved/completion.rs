//! The videos row is locked in a statement of its own: two flows of one video may complete at once, and the second must
//! see the first one's flow.

use sea_orm::{DatabaseConnection, TransactionTrait};
use uploader_v4::domain::feed::Claim;
use uploader_v4::gateways::upload_store::feeds::{FeedStore, GUARD, Guard, PgFeedStore, Written};

use super::stage::{At, Stage, guard, guard_values, replica, rows, run};

/// How a completion learns whether the video is complete.
#[derive(Clone, Copy, Debug)]
enum Way {
    /// As the service does it.
    Real,
    /// Nobody locks the videos row.
    WithoutLock,
    /// The statement that locks it also looks at the flows.
    LockAndLookInOne,
}

async fn complete(db: &DatabaseConnection, way: Way, guard: Guard, claim: &Claim) -> Written {
    match way {
        Way::Real => PgFeedStore::new(db.clone()).complete(guard, claim).await.unwrap(),
        Way::WithoutLock | Way::LockAndLookInOne => mutant(db, way, guard, claim).await,
    }
}

async fn mutant(db: &DatabaseConnection, way: Way, guard: Guard, claim: &Claim) -> Written {
    let transaction = db.begin().await.unwrap();
    let done = format!(
        "UPDATE uploader.session SET state = 'DONE', owner = NULL, ended_at = clock_timestamp() WHERE {GUARD}"
    );
    assert_eq!(run(&transaction, &done, guard_values(guard)).await.unwrap().rows_affected(), 1);
    run(&transaction, "UPDATE flows SET status = 'DISTRIBUTED' WHERE id = $1", [claim.flow.0.into()])
        .await
        .unwrap();
    let play = "UPDATE videos SET status = 'DISTRIBUTED' WHERE id = $1";
    let whole = "NOT EXISTS (SELECT 1 FROM flows WHERE video_id = $1 AND status <> 'DISTRIBUTED')";
    if let Way::LockAndLookInOne = way {
        let lock = format!("SELECT {whole} AS whole FROM videos WHERE id = $1 FOR NO KEY UPDATE");
        let seen = rows(&transaction, &lock, [claim.video.0.into()]).await;
        if seen[0].try_get::<bool>("", "whole").unwrap() {
            run(&transaction, play, [claim.video.0.into()]).await.unwrap();
        }
    } else {
        run(&transaction, &format!("{play} AND {whole}"), [claim.video.0.into()]).await.unwrap();
    }
    run(&transaction, "DELETE FROM upload_sessions WHERE id = $1", [claim.session.0.into()]).await.unwrap();
    transaction.commit().await.unwrap();
    Written::Done
}

/// One flow completes up to its last statement, the other comes, both commit: the video's status, and whether the second
/// had to wait.
async fn two_at_once(way: Way) -> (String, bool) {
    let stage = Stage::new().await;
    let uploads = stage.world.announce(&[1000, 1000]).await;
    for upload in &uploads {
        stage.sealed(upload, 1000).await;
    }
    let me = replica();
    let (first, second) = (stage.claim(me, &uploads[0]).await, stage.claim(me, &uploads[1]).await);
    let gate = stage.gate(At::Row("DELETE ON upload_sessions")).await;
    let crossed = stage
        .cross(
            gate,
            complete(&stage.one, way, guard(me, &first), &first),
            complete(&stage.two, way, guard(me, &second), &second),
        )
        .await;
    assert_eq!((crossed.one, crossed.two), (Written::Done, Written::Done), "{way:?}");
    for upload in &uploads {
        assert_eq!(stage.world.flow_status(upload).await.as_deref(), Some("DISTRIBUTED"), "{way:?}");
    }
    (stage.world.video_status(&uploads[0]).await.unwrap(), crossed.waited)
}

#[tokio::test]
async fn of_two_flows_that_complete_at_once_the_second_makes_the_video_play() {
    assert_eq!(two_at_once(Way::Real).await, ("DISTRIBUTED".to_owned(), true));
}

#[tokio::test]
async fn without_the_lock_on_the_video_both_see_the_other_flow_unfinished_and_it_never_plays() {
    assert_eq!(two_at_once(Way::WithoutLock).await, ("UPLOADING".to_owned(), false));
}

#[tokio::test]
async fn a_lock_in_the_statement_that_looks_waits_and_then_believes_what_was_before() {
    assert_eq!(two_at_once(Way::LockAndLookInOne).await, ("UPLOADING".to_owned(), true));
}

#[tokio::test]
async fn a_completion_that_comes_twice_is_done_once() {
    let stage = Stage::new().await;
    let upload = stage.one_sealed().await;
    let me = replica();
    let claim = stage.claim(me, &upload).await;
    let gate = stage.gate(At::Row("DELETE ON upload_sessions")).await;
    let crossed = stage
        .cross(
            gate,
            complete(&stage.one, Way::Real, guard(me, &claim), &claim),
            complete(&stage.two, Way::Real, guard(me, &claim), &claim),
        )
        .await;
    assert_eq!((crossed.one, crossed.two, crossed.waited), (Written::Done, Written::Fenced, true));
    assert_eq!(stage.row(&upload, "state").await, "DONE");
}

/// A flow completes in the moment in which somebody deletes its video: what its session says then.
async fn while_its_video_is_deleted(way: Way) -> String {
    let stage = Stage::new().await;
    let upload = stage.one_sealed().await;
    let me = replica();
    let claim = stage.claim(me, &upload).await;
    let gate = stage.gate(At::Commit("DELETE ON videos")).await;
    let delete = run(&stage.one, "DELETE FROM videos WHERE id = $1", [upload.video.into()]);
    let complete = complete(&stage.two, way, guard(me, &claim), &claim);
    let crossed = stage.cross(gate, delete, complete).await;
    assert!(crossed.waited && crossed.one.unwrap().rows_affected() == 1);
    assert_eq!(crossed.two, Written::Done, "the feed goes on to remove route and bytes");
    stage.row(&upload, "state, last_error").await
}

#[tokio::test]
async fn a_flow_whose_video_is_deleted_in_the_moment_of_its_completion_ends_expired() {
    assert_eq!(while_its_video_is_deleted(Way::Real).await, "EXPIRED removed by another");
}

#[tokio::test]
async fn a_completion_that_does_not_count_its_flows_rows_is_done_with_nothing_that_plays() {
    assert_eq!(while_its_video_is_deleted(Way::WithoutLock).await, "DONE");
}
