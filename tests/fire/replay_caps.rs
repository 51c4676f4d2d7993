//! A replica of fflow dies with many large files on it: what is fed again does not flood the others.

use std::collections::HashMap;
use std::time::Duration;

use peers::recording::{Call, CallKind, FlowState};

use crate::browsers::{Browsers, Manner};
use crate::outcome::{all_distributed, each_fed_whole_and_once, hashing, sessions};
use crate::size::pick;
use crate::world::World;

const MIB: u64 = 1 << 20;
/// Replays that one replica may have at once, as by default.
const REPLAYS: usize = 4;
/// The largest block pushed, as by default.
const BLOCK: u64 = 512 * 1024;
/// Over which the rate of one feed is measured, and how late a request may arrive after it was decided.
const WINDOW: Duration = Duration::from_secs(3);
const JITTER: Duration = Duration::from_secs(1);
/// Gigabytes may have to pass through a small machine.
const FED_WITHIN: Duration = Duration::from_secs(900);

/// One block that had surely been stored before the death, as it arrived in a process of a later generation.
struct Replayed {
    at: Duration,
    bytes: u64,
}

/// The blocks of each later process that lie below what was acked before the death: the name's, in order of arrival.
fn replays(calls: &[Call], acked: &HashMap<String, u64>) -> HashMap<String, Vec<Replayed>> {
    let mut fed: HashMap<&str, u64> = HashMap::new();
    let mut found: HashMap<String, Vec<Replayed>> = HashMap::new();
    for call in calls.iter().filter(|call| call.kind == CallKind::Push) {
        let Some((session, _)) = call.name.split_once('~') else { continue };
        let fed = fed.entry(&call.name).or_default();
        if *fed + call.length <= acked[session] {
            let block = Replayed { at: call.at, bytes: call.length };
            found.entry(call.name.clone()).or_default().push(block);
        }
        *fed += call.length;
    }
    found
}

/// The most replays between their first and last block at any moment.
fn most_at_once<'a>(replays: impl Iterator<Item = &'a Vec<Replayed>>) -> usize {
    let mut edges = Vec::new();
    for blocks in replays {
        edges.push((blocks[0].at, 1));
        edges.push((blocks[blocks.len() - 1].at, -1));
    }
    edges.sort_unstable();
    let levels = edges.iter().scan(0_i64, |level, (_, change)| {
        *level += change;
        Some(*level)
    });
    levels.max().map_or(0, |most| most as usize)
}

/// The most bytes of one replay within any window.
fn most_in_a_window(blocks: &[Replayed]) -> u64 {
    let from = |first: &Replayed| {
        let within = |block: &&Replayed| (first.at..first.at + WINDOW).contains(&block.at);
        blocks.iter().filter(within).map(|block| block.bytes).sum()
    };
    blocks.iter().map(from).max().unwrap_or(0)
}

/// Which replica feeds each session; none of them changes hands while no replica leaves.
async fn owners(world: &World) -> HashMap<String, String> {
    let sql =
        "SELECT session_id::text, owner::text FROM uploader.session WHERE owner IS NOT NULL AND epoch = 1";
    let rows = world.query(sql, Vec::new()).await;
    let text = |row: &sea_orm::QueryResult, index| row.try_get_by_index::<String>(index).unwrap();
    rows.iter().map(|row| (text(row, 0), text(row, 1))).collect()
}

/// The most replays that one replica had at once.
fn most_of_one_owner(replays: &HashMap<String, Vec<Replayed>>, owners: &HashMap<String, String>) -> usize {
    let owner = |name: &str| owners.get(name.split('~').next().unwrap_or_default());
    let mut by_owner: HashMap<&String, Vec<&Vec<Replayed>>> = HashMap::new();
    for (name, blocks) in replays {
        by_owner.entry(owner(name).expect("an owner")).or_default().push(blocks);
    }
    by_owner.values().map(|of| most_at_once(of.iter().copied())).max().unwrap_or(0)
}

#[tokio::test]
async fn what_is_fed_again_after_the_death_of_an_fflow_replica_stays_under_the_caps() {
    let rate = pick(1, 8) * MIB;
    let rate_setting = pick("1MiB", "8MiB");
    let world = World::with(hashing(), &[("UPLOADER_PUSH_RATE", rate_setting)]).await;
    let _replicas = [world.replica("one").await, world.replica("two").await];
    let client = world.client().await;
    let manner = Manner {
        sessions: pick(45, 50),
        file: pick(3_000_000, 50_000_000),
        chunk: 256 * 1024,
        pause: Duration::from_millis(pick(300, 50)),
        ..Manner::default()
    };
    let mut browsers = Browsers::start(&world, &client, manner).await;
    // Two thirds of each file are stored, and on their way into ffmpeg.
    let two_thirds = manner.file / manner.chunk * 2 / 3;
    browsers.reach(&world, two_thirds).await;
    let owners = owners(&world).await;
    let acked = browsers.acks().into_iter().map(|chunks| (chunks * manner.chunk) as u64);
    let names = browsers.uploads.iter().map(|upload| upload.session.to_string());
    let acked: HashMap<String, u64> = names.zip(acked).collect();
    world.fflow.kill_replica(1);
    let lost = world.fflow.flows().iter().filter(|flow| flow.state == FlowState::Lost).count();
    let seen = browsers.end().await;
    all_distributed(&world, manner.sessions, FED_WITHIN).await;

    let replays = replays(&world.fflow.calls(), &acked);
    let at_once = most_of_one_owner(&replays, &owners);
    let fastest = replays.values().map(|blocks| most_in_a_window(blocks)).max().unwrap_or(0);
    let mib = |bytes: u64| bytes as f64 / MIB as f64;
    let bytes: u64 = replays.values().flatten().map(|block| block.bytes).sum();
    let ends = replays.values().map(|blocks| (blocks[0].at, blocks[blocks.len() - 1].at));
    let (first, last) = ends.fold((Duration::MAX, Duration::ZERO), |(a, b), (c, d)| (a.min(c), b.max(d)));
    println!(
        "FIRE replay-caps: {} uploads of {} MB, {lost} processes lost: {seen}; {} replays of {:.0} MiB within {:.1} s, at \
         most {at_once} at once on a replica (cap {REPLAYS}), at most {:.2} MiB/s into one process over {} s (cap {:.0})",
        manner.sessions,
        manner.file / 1_000_000,
        replays.len(),
        mib(bytes),
        (last - first).as_secs_f64(),
        mib(fastest) / WINDOW.as_secs_f64(),
        WINDOW.as_secs(),
        mib(rate)
    );
    seen.assert_nothing_but_acks(&manner);
    assert_eq!(sessions(&world, "epoch <> 1").await, 0, "every session kept its owner");
    assert!(lost > 2 * REPLAYS && replays.len() >= lost, "{lost} lost: fewer than the caps allow at once");
    assert!(at_once <= REPLAYS, "{at_once} replays at once");
    let most = (rate as f64 * (WINDOW + JITTER).as_secs_f64()) as u64 + BLOCK;
    assert!(fastest <= most, "{fastest} bytes in {WINDOW:?}, of {most}");
    each_fed_whole_and_once(&world, &browsers);
}
