//! One version beside the next: what an operator sees of an upgrade and of going back.

use devstack::Signal;

use crate::world::{SOON, World, bytes, sha256};

/// As the next version's migration does it: things are only added.
const NEXT_VERSION: [&str; 4] = [
    "ALTER TABLE uploader.session ADD COLUMN of_the_next_version text",
    "CREATE TABLE uploader.of_the_next_version (session_id uuid PRIMARY KEY, note text)",
    "UPDATE uploader.service SET schema_version = schema_version + 1",
    "INSERT INTO uploader.seaql_migrations (version, applied_at) VALUES ('m0002_of_the_next_version', 0)",
];

async fn version(world: &World) -> i32 {
    let rows = world.query("SELECT schema_version FROM uploader.service", Vec::new()).await;
    rows[0].try_get_by_index(0).unwrap()
}

#[tokio::test]
async fn an_upgrade_under_way_and_taken_back_costs_no_chunk_and_no_generation() {
    let world = World::new().await;
    let one = world.replica("one").await;
    let _two = world.replica("two").await;
    let client = world.client().await;
    let file = bytes(90, 1_600_000);
    let mut uploads = Vec::new();
    for _ in 0..5 {
        uploads.push(world.announce_one(file.len()).await);
    }
    let part = async |from: usize, to: usize| {
        let all = uploads.iter().map(|upload| client.upload_range(upload, &file, 20_000, from, to));
        futures_util::future::join_all(all).await;
    };
    part(0, 400_000).await;
    // The schema changes under both while chunks flow.
    let migrate = async {
        for step in NEXT_VERSION {
            world.execute(step, Vec::new()).await;
        }
    };
    tokio::join!(part(400_000, 800_000), migrate);

    // Going back: the old program starts on the new schema, whether or not it may migrate, beside one from before.
    world.execute("UPDATE uploader.session SET of_the_next_version = 'written by it'", Vec::new()).await;
    let back = async {
        one.process.stop(Signal::SIGTERM, SOON).await.unwrap();
        assert!(one.process.exit_status().unwrap().success());
        let three = world.replica_unready("three", &[("UPLOADER_DATABASE_MIGRATE", "false")]).await;
        three.ready().await;
        let four = world.replica_unready("four", &[("UPLOADER_DATABASE_MIGRATE", "true")]).await;
        four.ready().await;
        (three, four)
    };
    let ((), _back) = tokio::join!(part(800_000, 1_200_000), back);
    part(1_200_000, file.len()).await;
    for upload in &uploads {
        world.distributed(upload).await;
        assert_eq!(world.fflow.flow(&upload.session.to_string()).unwrap().sha256, sha256(&file));
    }
    assert_eq!(world.fflow.flows().len(), uploads.len(), "one generation each");
    assert_eq!(version(&world).await, migration::SCHEMA_VERSION + 1, "nothing was taken back");
}

#[tokio::test]
async fn migrating_by_hand_says_what_was_found_and_never_takes_anything_back() {
    let world = World::new().await;
    let made = world.command(&["migrate"]).await;
    assert!(made.code == 0 && made.stdout.contains("up to date (it was: Absent)"), "{made:?}");
    for step in NEXT_VERSION {
        world.execute(step, Vec::new()).await;
    }
    let newer = world.command(&["migrate"]).await;
    assert!(newer.code == 0 && newer.stdout.contains("stays at version 2, one newer"), "{newer:?}");
    let json = world.command(&["migrate", "--json"]).await.json();
    assert_eq!((json["version"].as_i64(), json["changed"].as_bool()), (Some(2), Some(false)), "{json}");

    world.execute("UPDATE uploader.service SET schema_version = 3", Vec::new()).await;
    let too_new = world.command(&["migrate"]).await;
    assert!(too_new.code == 1 && too_new.stderr.contains("at most one more"), "{too_new:?}");
    let refused = world.replica_unready("refused", &[("UPLOADER_DATABASE_MIGRATE", "false")]).await;
    assert!(!refused.process.wait_exit(SOON).await.unwrap().success());
    let said = refused.process.log_tail(5);
    assert!(
        said.contains("newer version of this program") && !said.contains("`uploader-v4 migrate`"),
        "{said}"
    );
    assert_eq!(version(&world).await, 3);
}

#[tokio::test]
async fn a_schema_that_is_absent_is_made_or_its_command_is_named() {
    let world = World::new().await;
    let forbidden = [("UPLOADER_DATABASE_MIGRATE", "false")];
    let refused = world.replica_unready("refused", &forbidden).await;
    assert!(!refused.process.wait_exit(SOON).await.unwrap().success());
    let said = refused.process.log_tail(5);
    assert!(said.contains("Absent") && said.contains("`uploader-v4 migrate`"), "{said}");
    drop(world.replica("one").await);
    assert_eq!(version(&world).await, migration::SCHEMA_VERSION);
    world.replica_unready("two", &forbidden).await.ready().await;
}
