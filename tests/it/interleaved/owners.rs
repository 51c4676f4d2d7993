//! A claim tells whether the owner it takes over from died, as the row says under its lock: a finish of a dead owner may
//! never have been sent, that of one who released was.

use std::time::Duration;

use sea_orm::{DatabaseConnection, Value};
use uploader_v4::domain::ids::ReplicaId;
use uploader_v4::gateways::upload_store::feeds::{CLAIM, FeedStore, PgFeedStore, Written};

use super::stage::{At, Stage, claimed, guard, id, mutated, replica, rows};
use crate::world::{SOON, Upload};

/// An owner whose lease has ended and who has asked for a finish.
async fn finishing(stage: &Stage) -> (Upload, ReplicaId, uploader_v4::domain::feed::Claim) {
    let upload = stage.one_sealed().await;
    let owner = replica();
    stage.beat(owner, -1.0).await;
    let claim = stage.claim(owner, &upload).await;
    let store = PgFeedStore::new(stage.world.db.clone());
    assert_eq!(store.mark_finish(guard(owner, &claim)).await.unwrap(), Written::Done);
    (upload, owner, claim)
}

/// Claims until it gets the session, as the sweep does; then what the real claim says.
async fn swept(stage: &Stage, me: ReplicaId, upload: &Upload) -> uploader_v4::domain::feed::Claim {
    let mut got = None;
    let claim = async || {
        got = claimed(&stage.two, me, upload).await;
        got.is_some()
    };
    stage.world.wait("the session to be claimed", SOON, claim).await;
    got.unwrap()
}

/// Whether the owner is dead, asked by a statement before the claim.
async fn asked_before(db: &DatabaseConnection, upload: &Upload) -> bool {
    let query = "SELECT s.owner IS NOT NULL AND NOT EXISTS (SELECT 1 FROM uploader.replica r \
                 WHERE r.replica_id = s.owner AND r.lease_until > clock_timestamp()) AS died \
                 FROM uploader.session s WHERE s.session_id = $1";
    rows(db, query, [upload.session.into()]).await[0].try_get("", "died").unwrap()
}

#[tokio::test]
async fn an_owner_that_wakes_and_releases_in_the_moment_of_a_claim_did_not_die() {
    let stage = Stage::new().await;
    let (upload, owner, claim) = finishing(&stage).await;
    let gate = stage.gate(At::Row("UPDATE ON uploader.session")).await;
    let one = PgFeedStore::new(stage.one.clone());
    let next = replica();
    let crossed = stage
        .cross(gate, one.release(guard(owner, &claim), false, 0), async {
            let mutant = asked_before(&stage.two, &upload).await;
            (mutant, claimed(&stage.two, next, &upload).await.is_some())
        })
        .await;
    let (mutant, at_once) = crossed.two;
    assert_eq!((crossed.one.unwrap(), at_once, crossed.waited), (Written::Done, false, false));
    let claim = swept(&stage, next, &upload).await;
    assert!(claim.finish_sent.is_some_and(|ago| ago < Duration::from_secs(60)), "{claim:?}");
    assert!(!claim.owner_died, "it released: its finish was sent, and has its whole deadline");
    assert!(mutant, "asked before the claim, the owner seems dead: its finish would be given up early");
}

#[tokio::test]
async fn an_owner_whose_lease_ended_did_die_and_the_rows_new_owner_does_not_hide_it() {
    let stage = Stage::new().await;
    let (upload, ..) = finishing(&stage).await;
    assert!(stage.claim(replica(), &upload).await.owner_died);

    let (upload, ..) = finishing(&stage).await;
    let mutant =
        mutated(CLAIM, "c.owner IS NOT NULL AND c.owner <> $1", "s.owner IS NOT NULL AND s.owner <> $1");
    let only = Value::Array(sea_orm::sea_query::ArrayType::Uuid, Some(Box::new(vec![id(&upload).0.into()])));
    let nobody = Value::Array(sea_orm::sea_query::ArrayType::Uuid, Some(Box::default()));
    let values = [replica().0.into(), nobody, only, 1_i64.into(), 1_i64.into(), true.into()];
    let claimed = rows(&stage.two, &mutant, values).await;
    let died: bool = claimed[0].try_get("", "owner_died").unwrap();
    assert!(!died, "RETURNING gives the new owner: nobody ever died");
}
