//! All flows of one replica: who lives, who has ended, and what each call does.

use std::collections::{HashMap, VecDeque};
use std::future::pending;
use std::path::{Component, Path};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;

use super::Options;
use super::encoder::Ending;
use super::flow::Flow;
use super::report::{Report, State};
use super::ship;

/// So many ended flows can still be asked about.
const REMEMBERED: usize = 1000;
/// A killed process that is not gone by then is left to the operating system.
const KILL_DEADLINE: Duration = Duration::from_secs(10);

/// How a call ends, apart from HTTP.
#[derive(Debug)]
pub(super) enum Done {
    /// It is done; the message says what.
    Well(&'static str),
    /// The flow is unknown, or its input has been ended.
    Unknown,
    /// The call makes no sense, for this reason.
    Refused(String),
    /// It cannot be done, for this reason.
    Failed(String),
}

/// The flows of one replica.
pub(super) struct Farm {
    options: Options,
    flows: Mutex<HashMap<String, Arc<Flow>>>,
    ended: Mutex<VecDeque<Report>>,
}

impl Farm {
    pub(super) fn new(options: Options) -> Self {
        Self { options, flows: Mutex::default(), ended: Mutex::default() }
    }

    pub(super) fn prefix(&self) -> &str {
        self.options.prefix.trim_end_matches('/')
    }

    /// The address that a create answers with.
    pub(super) fn flow_url(&self, name: &str) -> String {
        let base = self.options.public_url.trim_end_matches('/');
        if self.options.as_observed { format!("{base}/") } else { format!("{base}/{name}") }
    }

    /// What a flow got, also after its end.
    pub(super) fn report(&self, name: &str) -> Option<Report> {
        if let Some(flow) = self.find(name) {
            return Some(flow.report());
        }
        let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        ended.iter().rev().find(|report| report.name == name).cloned()
    }

    /// Starts an ffmpeg for a new name.
    pub(super) fn create(&self, name: &str) -> Done {
        let mut flows = self.flows();
        if flows.contains_key(name) {
            return Done::Failed("a flow with this name already exists".into());
        }
        match Flow::start(name, &self.options.work_dir) {
            Ok(flow) => {
                tracing::info!(flow.name = name, "flow created");
                flows.insert(name.to_owned(), Arc::new(flow));
                Done::Well("flow created")
            }
            Err(error) => {
                tracing::error!(flow.name = name, %error, "ffmpeg did not start");
                Done::Failed(format!("ffmpeg did not start: {error}"))
            }
        }
    }

    /// Gives bytes to ffmpeg. Kind: returns when it has taken them. As observed: at once.
    pub(super) async fn push(&self, name: &str, bytes: Bytes) -> Done {
        let Some(flow) = self.find(name) else { return Done::Unknown };
        if self.options.as_observed {
            return push_as_observed(&flow, bytes);
        }
        let Some(taken) = flow.push(bytes) else { return Done::Unknown };
        if taken.await == Ok(true) {
            return Done::Well("bytes taken");
        }
        flow.set_state(State::Failed);
        Done::Failed(obituary(flow.ending().as_ref()))
    }

    /// Ends the input, waits for ffmpeg, ships. The flow is unknown once shipping begins.
    pub(super) async fn finish(&self, name: &str, saving_path: &str) -> Done {
        if !is_plain(saving_path) {
            return Done::Refused("savingPath must be an absolute path without dots".into());
        }
        let Some(flow) = self.find(name) else { return Done::Unknown };
        if let Some(failure) = flow.failure() {
            return self.finish_dead(&flow, &failure).await;
        }
        if !flow.end_input() {
            return Done::Unknown;
        }
        flow.set_state(State::Finishing);
        let ending = flow.ended().await;
        if !self.take_out(&flow, State::Shipping) {
            return Done::Failed("the flow was deleted".into());
        }
        let done = self.ship(&flow, ending, saving_path).await;
        self.remember(&flow);
        done
    }

    /// Kills ffmpeg and forgets the flow.
    pub(super) async fn delete(&self, name: &str) -> Done {
        let Some(flow) = self.find(name) else { return Done::Unknown };
        if self.options.as_observed && flow.failure().is_some() {
            pending::<()>().await;
        }
        if !self.take_out(&flow, State::Deleted) {
            return Done::Unknown;
        }
        end(&flow).await;
        self.remember(&flow);
        tracing::info!(flow.name = name, "flow deleted");
        Done::Well("flow deleted")
    }

    /// Kills every ffmpeg and waits for their ends.
    pub(super) async fn kill_all(&self) {
        let flows: Vec<_> = self.flows().drain().map(|(_, flow)| flow).collect();
        futures_util::future::join_all(flows.iter().map(|flow| end(flow))).await;
    }

    async fn finish_dead(&self, flow: &Flow, failure: &Ending) -> Done {
        if self.options.as_observed {
            pending::<()>().await;
        }
        if self.take_out(flow, State::Failed) {
            self.remember(flow);
        }
        Done::Failed(obituary(Some(failure)))
    }

    /// An input that ffmpeg could make nothing of is finished without files, as the contract has it.
    async fn ship(&self, flow: &Flow, ending: Option<Ending>, saving_path: &str) -> Done {
        if !ending.as_ref().is_some_and(|ending| ending.success) {
            tracing::warn!(flow.name = flow.name(), "{}", obituary(ending.as_ref()));
            flow.set_state(State::Failed);
            return Done::Well("flow finished");
        }
        match ship::ship(flow.folder(), saving_path, &self.options.ftp).await {
            Ok(files) => {
                tracing::info!(flow.name = flow.name(), files, "flow finished");
                flow.set_state(State::Finished);
                Done::Well("flow finished")
            }
            Err(error) => {
                tracing::error!(flow.name = flow.name(), error = format!("{error:#}"), "flow not shipped");
                flow.set_state(State::Failed);
                Done::Failed(format!("shipping failed: {error:#}"))
            }
        }
    }

    /// Takes the flow out of those that calls find; false when somebody else did.
    fn take_out(&self, flow: &Flow, state: State) -> bool {
        let mut flows = self.flows();
        let mine = flows.get(flow.name()).is_some_and(|found| std::ptr::eq(Arc::as_ptr(found), flow));
        if mine {
            flows.remove(flow.name());
            flow.set_state(state);
        }
        mine
    }

    fn remember(&self, flow: &Flow) {
        let mut ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        ended.push_back(flow.report());
        if ended.len() > REMEMBERED {
            ended.pop_front();
        }
    }

    fn find(&self, name: &str) -> Option<Arc<Flow>> {
        self.flows().get(name).cloned()
    }

    fn flows(&self) -> MutexGuard<'_, HashMap<String, Arc<Flow>>> {
        self.flows.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Answers at once and trusts in the buffer; a push into an ffmpeg that its input killed ends the process.
fn push_as_observed(flow: &Flow, bytes: Bytes) -> Done {
    match flow.failure() {
        Some(failure) if !failure.killed => {
            tracing::error!(flow.name = flow.name(), "{}: ending as observed", obituary(Some(&failure)));
            std::process::exit(1);
        }
        Some(_) => Done::Well("bytes taken"),
        None => flow.push(bytes).map_or(Done::Unknown, |_| Done::Well("bytes taken")),
    }
}

async fn end(flow: &Flow) {
    flow.kill();
    flow.end_input();
    if tokio::time::timeout(KILL_DEADLINE, flow.ended()).await.is_err() {
        tracing::error!(flow.name = flow.name(), "ffmpeg does not end");
    }
}

fn obituary(ending: Option<&Ending>) -> String {
    match ending {
        Some(ending) if ending.killed => "ffmpeg was killed".into(),
        Some(ending) => format!("ffmpeg has died: {}", ending.last_words),
        None => "ffmpeg has died".into(),
    }
}

/// Nothing but named folders below the root.
fn is_plain(path: &str) -> bool {
    let mut parts = Path::new(path).components();
    let rooted = matches!(parts.next(), Some(Component::RootDir));
    let parts: Vec<_> = parts.collect();
    rooted && !parts.is_empty() && parts.iter().all(|part| matches!(part, Component::Normal(_)))
}
