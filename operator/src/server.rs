//! Connections, with TLS and without.
//!
//! Owns: listening, the bounds on connections, handshakes and headers, the orderly end. Does not own: routes.
//!
//! `axum::serve` gives hyper no timer, and without one hyper has no header timeout; hence this loop.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use tracing::{debug, warn};

use crate::limits::{
    CONNECTION_DRAIN_WAIT, CONNECTIONS_MAX, CONNECTIONS_PER_PEER_MAX, HANDSHAKE_TIMEOUT, HEADER_TIMEOUT,
};

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
    serve_within(HEADER_TIMEOUT, listener, tls, router, stopping).await;
}

async fn serve_within(
    header_timeout: Duration,
    listener: TcpListener,
    tls: Option<Arc<ServerConfig>>,
    router: Router,
    mut stopping: watch::Receiver<bool>,
) {
    let room = Room::default();
    let graceful = GracefulShutdown::new();
    let mut builder = auto::Builder::new(TokioExecutor::new()).http1_only();
    builder.http1().timer(TokioTimer::new()).header_read_timeout(header_timeout);
    let service = TowerToHyperService::new(router);
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
        // Closed and not kept waiting: behind those of a peer that has too many stand those of the API server.
        let Some(place) = room.take(peer.ip()) else {
            debug!(%peer, "closed a connection beyond the bound");
            continue;
        };
        if let Err(error) = stream.set_nodelay(true) {
            debug!(error = %error, "failed to set nodelay");
        }
        let (builder, service, watcher) = (builder.clone(), service.clone(), graceful.watcher());
        let acceptor = acceptor.clone();
        tokio::spawn(async move {
            let Some(stream) = encrypted(stream, acceptor).await else { return };
            let connection = builder.serve_connection(TokioIo::new(stream), service).into_owned();
            if let Err(error) = watcher.watch(connection).await {
                debug!(error = %error, "connection ended early");
            }
            drop(place);
        });
    }
    drop(listener);
    if tokio::time::timeout(CONNECTION_DRAIN_WAIT, graceful.shutdown()).await.is_err() {
        warn!("connections were still open when the wait for them was over");
    }
}

/// Who has how many connections. Cheap to clone.
#[derive(Clone, Debug, Default)]
struct Room {
    taken: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

impl Room {
    /// A place for a connection of this peer; none if there are too many, of the peer or in all.
    fn take(&self, peer: IpAddr) -> Option<Place> {
        let mut taken = self.taken();
        let (of_peer, of_all) = (taken.get(&peer).copied().unwrap_or(0), taken.values().sum::<usize>());
        if of_peer >= CONNECTIONS_PER_PEER_MAX || of_all >= CONNECTIONS_MAX {
            return None;
        }
        taken.insert(peer, of_peer + 1);
        Some(Place { room: self.clone(), peer })
    }

    /// No call under this lock leaves it half changed, so a panic elsewhere does not spoil it.
    fn taken(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection's place.
#[derive(Debug)]
struct Place {
    room: Room,
    peer: IpAddr,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.room.taken();
        match taken.get_mut(&self.peer) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(taken.remove(&self.peer)),
        }
    }
}

/// A stream of bytes, encrypted or not.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// The stream after its handshake, within its time; none if that failed.
async fn encrypted(stream: TcpStream, acceptor: Option<TlsAcceptor>) -> Option<Box<dyn Stream>> {
    let Some(acceptor) = acceptor else { return Some(Box::new(stream)) };
    match tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => Some(Box::new(stream)),
        Ok(Err(error)) => {
            debug!(error = %error, "handshake failed");
            None
        }
        Err(_) => {
            debug!("handshake took too long");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    fn address(last: u8) -> IpAddr {
        IpAddr::from([10, 88, 0, last])
    }

    /// Invariant I12: a stranger's connections have a bound of their own.
    #[test]
    fn i12_a_peer_that_takes_too_much_keeps_nobody_else_out() {
        let room = Room::default();
        let taken: Vec<_> = std::iter::from_fn(|| room.take(address(1))).collect();
        assert_eq!(taken.len(), CONNECTIONS_PER_PEER_MAX);
        let other = room.take(address(2)).expect("another peer has its own bound");
        let all: Vec<_> = (3..=255).filter_map(|last| room.take(address(last))).collect();
        assert_eq!(all.len(), 253);
        drop((taken, other, all));
        assert!(room.taken().is_empty());
    }

    #[test]
    fn i12_many_peers_have_a_bound_together() {
        let room = Room::default();
        let taken: Vec<_> = (0..=255).flat_map(|last| [room.take(address(last)), room.take(address(last))]).collect();
        assert_eq!(taken.iter().flatten().count(), CONNECTIONS_MAX);
        assert!(room.take(IpAddr::from([10, 89, 0, 1])).is_none());
    }

    /// Serves on a free port of loopback for as long as the sender lives.
    async fn serving(header_timeout: Duration) -> (std::net::SocketAddr, watch::Sender<bool>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("some port is free");
        let address = listener.local_addr().expect("it listens");
        let (stop, stopping) = watch::channel(false);
        let router = Router::new().route("/", get(async || "ok"));
        tokio::spawn(serve_within(header_timeout, listener, None, router, stopping));
        (address, stop)
    }

    /// What a connection that sends these bytes gets until it is closed.
    async fn answer_to(address: std::net::SocketAddr, sent: &str) -> String {
        let mut stream = TcpStream::connect(address).await.expect("it listens");
        stream.write_all(sent.as_bytes()).await.expect("it listens");
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer).await;
        answer
    }

    #[tokio::test]
    async fn connections_beyond_the_bound_are_closed_and_the_others_are_served() {
        let (address, _stop) = serving(HEADER_TIMEOUT).await;
        let mut held = Vec::new();
        for _ in 0..CONNECTIONS_PER_PEER_MAX {
            let mut stream = TcpStream::connect(address).await.expect("it listens");
            stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.expect("it listens");
            // Answered, so that it has its place.
            let mut byte = [0];
            stream.read_exact(&mut byte).await.expect("it is answered");
            held.push(stream);
        }
        assert_eq!(answer_to(address, "GET / HTTP/1.1\r\nhost: x\r\n\r\n").await, "");
        drop(held);
    }

    /// The client sends no more and does not close: only the timeout of the headers can end the connection.
    #[tokio::test]
    async fn headers_that_do_not_come_end_the_connection() {
        let (address, _stop) = serving(Duration::from_millis(20)).await;
        let answer = answer_to(address, "GET / HTTP/1.1\r\nhost:").await;
        assert!(!answer.contains("200"), "{answer}");
    }
}
