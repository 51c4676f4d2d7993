//! Makes what the broker hands out readable for lapin, whoever published it.
//!
//! RabbitMQ passes on names that are no text and tables that nest as deep as a frame is long. lapin gives the
//! connection up over the former and reads the latter by recursion, until the thread's stack ends and the process with
//! it; and since neither delivery was ever answered, it comes again, to every replica in turn. [`Tamed`] looks at the
//! frames on their way: bytes of a name that are no text become question marks, and what nests deeper than any header
//! of a chunk becomes a byte array. No length changes. What is left is judged like any other delivery.

mod payload;

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::io::poll_read_buf;

/// Type (1), channel (2) and size of the payload (4).
const HEAD: usize = 7;
/// The byte behind each payload.
const END: usize = 1;
/// Frames with a method, and with the properties of a message.
const METHOD: u8 = 1;
const HEADER: u8 = 2;
/// No such frame is longer: 128 KiB is what RabbitMQ agrees to. What claims to be longer passes as it is.
const LONGEST: usize = 1 << 20;
/// Bytes asked for at once where there is too little room to read into, or so much is held that moving it at each reading costs.
const PART: usize = 8 << 10;

/// A stream of AMQP frames, tamed in the direction of reading.
///
/// Bytes are read to where they go, and tamed there: only the beginning of a frame, whose rest did not come yet, is kept.
pub(crate) struct Tamed<S> {
    inner: S,
    /// What was read and not passed on yet.
    held: BytesMut,
    /// So much of that may pass.
    ready: usize,
    /// So many of the bytes that come next may pass.
    clear: usize,
}

impl<S> Tamed<S> {
    /// Before the first byte of the stream.
    pub(crate) fn new(inner: S) -> Self {
        Tamed { inner, held: BytesMut::new(), ready: 0, clear: 0 }
    }
}

/// Tames what came of the stream, of which the first `clear` bytes may pass as they are: how many bytes may pass now. `clear`
/// becomes what may pass of those that come next.
fn sift(clear: &mut usize, bytes: &mut [u8]) -> usize {
    let mut passing = bytes.len().min(*clear);
    *clear -= passing;
    while *clear == 0
        && let Some(whole) = tame(&mut bytes[passing..])
    {
        let here = whole.min(bytes.len() - passing);
        passing += here;
        *clear = whole - here;
    }
    passing
}

/// Tames the frame in front and returns its length; `None` while too little of it is there.
fn tame(bytes: &mut [u8]) -> Option<usize> {
    let &[kind, _, _, a, b, c, d] = bytes.first_chunk::<HEAD>()?;
    let size = u32::from_be_bytes([a, b, c, d]) as usize;
    let whole = HEAD + size + END;
    if matches!(kind, METHOD | HEADER) && size <= LONGEST {
        let payload = &mut bytes.get_mut(..whole)?[HEAD..HEAD + size];
        if kind == METHOD { payload::tame_method(payload) } else { payload::tame_header(payload) }
    }
    Some(whole)
}

impl<S: AsyncRead + Unpin> Tamed<S> {
    /// Reads to where the bytes go, behind what is held; how many came, and how many of all passed.
    fn read_through(
        &mut self,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<(usize, usize)>> {
        let kept = self.held.len();
        let room = out.initialize_unfilled();
        room[..kept].copy_from_slice(&self.held);
        let mut behind = ReadBuf::new(&mut room[kept..]);
        ready!(Pin::new(&mut self.inner).poll_read(cx, &mut behind))?;
        let came = behind.filled().len();
        let there = &mut room[..kept + came];
        let passing = if came == 0 { kept } else { sift(&mut self.clear, there) };
        self.held.clear();
        self.held.extend_from_slice(&there[passing..]);
        out.advance(passing);
        Poll::Ready(Ok((came, passing)))
    }

    /// Reads more behind what is held; how many bytes came.
    fn read_ahead(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let kept = self.held.len();
        self.held.reserve(PART);
        let came = ready!(poll_read_buf(Pin::new(&mut self.inner), cx, &mut self.held))?;
        self.ready = if came == 0 { kept } else { sift(&mut self.clear, &mut self.held) };
        Poll::Ready(Ok(came))
    }

    fn pass_held(&mut self, out: &mut ReadBuf<'_>) {
        let count = self.ready.min(out.remaining());
        out.put_slice(&self.held[..count]);
        self.held.advance(count);
        self.ready -= count;
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Tamed<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        loop {
            if this.ready > 0 {
                this.pass_held(out);
                return Poll::Ready(Ok(()));
            }
            if this.held.len() < out.remaining().min(PART) {
                let (came, passed) = ready!(this.read_through(cx, out))?;
                if came == 0 || passed > 0 {
                    return Poll::Ready(Ok(()));
                }
            } else if ready!(this.read_ahead(cx))? == 0 && this.held.is_empty() {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Tamed<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests;
