//! The three shapes of an answer's body.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use http_body_util::Full;
use tokio::sync::mpsc;

use super::record::Exchange;
use crate::upstream::{Answer, Error};

/// An answer on its way to the client.
#[derive(Debug)]
pub enum Body {
    /// Known in full.
    Whole(Full<Bytes>),
    /// An upstream's stream that no rule looks at, forwarded as it comes.
    Through(Box<Through>),
    /// A stream that a guard releases piece by piece. Dropping it tells the guard that the client has left.
    Guarded(mpsc::Receiver<Bytes>),
}

/// A stream that is only observed.
#[derive(Debug)]
pub struct Through {
    answer: Answer,
    exchange: Arc<Exchange>,
    started: bool,
    ended: bool,
}

impl Body {
    /// A body known in full.
    pub fn whole(bytes: impl Into<Bytes>) -> Self {
        Self::Whole(Full::new(bytes.into()))
    }

    pub(super) fn through(answer: Answer, exchange: Arc<Exchange>) -> Self {
        Self::Through(Box::new(Through { answer, exchange, started: false, ended: false }))
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        match &mut *self {
            Self::Whole(body) => {
                Pin::new(body).poll_frame(cx).map(|frame| frame.map(|f| f.map_err(|e: Infallible| match e {})))
            }
            Self::Through(through) => through.poll(cx),
            Self::Guarded(pieces) => pieces.poll_recv(cx).map(|piece| piece.map(|bytes| Ok(Frame::data(bytes)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(body) => body.is_end_stream(),
            Self::Through(_) | Self::Guarded(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(body) => body.size_hint(),
            Self::Through(_) | Self::Guarded(_) => SizeHint::default(),
        }
    }
}

impl Through {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let polled = http_body::Body::poll_frame(Pin::new(&mut self.answer), cx);
        match &polled {
            Poll::Ready(Some(Ok(_))) if !self.started => {
                self.started = true;
                self.exchange.first_bytes();
            }
            Poll::Ready(None) if !self.ended => {
                self.ended = true;
                self.exchange.stream_ended("completed");
            }
            Poll::Ready(Some(Err(_))) if !self.ended => {
                self.ended = true;
                self.exchange.stream_ended("upstream_error");
            }
            _ => {}
        }
        polled
    }
}
