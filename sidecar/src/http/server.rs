//! Connections.
//!
//! Owns: listening, both versions of HTTP, the bounds on connections and on what they hold, the orderly end.
//! Does not own: routes, how long a connection may say nothing (`patience`).

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Version};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tracing::{debug, warn};

use crate::clock::SharedClock;
use crate::http::front::Front;
use crate::http::patience::{Patient, Requests};
use crate::limits::{
    CONNECTIONS_MAX, HEADER_TIMEOUT, HTTP2_HEADER_BYTES_MAX, HTTP2_PING_INTERVAL, HTTP2_STREAMS_MAX, HTTP2_WINDOW_BYTES,
};

/// How long is waited after an accept that failed, for lack of file descriptors say.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Serves `front` on every listener until `draining` becomes true, then waits for the requests under way, at most
/// `drain_wait`.
pub async fn serve(
    listeners: Vec<TcpListener>,
    front: Front,
    mut draining: watch::Receiver<bool>,
    drain_wait: Duration,
    clock: SharedClock,
) {
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let graceful = GracefulShutdown::new();
    let builder = connection_builder();
    loop {
        let accepted = tokio::select! {
            accepted = accept(&listeners, &room) => accepted,
            _ = draining.wait_for(|draining| *draining) => break,
        };
        let (stream, peer, permit) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                warn!(error = %error, "failed to accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        // Small answers must not wait for the peer's delayed acknowledgement.
        if let Err(error) = stream.set_nodelay(true) {
            debug!(error = %error, "failed to set nodelay");
        }
        let requests = Arc::<Requests>::default();
        let service = service_fn({
            let (front, requests) = (front.clone(), Arc::clone(&requests));
            move |request: Request<Incoming>| {
                let under_way = requests.begin(request.version() == Version::HTTP_2);
                let answer = front.clone().answer(request);
                async move {
                    let answer = answer.await;
                    drop(under_way);
                    Ok::<_, Infallible>(answer)
                }
            }
        });
        let stream = Patient::new(stream, Arc::clone(&requests), Arc::clone(&room), Arc::clone(&clock));
        let connection = graceful.watch(builder.serve_connection(TokioIo::new(stream), service).into_owned());
        tokio::spawn(async move {
            tokio::select! {
                ended = connection => if let Err(error) = ended {
                    debug!(%peer, error = %error, "connection ended early");
                },
                () = nothing_begins(&requests) => debug!(%peer, "connection closed; no request came in time"),
            }
            drop(permit);
        });
    }
    drop(listeners);
    if tokio::time::timeout(drain_wait, graceful.shutdown()).await.is_err() {
        warn!("connections were still open when the wait for them was over");
    }
}

/// HTTP/1.1, and HTTP/2 for clients that begin with its preface (RFC 9113, 3.3).
fn connection_builder() -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(None);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(HTTP2_STREAMS_MAX)
        .initial_stream_window_size(HTTP2_WINDOW_BYTES)
        .initial_connection_window_size(HTTP2_WINDOW_BYTES)
        .max_header_list_size(HTTP2_HEADER_BYTES_MAX)
        .keep_alive_interval(HTTP2_PING_INTERVAL)
        .keep_alive_timeout(HTTP2_PING_INTERVAL);
    builder
}

/// Ends when a connection has had its time and not one request has come, in whichever version of HTTP.
async fn nothing_begins(requests: &Requests) {
    tokio::time::sleep(HEADER_TIMEOUT).await;
    if requests.has_begun() {
        std::future::pending().await
    }
}

/// A connection within the bound, from whichever listener has one.
async fn accept(
    listeners: &[TcpListener],
    room: &Arc<Semaphore>,
) -> std::io::Result<(TcpStream, SocketAddr, tokio::sync::OwnedSemaphorePermit)> {
    let permit = Arc::clone(room).acquire_owned().await.map_err(std::io::Error::other)?;
    let accepts = listeners.iter().map(|listener| Box::pin(listener.accept()));
    let (accepted, _, _) = futures::future::select_all(accepts).await;
    accepted.map(|(stream, peer)| (stream, peer, permit))
}

/// Listens on `port` of every address that this host has, of both families where there are two.
///
/// # Errors
/// The port is taken.
pub async fn listen_everywhere(port: u16) -> std::io::Result<Vec<TcpListener>> {
    match TcpListener::bind(("::", port)).await {
        Ok(listener) => Ok(vec![listener]),
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => Err(error),
        // A host without IPv6.
        Err(_) => Ok(vec![TcpListener::bind(("0.0.0.0", port)).await?]),
    }
}

/// Listens on `port` of every loopback address that this host has; port 0 takes a free one and the same for both.
///
/// # Errors
/// The port is taken on one of them.
pub async fn listen_on_loopback(port: u16) -> std::io::Result<Vec<TcpListener>> {
    let first = TcpListener::bind(("127.0.0.1", port)).await?;
    let port = first.local_addr()?.port();
    let mut listeners = vec![first];
    // Clients that know `localhost` as ::1 first try there; a host without IPv6 has no such address.
    match TcpListener::bind(("::1", port)).await {
        Ok(second) => listeners.push(second),
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => return Err(error),
        Err(error) => debug!(error = %error, "this host has no ::1"),
    }
    Ok(listeners)
}
