//! How long a connection of HTTP/1.1 may say nothing.
//!
//! Owns: the time between a request's first byte and the end of its head, and the time between an answer and the next
//! request, which is long as long as there is room for other connections. Does not own: bodies (`front`), HTTP/2, whose
//! connections are asked whether they live.
//!
//! hyper has one timeout for both. A short one cuts the connections that clients keep for their next request, and they have to
//! take what they were about to send for lost; a long one lets a few slow heads keep everybody out.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Semaphore;
use tokio::time::{Sleep, sleep};

use crate::clock::SharedClock;
use crate::limits::{HEADER_TIMEOUT, IDLE_TIMEOUT};

/// What is known of a connection's requests.
#[derive(Debug, Default)]
pub(super) struct Requests {
    begun: AtomicU64,
    answered: AtomicU64,
    is_http2: AtomicBool,
}

/// A request that is under way while this lives.
#[derive(Debug)]
pub(super) struct UnderWay(Arc<Requests>);

impl Requests {
    /// The head of a request is whole.
    pub(super) fn begin(self: &Arc<Self>, is_http2: bool) -> UnderWay {
        self.is_http2.store(is_http2, Ordering::Relaxed);
        self.begun.fetch_add(1, Ordering::Relaxed);
        UnderWay(Arc::clone(self))
    }

    /// Whether there was one.
    pub(super) fn has_begun(&self) -> bool {
        self.begun.load(Ordering::Relaxed) > 0
    }

    /// How many have begun, and how many of them were answered.
    fn counts(&self) -> (u64, u64) {
        (self.begun.load(Ordering::Relaxed), self.answered.load(Ordering::Relaxed))
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.answered.fetch_add(1, Ordering::Relaxed);
    }
}

/// What a connection waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// A request, since then.
    Idle(Duration),
    /// The rest of a head, since then; so many requests had begun before it.
    Head(Duration, u64),
    /// An answer.
    Busy,
}

impl Phase {
    /// After so many requests have begun and been answered.
    fn after(self, begun: u64, answered: u64, now: Duration) -> Self {
        match self {
            _ if begun > answered => Self::Busy,
            Self::Busy => Self::Idle(now),
            Self::Head(_, before) if begun > before => Self::Idle(now),
            Self::Idle(_) | Self::Head(..) => self,
        }
    }

    /// After bytes have come.
    fn after_bytes(self, begun: u64, now: Duration) -> Self {
        match self {
            Self::Idle(_) => Self::Head(now, begun),
            Self::Head(..) | Self::Busy => self,
        }
    }

    /// How long nothing may come before it is looked at again; none for as long as it takes.
    ///
    /// # Errors
    /// Its time is over: why.
    fn patience(self, is_roomy: bool, now: Duration) -> Result<Option<Duration>, &'static str> {
        let (since, longest, words) = match self {
            Self::Busy => return Ok(None),
            Self::Idle(since) if is_roomy => (since, IDLE_TIMEOUT, "no request came in time"),
            Self::Idle(since) => (since, HEADER_TIMEOUT, "no request came in time, and others wait for room"),
            Self::Head(since, _) => (since, HEADER_TIMEOUT, "the head of a request did not come in time"),
        };
        let left = (since + longest).saturating_sub(now);
        // There may be no room before its time is over.
        if left.is_zero() { Err(words) } else { Ok(Some(left.min(HEADER_TIMEOUT))) }
    }
}

/// A connection that ends when its time is over.
#[derive(Debug)]
pub(super) struct Patient<S> {
    stream: S,
    requests: Arc<Requests>,
    /// Room for connections: without any, none may wait for long.
    room: Arc<Semaphore>,
    clock: SharedClock,
    phase: Phase,
    look: Pin<Box<Sleep>>,
}

impl<S> Patient<S> {
    pub(super) fn new(stream: S, requests: Arc<Requests>, room: Arc<Semaphore>, clock: SharedClock) -> Self {
        let phase = Phase::Idle(clock.monotonic());
        Self { stream, requests, room, clock, phase, look: Box::pin(sleep(HEADER_TIMEOUT)) }
    }

    /// Ready when the time is over.
    fn poll_over(&mut self, context: &mut Context<'_>) -> Poll<io::Error> {
        loop {
            let is_roomy = self.room.available_permits() > 0;
            match self.phase.patience(is_roomy, self.clock.monotonic()) {
                Err(words) => return Poll::Ready(io::Error::new(io::ErrorKind::TimedOut, words)),
                Ok(None) => return Poll::Pending,
                Ok(Some(wait)) => self.look.as_mut().set(sleep(wait)),
            }
            if self.look.as_mut().poll(context).is_pending() {
                return Poll::Pending;
            }
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Patient<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let outcome = Pin::new(&mut self.stream).poll_read(context, buffer);
        if self.requests.is_http2.load(Ordering::Relaxed) {
            return outcome;
        }
        let (begun, answered) = self.requests.counts();
        let now = self.clock.monotonic();
        self.phase = self.phase.after(begun, answered, now);
        match outcome {
            Poll::Pending => self.poll_over(context).map(Err),
            Poll::Ready(_) => {
                if buffer.filled().len() > before {
                    self.phase = self.phase.after_bytes(begun, now);
                }
                outcome
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Patient<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_connection_may_be_idle_for_long_and_only_while_there_is_room() {
        let idle = Phase::Idle(at(10));
        let end = 10 + IDLE_TIMEOUT.as_secs();
        // Looked at again and again, since the room may go.
        assert_eq!(idle.patience(true, at(10)), Ok(Some(HEADER_TIMEOUT)));
        assert_eq!(idle.patience(true, at(end - 1)), Ok(Some(at(1))));
        assert_eq!(idle.patience(true, at(end)), Err("no request came in time"));
        assert_eq!(idle.patience(false, at(14)), Ok(Some(at(1))));
        assert!(idle.patience(false, at(15)).is_err_and(|words| words.contains("others wait for room")));
    }

    #[test]
    fn a_head_has_its_time_from_its_first_byte_on_however_its_bytes_come() {
        let head = Phase::Idle(at(0)).after_bytes(3, at(100));
        assert_eq!(head, Phase::Head(at(100), 3));
        let later = head.after(3, 3, at(104)).after_bytes(3, at(104));
        assert_eq!(later.patience(true, at(104)), Ok(Some(at(1))));
        assert_eq!(later.patience(true, at(105)), Err("the head of a request did not come in time"));
    }

    #[test]
    fn an_answer_may_take_its_time_and_idleness_counts_from_it() {
        let busy = Phase::Head(at(0), 0).after(1, 0, at(1));
        assert_eq!((busy, busy.after_bytes(1, at(2))), (Phase::Busy, Phase::Busy));
        assert_eq!(busy.patience(false, at(10_000)), Ok(None));
        assert_eq!(busy.after(1, 1, at(300)), Phase::Idle(at(300)));
        // A request that began and was answered between two looks.
        assert_eq!(Phase::Head(at(0), 1).after(2, 2, at(4)), Phase::Idle(at(4)));
    }
}
