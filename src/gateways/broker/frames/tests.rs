//! Frames in pieces of every size, sound ones and such that lapin would not bear.
#![allow(clippy::unwrap_used)]
use std::task::Waker;

use lapin::types::parsing::parse_field_table;
use lapin::types::{AMQPValue, FieldTable};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::payload::DEEPEST;
use super::*;

fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
    let size = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&[kind, 0, 1][..], &size, payload, &[0xce]].concat()
}

fn name(text: &[u8]) -> Vec<u8> {
    [&[text.len() as u8][..], text].concat()
}

fn sized(bytes: &[u8]) -> Vec<u8> {
    [&u32::try_from(bytes.len()).unwrap().to_be_bytes()[..], bytes].concat()
}

fn deliver(key: &[u8]) -> Vec<u8> {
    let tag = [0, 0, 0, 0, 0, 0, 0, 7, 1];
    frame(METHOD, &[&[0, 60, 0, 60][..], &name(b"ctag"), &tag, &name(b"chunk-exchange"), &name(key)].concat())
}

/// A message's properties: content type, headers, reply-to.
fn properties(content_type: &[u8], headers: &[u8]) -> Vec<u8> {
    let flags: u16 = 1 << 15 | 1 << 13 | 1 << 9;
    let before = [0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9];
    let rest = [&flags.to_be_bytes()[..], &name(content_type), &sized(headers), &name(b"back")].concat();
    frame(HEADER, &[&before[..], &rest].concat())
}

/// `x` is an array in an array in an array ..., `levels` of them.
fn nested(levels: usize) -> Vec<u8> {
    let innermost = b"t\x01".to_vec();
    let value = (0..levels).fold(innermost, |inner, _| [&b"A"[..], &sized(&inner)].concat());
    [name(b"x"), value].concat()
}

/// What comes out when `step` bytes can be read at once and `wanted` are asked for.
async fn through(bytes: &[u8], step: usize, wanted: usize) -> Vec<u8> {
    let (mut far, near) = tokio::io::duplex(step);
    let mut tamed = Tamed::new(near);
    let send = async move {
        far.write_all(bytes).await.unwrap();
    };
    let receive = async {
        let mut out = Vec::new();
        loop {
            let mut part = vec![0; wanted];
            match tamed.read(&mut part).await.unwrap() {
                0 => return out,
                count => out.extend_from_slice(&part[..count]),
            }
        }
    };
    tokio::join!(send, receive).1
}

async fn tamed(bytes: &[u8]) -> Vec<u8> {
    let whole = through(bytes, 1 << 20, 1 << 20).await;
    for (step, wanted) in [(1, 1), (3, 100), (100, 3), (4096, 70_000)] {
        assert_eq!(through(bytes, step, wanted).await, whole, "in pieces of {step} and {wanted}");
    }
    assert_eq!(whole.len(), bytes.len());
    whole
}

/// The headers of a frame that [`properties`] made with a content type of three bytes.
fn headers(frame: &[u8]) -> FieldTable {
    let (_, table) = parse_field_table(&frame[HEAD + 14 + 4..]).unwrap();
    table
}

fn depth(value: &AMQPValue) -> usize {
    match value {
        AMQPValue::FieldArray(array) => 1 + array.as_slice().iter().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

#[tokio::test]
async fn sound_frames_pass_as_they_are() {
    let table = [name(b"x-size"), b"I\x00\x00\x00\x09".to_vec(), nested(DEEPEST - 1)].concat();
    let body = frame(3, &vec![0xce; 50_000]);
    let greeting = frame(METHOD, &[0, 10, 0, 10, 0, 9]);
    let stream = [
        greeting,
        deliver("chunk.ü".as_bytes()),
        properties(b"a/b", &table),
        body,
        frame(8, &[]),
        deliver(b"chunk.2"),
    ];
    assert_eq!(tamed(&stream.concat()).await, stream.concat());
}

#[tokio::test]
async fn names_that_are_no_text_become_text_of_the_same_length() {
    let table = [name(b"\xff-id"), b"V".to_vec()].concat();
    let stream = [deliver(b"chunk.\xff\xfe"), properties(b"a\xc3b", &table)].concat();
    let want = [deliver(b"chunk.??"), properties(b"a?b", &[name(b"?-id"), b"V".to_vec()].concat())].concat();
    assert_eq!(tamed(&stream).await, want);
}

#[tokio::test]
async fn what_nests_too_deep_becomes_bytes_and_its_neighbours_stay() {
    for levels in [DEEPEST, DEEPEST + 1, 2 * DEEPEST, 20_000] {
        let table = [nested(levels), name(b"y"), b"t\x01".to_vec()].concat();
        let frame = properties(b"a/b", &table);
        let table = headers(&through(&frame, 1000, 1000).await);
        assert_eq!(table.inner().get("y"), Some(&AMQPValue::Boolean(true)));
        assert_eq!(depth(table.inner().get("x").unwrap()), DEEPEST - 1, "{levels} levels");
    }
}

#[tokio::test]
async fn what_is_no_frame_passes_as_it_is() {
    for odd in [&b"AMQP\x00\x00\x09\x01"[..], b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\x01\x00", b""] {
        assert_eq!(tamed(odd).await, odd);
    }
    let deep = properties(b"a/b", &nested(30));
    assert_ne!(tamed(&deep).await, deep);
    let cut_short = &deep[..60];
    assert_eq!(tamed(cut_short).await, cut_short);
    let lying = frame(HEADER, &[0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9, 0xff, 0xfc, 200, b'x']);
    assert_eq!(tamed(&lying).await, lying);
}

/// In turn: nothing yet, an error, three bytes.
struct Halting<'a> {
    rest: &'a [u8],
    turn: usize,
}

impl AsyncRead for Halting<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.turn += 1;
        match self.turn % 3 {
            1 => Poll::Pending,
            2 => Poll::Ready(Err(io::ErrorKind::Interrupted.into())),
            _ => Pin::new(&mut AsyncReadExt::take(&mut self.rest, 3))
                .poll_read(&mut Context::from_waker(Waker::noop()), out),
        }
    }
}

#[test]
fn nothing_stays_behind_in_a_room_that_was_only_lent() {
    let table = [name(b"\xff-id"), b"V".to_vec()].concat();
    let sent =
        [deliver(b"chunk.\xff"), properties(b"a/b", &table), frame(3, &[0xce; 300]), b"\x01\x00".to_vec()];
    let table = [name(b"?-id"), b"V".to_vec()].concat();
    let want =
        [deliver(b"chunk.?"), properties(b"a/b", &table), frame(3, &[0xce; 300]), b"\x01\x00".to_vec()];
    let stream = sent.concat();
    let mut tamed = Tamed::new(Halting { rest: &stream, turn: 0 });
    let mut out = Vec::new();
    for wanted in [1, 70, 0, 5, 400, 2].into_iter().cycle() {
        let mut part = vec![0xff; wanted];
        let mut room = ReadBuf::new(&mut part);
        match Pin::new(&mut tamed).poll_read(&mut Context::from_waker(Waker::noop()), &mut room) {
            Poll::Ready(Ok(())) if wanted > 0 && room.filled().is_empty() => break,
            Poll::Ready(Ok(())) => out.extend_from_slice(room.filled()),
            _ => assert!(room.filled().is_empty()),
        }
    }
    assert_eq!(out, want.concat());
}

#[tokio::test]
async fn what_is_kept_is_bounded() {
    let stream = frame(METHOD, &vec![0; LONGEST]).repeat(8);
    let mut tamed = Tamed::new(&stream[..]);
    let (mut part, mut passed) = (vec![0; 70_001], 0);
    loop {
        let count = tamed.read(&mut part).await.unwrap();
        assert!(tamed.held.capacity() <= 5 * LONGEST);
        if count == 0 {
            break;
        }
        passed += count;
    }
    assert_eq!(passed, stream.len());
}
