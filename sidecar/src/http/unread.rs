//! The rest of a body that nobody reads.
//!
//! Owns: reading it to its end and forgetting it, within bounds, when a request is answered before its body was read.
//! Many clients send the whole body before they look for the answer; to a connection that is closed meanwhile they
//! report a broken pipe, and the words that say what is wrong are lost. Does not own: the bounds of a body that is
//! read (`body`).

use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::Body;
use axum::extract::Request;
use axum::middleware::Next;
use axum::response::Response;
use bytes::Bytes;
use http::header;
use http_body_util::BodyExt;
use hyper::body::{Body as HttpBody, Frame, SizeHint};

use crate::limits::{UNREAD_BODY_BYTES_MAX, UNREAD_BODY_TIMEOUT};

/// Lets the rest of a request's body be read when its handler has dropped it.
pub(super) async fn read_the_rest(request: Request, next: Next) -> Response {
    // A client that expects `100 Continue` looks for the answer before it sends the body.
    if request.headers().contains_key(header::EXPECT) {
        return next.run(request).await;
    }
    let request = request.map(|body| Body::new(ReadToItsEnd { inner: body, has_ended: false }));
    next.run(request).await
}

/// A body that is read to its end, whoever drops it.
struct ReadToItsEnd {
    inner: Body,
    has_ended: bool,
}

impl HttpBody for ReadToItsEnd {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let polled = Pin::new(&mut self.inner).poll_frame(context);
        self.has_ended |= matches!(polled, Poll::Ready(None | Some(Err(_))));
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl Drop for ReadToItsEnd {
    fn drop(&mut self) {
        if self.has_ended || self.inner.is_end_stream() {
            return;
        }
        let rest = std::mem::replace(&mut self.inner, Body::empty());
        // Outside of a runtime there is no connection either.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(tokio::time::timeout(UNREAD_BODY_TIMEOUT, forget(rest)));
        }
    }
}

/// Reads until the end, an error or the bound.
async fn forget(mut body: Body) {
    let mut bytes = 0;
    while let Some(Ok(frame)) = body.frame().await
        && bytes <= UNREAD_BODY_BYTES_MAX
    {
        bytes += frame.data_ref().map_or(0, Bytes::len);
    }
}
