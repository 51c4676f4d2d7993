//! What `/metrics` tells adds up.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::client::answer;
use crate::world::{Replica, SOON, World, bytes};

/// Every series of a replica, by its name with its labels.
async fn scrape(replica: &Replica) -> BTreeMap<String, f64> {
    let url = format!("http://127.0.0.1:{}/metrics", replica.port);
    let answer = devstack::http::get(&url, Duration::from_secs(5)).await.unwrap();
    assert_eq!(answer.status, 200);
    let text = String::from_utf8(answer.body.to_vec()).unwrap();
    text.lines()
        .filter(|line| !line.starts_with('#') && !line.is_empty())
        .map(|line| line.rsplit_once(' ').unwrap())
        .map(|(series, value)| (series.to_owned(), value.parse().unwrap()))
        .collect()
}

/// The sum over all series whose name and labels hold every one of `parts`.
fn sum(series: &BTreeMap<String, f64>, parts: &[&str]) -> f64 {
    series
        .iter()
        .filter(|(name, _)| parts.iter().all(|part| name.contains(part)))
        .map(|(_, value)| value)
        .sum()
}

const RECEIVED: &str = "uploader_chunks_received_total";
const ENDED: &str = "uploader_chunks_ended_total";

/// received = accepted + refused + given back + in flight.
fn is_conserved(series: &BTreeMap<String, f64>) -> bool {
    let (received, ended) = (sum(series, &[RECEIVED]), sum(series, &[ENDED]));
    (received - ended - series["uploader_chunks_in_flight"]).abs() < 0.5
}

/// Waits until nothing moves any more that is counted in two places: what never adds up is never conserved.
async fn conserved(
    world: &World,
    replica: &Replica,
    what: &str,
    also: impl Fn(&BTreeMap<String, f64>) -> bool,
) {
    let holds = async || {
        let series = scrape(replica).await;
        is_conserved(&series) && also(&series)
    };
    world.wait(&format!("every delivery to be accounted for, and {what}"), SOON, holds).await;
}

async fn nothing_is_fed(world: &World, replica: &Replica) {
    world
        .wait("the feed's gauges to be empty", SOON, async || {
            let series = scrape(replica).await;
            sum(&series, &["uploader_feeds{"]) == 0.0 && sum(&series, &["uploader_feed_backlog_bytes"]) == 0.0
        })
        .await;
}

#[tokio::test]
async fn every_delivery_that_was_received_is_accounted_for() {
    let world = World::new().await;
    let replica = world.replica("one").await;
    let client = world.client().await;
    let file = bytes(80, 600_000);
    let upload = world.announce_one(file.len()).await;
    client.upload_range(&upload, &file, 20_000, 0, 400_000).await;
    assert!(client.send(&upload, 0, &file[..20]).await.reason().contains("expected"), "a refusal");
    let nobody = uuid::Uuid::new_v4().to_string();
    assert!(!answer(client.begin(&nobody, 0, b"bytes").await).await.is_ack());
    // Without a correlation id nobody can be told.
    client.publish(lapin::types::FieldTable::default(), b"no chunk").await;
    // An early chunk stays in flight until its predecessor comes.
    let early = client.begin(&upload.session.to_string(), 500_000, &file[500_000..]).await;
    conserved(&world, &replica, "the bad one to be over, the early one to wait", |series| {
        sum(series, &[ENDED, "reason=\"unanswerable\""]) > 0.5 && series["uploader_chunks_in_flight"] > 0.5
    })
    .await;

    // A cut connection gives back what is open: it is counted, and comes again as another delivery.
    let lost = [ENDED, "outcome=\"given_back\"", "reason=\"link_lost\""];
    world
        .wait("the connections to be cut", SOON, async || {
            // The management API lists a connection only some time after it was opened.
            world.sandbox.close_amqp_connections().await.unwrap();
            sum(&scrape(&replica).await, &lost) > 0.5
        })
        .await;
    conserved(&world, &replica, "the early one to have come again", |series| {
        series["uploader_chunks_in_flight"] > 0.5
    })
    .await;
    let client = world.client().await;
    client.upload_range(&upload, &file, 50_000, 400_000, 500_000).await;
    drop(early);
    world.distributed(&upload).await;

    conserved(&world, &replica, "none to be open", |series| series["uploader_chunks_in_flight"] < 0.5).await;
    let series = scrape(&replica).await;
    assert_eq!(series["uploader_chunks_in_flight_bytes"], 0.0);
    assert_eq!(sum(&series, &["uploader_chunk_committed_bytes_total"]), file.len() as f64);
    assert_eq!(sum(&series, &["uploader_pushed_bytes_total"]), file.len() as f64);
    assert_eq!(sum(&series, &["uploader_generations_total", "cause=\"first\""]), 1.0);
    assert_eq!(sum(&series, &["uploader_sessions_ended_total", "done"]), 1.0);
    nothing_is_fed(&world, &replica).await;
    assert!(sum(&series, &["uploader_reconnects_total", "amqp"]) >= 1.0, "{series:#?}");
    for actor in ["ChunkValidator", "SessionRegistry", "AmqpConsumer", "FflowForwarder"] {
        let name = format!("uploader_mailbox_messages{{actor=\"{actor}\"}}");
        assert_eq!(series.get(&name), Some(&0.0), "{name}");
    }
}

#[tokio::test]
async fn every_series_is_described_with_its_unit() {
    let world = World::new().await;
    let replica = world.replica("one").await;
    let url = format!("http://127.0.0.1:{}/metrics", replica.port);
    let answer = devstack::http::get(&url, Duration::from_secs(5)).await.unwrap();
    let text = String::from_utf8(answer.body.to_vec()).unwrap();
    let known: Vec<&str> = uploader_v4::metrics::ALL.iter().map(|metric| metric.name).collect();
    for line in text.lines().filter(|line| line.starts_with("# HELP ")) {
        let name = line.split(' ').nth(2).unwrap();
        assert!(known.contains(&name), "{name}");
    }
    assert!(text.contains("# HELP uploader_build_info "), "{text}");
}
