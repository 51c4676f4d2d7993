//! A commit whose outcome is unknown is read again with its lock: without it the reader may see what was before a COMMIT
//! that is still going on.

use devstack::TcpProxy;
use sea_orm::DatabaseConnection;
use uploader_v4::domain::ids::Epoch;
use uploader_v4::domain::session::Next;
use uploader_v4::domain::status::SessionState;
use uploader_v4::gateways::upload_store::StoreError;
use uploader_v4::gateways::upload_store::chunks::{ChunkStore, Outcome};
use uploader_v4::gateways::upload_store::feeds::{FeedRow, FeedStore, PgFeedStore, Told, Written};

use super::stage::{At, ONE, Stage, TWO, connect, guard, id, replica};
use super::writer::{Writer, facts, judge, terms};
use crate::world::{Upload, bytes};

/// A stage whose connection `one` goes through a cable that can be cut.
async fn by_cable() -> (Stage, TcpProxy) {
    let mut stage = Stage::new().await;
    let mut url = url::Url::parse(&stage.world.sandbox.database_url).unwrap();
    let server = format!("127.0.0.1:{}", url.port().unwrap()).parse().unwrap();
    let cable = TcpProxy::start(server).await.unwrap();
    url.set_port(Some(cable.port())).unwrap();
    stage.one = connect(url.as_str(), ONE).await;
    (stage, cable)
}

/// The row as two readers see it.
async fn without_lock(db: &DatabaseConnection, upload: &Upload) -> FeedRow {
    let nothing = Told { session: id(upload), epoch: Epoch(-1), committed: -1, sealed: false };
    let news = PgFeedStore::new(db.clone()).news(replica(), &[nothing]).await.unwrap().remove(0);
    news.1.unwrap()
}

async fn with_lock(db: &DatabaseConnection, upload: &Upload) -> FeedRow {
    PgFeedStore::new(db.clone()).row_locked(id(upload)).await.unwrap().unwrap()
}

#[tokio::test]
async fn a_completion_cut_off_in_its_commit_is_found_done_once_the_row_can_be_locked() {
    let (stage, cable) = by_cable().await;
    let upload = stage.one_sealed().await;
    let me = replica();
    let claim = stage.claim(me, &upload).await;
    let mine = guard(me, &claim);
    let gate = stage.gate(At::Commit("UPDATE ON uploader.session")).await;
    let store = PgFeedStore::new(stage.one.clone());
    let cut = async {
        stage.at_gate().await;
        cable.cut();
    };
    let (done, ()) = tokio::join!(store.complete(mine, &claim), cut);
    assert!(matches!(done, Err(StoreError::Unavailable(_))), "{done:?}");

    let mutant = without_lock(&stage.two, &upload).await;
    assert!(
        mutant.state == SessionState::Sealed && mutant.owned_by(&mine),
        "without the lock it looks undone, and its process would be deleted and fed anew: {mutant:?}"
    );
    let (row, ()) = tokio::join!(with_lock(&stage.two, &upload), async {
        stage.waits_for_row(TWO).await;
        gate.open().await;
    });
    assert_eq!((row.state, row.epoch), (SessionState::Done, mine.epoch), "done, and by this feed");
    stage.world.distributed(&upload).await;
}

#[tokio::test]
async fn a_completion_cut_off_before_its_commit_is_found_undone_and_done_again() {
    let (stage, cable) = by_cable().await;
    let upload = stage.one_sealed().await;
    let me = replica();
    let claim = stage.claim(me, &upload).await;
    let mine = guard(me, &claim);
    let gate = stage.gate(At::Row("DELETE ON upload_sessions")).await;
    let store = PgFeedStore::new(stage.one.clone());
    let cut = async {
        stage.at_gate().await;
        // The server goes on to the end of the transaction and waits for a COMMIT that never comes.
        cable.stall(true);
        gate.open().await;
        let (row, ()) = tokio::join!(with_lock(&stage.two, &upload), async {
            stage.waits_for_row(TWO).await;
            cable.cut();
        });
        row
    };
    let (done, row) = tokio::join!(store.complete(mine, &claim), cut);
    assert!(matches!(done, Err(StoreError::Unavailable(_))), "{done:?}");
    assert!(row.state == SessionState::Sealed && row.owned_by(&mine), "{row:?}");
    let again = PgFeedStore::new(stage.two.clone()).complete(mine, &claim).await.unwrap();
    assert_eq!(again, Written::Done);
    stage.world.distributed(&upload).await;
}

#[tokio::test]
async fn a_chunk_cut_off_in_its_commit_is_answered_only_when_its_rows_can_be_locked() {
    let (stage, cable) = by_cable().await;
    let upload = stage.world.announce_one(2000).await;
    let body = bytes(7, 1000);
    let (one, two) = (Writer::new(&stage, &stage.one), Writer::new(&stage, &stage.two));
    let stored = one.stored(&upload, 0, &body).await;
    let gate = stage.gate(At::Commit("UPDATE ON upload_sessions")).await;
    let batch = [stored];
    let cut = async {
        stage.at_gate().await;
        cable.cut();
    };
    let (done, ()) = tokio::join!(one.store.commit(&batch, &judge), cut);
    assert!(matches!(done, Err(StoreError::Unavailable(_))), "{done:?}");

    // The mutant: to believe an unlocked look, which knows nothing of the chunk.
    let seen = two.look(&upload).await;
    let decided = uploader_v4::domain::session::decide(&seen, &facts(&upload, 0, &body), &terms(i64::MAX)).1;
    assert!(matches!(decided, Next::Accept(_)), "{decided:?}");
    assert_eq!(two.commit(&batch).await, [Outcome::NotNow], "while the commit goes on nobody answers");
    gate.open().await;
    let mut outcome = Outcome::NotNow;
    let looked = async || {
        outcome = two.commit(&batch).await.remove(0);
        outcome != Outcome::NotNow
    };
    stage.world.wait("the rows to be free", crate::world::SOON, looked).await;
    assert_eq!(outcome, Outcome::Other(Next::Repeat));
    assert_eq!(stage.world.committed(&upload).await, 1000);
}

/// Two statements are needed where a decision depends on other rows than the locked one; a single row is read by the
/// statement that locks it, for PostgreSQL reads it anew after it had to wait.
#[tokio::test]
async fn a_row_that_was_waited_for_is_read_as_its_writer_left_it() {
    let stage = Stage::new().await;
    let upload = stage.one_sealed().await;
    let me = replica();
    let claim = stage.claim(me, &upload).await;
    let gate = stage.gate(At::Commit("UPDATE ON uploader.session")).await;
    let store = PgFeedStore::new(stage.one.clone());
    let read = with_lock(&stage.two, &upload);
    let crossed = stage.cross(gate, store.complete(guard(me, &claim), &claim), read).await;
    assert!(crossed.waited && crossed.one.unwrap() == Written::Done);
    assert_eq!(crossed.two.state, SessionState::Done);
}
