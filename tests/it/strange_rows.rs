//! Rows that somebody wrote by hand, or that the database refuses: they concern their own session only.

use std::time::{Duration, Instant};

use peers::recording::RecordingOptions;

use crate::client::answer;
use crate::world::{SOON, World, bytes, sha256};

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

/// Refuses every new generation of one session.
const REFUSE: [&str; 2] = [
    "CREATE FUNCTION uploader.refuse() RETURNS trigger LANGUAGE plpgsql AS \
     $$ BEGIN RAISE EXCEPTION 'no further generation'; END $$",
    "CREATE TRIGGER refuse BEFORE UPDATE OF generation ON uploader.session FOR EACH ROW \
     WHEN (NEW.session_id = 'SESSION') EXECUTE FUNCTION uploader.refuse()",
];

#[tokio::test]
async fn a_feed_whose_write_is_refused_rests_longer_each_time_and_holds_up_nobody() {
    let first_rest = Duration::from_secs(1);
    let settings = [("UPLOADER_FEED_BACKOFF_MAX", "1s"), ("UPLOADER_FEED_BACKOFF_MIN", "100ms")];
    let world = World::with(RecordingOptions::default(), &settings).await;
    let replica = world.replica("one").await;
    let client = world.client().await;
    let file = bytes(81, 400_000);
    let refused = world.announce_one(file.len()).await;
    for statement in REFUSE {
        world.execute(&statement.replace("SESSION", &refused.session.to_string()), Vec::new()).await;
    }
    let sent = Instant::now();
    client.upload(&refused, &file, 100_000).await;
    let other = world.announce_one(file.len()).await;
    client.upload(&other, &file, 100_000).await;
    world.distributed(&other).await;

    let owned = "SELECT epoch::text FROM uploader.session WHERE session_id = $1";
    let claims = async || world.text(owned, refused.session).await.unwrap().parse::<usize>().unwrap();
    world.wait("a third attempt", SOON, async || claims().await >= 3).await;
    // Half of a rest may be jitter, and the second is twice as long as the first.
    assert!(sent.elapsed() >= first_rest * 2, "{:?}", sent.elapsed());
    let log = std::fs::read_to_string(replica.process.log_path().unwrap()).unwrap();
    let told = log.lines().filter(|line| line.contains("the database refuses this session")).count();
    let claimed = claims().await;
    assert!((claimed - 1..=claimed).contains(&told), "once each: {told} of {claimed}");
    assert!(log.contains("no further generation"), "and says why");

    world.execute("DROP TRIGGER refuse ON uploader.session", Vec::new()).await;
    world.distributed(&refused).await;
    assert_eq!(world.fflow.flow(&refused.session.to_string()).unwrap().sha256, sha256(&file));
}
