//! `consuming_since` begins anew after a gap, also when all replicas come back in the same moment: a heartbeat looks at
//! the others before it writes its own row.

use sea_orm::{DatabaseConnection, TransactionTrait};
use uploader_v4::domain::ids::ReplicaId;
use uploader_v4::gateways::upload_store::replicas::{
    BEAT, Heartbeat, NOTE_CONSUMING, PgReplicaStore, ReplicaStore,
};

use super::stage::{At, Stage, replica, run};

/// In which order a heartbeat does its two things.
#[derive(Clone, Copy, Debug)]
enum Order {
    /// As the service does it.
    NoteThenBeat,
    BeatThenNote,
}

async fn beat(db: &DatabaseConnection, order: Order, replica: ReplicaId) {
    let heartbeat = Heartbeat { replica, name: "r".to_owned(), consuming: true, lease_seconds: 15.0 };
    match order {
        Order::NoteThenBeat => PgReplicaStore::new(db.clone()).beat(&heartbeat).await.unwrap(),
        Order::BeatThenNote => {
            let transaction = db.begin().await.unwrap();
            let values = [replica.0.into(), "r".into(), true.into(), 15.0_f64.into()];
            run(&transaction, BEAT, values).await.unwrap();
            run(&transaction, NOTE_CONSUMING, []).await.unwrap();
            transaction.commit().await.unwrap();
        }
    }
}

/// Whether the farm's time without a gap begins after an outage of an hour, at the end of which two replicas beat at once.
async fn begins_anew(order: Order) -> bool {
    let stage = Stage::new().await;
    let (one, two) = (replica(), replica());
    for replica in [one, two] {
        stage.beat(replica, -3600.0).await;
    }
    let long_ago = "UPDATE uploader.service SET consuming_since = clock_timestamp() - interval '1 day'";
    stage.world.execute(long_ago, Vec::new()).await;
    let gate = stage.gate(At::Row("UPDATE ON uploader.replica")).await;
    stage.cross(gate, beat(&stage.one, order, one), beat(&stage.two, order, two)).await;
    let fresh =
        "SELECT 1 FROM uploader.service WHERE consuming_since > clock_timestamp() - interval '1 hour'";
    !stage.world.query(fresh, Vec::new()).await.is_empty()
}

#[tokio::test]
async fn an_outage_of_all_replicas_gives_every_upload_its_full_time_again() {
    assert!(begins_anew(Order::NoteThenBeat).await);
}

#[tokio::test]
async fn a_heartbeat_that_writes_its_own_row_first_hides_the_outage() {
    assert!(!begins_anew(Order::BeatThenNote).await);
}

#[tokio::test]
async fn a_replica_that_comes_while_another_consumes_changes_nothing() {
    let stage = Stage::new().await;
    let (one, two) = (replica(), replica());
    stage.beat(one, 60.0).await;
    let long_ago = "UPDATE uploader.service SET consuming_since = clock_timestamp() - interval '1 day'";
    stage.world.execute(long_ago, Vec::new()).await;
    let gate = stage.gate(At::Row("UPDATE ON uploader.replica")).await;
    let order = Order::NoteThenBeat;
    let crossed = stage.cross(gate, beat(&stage.one, order, one), beat(&stage.two, order, two)).await;
    assert!(!crossed.waited, "one heartbeat does not wait for another");
    let kept = "SELECT 1 FROM uploader.service WHERE consuming_since < clock_timestamp() - interval '1 hour'";
    assert_eq!(stage.world.query(kept, Vec::new()).await.len(), 1);
}
