//! An upstream's answer as it arrives, under the idle and total timeouts.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep, sleep_until};

use super::client::Error;

/// The body of an answer. Dropping it before its end closes the connection, which is how a call is cancelled.
#[derive(Debug)]
pub struct Answer {
    inner: Incoming,
    idle: Duration,
    deadline: Instant,
    alarm: Pin<Box<Sleep>>,
}

impl Answer {
    pub(super) fn new(inner: Incoming, idle: Duration, deadline: Instant) -> Self {
        let first = deadline.min(Instant::now() + idle);
        Self { inner, idle, deadline, alarm: Box::pin(sleep_until(first)) }
    }

    /// All of it, or `None` if that is more than `cap` bytes; the rest is then not read.
    pub async fn whole(&mut self, cap: usize) -> Result<Option<Bytes>, Error> {
        let mut whole = BytesMut::new();
        while let Some(chunk) = self.chunk().await {
            whole.extend_from_slice(&chunk?);
            if whole.len() > cap {
                return Ok(None);
            }
        }
        Ok(Some(whole.freeze()))
    }

    /// The next piece of data, or `None` at the end. Trailers are dropped.
    pub async fn chunk(&mut self) -> Option<Result<Bytes, Error>> {
        loop {
            let frame = std::future::poll_fn(|cx| Pin::new(&mut *self).poll_frame(cx)).await?;
            match frame.map(Frame::into_data) {
                Ok(Ok(data)) => return Some(Ok(data)),
                Ok(Err(_trailers)) => {}
                Err(error) => return Some(Err(error)),
            }
        }
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let this = &mut *self;
        if let Poll::Ready(frame) = Pin::new(&mut this.inner).poll_frame(cx) {
            let next = this.deadline.min(Instant::now() + this.idle);
            this.alarm.as_mut().reset(next);
            return Poll::Ready(frame.map(|frame| frame.map_err(|error| Error::Reset(error.to_string()))));
        }
        ready!(this.alarm.as_mut().poll(cx));
        let error = if Instant::now() >= this.deadline { Error::TotalTimeout } else { Error::IdleTimeout };
        Poll::Ready(Some(Err(error)))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
