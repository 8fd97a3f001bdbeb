//! A small server that answers as a test wants, with TLS if it wants it: a source of keys, or TLS in front of a bucket.
//!
//! Owns: HTTP/1.1, one request a connection. Does not own: what is answered.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::proxy::{Head, read_head};

/// Answers a request, given its head and all of its bytes; the answer is bytes too.
type Answer = Box<dyn Fn(&Head, &[u8]) -> Vec<u8> + Send + Sync>;

/// The server; dropping it ends it.
pub struct Stub {
    host: String,
    address: SocketAddr,
    scheme: &'static str,
    /// Its certificate as PEM; empty without TLS, and with the caller's.
    pub certificate: String,
    has_ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl std::fmt::Debug for Stub {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Stub").field("url", &self.url()).finish_non_exhaustive()
    }
}

impl Stub {
    /// A server without TLS.
    pub fn plain(answer: impl Fn(&Head, &[u8]) -> Vec<u8> + Send + Sync + 'static) -> Self {
        Self::start("localhost", Box::new(answer), None, String::new())
    }

    /// A server with TLS, whose certificate is its own.
    pub fn tls(answer: impl Fn(&Head, &[u8]) -> Vec<u8> + Send + Sync + 'static) -> Self {
        Self::tls_at("localhost", answer)
    }

    /// As [`Self::tls`], at an address of this machine that others reach.
    pub fn tls_at(host: &str, answer: impl Fn(&Head, &[u8]) -> Vec<u8> + Send + Sync + 'static) -> Self {
        let made = rcgen::generate_simple_self_signed([host.to_owned()]).expect("a certificate can be made");
        let key = rustls::pki_types::PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("the provider has them")
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key.into())
            .expect("the key is that of the certificate");
        Self::start(host, Box::new(answer), Some(Arc::new(config)), made.cert.pem())
    }

    /// A server with TLS of the caller's making, at an address of this machine.
    pub fn with(
        host: &str,
        config: Arc<ServerConfig>,
        answer: impl Fn(&Head, &[u8]) -> Vec<u8> + Send + Sync + 'static,
    ) -> Self {
        Self::start(host, Box::new(answer), Some(config), String::new())
    }

    fn start(host: &str, answer: Answer, tls: Option<Arc<ServerConfig>>, certificate: String) -> Self {
        let bound = if host == "localhost" { "127.0.0.1" } else { host };
        let listener = TcpListener::bind((bound, 0)).expect("some port is free");
        let address = listener.local_addr().expect("it listens");
        let scheme = if tls.is_some() { "https" } else { "http" };
        let (has_ended, answer) = (Arc::new(AtomicBool::new(false)), Arc::new(answer));
        let thread = std::thread::spawn({
            let has_ended = Arc::clone(&has_ended);
            move || {
                for stream in listener.incoming().flatten() {
                    if has_ended.load(Ordering::Acquire) {
                        return;
                    }
                    let (answer, tls) = (Arc::clone(&answer), tls.clone());
                    // A client that does not trust us breaks off, which is its right.
                    std::thread::spawn(move || drop(serve(stream, tls, &answer)));
                }
            }
        });
        Self { host: host.to_owned(), address, scheme, certificate, has_ended, thread: Some(thread) }
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Its URL, without a slash at its end.
    pub fn url(&self) -> String {
        format!("{}://{}:{}", self.scheme, self.host, self.address.port())
    }
}

impl Drop for Stub {
    fn drop(&mut self) {
        self.has_ended.store(true, Ordering::Release);
        // Wakes the thread that accepts.
        drop(TcpStream::connect(self.address));
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// An answer with a body.
pub fn answer(status: u16, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("HTTP/1.1 {status} Stub\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}").into_bytes()
}

/// The answer of another server to the same bytes.
pub fn forward(upstream: &str, request: &[u8]) -> Vec<u8> {
    let address = upstream.strip_prefix("http://").unwrap_or(upstream);
    let mut answer = Vec::new();
    if let Ok(mut server) = TcpStream::connect(address) {
        // Whatever breaks here is a broken answer.
        let _ = server.write_all(request).and_then(|()| server.read_to_end(&mut answer).map(drop));
    }
    answer
}

fn serve(stream: TcpStream, tls: Option<Arc<ServerConfig>>, answer: &Answer) -> std::io::Result<()> {
    match tls {
        None => exchange(stream, answer),
        Some(config) => {
            let connection = ServerConnection::new(config).map_err(std::io::Error::other)?;
            let mut stream = StreamOwned::new(connection, stream);
            exchange(&mut stream, answer)?;
            stream.conn.send_close_notify();
            stream.flush()
        }
    }
}

fn exchange(mut stream: impl Read + Write, answer: &Answer) -> std::io::Result<()> {
    let Some((head, body)) = read_head(&mut stream)? else { return Ok(()) };
    let mut request = format!("{} {} HTTP/1.1\r\n", head.method, head.target);
    for (name, value) in &head.headers {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    let mut request = [request.as_bytes(), b"\r\n", &body].concat();
    let left = head.body_bytes().saturating_sub(body.len() as u64);
    Read::by_ref(&mut stream).take(left).read_to_end(&mut request)?;
    stream.write_all(&answer(&head, &request))?;
    stream.flush()
}
