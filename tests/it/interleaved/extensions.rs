//! A chunk in the middle is committed by one statement, which writes only where the rows are as they were seen.

use sea_orm::TransactionTrait;
use uploader_v4::gateways::upload_store::chunks::{EXTEND, Outcome, extend_values};
use uploader_v4::gateways::upload_store::pool::PLANNED_ONCE;

use super::stage::{At, ONE, Stage, mutated, rows};
use super::writer::Writer;
use crate::world::{Upload, bytes};

/// Uploads of 4000 bytes, the first quarter of each stored.
async fn begun<const COUNT: usize>(stage: &Stage, writer: &Writer) -> [Upload; COUNT] {
    let uploads: [Upload; COUNT] = stage.world.announce(&[4000; COUNT]).await.try_into().unwrap();
    for upload in &uploads {
        writer.put(upload, 0, &bytes(1, 1000)).await;
    }
    uploads
}

#[tokio::test]
async fn a_row_that_somebody_holds_is_passed_over() {
    for change in [
        "UPDATE uploader.session SET strikes = strikes WHERE session_id = $1",
        "UPDATE upload_sessions SET total_bytes = total_bytes WHERE id = $1",
    ] {
        let stage = Stage::new().await;
        let writer = Writer::new(&stage, &stage.two);
        let [held, free] = begun(&stage, &writer).await;
        let next = bytes(2, 1000);
        let batch = [writer.extension(&held, 1000, &next).await, writer.extension(&free, 1000, &next).await];
        let holding = stage.world.hold(change, held.session).await;
        let outcomes = writer.extend(&batch).await;
        assert!(matches!(outcomes[..], [Outcome::NotNow, Outcome::Committed(_)]), "{change}: {outcomes:?}");
        assert_eq!(stage.row(&free, "state, committed").await, "OPEN 2000", "while the other is held");
        holding.commit().await.unwrap();
        let outcomes = writer.extend(&batch[..1]).await;
        assert!(matches!(outcomes[..], [Outcome::Committed(_)]), "{change}: {outcomes:?}");
    }
}

#[tokio::test]
async fn what_others_were_supposed_to_have_stored_is_known_once_the_chunk_is_written() {
    const PIECE: usize = 100;
    let stage = Stage::new().await;
    let (one, two) = (Writer::new(&stage, &stage.one), Writer::new(&stage, &stage.two));
    let [upload] = begun(&stage, &one).await;
    let seen = one.seen(&upload).await;
    let file = bytes(4, 4000);
    for start in (1000..3000).step_by(PIECE) {
        let next = two.extension(&upload, start, &file[start..start + PIECE]).await;
        assert!(matches!(two.extend(&[next]).await[..], [Outcome::Committed(_)]), "{start}");
    }
    let last = &file[3000..3000 + PIECE];
    let supposed = one.extension_of(&seen.supposing(3000), &upload, 3000, last).await;
    let [Outcome::Committed(now)] = &one.extend(&[supposed]).await[..] else {
        panic!("others did store it");
    };
    assert_eq!(*now, one.seen(&upload).await);
    let newest = now.session.own.as_ref().unwrap().recent.chunks().map(|(start, ..)| start);
    assert!(newest.eq((1500..=3000).step_by(PIECE)), "sixteen of them");
}

/// All that a chunk in the middle is decided by, the clause that compares it, and how it becomes another.
const COMPARED: [(&str, &str); 7] = [
    (
        "s.state = 'OPEN'",
        "UPDATE uploader.session SET state = 'EXPIRED', ended_at = now() WHERE session_id = $1",
    ),
    ("s.committed = b.before", "UPDATE uploader.session SET committed = committed + 1 WHERE session_id = $1"),
    ("u.uploaded_bytes = b.before", "UPDATE upload_sessions SET uploaded_bytes = 1001 WHERE id = $1"),
    ("u.total_bytes = b.total", "UPDATE upload_sessions SET total_bytes = 1500 WHERE id = $1"),
    (
        "f.status = 'UPLOADING'",
        "UPDATE flows SET status = 'HIDDEN' WHERE id = (SELECT flow_id FROM upload_sessions WHERE id = $1)",
    ),
    (
        "v.status = 'UPLOADING'",
        "UPDATE videos SET status = 'BLOCKED' WHERE id = (SELECT f.video_id FROM flows f \
         JOIN upload_sessions u ON u.flow_id = f.id WHERE u.id = $1)",
    ),
    ("u.id = s.session_id", "DELETE FROM upload_sessions WHERE id = $1"),
];

#[tokio::test]
async fn rows_that_are_not_as_they_were_seen_are_not_written() {
    for (clause, change) in COMPARED {
        let stage = Stage::new().await;
        let writer = Writer::new(&stage, &stage.two);
        let [upload] = begun(&stage, &writer).await;
        let extension = [writer.extension(&upload, 1000, &bytes(2, 1000)).await];
        assert_eq!(stage.world.execute(change, vec![upload.session.into()]).await, 1);
        let before = stage.row(&upload, "state, committed").await;
        assert_eq!(writer.extend(&extension).await, [Outcome::NotNow], "{clause}");
        assert_eq!(stage.row(&upload, "state, committed").await, before, "{clause}");
        // The mutant does not compare it; a row that is gone has nothing to compare.
        if !change.starts_with("DELETE") {
            let mutant = mutated(EXTEND, clause, "true");
            assert_eq!(rows(&stage.two, &mutant, extend_values(&extension)).await.len(), 1, "{clause}");
        }
    }
}

/// The statement with a gate between its snapshot and its locks.
fn gated(statement: &str) -> String {
    let values = "b AS MATERIALIZED (SELECT * FROM unnest(";
    let behind = "g AS MATERIALIZED (SELECT pg_advisory_xact_lock_shared(1)), \
                  b AS MATERIALIZED (SELECT b.* FROM g, unnest(";
    mutated(statement, values, behind)
}

/// One replica's statement has its snapshot and no lock yet; meanwhile the other one commits two of its three chunks, and
/// of the same uploads the ones after them. How many rows the first one then writes, and how far the uploads are.
async fn overtaken(statement: &str) -> (usize, [i64; 3]) {
    let stage = Stage::new().await;
    let (one, two) = (Writer::new(&stage, &stage.one), Writer::new(&stage, &stage.two));
    let uploads: [Upload; 3] = begun(&stage, &two).await;
    let file = bytes(3, 4000);
    let mut late = Vec::new();
    for upload in &uploads {
        late.push(one.extension(upload, 1000, &file[1000..2000]).await);
    }
    // No row comes to this gate: the statement itself stops there.
    let gate = stage.gate(At::Row("DELETE ON videos")).await;
    let gated = gated(statement);
    let overtake = async {
        for (upload, start) in [(0, 1000), (0, 2000), (1, 1000), (1, 2000)] {
            let next = two.extension(&uploads[upload], start, &file[start..start + 1000]).await;
            assert!(matches!(two.extend(&[next]).await[..], [Outcome::Committed(_)]));
        }
    };
    let crossed = stage.cross(gate, rows(&stage.one, &gated, extend_values(&late)), overtake).await;
    let mut committed = [0; 3];
    for (committed, upload) in committed.iter_mut().zip(&uploads) {
        *committed = stage.world.committed(upload).await;
    }
    (crossed.one.len(), committed)
}

#[tokio::test]
async fn what_was_committed_after_the_statement_began_is_seen_under_the_lock() {
    assert_eq!(overtaken(EXTEND).await, (1, [3000, 3000, 2000]), "of the connection {ONE}");
}

#[tokio::test]
async fn without_the_locks_a_chunk_that_was_acked_is_taken_back() {
    let unlocked = mutated(EXTEND, "FOR NO KEY UPDATE OF s, u SKIP LOCKED", "");
    assert_eq!(overtaken(&unlocked).await, (3, [2000; 3]), "3000 were acked of two");
}

/// The statement's plan on a connection with these settings, a line for each of its parts.
async fn plan(stage: &Stage, settings: &[(&str, &str)]) -> Vec<String> {
    let connection = stage.two.begin().await.unwrap();
    for (name, value) in settings {
        rows(&connection, &format!("SET LOCAL {name} = {value}"), []).await;
    }
    rows(&connection, &format!("PREPARE extend AS {EXTEND}"), []).await;
    let nothing = ["'{}'"; 11].join(", ");
    let plan = rows(&connection, &format!("EXPLAIN (COSTS OFF) EXECUTE extend({nothing})"), []).await;
    rows(&connection, "DEALLOCATE extend", []).await;
    connection.rollback().await.unwrap();
    plan.iter().map(|line| line.try_get_by_index(0).unwrap()).collect()
}

/// Whether a plan looks into every table by key only, and compares no two lists with each other.
fn goes_by_key(plan: &[String]) -> bool {
    let mut lines = plan.iter().peekable();
    while let Some(line) = lines.next() {
        let by_key = lines.peek().is_some_and(|next| next.contains("Index Cond"));
        let whole = line.contains("Seq Scan") || line.contains("Scan using") && !by_key;
        if whole || line.contains("Join Filter") || line.contains("Hash Cond") || line.contains("Merge Cond")
        {
            return false;
        }
    }
    true
}

#[tokio::test]
async fn rows_are_found_by_key_whatever_the_planner_knows_of_the_tables() {
    let stage = Stage::new().await;
    let writer = Writer::new(&stage, &stage.two);
    let mut left_to_choose = true;
    for (uploads, analyzed) in [(0, false), (60, false), (0, true), (200, false)] {
        for upload in stage.world.announce(&vec![4000; uploads]).await {
            writer.put(&upload, 0, &bytes(1, 1000)).await;
        }
        if analyzed {
            rows(&stage.two, "ANALYZE", []).await;
        }
        left_to_choose &= goes_by_key(&plan(&stage, &PLANNED_ONCE[..1]).await);
        let plan = plan(&stage, &PLANNED_ONCE).await;
        assert!(goes_by_key(&plan), "{uploads} more, analyzed: {analyzed}:\n{}", plan.join("\n"));
    }
    assert!(!left_to_choose, "the other settings are not needed");
}

#[tokio::test]
async fn of_two_replicas_with_one_chunk_one_extends_and_the_other_does_not_wait() {
    let stage = Stage::new().await;
    let (one, two) = (Writer::new(&stage, &stage.one), Writer::new(&stage, &stage.two));
    let [upload] = begun(&stage, &two).await;
    let body = bytes(4, 1000);
    let here = [one.extension(&upload, 1000, &body).await];
    let there = [two.extension(&upload, 1000, &body).await];
    let gate = stage.gate(At::Row("UPDATE ON upload_sessions")).await;
    let crossed = stage.cross(gate, one.extend(&here), two.extend(&there)).await;
    assert!(matches!(crossed.one[..], [Outcome::Committed(_)]), "{:?}", crossed.one);
    assert_eq!((crossed.two, crossed.waited), (vec![Outcome::NotNow], false));
    assert_eq!(two.extend(&there).await, [Outcome::NotNow], "afterwards too");
    assert_eq!(stage.world.committed(&upload).await, 2000);
}

/// One replica's statement has its snapshot and no lock yet; meanwhile a feed numbers its generation.
async fn numbered_meanwhile(statement: &str) -> (usize, String) {
    let stage = Stage::new().await;
    let (one, two) = (Writer::new(&stage, &stage.one), Writer::new(&stage, &stage.two));
    let [upload] = begun(&stage, &two).await;
    let chunk = [one.extension(&upload, 1000, &bytes(3, 1000)).await];
    let gate = stage.gate(At::Row("DELETE ON videos")).await;
    let gated = gated(statement);
    let number = stage.set(&upload, "generation = 1, epoch = 1");
    let crossed = stage.cross(gate, rows(&stage.one, &gated, extend_values(&chunk)), number).await;
    (crossed.one.len(), stage.row(&upload, "committed, generation, epoch").await)
}

#[tokio::test]
async fn what_a_feed_wrote_after_the_statement_began_stays() {
    assert_eq!(numbered_meanwhile(EXTEND).await, (1, "2000 1 1".to_owned()));
}

#[tokio::test]
async fn what_a_feed_writes_while_the_statement_holds_the_row_waits_and_stays() {
    let stage = Stage::new().await;
    let (one, two) = (Writer::new(&stage, &stage.one), Writer::new(&stage, &stage.two));
    let [upload] = begun(&stage, &two).await;
    let chunk = [one.extension(&upload, 1000, &bytes(3, 1000)).await];
    let gate = stage.gate(At::Row("UPDATE ON upload_sessions")).await;
    let number =
        "UPDATE uploader.session SET generation = 1 WHERE session_id = $1 AND state IN ('OPEN', 'SEALED')";
    let number = rows(&stage.two, number, [upload.session.into()]);
    let crossed = stage.cross(gate, one.extend(&chunk), number).await;
    assert!(matches!(crossed.one[..], [Outcome::Committed(_)]) && crossed.waited);
    assert_eq!(stage.row(&upload, "committed, generation").await, "2000 1");
}
