//! A claim reads and clears `settled` under the row's lock, in one statement, and passes over rows that others hold.

use sea_orm::{DatabaseConnection, Value};
use uploader_v4::domain::ids::ReplicaId;
use uploader_v4::gateways::upload_store::feeds::CLAIM;
use uuid::Uuid;

use super::stage::{At, Stage, claimed, mutated, replica, rows};
use crate::world::Upload;

/// The clause by which a claim locks what it takes.
const LOCK: &str = "FOR NO KEY UPDATE OF s SKIP LOCKED";

/// What a claimer believes: its epoch, and that it may go on with the generation as it is.
type Belief = (i64, bool);

/// Claims these by a statement that has the parameters of the real one.
async fn by(
    db: &DatabaseConnection,
    statement: &str,
    me: ReplicaId,
    uploads: &[Upload],
) -> Vec<(Uuid, Belief)> {
    let only: Vec<Value> = uploads.iter().map(|upload| upload.session.into()).collect();
    let array = |ids: Vec<Value>| Value::Array(sea_orm::sea_query::ArrayType::Uuid, Some(Box::new(ids)));
    let values = [me.0.into(), array(Vec::new()), array(only), 10_i64.into(), 1_i64.into(), true.into()];
    let found = rows(db, statement, values).await;
    let believes = |row: &sea_orm::QueryResult| {
        let belief = (row.try_get("", "epoch").unwrap(), row.try_get("", "was_settled").unwrap());
        (row.try_get("", "session_id").unwrap(), belief)
    };
    found.iter().map(believes).collect()
}

/// Two replicas claim one session that was handed over settled, the first one stopped in its update.
async fn two_claimers(statement: &str) -> (Vec<Belief>, Vec<Belief>, bool) {
    let stage = Stage::new().await;
    let uploads = [stage.one_sealed().await];
    stage.set(&uploads[0], "generation = 1, settled = true, fed = 600").await;
    let gate = stage.gate(At::Row("UPDATE ON uploader.session")).await;
    let crossed = stage
        .cross(
            gate,
            by(&stage.one, statement, replica(), &uploads),
            by(&stage.two, statement, replica(), &uploads),
        )
        .await;
    let beliefs = |claims: Vec<(Uuid, Belief)>| claims.into_iter().map(|(_, belief)| belief).collect();
    (beliefs(crossed.one), beliefs(crossed.two), crossed.waited)
}

#[tokio::test]
async fn of_two_claimers_one_gets_the_session_and_the_other_does_not_wait() {
    assert_eq!(two_claimers(CLAIM).await, (vec![(1, true)], vec![], false));
}

#[tokio::test]
async fn without_the_rows_lock_both_believe_that_they_may_go_on_with_one_process() {
    let mutant = mutated(CLAIM, LOCK, "");
    assert_eq!(two_claimers(&mutant).await, (vec![(1, true)], vec![(2, true)], true));
}

/// A claimer stops for good right after its claim and its lease ends; what the next one believes.
async fn taken_over(statement: &str) -> Belief {
    let stage = Stage::new().await;
    let uploads = [stage.one_sealed().await];
    stage.set(&uploads[0], "generation = 1, settled = true, fed = 600").await;
    let (first, second) = (replica(), replica());
    stage.beat(first, 60.0).await;
    assert_eq!(by(&stage.one, statement, first, &uploads).await[0].1, (1, true));
    assert!(claimed(&stage.two, second, &uploads[0]).await.is_none(), "its owner lives");
    stage.beat(first, -1.0).await;
    by(&stage.two, statement, second, &uploads).await[0].1
}

#[tokio::test]
async fn a_session_whose_claimer_died_at_once_is_not_settled_any_more() {
    assert_eq!(taken_over(CLAIM).await, (2, false));
}

#[tokio::test]
async fn a_settled_that_is_to_be_cleared_by_a_later_statement_lets_a_second_owner_go_on_too() {
    let mutant = mutated(CLAIM, ", settled = false", "");
    assert_eq!(taken_over(&mutant).await, (2, true));
}

/// A claim of two sessions, one of which somebody is writing to: which it gets, and whether it had to wait.
async fn beside_a_held_row(statement: &str) -> (Vec<Uuid>, bool, Uuid) {
    let stage = Stage::new().await;
    let uploads = [stage.one_sealed().await, stage.one_sealed().await];
    let gate = stage.gate(At::Commit("UPDATE ON uploader.session")).await;
    let touch = "UPDATE uploader.session SET last_activity = clock_timestamp() WHERE session_id = $1";
    let held = rows(&stage.one, touch, [uploads[0].session.into()]);
    let crossed = stage.cross(gate, held, by(&stage.two, statement, replica(), &uploads)).await;
    let got = crossed.two.into_iter().map(|(session, _)| session).collect();
    (got, crossed.waited, uploads[1].session)
}

#[tokio::test]
async fn a_claim_takes_what_is_free_while_somebody_holds_another_row() {
    let (got, waited, free) = beside_a_held_row(CLAIM).await;
    assert_eq!((got, waited), (vec![free], false));
}

#[tokio::test]
async fn a_claim_that_does_not_skip_waits_with_everything_for_one_row() {
    let (got, waited, _) = beside_a_held_row(&mutated(CLAIM, " SKIP LOCKED", "")).await;
    assert_eq!((got.len(), waited), (2, true), "for as long as that row is held it feeds nobody");
}
