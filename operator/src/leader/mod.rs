//! One replica of several does what only one should: it asks sidecars and says what is known of them.
//!
//! Owns: the Lease, and [`Leadership`], which tells the rest of the process whether it leads now.
//! Does not own: what a leader does. The webhook, configurations and certificates need none.
//!
//! ```text
//! Lease <── contend: look → decide → create or replace ──> Leadership: until when ──> status, asking
//! ```

mod election;

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use futures::Stream;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::jiff::Timestamp;
use kube::Client;
use kube::api::{Api, PostParams};
use tokio::sync::watch;
use tracing::{debug, info, warn};

use crate::clock::SharedClock;
use crate::limits::{LEASE_LOOK_PERIOD, LEASE_REQUEST_TIMEOUT};
use crate::metrics::Metrics;
use election::{Election, Step};

/// The Lease could not be looked at or written.
#[derive(Debug, thiserror::Error)]
enum LeaseError {
    /// The API server did not answer in time.
    #[error("the API server took too long to answer about Lease {name}")]
    Slow {
        /// The Lease.
        name: String,
    },
    /// The API server refused it.
    #[error("failed to look at Lease {name}")]
    Get {
        /// The Lease.
        name: String,
        /// Why.
        #[source]
        source: Box<kube::Error>,
    },
    /// The API server did not take it.
    #[error("failed to write Lease {name}")]
    Write {
        /// The Lease.
        name: String,
        /// Why.
        #[source]
        source: Box<kube::Error>,
    },
}

/// Whether this process leads. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Leadership {
    /// Until when it may act, by the monotonic clock.
    until: watch::Receiver<Option<Duration>>,
    clock: SharedClock,
}

impl Leadership {
    /// Leadership that nobody gives yet, and what gives it.
    pub fn new(clock: SharedClock) -> (watch::Sender<Option<Duration>>, Self) {
        let (sender, until) = watch::channel(None);
        (sender, Self { until, clock })
    }

    /// Whether this process leads at this moment.
    pub fn holds(&self) -> bool {
        self.remaining().is_some()
    }

    /// How long it may act without another renewal; none if it does not lead.
    fn remaining(&self) -> Option<Duration> {
        let until = *self.until.borrow();
        until.and_then(|until| until.checked_sub(self.clock.monotonic())).filter(|remaining| !remaining.is_zero())
    }

    /// Comes back once this process leads.
    pub async fn begins(&self) {
        let mut until = self.until.clone();
        // Who gives it ends with the process.
        while !self.holds() && until.changed().await.is_ok() {}
        if !self.holds() {
            std::future::pending::<()>().await;
        }
    }

    /// Comes back once this process leads no more.
    pub async fn ends(&self) {
        let mut until = self.until.clone();
        while let Some(remaining) = self.remaining() {
            tokio::select! {
                () = tokio::time::sleep(remaining) => {}
                _ = until.changed() => {}
            }
        }
    }

    /// What comes of `work`; none if this process does not lead, or does not any more before the work is done.
    pub async fn during<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        if !self.holds() {
            return None;
        }
        tokio::select! {
            biased;
            () = self.ends() => None,
            done = work => Some(done),
        }
    }

    /// Something each time that this process begins to lead.
    pub fn terms(&self) -> impl Stream<Item = ()> + Send + 'static {
        futures::stream::unfold((self.clone(), false), |(leadership, has_led)| async move {
            if has_led {
                leadership.ends().await;
            }
            leadership.begins().await;
            Some(((), (leadership, true)))
        })
    }
}

/// What stands for election.
#[derive(Debug)]
pub struct Candidate {
    election: Election,
    leases: Leases,
    clock: SharedClock,
    metrics: Arc<Metrics>,
    tell: watch::Sender<Option<Duration>>,
}

/// The Lease in the API server.
#[derive(Clone)]
pub struct Leases {
    /// The Leases of the operator's namespace.
    pub api: Api<Lease>,
    /// The name of ours.
    pub name: String,
}

impl std::fmt::Debug for Leases {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Leases({})", self.name)
    }
}

impl Leases {
    /// The Lease `name` of a namespace.
    pub fn new(client: Client, namespace: &str, name: &str) -> Self {
        Self { api: Api::namespaced(client, namespace), name: name.to_owned() }
    }

    async fn look(&self) -> Result<Option<Lease>, LeaseError> {
        let name = || self.name.clone();
        let found = self.in_time(self.api.get_opt(&self.name)).await?;
        found.map_err(|source| LeaseError::Get { name: name(), source: Box::new(source) })
    }

    /// Whether it was taken; not if somebody else was faster.
    async fn write(&self, step: Step) -> Result<bool, LeaseError> {
        let parameters = PostParams::default();
        let written = match &step {
            Step::Wait => return Ok(false),
            Step::Create(lease) => self.in_time(self.api.create(&parameters, lease)).await?,
            // With the version that was seen in it.
            Step::Replace(lease) => self.in_time(self.api.replace(&self.name, &parameters, lease)).await?,
        };
        match written {
            Ok(_) => Ok(true),
            Err(kube::Error::Api(answer)) if answer.code == 409 || answer.code == 404 => Ok(false),
            Err(source) => Err(LeaseError::Write { name: self.name.clone(), source: Box::new(source) }),
        }
    }

    async fn in_time<T>(&self, request: impl Future<Output = T>) -> Result<T, LeaseError> {
        let answer = tokio::time::timeout(LEASE_REQUEST_TIMEOUT, request).await;
        answer.map_err(|_| LeaseError::Slow { name: self.name.clone() })
    }
}

impl Candidate {
    /// Stands for election as a process of this pod.
    pub fn new(
        pod: &str,
        leases: Leases,
        clock: SharedClock,
        metrics: Arc<Metrics>,
        tell: watch::Sender<Option<Duration>>,
    ) -> Self {
        // A process that is started again in its pod is not the one that held the Lease.
        let identity = format!("{pod}_{:016x}", by_chance());
        Self { election: Election::new(identity), leases, clock, metrics, tell }
    }

    /// Stands for election until `leaving` becomes true, then gives the Lease back.
    pub async fn contend(mut self, mut leaving: watch::Receiver<bool>) {
        loop {
            if let Err(error) = self.turn().await {
                // For as long as the Lease is good, an API server that is away changes nothing.
                warn!(error = %crate::error_chain(&error), leads = self.leads(), "no answer about who leads");
            }
            self.tell();
            tokio::select! {
                () = tokio::time::sleep(pause()) => {}
                _ = leaving.wait_for(|leaving| *leaving) => break,
            }
        }
        self.give_back().await;
    }

    /// One look at the Lease and what follows from it.
    async fn turn(&mut self) -> Result<(), LeaseError> {
        let found = self.leases.look().await?;
        let asked = self.clock.monotonic();
        let stamp = Timestamp::from_microsecond(self.clock.now().timestamp_micros()).unwrap_or_default();
        let step = self.election.decide(&self.leases.name, found.as_ref(), asked, stamp);
        if self.leases.write(step).await? {
            self.election.won(asked);
        }
        Ok(())
    }

    /// Whoever works as the leader stops before the Lease is another's.
    async fn give_back(&mut self) {
        self.election.lose();
        self.tell();
        let released = async {
            match self.leases.look().await?.and_then(|found| self.election.released(&found)) {
                Some(lease) => self.leases.write(Step::Replace(lease)).await,
                None => Ok(false),
            }
        };
        match released.await {
            Ok(true) => info!("gave the lease back"),
            Ok(false) => debug!("there was no lease to give back"),
            Err(error) => warn!(error = %crate::error_chain(&error), "failed to give the lease back; it runs out"),
        }
    }

    fn leads(&self) -> bool {
        self.election.acts_until().is_some_and(|until| self.clock.monotonic() < until)
    }

    fn tell(&self) {
        let leads = self.leads();
        let led = self.metrics.leader.set(i64::from(leads)) != 0;
        match (led, leads) {
            (false, true) => info!("leading"),
            (true, false) => info!("leading no more"),
            (true, true) | (false, false) => {}
        }
        self.tell.send_replace(self.election.acts_until());
    }
}

/// A number that nobody can tell beforehand.
fn by_chance() -> u64 {
    RandomState::new().build_hasher().finish()
}

/// The time between two looks, a little different each time, so that replicas that started together do not look together.
fn pause() -> Duration {
    let eighth = LEASE_LOOK_PERIOD / 8;
    LEASE_LOOK_PERIOD - eighth + eighth.mul_f64((by_chance() % 1_000) as f64 / 1_000.0)
}

#[cfg(test)]
mod tests;
