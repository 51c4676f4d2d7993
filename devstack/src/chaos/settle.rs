//! After the nemesis: waits, as long as something moves, until nothing is left to do, and looks for what was left behind.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::browser::Crowd;
use super::database::{Database, Truth};
use super::farm::Farm;
use super::processes;
use crate::progress::Step;

const LOOK: Duration = Duration::from_millis(500);
/// Nothing has moved for this long: it hangs. Longer than a route's time to live.
const STILL: Duration = Duration::from_secs(90);
/// The longest settling in all.
const LONGEST: Duration = Duration::from_secs(240);
/// gateway's processor time is watched for so long, and may be this share of it.
const WATCHED: Duration = Duration::from_secs(2);
const SPINNING: f64 = 0.5;
const QUEUES: [&str; 2] = ["chunk-upload", "chunk-reply"];
const VHOST: &str = "/";

/// How it settled.
pub(super) struct Settled {
    pub(super) truth: Truth,
    /// What is still there, each a line; empty when all is well.
    pub(super) left: Vec<String>,
    pub(super) took: Duration,
    /// The share of one processor that gateway used when nobody uploaded.
    pub(super) gateway_cpu: f64,
}

/// Waits until every client has ended and nothing is left.
pub(super) async fn settle(farm: &Farm, crowd: &Crowd) -> anyhow::Result<Settled> {
    let step = Step::spin("settling");
    let begun = Instant::now();
    let (mut before, mut moved) = (Vec::new(), begun);
    let (truth, mut left) = loop {
        let (truth, left) = look(farm, crowd).await?;
        if left != before {
            moved = Instant::now();
        }
        step.say(left.first().map_or("", String::as_str));
        if left.is_empty() || moved.elapsed() > STILL || begun.elapsed() > LONGEST {
            break (truth, left);
        }
        before = left;
        sleep(LOOK).await;
    };
    let gateway_cpu = gateway_cpu(farm).await;
    if gateway_cpu > SPINNING {
        left.push(format!(
            "gateway spins: {:.0} % of a processor with nobody uploading",
            gateway_cpu * 100.0
        ));
    }
    let took = begun.elapsed();
    step.done(&if left.is_empty() {
        "nothing is left".to_owned()
    } else {
        format!("{} things are left", left.len())
    });
    Ok(Settled { truth, left, took, gateway_cpu })
}

async fn look(farm: &Farm, crowd: &Crowd) -> anyhow::Result<(Truth, Vec<String>)> {
    let mut left = Vec::new();
    let open = crowd.uploads.borrow().iter().filter(|upload| upload.end.is_none()).count();
    note(&mut left, "clients wait for an answer", open as u64);
    let truth = Database::open(&farm.database_url).truth().await?;
    let going = truth.sessions.values().filter(|row| !ended(row)).map(|row| row.state.as_str());
    let mut going: Vec<_> = going.collect();
    going.sort_unstable();
    for group in going.chunk_by(|one, other| one == other) {
        note(&mut left, &format!("sessions are {} and not cleaned", group[0]), group.len() as u64);
    }
    note(&mut left, "sessions are still announced", announced(&truth));
    note(&mut left, "rows are in uploader.run", truth.runs);
    note(&mut left, "rows are in uploader.stray", truth.strays);
    note(&mut left, "flows are held by the recording fflow", farm.recorder.living().len() as u64);
    note(&mut left, "ffmpeg processes run", processes::ffmpegs(&farm.fflow_processes()).len() as u64);
    note(&mut left, "folders are in the spool", folders(farm) as u64);
    let keys = keys(farm).await?;
    note(&mut left, &format!("keys are in Redis ({})", some(&keys)), keys.len() as u64);
    for queue in QUEUES {
        let depth = farm.rabbitmq.lock().await.queue_depth(VHOST, queue).await?.unwrap_or_default();
        note(&mut left, &format!("messages are ready in {queue}"), depth.ready);
        note(&mut left, &format!("messages are not acked in {queue}"), depth.unacked);
    }
    Ok((truth, left))
}

fn note(left: &mut Vec<String>, what: &str, count: u64) {
    if count > 0 {
        left.push(format!("{count} {what}"));
    }
}

/// Final and cleaned, or failed and without its bytes.
fn ended(row: &super::database::Row) -> bool {
    match row.state.as_str() {
        "DONE" | "EXPIRED" => row.cleaned,
        "FAILED" => row.spool_gone,
        _ => false,
    }
}

/// A failed session stays announced until somebody deletes its video: `retry` needs it.
fn announced(truth: &Truth) -> u64 {
    let failed = truth.sessions.values().filter(|row| row.state == "FAILED").count() as u64;
    truth.announced.saturating_sub(failed)
}

/// Sessions' folders: the journal's is no session's, and lives as long as replicas do.
fn folders(farm: &Farm) -> usize {
    let entries = std::fs::read_dir(farm.volume.spool()).into_iter().flatten().flatten();
    entries.filter(|entry| entry.path().is_dir() && entry.file_name() != "journal").count()
}

/// In order, so that what stays the same reads the same.
async fn keys(farm: &Farm) -> anyhow::Result<BTreeSet<String>> {
    let redis = farm.redis.lock().await;
    let all = redis::cmd("KEYS").arg("*").to_owned();
    devstack::servers::redis::command(redis.host(), redis.port(), 0, &all).await
}

/// Enough of them to look for in the logs.
fn some(keys: &BTreeSet<String>) -> String {
    const SHOWN: usize = 5;
    keys.iter().take(SHOWN).map(String::as_str).collect::<Vec<_>>().join(" ")
}

async fn gateway_cpu(farm: &Farm) -> f64 {
    let Some(process) = farm.gateway.process() else { return 0.0 };
    let Some(before) = processes::cpu_time(process.pid()) else { return 0.0 };
    let begun = Instant::now();
    sleep(WATCHED).await;
    let after = processes::cpu_time(process.pid()).unwrap_or(before);
    after.saturating_sub(before).as_secs_f64() / begun.elapsed().as_secs_f64()
}
