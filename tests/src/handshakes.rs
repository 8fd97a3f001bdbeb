//! A client of the webhook that trusts what the API server trusts at that moment, and nothing else.
//!
//! Owns: the watch of the `caBundle`, connections over TLS and without. Does not own: what is sent.

use std::io::{BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};

use anyhow::{Context, Result, bail, ensure};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::{Deserializer, Value};
use xtask::cluster::Cluster;
use xtask::wait::TIMEOUT;

/// The name under which the API server calls the webhook.
const NAME: &str = "lakeingest-webhook.lakeingest.svc";

/// What the API server trusts, kept by a watch as it keeps it itself.
#[derive(Debug)]
pub struct Trust {
    bundle: Arc<Mutex<Vec<CertificateDer<'static>>>>,
    watch: Child,
}

impl Trust {
    /// Begins to watch the webhook configuration of the chart.
    ///
    /// # Errors
    /// When `kubectl` cannot be started.
    pub fn watch(cluster: &Cluster) -> Result<Self> {
        let of = ["get", "mutatingwebhookconfiguration", "lakeingest", "--watch", "--output=json"];
        let mut watch = cluster.kubectl(of)?.stdout(Stdio::piped()).spawn().context("failed to start kubectl")?;
        let output = watch.stdout.take().context("standard output was asked for as a pipe")?;
        let bundle = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&bundle);
        // It ends with the process that it reads from.
        std::thread::spawn(move || {
            for found in Deserializer::from_reader(BufReader::new(output)).into_iter::<Value>().map_while(Result::ok) {
                let certificates = certificates(&found);
                *kept.lock().expect("no holder of this lock panics") = certificates;
            }
        });
        Ok(Self { bundle, watch })
    }

    /// Sends a review to an operator in a connection of its own; gives the body of the answer.
    ///
    /// # Errors
    /// When the handshake fails, or no answer comes.
    pub fn review(&self, operator: SocketAddr, review: &str) -> Result<String> {
        let mut roots = RootCertStore::empty();
        let bundle = self.bundle.lock().expect("no holder of this lock panics").clone();
        let trusted = bundle.len();
        roots.add_parsable_certificates(bundle);
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .context("failed to find a version of TLS")?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::try_from(NAME).context("failed to read a name")?;
        let connection = ClientConnection::new(Arc::new(config), name).context("failed to begin a handshake")?;
        let mut stream = StreamOwned::new(connection, connect(operator)?);
        exchange(&mut stream, "POST", "/inject", review).with_context(|| format!("{trusted} certificates are trusted"))
    }
}

impl Drop for Trust {
    fn drop(&mut self) {
        let _ = self.watch.kill();
        let _ = self.watch.wait();
    }
}

/// The certificates of the first entry, which must be those of each.
fn certificates(found: &Value) -> Vec<CertificateDer<'static>> {
    use base64::Engine;
    let bundles = found["webhooks"].as_array().into_iter().flatten().map(|entry| &entry["clientConfig"]["caBundle"]);
    let bundle = bundles.reduce(|one, other| if one == other { one } else { &Value::Null });
    let bundle = bundle.and_then(Value::as_str).unwrap_or_default();
    let bundle = base64::prelude::BASE64_STANDARD.decode(bundle).unwrap_or_default();
    CertificateDer::pem_slice_iter(&bundle).flatten().collect()
}

/// Connects to a server that must answer in time.
///
/// # Errors
/// When it does not listen.
pub fn connect(address: SocketAddr) -> Result<TcpStream> {
    let stream = TcpStream::connect(address).with_context(|| format!("failed to connect to {address}"))?;
    stream.set_read_timeout(Some(TIMEOUT)).context("failed to set a timeout")?;
    Ok(stream)
}

/// Sends one request on a connection that ends with it; gives the body of the answer, which must be one of success.
///
/// # Errors
/// When no whole answer comes, or another one.
pub fn exchange(stream: &mut (impl Read + Write), method: &str, path: &str, body: &str) -> Result<String> {
    let head = format!(
        "{method} {path} HTTP/1.0\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all((head + body).as_bytes()).context("failed to send a request")?;
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer) {
        Ok(_) => {}
        // The server closes the connection without TLS's own farewell.
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => {}
        Err(error) => return Err(error).context("failed to read an answer"),
    }
    let answer = String::from_utf8(answer).context("failed to read an answer as text")?;
    let Some((head, body)) = answer.split_once("\r\n\r\n") else { bail!("failed to find an answer in {answer:?}") };
    let status = head.split_whitespace().nth(1).unwrap_or_default();
    ensure!(status.starts_with('2'), "answered {status}: {body}");
    Ok(body.to_owned())
}
