//! `janitor --dry-run`: it changes nothing, and what it says is what a run then does.

use std::collections::BTreeSet;

use serde_json::Value;
use uuid::Uuid;

use super::command::{janitor, one_run, row};
use super::*;

/// Something of each kind that a run takes, and of each that it does not.
struct Inventory {
    deleted: Upload,
    empty: Upload,
    blocked: Upload,
    removed: Uuid,
    orphan: Uuid,
    failed: Uuid,
    uncleaned: Uuid,
    tombstone: Uuid,
    replica: Uuid,
    kept: Vec<Upload>,
}

async fn inventory(world: &World) -> Inventory {
    let deleted = world.announce_one(1000).await;
    forsaken(world, &deleted).await;
    row(world, deleted.session, Some(deleted), "OPEN", "2 h").await;
    let empty = Upload { video: Uuid::new_v4(), ..deleted };
    let video = "INSERT INTO videos (id, title, description, created_at) VALUES ($1, 't', 'd', now() - interval '2 h')";
    world.execute(video, vec![empty.video.into()]).await;
    let two = world.announce(&[1000, 1000]).await;
    forsaken(world, &two[0]).await;
    world.execute("UPDATE flows SET status = 'DISTRIBUTED' WHERE id = $1", vec![two[0].flow.into()]).await;
    world.execute("DELETE FROM upload_sessions WHERE id = $1", vec![two[0].session.into()]).await;
    let [removed, orphan, uncleaned, tombstone, replica] = std::array::from_fn(|_| Uuid::new_v4());
    row(world, removed, None, "OPEN", "1 min").await;
    row(world, uncleaned, None, "EXPIRED", "1 h").await;
    row(world, tombstone, None, "DONE", "30 h").await;
    let clean = "UPDATE uploader.session SET cleaned_at = now() WHERE session_id = $1";
    world.execute(clean, vec![tombstone.into()]).await;
    let stray = "INSERT INTO uploader.stray (name, session_id, base_url) VALUES ($1::uuid::text || '~2', $1::uuid, $2)";
    world.execute(stray, vec![removed.into(), format!("{}/r1", world.fflow.base_url()).into()]).await;
    let dead = "INSERT INTO uploader.replica (replica_id, name, lease_until) VALUES ($1, 'dead', now() - interval '2 h')";
    world.execute(dead, vec![replica.into()]).await;
    let kept = bystanders(world).await;
    let failed = kept[3].session;
    for session in [deleted.session, orphan, failed, uncleaned, kept[0].session] {
        let folder = world.spool.join(session.to_string());
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(folder.join(Uuid::new_v4().to_string()), b"bytes").unwrap();
    }
    Inventory {
        deleted,
        empty,
        blocked: two[1],
        removed,
        orphan,
        failed,
        uncleaned,
        tombstone,
        replica,
        kept,
    }
}

/// Uploads whose videos stay: a fresh one with a folder, one that is processed, one that is used, one that failed.
async fn bystanders(world: &World) -> Vec<Upload> {
    let mut kept = Vec::new();
    for _ in 0..4 {
        kept.push(world.announce_one(1000).await);
    }
    for upload in &kept[1..] {
        forsaken(world, upload).await;
    }
    row(world, kept[1].session, Some(kept[1]), "SEALED", "2 h").await;
    row(world, kept[2].session, Some(kept[2]), "OPEN", "0 s").await;
    row(world, kept[3].session, Some(kept[3]), "FAILED", "2 h").await;
    world.execute("UPDATE videos SET status = 'BLOCKED' WHERE id = $1", vec![kept[3].video.into()]).await;
    kept
}

/// All rows of all tables, the spool and the routes.
async fn everything(world: &World) -> Vec<String> {
    let mut seen = Vec::new();
    for table in ["videos", "flows", "upload_sessions"].into_iter().chain(OWN_TABLES) {
        let rows = world.query(&format!("SELECT t::text FROM {table} t ORDER BY 1"), Vec::new()).await;
        seen.extend(rows.iter().map(|row| row.try_get_by_index::<String>(0).unwrap()));
    }
    let mut folders: Vec<String> =
        folders(world).into_iter().map(|path| path.display().to_string()).collect();
    seen.append(&mut folders);
    seen
}

const OWN_TABLES: [&str; 6] = [
    "uploader.session",
    "uploader.run",
    "uploader.stray",
    "uploader.replica",
    "uploader.service",
    "uploader.fflow_replica",
];

fn folders(world: &World) -> BTreeSet<std::path::PathBuf> {
    std::fs::read_dir(&world.spool).unwrap().map(|entry| entry.unwrap().path()).collect()
}

fn ids(list: &Value, key: Option<&str>) -> BTreeSet<String> {
    let entries = list["first"].as_array().unwrap();
    assert_eq!(list["count"], entries.len());
    let text = |entry: &Value| key.map_or(entry, |key| &entry[key]).as_str().unwrap().to_owned();
    entries.iter().map(text).collect()
}

fn set<const N: usize>(ids: [Uuid; N]) -> BTreeSet<String> {
    ids.iter().map(Uuid::to_string).collect()
}

#[tokio::test]
async fn a_dry_run_changes_nothing_and_says_what_the_run_then_does() {
    let world = World::new().await;
    alone(&world).await;
    let inventory = inventory(&world).await;
    let before = everything(&world).await;
    let dry = janitor(&world, &[], &["--once", "--dry-run", "--json", "--limit", "1000"]).await.clean();
    assert_eq!(everything(&world).await, before, "a dry run changes nothing");

    let Inventory { deleted, empty, blocked, removed, orphan, failed, uncleaned, tombstone, replica, kept } =
        inventory;
    assert_eq!(ids(&dry["videos"], Some("video_id")), set([deleted.video, empty.video, blocked.video]));
    let fate = |video: Uuid| {
        let videos = dry["videos"]["first"].as_array().unwrap();
        videos.iter().find(|entry| entry["video_id"] == video.to_string()).unwrap()["blocked"]
            .as_bool()
            .unwrap()
    };
    assert!(fate(blocked.video) && !fate(deleted.video) && !fate(empty.video));
    assert_eq!(ids(&dry["removed_by_others"], Some("session_id")), set([removed]));
    assert_eq!(ids(&dry["folders"], None), set([orphan]));
    assert_eq!(ids(&dry["failed"], Some("session_id")), set([failed]));
    assert_eq!(ids(&dry["uncleaned"], Some("session_id")), set([uncleaned]));
    assert_eq!(ids(&dry["tombstones"], Some("session_id")), set([tombstone]));
    assert_eq!(ids(&dry["strays"], Some("name")), BTreeSet::from([format!("{removed}~2")]));
    assert_eq!(ids(&dry["replicas"], Some("replica_id")), set([replica]));
    assert_eq!(dry["nothing_abandoned"], Value::Null);

    let report = one_run(&world).await;
    let counts =
        ["videos_deleted", "videos_blocked", "sessions_removed", "folders_buried", "failed_given_up"];
    assert_eq!(counts.map(|name| report[name].as_u64().unwrap()), [2, 1, 1, 1, 1], "{report}");
    let counts = ["strays_gone", "tombstones_forgotten", "replicas_forgotten"];
    assert_eq!(counts.map(|name| report[name].as_u64().unwrap()), [1, 1, 1], "{report}");
    // Ended by this run: two abandoned uploads, the removed one and the orphan; one had ended before.
    assert_eq!(report["sessions_cleaned"], 5, "{report}");
    let after = janitor(&world, &[], &["--dry-run", "--json"]).await.clean();
    for kind in
        ["videos", "removed_by_others", "folders", "failed", "uncleaned", "tombstones", "strays", "replicas"]
    {
        assert_eq!(after[kind]["count"], 0, "{kind}: {after}");
    }
    let videos = "SELECT id::text FROM videos ORDER BY 1";
    let left: BTreeSet<String> =
        world.query(videos, Vec::new()).await.iter().map(|row| row.try_get_by_index(0).unwrap()).collect();
    let expected = kept.iter().map(|upload| upload.video).chain([blocked.video]);
    assert_eq!(left, expected.map(|video| video.to_string()).collect());
    let folder = |session: Uuid| world.spool.join(session.to_string());
    assert_eq!(folders(&world), BTreeSet::from([world.spool.join("spool-id"), folder(kept[0].session)]));
    assert_eq!(one_run(&world).await["sessions_cleaned"], 0);
}

#[tokio::test]
async fn a_dry_run_in_words_shows_the_first_of_each_kind() {
    let world = World::new().await;
    alone(&world).await;
    for _ in 0..5 {
        let upload = world.announce_one(1000).await;
        forsaken(&world, &upload).await;
    }
    let ran = janitor(&world, &[], &["--dry-run", "--limit", "2"]).await;
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(ran.stdout.contains("5  abandoned videos would end"), "{}", ran.stdout);
    assert!(
        ran.stdout.contains("deleted: CREATED, idle 2h") && ran.stdout.contains(".. and 3 more"),
        "{}",
        ran.stdout
    );
    world.execute("UPDATE uploader.replica SET consuming = false", Vec::new()).await;
    let ran = janitor(&world, &[], &["--dry-run"]).await;
    assert!(ran.stdout.contains("no upload counts as abandoned now: no replica"), "{}", ran.stdout);
}
