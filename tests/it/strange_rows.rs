//! Rows that somebody wrote by hand, or that the database refuses: they concern their own session only.

use std::time::{Duration, Instant};

use crate::client::answer;
use crate::world::{World, bytes};

#[tokio::test]
async fn a_status_that_nobody_knows_costs_only_its_own_session() {
    let world = World::new().await;
    let _replica = world.replica("one").await;
    let client = world.client().await;
    let file = bytes(80, 300_000);
    let begun = world.announce_one(file.len()).await;
    client.upload_range(&begun, &file, 100_000, 0, 100_000).await;
    let fresh = world.announce_one(file.len()).await;
    for upload in [&begun, &fresh] {
        let nonsense = "UPDATE flows SET status = 'NONSENSE' WHERE id = $1";
        assert_eq!(world.execute(nonsense, vec![upload.flow.into()]).await, 1);
    }
    let others = world.announce(&[file.len() as i64; 20]).await;

    let sent = Instant::now();
    let strange = [
        client.begin(&begun.session.to_string(), 100_000, &file[100_000..200_000]).await,
        client.begin(&fresh.session.to_string(), 0, &file[..100_000]).await,
    ];
    let repeated = client.begin(&begun.session.to_string(), 0, &file[..100_000]).await;
    let mut answers = Vec::new();
    for other in &others {
        answers.push(client.begin(&other.session.to_string(), 0, &file[..100_000]).await);
    }
    for good in answers {
        assert!(answer(good).await.is_ack());
    }
    assert!(sent.elapsed() < Duration::from_secs(3), "{:?}", sent.elapsed());
    for refused in strange {
        let refused = answer(refused).await;
        assert!(refused.reason().contains("flows.status is \"NONSENSE\""), "{refused:?}");
        assert_eq!(refused.retryable, Some(false));
    }
    assert!(answer(repeated).await.is_ack(), "a stored chunk is answered as the first time");
    assert_eq!((world.committed(&begun).await, world.committed(&fresh).await), (100_000, 0));

    let mend = "UPDATE flows SET status = 'UPLOADING' WHERE id = $1";
    world.execute(mend, vec![begun.flow.into()]).await;
    client.upload_range(&begun, &file, 100_000, 100_000, file.len()).await;
    world.distributed(&begun).await;
}
