//! A batch of chunks passes over rows that others hold, and each chunk is judged again on its locked rows.

use sea_orm::Value;
use sea_orm::sea_query::ArrayType;
use uploader_v4::domain::session::{Next, Session};
use uploader_v4::gateways::spool::Stored;
use uploader_v4::gateways::upload_store::chunks::{ChunkStore, Outcome};

use super::stage::{At, Stage, TWO, rows};
use super::writer::{Writer, judge};
use crate::world::{Upload, bytes};

/// Two uploads of 2000 bytes, the first half stored.
async fn two_halves(stage: &Stage, writer: &Writer) -> [Upload; 2] {
    let uploads = [stage.world.announce_one(2000).await, stage.world.announce_one(2000).await];
    for upload in &uploads {
        writer.put(upload, 0, &bytes(1, 1000)).await;
    }
    uploads
}

/// Each row that a last chunk needs: a change that holds it, and the mutant, a lock of both uploads' rows that waits.
const HELD: [(&str, &str); 4] = [
    (
        "UPDATE videos SET title = title WHERE id = $1",
        "SELECT 1 FROM videos WHERE id IN (SELECT f.video_id FROM flows f JOIN upload_sessions u ON u.flow_id = f.id \
         WHERE u.id = ANY($1)) FOR NO KEY UPDATE",
    ),
    (
        "UPDATE uploader.session SET strikes = strikes WHERE session_id = $1",
        "SELECT 1 FROM uploader.session WHERE session_id = ANY($1) FOR NO KEY UPDATE",
    ),
    (
        "UPDATE flows SET status = status WHERE id = $1",
        "SELECT 1 FROM flows WHERE id IN (SELECT flow_id FROM upload_sessions WHERE id = ANY($1)) FOR NO KEY UPDATE",
    ),
    (
        "UPDATE upload_sessions SET total_bytes = total_bytes WHERE id = $1",
        "SELECT 1 FROM upload_sessions WHERE id = ANY($1) FOR NO KEY UPDATE",
    ),
];

#[tokio::test]
async fn a_row_that_somebody_holds_waits_for_the_next_batch_and_holds_up_no_other() {
    for (change, waiting) in HELD {
        let stage = Stage::new().await;
        let writer = Writer::new(&stage, &stage.two);
        let [held, free] = two_halves(&stage, &writer).await;
        let last = bytes(2, 1000);
        let batch = [writer.stored(&held, 1000, &last).await, writer.stored(&free, 1000, &last).await];
        let row = match change {
            of if of.contains("videos") => held.video,
            of if of.contains("flows") => held.flow,
            _ => held.session,
        };
        let holding = stage.world.hold(change, row).await;

        let outcomes = writer.commit(&batch).await;
        assert!(matches!(outcomes[..], [Outcome::NotNow, Outcome::Committed(_)]), "{change}: {outcomes:?}");
        assert_eq!(stage.row(&free, "state, committed").await, "SEALED 2000", "while the other is held");

        // The mutant waits with both, for as long as the one row is held.
        let both: Vec<Value> = vec![held.session.into(), free.session.into()];
        let both = Value::Array(ArrayType::Uuid, Some(Box::new(both)));
        let mut mutant = std::pin::pin!(rows(&stage.two, waiting, [both]));
        tokio::select! {
            _ = &mut mutant => panic!("{change}: did not wait"),
            () = stage.waits_for_row(TWO) => {}
        }
        holding.commit().await.unwrap();
        assert_eq!(mutant.await.len(), 2, "{change}");
        let outcomes = writer.commit(&batch[..1]).await;
        assert!(matches!(outcomes[..], [Outcome::Committed(_)]), "{change}: {outcomes:?}");
    }
}

/// On which rows a chunk is decided when it is committed.
#[derive(Clone, Copy)]
enum Judged {
    OnLockedRows,
    BeforeTheyWereLocked,
}

/// Two replicas were given the same chunk; one commits it and the next one, the other is late. What the late one's commit
/// comes to, and how far the upload is then.
async fn the_same_chunk_twice(judged: Judged) -> (Outcome, i64) {
    let stage = Stage::new().await;
    let upload = stage.world.announce_one(4000).await;
    let (one, two) = (Writer::new(&stage, &stage.one), Writer::new(&stage, &stage.two));
    let file = bytes(3, 4000);
    one.put(&upload, 0, &file[..1000]).await;
    let seen = two.look(&upload).await;
    let here = one.stored(&upload, 1000, &file[1000..2000]).await;
    let there = two.stored(&upload, 1000, &file[1000..2000]).await;
    let gate = stage.gate(At::Row("UPDATE ON upload_sessions")).await;
    let crossed = stage.cross(gate, one.commit(&[here]), two.commit(&[there])).await;
    assert!(matches!(crossed.one[..], [Outcome::Committed(_)]), "{:?}", crossed.one);
    assert_eq!((crossed.two, crossed.waited), (vec![Outcome::NotNow], false));
    one.put(&upload, 2000, &file[2000..3000]).await;
    let as_seen = |_: &Session, stored: &Stored, reserved: i64| judge(&seen, stored, reserved);
    let late = match judged {
        Judged::OnLockedRows => two.commit(&[there]).await,
        Judged::BeforeTheyWereLocked => two.store.commit(&[there], &as_seen).await.unwrap(),
    };
    (late[0].clone(), stage.world.committed(&upload).await)
}

#[tokio::test]
async fn the_second_of_two_replicas_with_one_chunk_finds_on_locked_rows_that_it_is_stored() {
    let judged = the_same_chunk_twice(Judged::OnLockedRows).await;
    assert_eq!(judged, (Outcome::Other(Next::Repeat), 3000));
}

#[tokio::test]
async fn one_that_believes_its_first_decision_takes_back_a_chunk_that_was_acked() {
    let (outcome, committed) = the_same_chunk_twice(Judged::BeforeTheyWereLocked).await;
    assert!(matches!(outcome, Outcome::Committed(_)), "{outcome:?}");
    assert_eq!(committed, 2000, "3000 were acked");
}
