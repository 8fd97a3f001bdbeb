//! Ctrl-C: the first one is a request that every loop looks at, the second one ends the process.
//!
//! Owns: the signal handlers of the `xtask` binary and the flag that they set.
//! Does not own: stopping what was started (each server's `Drop` does); tests install no handlers.

use std::sync::Arc;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag;

static REQUESTED: LazyLock<Arc<AtomicBool>> = LazyLock::new(Arc::default);

/// Exit code of a run that was interrupted: 128 and the number of SIGINT, as a shell counts.
pub const EXIT_CODE: u8 = 130;

/// The error of a loop that stopped because it was asked to.
#[derive(Debug)]
pub struct Interrupted;

impl std::fmt::Display for Interrupted {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("interrupted")
    }
}

impl std::error::Error for Interrupted {}

/// Catches SIGINT, SIGTERM and SIGHUP from here on.
///
/// # Errors
/// When the system refuses a handler.
pub fn install() -> Result<()> {
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        // Order matters: the second signal finds the flag that the first one has set.
        flag::register_conditional_shutdown(signal, i32::from(EXIT_CODE), Arc::clone(&REQUESTED))
            .with_context(|| format!("failed to catch signal {signal}"))?;
        flag::register(signal, Arc::clone(&REQUESTED)).with_context(|| format!("failed to catch signal {signal}"))?;
    }
    Ok(())
}

/// Whether a signal has arrived.
pub fn requested() -> bool {
    REQUESTED.load(Ordering::Relaxed)
}

/// Fails once a signal has arrived; called in every loop that can last.
///
/// # Errors
/// [`Interrupted`].
pub fn check() -> Result<()> {
    if requested() { Err(Interrupted.into()) } else { Ok(()) }
}
