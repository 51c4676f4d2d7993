//! Frames on their way from the broker to lapin.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use tokio::io::{AsyncRead, ReadBuf};

use crate::gateways::broker::frames::Tamed;

/// Input: how many bytes can be read at once, how many are asked for, then a stream of frames.
pub fn frames(data: &[u8]) {
    let [step, wanted, stream @ ..] = data else { return };
    let whole = through(stream, stream.len() + 1, stream.len() + 1);
    assert_eq!(whole.len(), stream.len(), "no length changes");
    let pieces = through(stream, 1 + usize::from(*step), 1 + usize::from(*wanted));
    assert_eq!(pieces, whole, "it does not matter in which pieces a stream comes");
    assert_eq!(through(&whole, stream.len() + 1, stream.len() + 1), whole, "what is tame stays as it is");
}

fn through(stream: &[u8], step: usize, wanted: usize) -> Vec<u8> {
    let mut tamed = Tamed::new(Pieces { rest: stream, step });
    let mut out = Vec::new();
    let mut part = vec![0; wanted];
    loop {
        let mut room = ReadBuf::new(&mut part);
        match Pin::new(&mut tamed).poll_read(&mut Context::from_waker(Waker::noop()), &mut room) {
            Poll::Ready(Ok(())) if room.filled().is_empty() => return out,
            Poll::Ready(Ok(())) => out.extend_from_slice(room.filled()),
            other => panic!("nothing to wait for and nothing to fail: {other:?}"),
        }
    }
}

/// A stream that gives at most `step` bytes at once.
struct Pieces<'a> {
    rest: &'a [u8],
    step: usize,
}

impl AsyncRead for Pieces<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let count = self.step.min(self.rest.len()).min(out.remaining());
        let (piece, rest) = self.rest.split_at(count);
        out.put_slice(piece);
        self.rest = rest;
        Poll::Ready(Ok(()))
    }
}
