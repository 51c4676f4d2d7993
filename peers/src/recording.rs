//! An fflow for tests: it speaks the contract, remembers every call and byte, and fails when told to.
//!
//! One HTTP server on a loopback port of its own thread plays the balancer (`/`), the replicas (`/r1` ..)
//! and, under `/holder`, the static files that a finished flow ships. No ffmpeg runs: a finish writes a
//! small valid DASH and HLS into memory. A test asks [`RecordingFflow::flows`] and
//! [`RecordingFflow::calls`] what arrived and scripts faults with [`RecordingFflow::inject`].
//!
//! Replicas are numbered from 1, as in their prefixes.

mod effect;
mod fault;
mod ledger;
mod record;
mod road;
mod server;
mod streams;

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use actix_web::dev::ServerHandle;
use bytes::Bytes;

pub use self::fault::{CallKind, Fault, FaultId, FaultRule};
use self::ledger::Ledger;
pub use self::record::{Call, FlowState, RecordedFlow};

/// How long [`RecordingFflow::start`] waits for its thread to bring the server up.
const START_DEADLINE: Duration = Duration::from_secs(10);

/// What a recording fflow is like at its start.
#[derive(Debug, Clone)]
pub struct RecordingOptions {
    /// How many replicas stand behind the balancer, at least 1.
    pub replicas: usize,
    /// Whether a finish puts streams under `/holder`; without it every holder file is a 404.
    pub holder: bool,
    /// A flow whose ffmpeg was killed answers pushes with 201 and a finish or DELETE never; otherwise it
    /// answers 500 to pushes and finishes, and 200 to a DELETE.
    pub as_observed: bool,
    /// A create answers with the address of the replica (`/r2/`) instead of the flow's own.
    pub answer_base_address: bool,
    /// Bodies above this many bytes get the balancer's 413 in HTML; `None` leaves only fflow's own 10 MiB.
    pub proxy_body_limit: Option<u64>,
    /// After this long the balancer answers 504 while the work goes on; `None` waits for ever.
    pub proxy_timeout: Option<Duration>,
    /// The address that creates answer with, of a proxy in front; `None` for the server's own.
    pub public_url: Option<String>,
    /// How many bytes of each flow are kept whole, beside their count and digest.
    pub keep_bytes: usize,
}

impl Default for RecordingOptions {
    fn default() -> Self {
        Self {
            replicas: 3,
            holder: true,
            as_observed: true,
            answer_base_address: false,
            proxy_body_limit: Some(1 << 20),
            proxy_timeout: None,
            public_url: None,
            keep_bytes: 16 << 20,
        }
    }
}

/// What the handlers and the test both see.
pub(crate) struct Shared {
    ledger: Mutex<Ledger>,
    changed: tokio::sync::watch::Sender<u64>,
}

impl Shared {
    /// Locks the ledger; a test that panicked while holding it does not hide what was recorded.
    pub(crate) fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes every [`RecordingFflow::wait_until`].
    pub(crate) fn notify(&self) {
        self.changed.send_modify(|count| *count += 1);
    }
}

/// A running recording fflow; dropping it ends its server.
pub struct RecordingFflow {
    shared: Arc<Shared>,
    address: SocketAddr,
    handle: ServerHandle,
    thread: Option<JoinHandle<()>>,
}

impl RecordingFflow {
    /// Starts the server on a free loopback port, ready when this returns.
    ///
    /// # Errors
    /// When no port can be bound or the server's thread does not come up.
    pub fn start(options: RecordingOptions) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        let public_url = options.public_url.clone().unwrap_or_else(|| format!("http://{address}"));
        let shared = Arc::new(Shared {
            ledger: Mutex::new(Ledger::new(options, public_url, Instant::now())),
            changed: tokio::sync::watch::Sender::new(0),
        });
        let (tell, told) = std::sync::mpsc::channel();
        let served = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("recording-fflow".into())
            .spawn(move || server::serve(listener, served, &tell))?;
        let handle = told.recv_timeout(START_DEADLINE).map_err(io::Error::other)??;
        Ok(Self { shared, address, handle, thread: Some(thread) })
    }

    /// The balancer's address, without a trailing slash: the product's `FFLOW_BASE_URL`.
    pub fn base_url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The holder's address, without a trailing slash: the product's `UPLOADER_HOLDER_BASE_URL`.
    pub fn holder_url(&self) -> String {
        format!("http://{}/holder", self.address)
    }

    /// Every flow that was ever created, oldest first.
    pub fn flows(&self) -> Vec<RecordedFlow> {
        self.shared.ledger().recorded_flows()
    }

    /// The newest flow of this name, whichever replica it is on.
    pub fn flow(&self, name: &str) -> Option<RecordedFlow> {
        self.flows().into_iter().rev().find(|flow| flow.name == name)
    }

    /// Every call in the order of arrival; a status is `None` until, or unless, it was answered.
    pub fn calls(&self) -> Vec<Call> {
        self.shared.ledger().calls().to_vec()
    }

    /// Forgets the calls so far; flows stay.
    pub fn clear_calls(&self) {
        self.shared.ledger().clear_calls();
    }

    /// Arms a fault; the oldest armed rule that fits a call takes it.
    pub fn inject(&self, rule: FaultRule) -> FaultId {
        self.shared.ledger().faults_mut().arm(rule)
    }

    /// How often this rule has struck so far.
    pub fn struck(&self, id: FaultId) -> usize {
        self.shared.ledger().faults_mut().struck(id)
    }

    /// Disarms one rule; calls that it already took keep their fault.
    pub fn disarm(&self, id: FaultId) {
        self.shared.ledger().faults_mut().disarm(id);
    }

    /// Disarms every rule.
    pub fn disarm_all(&self) {
        self.shared.ledger().faults_mut().disarm_all();
    }

    /// The replica forgets its flows and is dead: 502 under its prefix, and the balancer passes it over.
    pub fn kill_replica(&self, replica: usize) {
        self.shared.ledger().set_replica(replica, false);
        self.shared.notify();
    }

    /// The replica is back, without flows.
    pub fn revive_replica(&self, replica: usize) {
        self.shared.ledger().set_replica(replica, true);
    }

    /// The ffmpeg of every live flow of this name dies; says whether there was one.
    pub fn kill_flow(&self, name: &str) -> bool {
        let killed = self.shared.ledger().kill_flow(name);
        self.shared.notify();
        killed
    }

    /// Changes how long the balancer waits before its 504.
    pub fn set_proxy_timeout(&self, timeout: Option<Duration>) {
        self.shared.ledger().options_mut().proxy_timeout = timeout;
    }

    /// Changes whether a killed ffmpeg is kept quiet about, as the existing fflow does.
    pub fn set_as_observed(&self, as_observed: bool) {
        self.shared.ledger().options_mut().as_observed = as_observed;
    }

    /// The names of all flows that a replica still holds, also of those whose ffmpeg is dead.
    pub fn living(&self) -> Vec<String> {
        self.shared.ledger().live.keys().map(|(_, name)| name.clone()).collect()
    }

    /// Changes whether a create answers with the replica's address.
    pub fn set_answer_base_address(&self, base: bool) {
        self.shared.ledger().options_mut().answer_base_address = base;
    }

    /// Takes the FTP away (a finish answers 500 and its flow is gone) or brings it back.
    pub fn set_ftp_down(&self, down: bool) {
        self.shared.ledger().set_ftp_down(down);
    }

    /// Takes the HTTP of holder away (503 for every file) or brings it back; its files stay.
    pub fn set_holder_down(&self, down: bool) {
        self.shared.ledger().set_holder_down(down);
    }

    /// The paths of all files on holder, such as `<video>/<flow>/dash/manifest.mpd`.
    pub fn holder_files(&self) -> Vec<String> {
        self.shared.ledger().files().keys().cloned().collect()
    }

    /// Puts a file on holder, over one that is there.
    pub fn put_holder_file(&self, path: &str, bytes: impl Into<Bytes>) {
        self.shared.ledger().files_mut().insert(path.trim_matches('/').to_owned(), bytes.into());
    }

    /// Removes a file from holder; says whether it was there.
    pub fn remove_holder_file(&self, path: &str) -> bool {
        self.shared.ledger().files_mut().remove(path.trim_matches('/')).is_some()
    }

    /// Waits until `what` holds of this fflow, looking again after each call; must run on a tokio runtime.
    ///
    /// # Errors
    /// `TimedOut`, with the calls so far, when it does not hold by the deadline.
    pub async fn wait_until(&self, deadline: Duration, what: impl Fn(&Self) -> bool) -> io::Result<()> {
        let mut changes = self.shared.changed.subscribe();
        let held = async {
            while !what(self) {
                if changes.changed().await.is_err() {
                    return;
                }
            }
        };
        tokio::time::timeout(deadline, held).await.map_err(|_| {
            io::Error::new(io::ErrorKind::TimedOut, format!("not within {deadline:?}: {:?}", self.calls()))
        })
    }
}

impl Drop for RecordingFflow {
    fn drop(&mut self) {
        // The command is sent by the call itself; awaiting it would only report the end, which `join` does.
        drop(self.handle.stop(false));
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
