//! A proxy in front of an S3 server, which fails on purpose: the faults of networks and of servers, one request at a time.
//!
//! Owns: HTTP/1.1 from one client to one server, the faults, and what was seen. Does not own: which faults a test wants,
//! signatures (`sign`).
//!
//! A connection serves one request. The client's `Host` header goes on as it is: its signature covers it. A request that
//! the server is to see without one of its headers is signed anew.

mod sign;

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::Duration;

use xtask::servers::S3Access;

/// How much is passed on at once. Unit: bytes.
const CHUNK_BYTES: usize = 16 << 10;

/// Longest head of a request. Unit: bytes.
const HEAD_BYTES_MAX: usize = 64 << 10;

/// What is done to a request.
#[derive(Clone, Debug)]
pub enum Fault {
    /// It is answered with this status and S3 error code; the server does not see it.
    Answer(u16, &'static str),
    /// It is answered as by a server of another region than this one, in which the bucket is.
    Redirect(&'static str),
    /// It is answered with 200 and an error document; the server does not see it.
    ErrorInSuccess,
    /// It is answered with 200; the server does not see it.
    Swallow,
    /// The connection is closed before the body is read.
    Reset,
    /// The connection is closed after so many bytes of the body have reached the server.
    CutBody(usize),
    /// It is never answered.
    Hang,
    /// The server does it; the answer is lost.
    LoseAnswer,
    /// The server does it; the answer comes one byte after such a pause.
    Trickle(Duration),
    /// The body is passed on at so many bytes a second.
    Throttle(u64),
    /// The server does not see these headers.
    Strip(&'static [&'static str]),
    /// The answer has this header with this value.
    Say(&'static str, &'static str),
    /// The answer lacks the headers that begin so.
    Hide(&'static [&'static str]),
}

/// The head of a request.
#[derive(Clone, Debug)]
pub struct Head {
    /// The method.
    pub method: String,
    /// Path and query.
    pub target: String,
    /// Headers, their names in lower case.
    pub headers: Vec<(String, String)>,
}

impl Head {
    /// The value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }

    /// Whether it puts a data file.
    pub fn puts_data(&self) -> bool {
        self.method == "PUT" && self.target.ends_with(".parquet")
    }

    /// Length of its body.
    pub(crate) fn body_bytes(&self) -> u64 {
        self.header("content-length").and_then(|length| length.parse().ok()).unwrap_or(0)
    }
}

/// Which requests a fault is for.
type Matches = Box<dyn Fn(&Head) -> bool + Send>;

struct Rule {
    matches: Matches,
    fault: Fault,
    /// How many requests it still has.
    left: Option<u32>,
}

#[derive(Default)]
struct State {
    rules: Vec<Rule>,
    seen: Vec<Head>,
    is_down: bool,
    has_ended: bool,
    /// How often all faults were taken away.
    heals: u64,
}

struct Shared {
    upstream: SocketAddr,
    access: S3Access,
    state: Mutex<State>,
    changed: Condvar,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder of this lock panics")
    }

    /// Lets a moment pass, unless the proxy ends or is healed.
    fn pause(&self, pause: Duration) {
        let state = self.state();
        let heals = state.heals;
        let is_as_it_was = |state: &mut State| !state.has_ended && state.heals == heals;
        drop(self.changed.wait_timeout_while(state, pause, is_as_it_was).expect("no holder of this lock panics"));
    }

    /// Waits until the proxy ends or was healed more often than this.
    fn wait_for_heal(&self, heals: u64) {
        let is_as_it_was = |state: &mut State| !state.has_ended && state.heals == heals;
        drop(self.changed.wait_while(self.state(), is_as_it_was).expect("no holder of this lock panics"));
    }
}

/// The proxy; dropping it ends it.
pub struct Proxy {
    shared: Arc<Shared>,
    address: SocketAddr,
    thread: Option<JoinHandle<()>>,
}

impl std::fmt::Debug for Proxy {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Proxy").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Proxy {
    /// A proxy in front of the server of `access`, without a fault.
    pub fn start(access: &S3Access) -> Self {
        let upstream = access.endpoint.strip_prefix("http://").expect("the test's server speaks plain HTTP");
        let upstream = upstream.parse().expect("the test's server is named by its address");
        let listener = TcpListener::bind("127.0.0.1:0").expect("some port is free");
        let address = listener.local_addr().expect("it listens");
        let access = access.clone();
        let shared = Arc::new(Shared { upstream, access, state: Mutex::default(), changed: Condvar::new() });
        let thread = std::thread::spawn({
            let shared = Arc::clone(&shared);
            move || accept(&listener, &shared)
        });
        Self { shared, address, thread: Some(thread) }
    }

    /// How a client reaches the bucket through it.
    pub fn access(&self, direct: &S3Access) -> S3Access {
        S3Access { endpoint: format!("http://{}", self.address), ..direct.clone() }
    }

    /// Does this to every request that matches, from now on.
    pub fn always(&self, fault: Fault, matches: impl Fn(&Head) -> bool + Send + 'static) {
        self.add(Rule { matches: Box::new(matches), fault, left: None });
    }

    /// Does this to the next `times` requests that match.
    pub fn next(&self, times: u32, fault: Fault, matches: impl Fn(&Head) -> bool + Send + 'static) {
        self.add(Rule { matches: Box::new(matches), fault, left: Some(times) });
    }

    fn add(&self, rule: Rule) {
        self.shared.state().rules.push(rule);
    }

    /// Takes every fault away; requests that hang are cut off.
    pub fn heal(&self) {
        let mut state = self.shared.state();
        state.rules.clear();
        state.is_down = false;
        state.heals += 1;
        drop(state);
        self.shared.changed.notify_all();
    }

    /// Closes every connection before a byte is read, until it is healed.
    pub fn go_down(&self) {
        self.shared.state().is_down = true;
    }

    /// Its URL, for a client that takes it for a forward proxy.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Every request so far.
    pub fn seen(&self) -> Vec<Head> {
        self.shared.state().seen.clone()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.state().has_ended = true;
        self.shared.changed.notify_all();
        // Wakes the thread that accepts.
        drop(TcpStream::connect(self.address));
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for stream in listener.incoming() {
        let state = shared.state();
        let (has_ended, is_down) = (state.has_ended, state.is_down);
        drop(state);
        if has_ended {
            return;
        }
        let Ok(client) = stream else { continue };
        if is_down {
            drop(client);
            continue;
        }
        let shared = Arc::clone(shared);
        // A connection that breaks is what this is for.
        std::thread::spawn(move || drop(serve(client, &shared)));
    }
}

/// Serves one request; the connection is closed after it.
fn serve(mut client: TcpStream, shared: &Shared) -> std::io::Result<()> {
    let Some((head, early)) = read_head(&mut client)? else { return Ok(()) };
    let (fault, heals) = {
        let mut state = shared.state();
        state.seen.push(head.clone());
        (take_fault(&mut state.rules, &head), state.heals)
    };
    let body = Body { early, left: head.body_bytes() };
    let mut passing = Passing::default();
    match fault {
        None => {}
        Some(Fault::Answer(status, code)) => {
            return refuse(&mut client, body, &head, status, "", &error_document(code, ""));
        }
        Some(Fault::Redirect(region)) => {
            let header = format!("x-amz-bucket-region: {region}\r\n");
            let document = error_document("PermanentRedirect", region);
            return refuse(&mut client, body, &head, 301, &header, &document);
        }
        Some(Fault::ErrorInSuccess) => {
            return refuse(&mut client, body, &head, 200, "", &error_document("InternalError", ""));
        }
        Some(Fault::Swallow) => return refuse(&mut client, body, &head, 200, "", ""),
        Some(Fault::Reset) => return client.shutdown(Shutdown::Both),
        Some(Fault::Hang) => {
            shared.wait_for_heal(heals);
            return client.shutdown(Shutdown::Both);
        }
        Some(Fault::CutBody(bytes)) => passing.cut_after = Some(bytes),
        Some(Fault::LoseAnswer) => passing.loses_answer = true,
        Some(Fault::Trickle(pause)) => passing.trickle = Some(pause),
        Some(Fault::Throttle(rate)) => passing.throttle = Some(rate),
        Some(Fault::Strip(names)) => passing.strip = names,
        Some(Fault::Say(name, value)) => passing.say = Some((name, value)),
        Some(Fault::Hide(names)) => passing.hide = names,
    }
    forward(&mut client, shared, &head, body, &passing)
}

/// Reads a request to its end, and answers it without the server.
fn refuse(
    client: &mut TcpStream,
    body: Body,
    head: &Head,
    status: u16,
    header: &str,
    document: &str,
) -> std::io::Result<()> {
    body.drain(client)?;
    answer(client, status, header, document, head)
}

fn take_fault(rules: &mut Vec<Rule>, head: &Head) -> Option<Fault> {
    let place = rules.iter().position(|rule| (rule.matches)(head))?;
    let rule = &mut rules[place];
    let fault = rule.fault.clone();
    if let Some(left) = &mut rule.left {
        *left -= 1;
        if *left == 0 {
            rules.remove(place);
        }
    }
    Some(fault)
}

/// What is changed on the way of a request that reaches the server.
#[derive(Default)]
struct Passing {
    cut_after: Option<usize>,
    loses_answer: bool,
    trickle: Option<Duration>,
    throttle: Option<u64>,
    strip: &'static [&'static str],
    say: Option<(&'static str, &'static str)>,
    hide: &'static [&'static str],
}

/// A body that comes from the client: what was read with the head, and how long all of it is.
struct Body {
    early: Vec<u8>,
    left: u64,
}

impl Body {
    /// The next bytes of it; empty at its end.
    fn next(&mut self, client: &mut TcpStream) -> std::io::Result<Vec<u8>> {
        let mut chunk = std::mem::take(&mut self.early);
        if chunk.is_empty() && self.left > 0 {
            chunk = vec![0; CHUNK_BYTES];
            let length = client.read(&mut chunk)?;
            if length == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            chunk.truncate(length);
        }
        self.left = self.left.saturating_sub(chunk.len() as u64);
        Ok(chunk)
    }

    fn drain(mut self, client: &mut TcpStream) -> std::io::Result<()> {
        while !self.next(client)?.is_empty() {}
        Ok(())
    }
}

fn forward(client: &mut TcpStream, shared: &Shared, head: &Head, body: Body, passing: &Passing) -> std::io::Result<()> {
    let mut server = TcpStream::connect(shared.upstream)?;
    let head = written(head, passing.strip, &shared.access);
    if !pass_request(client, &mut server, shared, head, body, passing)? {
        return client.shutdown(Shutdown::Both);
    }
    let mut answer = Vec::new();
    // A server that answers by the head alone and closes resets the connection for the rest of the body.
    if let Err(error) = server.read_to_end(&mut answer)
        && answer.is_empty()
    {
        return Err(error);
    }
    if passing.loses_answer {
        return client.shutdown(Shutdown::Both);
    }
    if let Some((name, value)) = passing.say {
        answer = with_header(&answer, &[name], Some(&format!("{name}: {value}")));
    }
    if !passing.hide.is_empty() {
        answer = with_header(&answer, passing.hide, None);
    }
    match passing.trickle {
        None => client.write_all(&answer),
        Some(pause) => answer.iter().try_for_each(|byte| {
            client.write_all(std::slice::from_ref(byte))?;
            shared.pause(pause);
            Ok(())
        }),
    }
}

/// Passes a request on; false if it was cut on the way.
fn pass_request(
    client: &mut TcpStream,
    server: &mut TcpStream,
    shared: &Shared,
    head: Vec<u8>,
    mut body: Body,
    passing: &Passing,
) -> std::io::Result<bool> {
    // The head goes with the first piece of the body: a server that answers by the head alone closes the connection on
    // what is still to come, and its answer would be lost.
    let mut piece = head;
    let mut passed = 0;
    // A server may answer before it has read all, and read no more then.
    let mut is_read = true;
    loop {
        let chunk = body.next(client)?;
        let kept = passing.cut_after.map(|bytes| bytes - passed).filter(|kept| chunk.len() > *kept);
        piece.extend_from_slice(&chunk[..kept.unwrap_or(chunk.len())]);
        passed += chunk.len();
        is_read = is_read && server.write_all(&piece).is_ok();
        piece.clear();
        if kept.is_some() {
            let _ = server.shutdown(Shutdown::Both);
            return Ok(false);
        }
        if chunk.is_empty() {
            return Ok(true);
        }
        if let Some(rate) = passing.throttle {
            shared.pause(Duration::from_micros(chunk.len() as u64 * 1_000_000 / rate));
        }
    }
}

/// The head of a request, and what of the body came with it; none if the client closed the connection.
pub(crate) fn read_head(client: &mut impl Read) -> std::io::Result<Option<(Head, Vec<u8>)>> {
    let mut bytes = Vec::new();
    let mut chunk = vec![0; CHUNK_BYTES];
    let end = loop {
        let length = client.read(&mut chunk)?;
        if length == 0 || bytes.len() > HEAD_BYTES_MAX {
            return Ok(None);
        }
        bytes.extend_from_slice(&chunk[..length]);
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break end;
        }
    };
    let early = bytes.split_off(end + 4);
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let mut lines = text.lines();
    let mut words = lines.next().unwrap_or_default().split(' ').map(str::to_owned);
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    // A client that takes this for a forward proxy names the server too.
    let target =
        match target.strip_prefix("http://").and_then(|rest| rest.find('/').map(|start| rest[start..].to_owned())) {
            Some(path) => path,
            None => target,
        };
    let headers = lines.filter_map(|line| line.split_once(':'));
    let headers = headers.map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned())).collect();
    Ok(Some((Head { method, target, headers }, early)))
}

/// A head as it goes to the server, which closes the connection after its answer.
fn written(head: &Head, strip: &[&str], access: &S3Access) -> Vec<u8> {
    let mut head = head.clone();
    if !strip.is_empty() {
        head.headers.retain(|(name, _)| !strip.contains(&name.as_str()));
        sign::sign(&mut head, access);
    }
    let mut text = format!("{} {} HTTP/1.1\r\n", head.method, head.target);
    for (name, value) in head.headers.iter().filter(|(name, _)| name != "connection") {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    text.push_str("connection: close\r\n\r\n");
    text.into_bytes()
}

/// An answer without the headers that begin with one of these names, and with another one.
fn with_header(answer: &[u8], without: &[&str], with: Option<&str>) -> Vec<u8> {
    let Some(end) = answer.windows(4).position(|window| window == b"\r\n\r\n") else { return answer.to_vec() };
    let head = String::from_utf8_lossy(&answer[..end]).into_owned();
    let is_kept = |line: &&str| !without.iter().any(|name| line.to_ascii_lowercase().starts_with(name));
    let lines: Vec<&str> = head.lines().filter(is_kept).chain(with).collect();
    [lines.join("\r\n").as_bytes(), &answer[end..]].concat()
}

fn answer(client: &mut TcpStream, status: u16, header: &str, body: &str, head: &Head) -> std::io::Result<()> {
    let shown = if head.method == "HEAD" { "" } else { body };
    let length = body.len();
    let text = format!(
        "HTTP/1.1 {status} Fault\r\ncontent-type: application/xml\r\netag: \"fault\"\r\ncontent-length: {length}\r\n\
         {header}connection: close\r\n\r\n{shown}"
    );
    client.write_all(text.as_bytes())
}

/// Source: <https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html>.
fn error_document(code: &str, region: &str) -> String {
    let region = if region.is_empty() { String::new() } else { format!("<Region>{region}</Region>") };
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
         <Error><Code>{code}</Code><Message>a fault of the test</Message>{region}</Error>"
    )
}
