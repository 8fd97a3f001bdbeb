//! Connections, with TLS and without.
//!
//! Owns: listening, the times of handshakes and headers, the orderly end. Does not own: routes, who has a place (`room`).
//!
//! `axum::serve` gives hyper no timer, and without one hyper has no header timeout; hence this loop.

mod room;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::{HeaderValue, Request, StatusCode, header};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt;
use tracing::{debug, warn};

use crate::limits::{
    CONNECTION_DRAIN_WAIT, CONNECTIONS_MAX, CONNECTIONS_PER_PEER_MAX, CONNECTIONS_WAITING_MAX,
    CONNECTIONS_WAITING_PER_PEER_MAX, FIRST_REQUEST_TIMEOUT, HEADER_TIMEOUT, PLACE_WAIT, REQUEST_HEAD_BYTES_MAX,
};
use room::{Place, Room, Taken};

/// How long is waited after an accept that failed, for lack of file descriptors say.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Listens on a port of every address, of both families where there are two.
///
/// # Errors
/// The port is taken.
pub async fn listen(port: u16) -> std::io::Result<TcpListener> {
    match TcpListener::bind(("::", port)).await {
        Ok(listener) => Ok(listener),
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => Err(error),
        // A node without IPv6.
        Err(_) => TcpListener::bind(("0.0.0.0", port)).await,
    }
}

/// Serves `router` until `stopping` becomes true, then waits a moment for the requests under way.
pub async fn serve(
    listener: TcpListener,
    tls: Option<Arc<ServerConfig>>,
    router: Router,
    stopping: watch::Receiver<bool>,
) {
    serve_within(Bounds::default(), listener, tls, router, stopping).await;
}

/// The bounds of a port; see `limits`.
#[derive(Clone, Debug)]
struct Bounds {
    connections_max: usize,
    connections_per_peer_max: usize,
    waiting_max: usize,
    waiting_per_peer_max: usize,
    place_wait: Duration,
    first_request: Duration,
    header: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            connections_max: CONNECTIONS_MAX,
            connections_per_peer_max: CONNECTIONS_PER_PEER_MAX,
            waiting_max: CONNECTIONS_WAITING_MAX,
            waiting_per_peer_max: CONNECTIONS_WAITING_PER_PEER_MAX,
            place_wait: PLACE_WAIT,
            first_request: FIRST_REQUEST_TIMEOUT,
            header: HEADER_TIMEOUT,
        }
    }
}

async fn serve_within(
    bounds: Bounds,
    listener: TcpListener,
    tls: Option<Arc<ServerConfig>>,
    router: Router,
    mut stopping: watch::Receiver<bool>,
) {
    let graceful = GracefulShutdown::new();
    let mut builder = auto::Builder::new(TokioExecutor::new()).http1_only();
    builder.http1().timer(TokioTimer::new()).header_read_timeout(bounds.header).max_buf_size(REQUEST_HEAD_BYTES_MAX);
    let room = Room::new(bounds.clone());
    let acceptor = tls.map(TlsAcceptor::from);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stopping.wait_for(|stopping| *stopping) => break,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                warn!(error = %error, "failed to accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        if let Err(error) = stream.set_nodelay(true) {
            debug!(error = %error, "failed to set nodelay");
        }
        let (builder, router, watcher) = (builder.clone(), router.clone(), graceful.watcher());
        let (acceptor, room, first_request) = (acceptor.clone(), room.clone(), bounds.first_request);
        // It waits for its place by itself: behind those of a peer that has too many stand those of the API server.
        tokio::spawn(async move {
            let Some(Taken { place, is_lost }) = room.place(peer.ip()).await else {
                debug!(%peer, "closed a connection beyond the bound");
                return;
            };
            let talk = Arc::new(Talk { place, has_asked: Notify::new() });
            let served = async {
                let Some(stream) = encrypted(stream, acceptor).await else { return };
                let talk = Arc::clone(&talk);
                let service = service_fn(move |request| answer(router.clone(), Arc::clone(&talk), request));
                let connection = builder.serve_connection(TokioIo::new(stream), service).into_owned();
                if let Err(error) = watcher.watch(connection).await {
                    debug!(error = %error, "connection ended early");
                }
            };
            tokio::select! {
                () = served => {}
                _ = is_lost => debug!(%peer, "closed a connection to make room for another"),
                () = talk.is_overdue(first_request) => debug!(%peer, "closed a connection that asked nothing"),
            }
        });
    }
    drop(listener);
    if tokio::time::timeout(CONNECTION_DRAIN_WAIT, graceful.shutdown()).await.is_err() {
        warn!("connections were still open when the wait for them was over");
    }
}

/// What is known of a connection.
#[derive(Debug)]
struct Talk {
    place: Place,
    /// Told when the head of a request has come.
    has_asked: Notify,
}

impl Talk {
    /// Ends when no request has come in this time, and else never.
    async fn is_overdue(&self, time: Duration) {
        if tokio::time::timeout(time, self.has_asked.notified()).await.is_ok() {
            std::future::pending().await
        }
    }
}

/// The answer to a request. A connection stays open once one was as it should be, and until then ends with its answer.
async fn answer(
    router: Router,
    talk: Arc<Talk>,
    request: Request<Incoming>,
) -> Result<axum::response::Response, Infallible> {
    talk.has_asked.notify_one();
    let mut answer = router.oneshot(request).await?;
    if answer.status() == StatusCode::OK {
        talk.place.prove();
    } else if !talk.place.is_proven() {
        answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    Ok(answer)
}

/// A stream of bytes, encrypted or not.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// The stream after its handshake; none if that failed.
async fn encrypted(stream: TcpStream, acceptor: Option<TlsAcceptor>) -> Option<Box<dyn Stream>> {
    let Some(acceptor) = acceptor else { return Some(Box::new(stream)) };
    match acceptor.accept(stream).await {
        Ok(stream) => Some(Box::new(stream)),
        Err(error) => {
            debug!(error = %error, "handshake failed");
            None
        }
    }
}

#[cfg(test)]
mod tests;
