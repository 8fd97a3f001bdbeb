//! The sketch of `tests/bench/peers`, which acknowledges what it has in memory: started, waited for, stopped.
//!
//! Owns: its command line, its readiness. Does not own: what is sent to it.

use std::path::Path;

use anyhow::{Result, bail};

use crate::ports::PortBlock;
use crate::process::{Server, ServerCommand};
use crate::servers::{Weed, http};
use crate::wait::Look;
use crate::{tools, workspace};

/// The sketch at work.
#[derive(Debug)]
pub(super) struct Sketch {
    server: Server,
    port: u16,
    /// Held for the port.
    _block: PortBlock,
}

impl Sketch {
    /// Starts it with a bucket as its lake, and waits until it answers.
    pub(super) fn start(weed: &Weed, folder: &Path) -> Result<Self> {
        let block = PortBlock::claim()?;
        let port = block.port(0);
        let mut environment = weed.environment();
        environment.push(("LAKE_BUCKET".to_owned(), weed.access().bucket.clone().into()));
        let script = workspace::root().join("tests/bench/peers/sketch.py");
        let server = Server::start(ServerCommand {
            name: "the sketch".to_owned(),
            program: tools::sketch()?,
            arguments: vec!["-I".into(), script.into(), port.to_string().into()],
            environment,
            log: folder.join("sketch.log"),
        })?;
        let agent = http::agent();
        server.wait_until("the sketch to answer", || {
            Ok(match http::send(&agent, "GET", &format!("http://127.0.0.1:{port}/health"), &[], None) {
                Ok(answer) if answer.status == 200 => Look::Ready(()),
                Ok(answer) => Look::NotYet(answer.text()),
                Err(error) => Look::NotYet(format!("{error:#}")),
            })
        })?;
        Ok(Self { server, port, _block: block })
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }

    pub(super) fn server(&self) -> &Server {
        &self.server
    }

    /// Has everything written, and waits for it.
    pub(super) fn flush(&self) -> Result<()> {
        let answer =
            http::send(&http::agent(), "POST", &format!("http://127.0.0.1:{}/flush", self.port), &[], Some(b"{}"))?;
        match answer.status {
            200 => Ok(()),
            status => bail!("failed to flush the sketch: status {status}: {}", answer.text()),
        }
    }
}
