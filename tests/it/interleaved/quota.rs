//! The quota is a reservation: two replicas that take new uploads in the same moment must not both give away the same room.

use uploader_v4::domain::session::{self, Next, RefusalKind, Session};
use uploader_v4::gateways::spool::Stored;
use uploader_v4::gateways::upload_store::chunks::{ChunkStore, Outcome};

use super::stage::{At, Stage};
use super::writer::{Writer, terms};
use crate::world::{SOON, bytes};

/// Room for one file of 1000 bytes, not for two.
fn with_little_room(session: &Session, stored: &Stored, reserved: i64) -> (Session, Next) {
    session::decide(session, &stored.facts(), &terms(1500 - reserved))
}

#[tokio::test]
async fn of_two_first_chunks_on_two_replicas_only_one_gets_the_last_room() {
    let stage = Stage::new().await;
    let uploads = [stage.world.announce_one(1000).await, stage.world.announce_one(1000).await];
    let (one, two) = (Writer::new(&stage, &stage.one), Writer::new(&stage, &stage.two));
    let body = bytes(11, 500);
    let (here, there) =
        ([one.stored(&uploads[0], 0, &body).await], [two.stored(&uploads[1], 0, &body).await]);
    let gate = stage.gate(At::Commit("INSERT ON uploader.session")).await;
    let crossed = stage
        .cross(gate, one.store.commit(&here, &with_little_room), async {
            // The mutant: to believe the sum, in which nobody sees what the other one is about to reserve.
            let seen = two.store.reserved().await.unwrap();
            (seen, two.store.commit(&there, &with_little_room).await.unwrap())
        })
        .await;
    let (seen, late) = crossed.two;
    assert_eq!(seen, 0, "room for one more, it seems");
    assert!(matches!(crossed.one.unwrap()[..], [Outcome::Committed(_)]));
    assert_eq!((late, crossed.waited), (vec![Outcome::NotNow], false));
    let mut outcome = Outcome::NotNow;
    let again = async || {
        outcome = two.store.commit(&there, &with_little_room).await.unwrap().remove(0);
        outcome != Outcome::NotNow
    };
    stage.world.wait("the first one's transaction to be over", SOON, again).await;
    let full = matches!(&outcome, Outcome::Other(Next::Refuse(why)) if why.kind == RefusalKind::StorageFull);
    assert!(full, "{outcome:?}");
    assert_eq!(one.store.reserved().await.unwrap(), 1000);
}
