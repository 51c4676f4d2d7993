//! Makes what the broker hands out readable for lapin, whoever published it.
//!
//! RabbitMQ passes on names that are no text and tables that nest as deep as a frame is long. lapin gives the
//! connection up over the former and reads the latter by recursion, until the thread's stack ends and the process with
//! it; and since neither delivery was ever answered, it comes again, to every replica in turn. [`Tamed`] looks at the
//! frames on their way: bytes of a name that are no text become question marks, and what nests deeper than any header
//! of a chunk becomes a byte array. No length changes. What is left is judged like any other delivery.

mod payload;

use std::io;
use std::ops::Range;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Type (1), channel (2) and size of the payload (4).
const HEAD: usize = 7;
/// The byte behind each payload.
const END: usize = 1;
/// Frames with a method, and with the properties of a message.
const METHOD: u8 = 1;
const HEADER: u8 = 2;
/// No such frame is longer: 128 KiB is what RabbitMQ agrees to. A longer one passes as it is, and lapin refuses it.
const LONGEST: usize = 1 << 20;
/// Bytes asked for when a frame's beginning is awaited.
const PART: usize = 64 << 10;

/// A stream of AMQP frames, tamed in the direction of reading.
pub(crate) struct Tamed<S> {
    inner: S,
    buffer: Vec<u8>,
    /// What of the buffer was read and not passed on yet.
    held: Range<usize>,
    /// So many of the next bytes may pass.
    clear: usize,
}

impl<S> Tamed<S> {
    /// Before the first byte of the stream.
    pub(crate) fn new(inner: S) -> Self {
        Tamed { inner, buffer: Vec::new(), held: 0..0, clear: 0 }
    }

    /// Clears the next frame; false while too little of it is there.
    fn sift(&mut self) -> bool {
        let rest = &mut self.buffer[self.held.clone()];
        let Some(&[kind, _, _, a, b, c, d]) = rest.first_chunk::<HEAD>() else { return false };
        let size = u32::from_be_bytes([a, b, c, d]) as usize;
        let whole = HEAD + size + END;
        if matches!(kind, METHOD | HEADER) && size <= LONGEST {
            let Some(payload) = rest.get_mut(..whole).map(|frame| &mut frame[HEAD..HEAD + size]) else {
                return false;
            };
            if kind == METHOD { payload::tame_method(payload) } else { payload::tame_header(payload) }
        }
        self.clear = whole;
        true
    }
}

impl<S: AsyncRead + Unpin> Tamed<S> {
    /// Reads more behind what is held; the bytes that came.
    fn fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.held.start > 0 {
            self.buffer.copy_within(self.held.clone(), 0);
            self.held = 0..self.held.len();
        }
        if self.held.end == self.buffer.len() {
            self.buffer.resize(self.held.end + PART, 0);
        }
        let mut part = ReadBuf::new(&mut self.buffer[self.held.end..]);
        ready!(Pin::new(&mut self.inner).poll_read(cx, &mut part))?;
        let came = part.filled().len();
        self.held.end += came;
        Poll::Ready(Ok(came))
    }

    /// Reads what may pass straight to where it goes.
    fn pass(&mut self, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let room = out.remaining().min(self.clear);
        let mut part = ReadBuf::new(out.initialize_unfilled_to(room));
        ready!(Pin::new(&mut self.inner).poll_read(cx, &mut part))?;
        let came = part.filled().len();
        out.advance(came);
        self.clear -= came;
        Poll::Ready(Ok(()))
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
            if this.clear > 0 && this.held.is_empty() {
                return this.pass(cx, out);
            }
            if this.clear > 0 {
                let count = this.held.len().min(this.clear).min(out.remaining());
                out.put_slice(&this.buffer[this.held.start..this.held.start + count]);
                this.held.start += count;
                this.clear -= count;
                return Poll::Ready(Ok(()));
            }
            if this.sift() {
                continue;
            }
            let ended = ready!(this.fill(cx))? == 0;
            if ended && this.held.is_empty() {
                return Poll::Ready(Ok(()));
            }
            if ended {
                this.clear = this.held.len();
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
