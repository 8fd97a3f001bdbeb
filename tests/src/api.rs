//! A way from one operator to the API server that fails on purpose.
//!
//! Owns: `kubectl proxy` at its end, HTTP/1.1 with one request a connection, the faults, what was seen. Does not own: which
//! faults a test wants.
//!
//! ```text
//! operator ──> here: a fault, or on ──> kubectl proxy, with the rights of the operator's service account ──> API server
//! ```

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;

use xtask::cluster::{Cluster, NAMESPACE};
use xtask::wait::{self, Look};

use crate::proxy::{Head, read_head};

/// How much is passed on at once. Unit: bytes.
const CHUNK_BYTES: usize = 16 << 10;

/// What becomes of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    /// It is passed on, and its answer back, as it comes.
    Pass,
    /// It is answered so; the API server does not see it.
    Answer(Vec<u8>),
    /// It is not passed on, and neither is any that comes after it, until all is mended.
    Stop,
    /// The API server does it; its answer does not come, and none that comes after it is passed on, until all is mended.
    StopAfter,
}

/// Decides over a request.
type Rule = Box<dyn FnMut(&Head) -> Act + Send>;

struct State {
    rule: Rule,
    seen: Vec<Head>,
    /// Connections that were closed because the API server is away.
    turned_away: usize,
    has_stopped: bool,
    is_away: bool,
    has_ended: bool,
    /// How often all was mended.
    mended: u64,
    /// Both ends of what is passed on now.
    open: HashMap<u64, [TcpStream; 2]>,
    next: u64,
}

struct Shared {
    upstream: SocketAddr,
    state: Mutex<State>,
    changed: Condvar,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder of this lock panics")
    }

    fn wait_until_mended(&self, state: MutexGuard<'_, State>) {
        let mended = state.mended;
        let is_as_it_was = |state: &mut State| !state.has_ended && state.mended == mended;
        drop(self.changed.wait_while(state, is_as_it_was).expect("no holder of this lock panics"));
    }
}

/// The way; dropping it ends it.
pub struct Api {
    shared: Arc<Shared>,
    address: SocketAddr,
    kubectl: Child,
    thread: Option<JoinHandle<()>>,
}

impl std::fmt::Debug for Api {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Api").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Api {
    /// A way without a fault.
    pub fn start(cluster: &Cluster) -> Self {
        let account = format!("--as=system:serviceaccount:{NAMESPACE}:lakeingest-operator");
        let mut proxy = cluster.kubectl(["proxy", "--port=0", &account]).expect("kubectl is there");
        let mut kubectl = proxy.stdout(Stdio::piped()).spawn().expect("it starts");
        let output = kubectl.stdout.take().expect("standard output was asked for as a pipe");
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line).expect("it says where it listens");
        let upstream = line.trim().rsplit(' ').next().and_then(|address| address.parse().ok());
        let upstream = upstream.unwrap_or_else(|| panic!("no address in {line:?}"));
        let listener = TcpListener::bind("127.0.0.1:0").expect("some port is free");
        let address = listener.local_addr().expect("it listens");
        let state = State {
            rule: Box::new(|_| Act::Pass),
            seen: Vec::new(),
            turned_away: 0,
            has_stopped: false,
            is_away: false,
            has_ended: false,
            mended: 0,
            open: HashMap::new(),
            next: 0,
        };
        let shared = Arc::new(Shared { upstream, state: Mutex::new(state), changed: Condvar::new() });
        let thread = std::thread::spawn({
            let shared = Arc::clone(&shared);
            move || accept(&listener, &shared)
        });
        Self { shared, address, kubectl, thread: Some(thread) }
    }

    /// Its URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What becomes of requests from now on.
    pub fn rule(&self, rule: impl FnMut(&Head) -> Act + Send + 'static) {
        self.shared.state().rule = Box::new(rule);
    }

    /// Passes everything on from now on.
    pub fn mend(&self) {
        self.mend_but(|_| Act::Pass);
    }

    /// As [`Self::mend`], but for what this rule says.
    pub fn mend_but(&self, rule: impl FnMut(&Head) -> Act + Send + 'static) {
        let mut state = self.shared.state();
        state.rule = Box::new(rule);
        (state.has_stopped, state.is_away) = (false, false);
        state.mended += 1;
        drop(state);
        self.shared.changed.notify_all();
    }

    /// Cuts everything that is passed on now, watches above all.
    pub fn cut(&self) {
        for streams in self.shared.state().open.values() {
            for stream in streams {
                // One that has ended in between is what is wanted.
                let _ = stream.shutdown(Shutdown::Both);
            }
        }
    }

    /// Closes every connection, also those that come, until all is mended.
    pub fn go_away(&self) {
        self.shared.state().is_away = true;
        self.cut();
    }

    /// Waits until a request has stopped the way.
    pub fn wait_until_stopped(&self, what: &str) {
        wait::until(what, || {
            let state = self.shared.state();
            let count = state.seen.len();
            Ok(if state.has_stopped { Look::Ready(()) } else { Look::NotYet(format!("{count} requests")) })
        })
        .expect("the operator asks for it");
    }

    /// Every request so far.
    pub fn seen(&self) -> Vec<Head> {
        self.shared.state().seen.clone()
    }

    /// How many connections were closed because the API server was away.
    pub fn turned_away(&self) -> usize {
        self.shared.state().turned_away
    }
}

impl Drop for Api {
    fn drop(&mut self) {
        self.shared.state().has_ended = true;
        self.shared.changed.notify_all();
        self.cut();
        // Wakes the thread that accepts.
        drop(TcpStream::connect(self.address));
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        let _ = self.kubectl.kill();
        let _ = self.kubectl.wait();
    }
}

/// An answer of the API server that is none of success, with a header.
pub fn refusal(code: u16, reason: &str, header: &str) -> Act {
    let body = serde_json::json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason, "message": "a fault of the test",
    });
    let body = body.to_string();
    let length = body.len();
    let head = format!("HTTP/1.1 {code} Fault\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n");
    Act::Answer(format!("{head}{header}connection: close\r\n\r\n{body}").into_bytes())
}

/// The answer to a watch whose version the API server remembers no more.
/// Source: <https://kubernetes.io/docs/reference/using-api/api-concepts/#410-gone-responses>.
pub fn history_is_gone() -> Act {
    let status = serde_json::json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "code": 410, "reason": "Expired",
        "message": "too old resource version",
    });
    let event = serde_json::json!({"type": "ERROR", "object": status}).to_string() + "\n";
    let length = event.len();
    let head = format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n");
    Act::Answer(format!("{head}connection: close\r\n\r\n{event}").into_bytes())
}

/// Whether a request writes something.
pub fn writes(head: &Head) -> bool {
    head.method != "GET"
}

/// Whether a request is a watch.
pub fn watches(head: &Head) -> bool {
    head.target.contains("watch=true")
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for stream in listener.incoming() {
        let mut state = shared.state();
        if state.has_ended {
            return;
        }
        let Ok(client) = stream else { continue };
        if state.is_away {
            state.turned_away += 1;
            continue;
        }
        drop(state);
        let shared = Arc::clone(shared);
        // A connection that breaks is what this is for.
        std::thread::spawn(move || drop(serve(client, &shared)));
    }
}

/// Serves one request; the connection is closed after it.
fn serve(mut client: TcpStream, shared: &Shared) -> std::io::Result<()> {
    let Some((head, mut body)) = read_head(&mut client)? else { return Ok(()) };
    let left = head.body_bytes().saturating_sub(body.len() as u64);
    Read::by_ref(&mut client).take(left).read_to_end(&mut body)?;
    let mut state = shared.state();
    if state.has_stopped {
        shared.wait_until_mended(state);
        return Ok(());
    }
    let act = (state.rule)(&head);
    state.seen.push(head.clone());
    match act {
        Act::Pass => {
            drop(state);
            forward(client, shared, &head, &body)
        }
        Act::Answer(answer) => {
            drop(state);
            client.write_all(&answer)
        }
        Act::Stop => {
            state.has_stopped = true;
            shared.wait_until_mended(state);
            Ok(())
        }
        Act::StopAfter => {
            // Nothing else comes in between.
            state.has_stopped = true;
            let mut answer = Vec::new();
            sent(shared, &head, &body)?.read_to_end(&mut answer)?;
            shared.wait_until_mended(state);
            Ok(())
        }
    }
}

/// A connection to the API server on which a request was sent.
fn sent(shared: &Shared, head: &Head, body: &[u8]) -> std::io::Result<TcpStream> {
    let mut server = TcpStream::connect(shared.upstream)?;
    let mut text = format!("{} {} HTTP/1.1\r\n", head.method, head.target);
    for (name, value) in head.headers.iter().filter(|(name, _)| name != "connection") {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    text.push_str("connection: close\r\n\r\n");
    server.write_all(&[text.as_bytes(), body].concat())?;
    Ok(server)
}

fn forward(mut client: TcpStream, shared: &Shared, head: &Head, body: &[u8]) -> std::io::Result<()> {
    let mut server = sent(shared, head, body)?;
    let number = {
        let mut state = shared.state();
        state.next += 1;
        let number = state.next;
        state.open.insert(number, [client.try_clone()?, server.try_clone()?]);
        number
    };
    let mut chunk = vec![0; CHUNK_BYTES];
    let passed = loop {
        match server.read(&mut chunk) {
            Ok(0) => break Ok(()),
            Ok(length) => {
                if let Err(error) = client.write_all(&chunk[..length]) {
                    break Err(error);
                }
            }
            Err(error) => break Err(error),
        }
    };
    shared.state().open.remove(&number);
    let _ = client.shutdown(Shutdown::Both);
    passed
}
