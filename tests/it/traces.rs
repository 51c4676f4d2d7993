//! One trace from a delivery to its answer, tied to the feed and passed on to fflow.

use std::sync::{Arc, Mutex};

use lapin::types::AMQPValue;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::trace::v1::Span;
use peers::recording::RecordingOptions;
use prost::Message;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::client::{answer, headers};
use crate::world::{SOON, World, bytes};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "b7ad6b7169203331";
const SIZE: usize = 300_000;

/// Takes spans over OTLP/HTTP and keeps them.
struct Collector {
    url: String,
    spans: Arc<Mutex<Vec<Span>>>,
}

impl Collector {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let spans = Arc::new(Mutex::new(Vec::new()));
        let kept = spans.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, kept.clone()));
            }
        });
        Collector { url, spans }
    }

    fn named(&self, name: &str) -> Vec<Span> {
        self.spans.lock().unwrap().iter().filter(|span| span.name == name).cloned().collect()
    }
}

/// Answers every request on one connection, until something is no export.
async fn serve(mut stream: TcpStream, spans: Arc<Mutex<Vec<Span>>>) {
    let mut heard = Vec::new();
    loop {
        let head = loop {
            if let Some(end) = heard.windows(4).position(|four| four == b"\r\n\r\n") {
                break end + 4;
            }
            if stream.read_buf(&mut heard).await.unwrap_or(0) == 0 {
                return;
            }
        };
        let text = String::from_utf8_lossy(&heard[..head]).to_lowercase();
        assert!(text.starts_with("post /v1/traces ") && text.contains("application/x-protobuf"), "{text}");
        let length = text.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
        let end = head + length.parse::<usize>().unwrap();
        while heard.len() < end {
            assert!(stream.read_buf(&mut heard).await.unwrap() > 0, "half a request");
        }
        let export = ExportTraceServiceRequest::decode(&heard[head..end]).unwrap();
        let scopes = export.resource_spans.into_iter().flat_map(|resource| resource.scope_spans);
        spans.lock().unwrap().extend(scopes.flat_map(|scope| scope.spans));
        heard.drain(..end);
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

async fn traced(collector: &str) -> World {
    let mut world = World::with(RecordingOptions::default(), &[("UPLOADER_TRACES_PERCENT", "100")]).await;
    world.set("UPLOADER_TRACES_URL", collector.to_owned());
    world
}

/// A file in one chunk that comes with a context.
async fn upload(world: &World) -> String {
    let file = bytes(7, SIZE);
    let upload = world.announce_one(SIZE).await;
    let client = world.client().await;
    let mut table = headers(&upload.session.to_string(), 0, SIZE as i64, "traced");
    let parent = format!("00-{TRACE}-{PARENT}-01");
    table.insert("traceparent".into(), AMQPValue::LongString(parent.as_str().into()));
    let receiver = client.expect("traced");
    client.publish(table, &file).await;
    assert!(answer(receiver).await.is_ack());
    let session = upload.session.to_string();
    let fed = async || world.fflow.flow(&session).is_some_and(|flow| flow.bytes == SIZE as u64);
    world.wait("all bytes to be fed", SOON, fed).await;
    session
}

#[tokio::test]
async fn a_chunk_with_a_context_is_one_trace_that_leads_to_its_feed_and_on_to_fflow() {
    let collector = Collector::start().await;
    let world = traced(&collector.url).await;
    let replica = world.replica("one").await;
    upload(&world).await;
    replica.process.stop(devstack::Signal::SIGTERM, SOON).await.unwrap();
    world.wait("both spans to be there", SOON, async || collector.named("feed").len() == 1).await;
    let [chunk] = collector.named("chunk").try_into().unwrap();
    let chunk: Span = chunk;
    assert_eq!((hex(&chunk.trace_id), hex(&chunk.parent_span_id)), (TRACE.to_owned(), PARENT.to_owned()));
    assert!(chunk.attributes.iter().any(|attribute| attribute.key == "session.id"));
    let [feed] = collector.named("feed").try_into().unwrap();
    let feed: Span = feed;
    assert_ne!(hex(&feed.trace_id), TRACE, "a feed goes on for many chunks");
    assert!(
        feed.links.iter().any(|link| link.span_id == chunk.span_id && link.trace_id == chunk.trace_id),
        "{:?}",
        feed.links
    );
    let calls = world.fflow.calls();
    assert!(calls.len() >= 2, "a create and a push at least");
    for call in calls {
        let parent = call.traceparent.clone().unwrap_or_default();
        assert!(parent.contains(&hex(&feed.trace_id)) && parent.ends_with("-01"), "{call:?}");
    }
}

#[tokio::test]
async fn without_a_collector_nothing_is_passed_on_and_one_that_is_away_changes_no_answer() {
    let world = World::with(RecordingOptions::default(), &[]).await;
    let replica = world.replica("one").await;
    upload(&world).await;
    assert!(world.fflow.calls().iter().all(|call| call.traceparent.is_none()));
    replica.process.stop(devstack::Signal::SIGTERM, SOON).await.unwrap();

    let closed = devstack::PortLease::take().unwrap();
    let url = format!("http://{}", closed.address());
    let world = traced(&url).await;
    let replica = world.replica("one").await;
    upload(&world).await;
    let complains = async || replica.process.log_tail(200).contains("the collector takes no spans");
    world.wait("the loss of spans to be told", SOON, complains).await;
    replica.process.stop(devstack::Signal::SIGTERM, SOON).await.unwrap();
}
