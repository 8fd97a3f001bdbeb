//! The rest of a body that nobody reads.
//!
//! Owns: reading it to its end and forgetting it, within bounds, when a request is answered before its body was read.
//! Many clients send the whole body before they look for the answer; to a connection that is closed meanwhile they
//! report a broken pipe, and the words that say what is wrong are lost. Does not own: the bounds of a body that is
//! read (`body`).

use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::Body;
use bytes::Bytes;
use http::{Request, header};
use http_body_util::BodyExt;
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};

use crate::limits::{UNREAD_BODY_BYTES_MAX, UNREAD_BODY_TIMEOUT};

/// Lets the rest of a request's body be read when its handler has dropped it.
pub(super) fn read_to_its_end(request: Request<Incoming>) -> Request<Body> {
    // A client that expects `100 Continue` looks for the answer before it sends the body.
    if request.headers().contains_key(header::EXPECT) {
        return request.map(Body::new);
    }
    request.map(|body| Body::new(ReadToItsEnd { rest: Some(body) }))
}

/// A body that is read to its end, whoever drops it.
struct ReadToItsEnd {
    /// None once it has ended.
    rest: Option<Incoming>,
}

impl HttpBody for ReadToItsEnd {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let Some(rest) = &mut self.rest else { return Poll::Ready(None) };
        let polled = Pin::new(rest).poll_frame(context);
        if matches!(polled, Poll::Ready(None | Some(Err(_)))) {
            self.rest = None;
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.rest.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.rest.as_ref().map_or(SizeHint::with_exact(0), HttpBody::size_hint)
    }
}

impl Drop for ReadToItsEnd {
    fn drop(&mut self) {
        let Some(rest) = self.rest.take().filter(|rest| !rest.is_end_stream()) else { return };
        // Outside of a runtime there is no connection either.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(tokio::time::timeout(UNREAD_BODY_TIMEOUT, forget(rest)));
        }
    }
}

/// Reads until the end, an error or the bound.
async fn forget(mut body: Incoming) {
    let mut bytes = 0;
    while let Some(Ok(frame)) = body.frame().await
        && bytes <= UNREAD_BODY_BYTES_MAX
    {
        bytes += frame.data_ref().map_or(0, Bytes::len);
    }
}
