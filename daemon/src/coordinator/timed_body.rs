//! A request's body that must be whole within a time: one that comes drop by drop would keep its connection for ever.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Bytes, HttpBody};
use hyper::body::{Frame, Incoming, SizeHint};
use tokio::time::{Instant, Sleep, sleep_until};

pub struct TimedBody {
    body: Incoming,
    until: Instant,
    limit: Duration,
    /// Made when the body is waited for: most are there with their headers.
    alarm: Option<Pin<Box<Sleep>>>,
}

/// The body did not end in time.
#[derive(Debug, thiserror::Error)]
#[error("the body was not whole within {0:?} of its headers")]
pub struct TooSlow(Duration);

impl TimedBody {
    /// `limit` counts from now, which is when the headers were read.
    pub fn new(body: Incoming, limit: Duration) -> TimedBody {
        TimedBody { body, until: Instant::now() + limit, limit, alarm: None }
    }
}

impl HttpBody for TimedBody {
    type Data = Bytes;
    type Error = axum::BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::BoxError>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(context) {
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        let until = self.until;
        let alarm = self.alarm.get_or_insert_with(|| Box::pin(sleep_until(until)));
        match alarm.as_mut().poll(context) {
            Poll::Ready(()) => Poll::Ready(Some(Err(TooSlow(self.limit).into()))),
            Poll::Pending => Poll::Pending,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Whether an error comes of a body that was too slow.
pub fn was_too_slow(error: &(dyn std::error::Error + 'static)) -> bool {
    std::iter::successors(Some(error), |error| error.source()).any(|error| error.is::<TooSlow>())
}
