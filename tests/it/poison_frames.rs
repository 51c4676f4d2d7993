//! Messages that RabbitMQ passes on and that lapin would not bear: they cost nobody anything.

use std::io::{Read, Write};
use std::net::TcpStream;

use url::Url;

use crate::world::{LATE, World, bytes, sha256};

/// One reads the array of an array ... by recursion or not at all: this many exhaust any thread's stack.
const LEVELS: usize = 20_000;
const CHUNK: usize = 1000;

#[tokio::test]
async fn names_that_are_no_text_and_headers_without_bottom_are_chunks_like_others() {
    let world = World::new().await;
    let replica = world.replica("one").await;
    let client = world.client().await;
    let file = bytes(90, 5 * CHUNK);
    let upload = world.announce_one(file.len()).await;
    let session = upload.session.to_string();
    let extras = [
        Extra { header: nested(LEVELS), ..Extra::default() },
        Extra { header: [name(b"\xff\xfe"), b"V".to_vec()].concat(), ..Extra::default() },
        Extra { routing_key: b"chunk.\xff".to_vec(), ..Extra::default() },
        Extra { content_type: b"\xc3\x28".to_vec(), ..Extra::default() },
    ];
    let amqp_url = world.sandbox.amqp_url.clone();
    for (number, extra) in extras.into_iter().enumerate() {
        let (start, correlation) = (number * CHUNK, format!("poison-{number}"));
        let waiting = client.expect(&correlation);
        let body = file[start..start + CHUNK].to_vec();
        let (url, session) = (amqp_url.clone(), session.clone());
        let publish = move || Publisher::connect(&url).publish(&session, start, &correlation, &body, &extra);
        tokio::task::spawn_blocking(publish).await.unwrap();
        let answer = tokio::time::timeout(LATE, waiting).await;
        let answer = answer.unwrap_or_else(|_| panic!("chunk {number}: {}", replica.process.log_tail(20)));
        assert!(answer.unwrap().is_ack(), "chunk {number}");
    }
    assert!(client.send(&upload, 4 * CHUNK, &file[4 * CHUNK..]).await.is_ack());
    world.distributed(&upload).await;
    assert_eq!(world.fflow.flow(&session).unwrap().sha256, sha256(&file));
    assert!(replica.process.is_running());
}

/// What is odd about a message.
struct Extra {
    routing_key: Vec<u8>,
    content_type: Vec<u8>,
    /// Its name and value, as they stand in the table.
    header: Vec<u8>,
}

impl Default for Extra {
    fn default() -> Self {
        Extra { routing_key: b"chunk.1".to_vec(), content_type: b"a/b".to_vec(), header: Vec::new() }
    }
}

fn name(text: &[u8]) -> Vec<u8> {
    [&[u8::try_from(text.len()).unwrap()][..], text].concat()
}

fn sized(bytes: &[u8]) -> Vec<u8> {
    [&u32::try_from(bytes.len()).unwrap().to_be_bytes()[..], bytes].concat()
}

/// Lengths are written from the innermost out, so that many levels cost no copies.
fn nested(levels: usize) -> Vec<u8> {
    let lengths = (0..levels).rev().map(|inside| u32::try_from(2 + 5 * inside).unwrap());
    let heads = lengths.flat_map(|length| [&b"A"[..], &length.to_be_bytes()].concat());
    name(b"x-deep").into_iter().chain(heads).chain(*b"t\x01").collect()
}

/// A publisher that writes what no client library would.
struct Publisher {
    stream: TcpStream,
}

impl Publisher {
    fn connect(amqp_url: &str) -> Self {
        let url = Url::parse(amqp_url).unwrap();
        let stream = TcpStream::connect((url.host_str().unwrap(), url.port().unwrap())).unwrap();
        stream.set_read_timeout(Some(LATE)).unwrap();
        let mut publisher = Publisher { stream };
        publisher.stream.write_all(b"AMQP\x00\x00\x09\x01").unwrap();
        publisher.hear([10, 10]);
        let login = format!("\0{}\0{}", url.username(), url.password().unwrap());
        let start = [sized(b""), name(b"PLAIN"), sized(login.as_bytes()), name(b"en_US")].concat();
        publisher.say(0, [10, 11], &start);
        let tune = publisher.hear([10, 30]);
        publisher.say(0, [10, 31], &[&tune[..6], &[0, 0]].concat());
        let vhost = url.path().trim_start_matches('/').as_bytes();
        publisher.say(0, [10, 40], &[name(vhost), name(b""), vec![0]].concat());
        publisher.hear([10, 41]);
        publisher.say(1, [20, 10], &name(b""));
        publisher.hear([20, 11]);
        publisher
    }

    /// Publishes a chunk and waits until the broker has it.
    fn publish(mut self, session: &str, start: usize, correlation: &str, body: &[u8], extra: &Extra) {
        let number = |value: usize| [&b"I"[..], &u32::try_from(value).unwrap().to_be_bytes()].concat();
        let text = |text: &str| [b"S".to_vec(), sized(text.as_bytes())].concat();
        let headers = [
            [name(b"x-session-id"), text(session)].concat(),
            [name(b"x-start-byte"), number(start)].concat(),
            [name(b"x-size"), number(body.len())].concat(),
            extra.header.clone(),
            [name(b"x-correlation-id"), text(correlation)].concat(),
        ];
        let flags: u16 = 1 << 15 | 1 << 13;
        let size = u64::try_from(body.len()).unwrap().to_be_bytes();
        let properties = [name(&extra.content_type), sized(&headers.concat())].concat();
        let target = [vec![0, 0], name(b"chunk-exchange"), name(&extra.routing_key), vec![0]].concat();
        self.say(1, [60, 40], &target);
        self.frame(2, 1, &[&[0, 60, 0, 0][..], &size, &flags.to_be_bytes(), &properties].concat());
        self.frame(3, 1, body);
        self.say(1, [20, 40], &[vec![0, 200], name(b"done"), vec![0; 4]].concat());
        self.hear([20, 41]);
    }

    fn say(&mut self, channel: u8, [class, method]: [u8; 2], arguments: &[u8]) {
        self.frame(1, channel, &[&[0, class, 0, method][..], arguments].concat());
    }

    fn frame(&mut self, kind: u8, channel: u8, payload: &[u8]) {
        self.stream.write_all(&[&[kind, 0, channel][..], &sized(payload), &[0xce]].concat()).unwrap();
    }

    /// Reads until this method comes; its arguments.
    fn hear(&mut self, [class, method]: [u8; 2]) -> Vec<u8> {
        loop {
            let mut head = [0; 7];
            self.stream.read_exact(&mut head).unwrap();
            let size = u32::from_be_bytes(*head.last_chunk().unwrap()) as usize;
            let mut payload = vec![0; size + 1];
            self.stream.read_exact(&mut payload).unwrap();
            if head[0] == 1 && payload.starts_with(&[0, class, 0, method]) {
                return payload[4..].to_vec();
            }
            let closed = head[0] == 1 && matches!(payload[..4], [0, 10, 0, 50] | [0, 20, 0, 40]);
            assert!(!closed, "the broker refuses: {}", String::from_utf8_lossy(&payload));
        }
    }
}
