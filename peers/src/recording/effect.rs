//! What each call does to the ledger, and how fflow answers it.

use std::time::Duration;

use bytes::Bytes;
use serde_json::json;

use super::ledger::{Ledger, Target};
use super::record::{Entry, FlowState};
use super::streams::{self, Shipment};

/// How a call ends for the client.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Outcome {
    Answer(Answer),
    /// The connection ends without an answer.
    Close,
    /// No answer; the connection ends after this long, or never.
    Hang(Option<Duration>),
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) content_type: &'static str,
    pub(super) body: Bytes,
}

impl Answer {
    /// fflow's own way of answering.
    pub(super) fn json(status: u16, message: &str) -> Self {
        let word = if status < 400 { "success" } else { "error" };
        Self::of(status, &json!({ "status": word, "message": message }))
    }

    /// The balancer's way of answering.
    pub(super) fn html(status: u16, message: &str) -> Self {
        let page = format!(
            "<html>\r\n<head><title>{status} {message}</title></head>\r\n<body>\r\n<center><h1>{status} {message}\
             </h1></center>\r\n<hr><center>nginx</center>\r\n</body>\r\n</html>\r\n"
        );
        Self { status, content_type: "text/html", body: page.into() }
    }

    fn of(status: u16, value: &serde_json::Value) -> Self {
        Self { status, content_type: "application/json", body: value.to_string().into() }
    }
}

impl From<Answer> for Outcome {
    fn from(answer: Answer) -> Self {
        Self::Answer(answer)
    }
}

/// Which address a create answers with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Address {
    /// The flow's own, or the replica's where the options say so.
    Usual,
    /// The replica's.
    Base,
    /// This one, word for word.
    Foreign(String),
}

impl Ledger {
    pub(super) fn create(&mut self, target: &Target, address: Address) -> Outcome {
        if !self.is_alive(target.replica) {
            return Outcome::Close;
        }
        if self.live_entry(target).is_some() {
            return Answer::json(500, "a flow with this name already exists").into();
        }
        self.live.insert((target.replica, target.name.clone()), self.entries.len());
        self.entries.push(Entry::new(&target.name, target.replica));
        let base = self.replica_url(target.replica);
        let flow_url = match address {
            Address::Foreign(url) => url,
            Address::Base => base,
            Address::Usual if self.options().answer_base_address => base,
            Address::Usual => format!("{base}{}", target.name),
        };
        Answer::of(201, &json!({ "status": "success", "message": "flow created", "flowUrl": flow_url }))
            .into()
    }

    pub(super) fn push(&mut self, target: &Target, bytes: &[u8], octet_stream: bool) -> Outcome {
        let keep = self.options().keep_bytes;
        let as_observed = self.options().as_observed;
        let Some(entry) = self.live_entry(target) else { return unknown_flow() };
        if !octet_stream {
            return Answer::json(500, "the content type must be application/octet-stream").into();
        }
        match entry.flow.state {
            FlowState::Running => {
                entry.append(bytes, keep);
                Answer::json(201, "bytes taken").into()
            }
            FlowState::FfmpegDead if as_observed => Answer::json(201, "bytes taken").into(),
            FlowState::FfmpegDead => Answer::json(500, "ffmpeg has died").into(),
            FlowState::Finishing | FlowState::Finished | FlowState::Deleted | FlowState::Lost => {
                unknown_flow()
            }
        }
    }

    /// The first half of a finish: the flow takes no more bytes. Gives the entry to finish.
    pub(super) fn begin_finish(&mut self, target: &Target, saving_path: &str) -> Result<usize, Outcome> {
        let as_observed = self.options().as_observed;
        let key = (target.replica, target.name.clone());
        let Some(&index) = self.live.get(&key) else { return Err(unknown_flow()) };
        let flow = &mut self.entries[index].flow;
        flow.finish_calls += 1;
        match flow.state {
            FlowState::Running => {
                flow.saving_path = Some(saving_path.to_owned());
                flow.state = FlowState::Finishing;
                Ok(index)
            }
            FlowState::FfmpegDead if as_observed => Err(Outcome::Hang(None)),
            FlowState::FfmpegDead => {
                self.live.remove(&key);
                Err(Answer::json(500, "ffmpeg has died").into())
            }
            FlowState::Finishing | FlowState::Finished | FlowState::Deleted | FlowState::Lost => {
                Err(unknown_flow())
            }
        }
    }

    /// ffmpeg has ended and shipping goes on: the flow's name is unknown from here on.
    pub(super) fn begin_shipping(&mut self, index: usize) {
        self.live.retain(|_, live| *live != index);
    }

    /// The second half of a finish: the files arrive on holder.
    pub(super) fn end_finish(&mut self, index: usize, shipment: Shipment) -> Outcome {
        let flow = &mut self.entries[index].flow;
        match flow.state {
            FlowState::Finishing => {}
            FlowState::FfmpegDead => return Outcome::Hang(None),
            FlowState::Deleted => return Answer::json(500, "the flow was deleted").into(),
            FlowState::Running | FlowState::Finished | FlowState::Lost => return Outcome::Close,
        }
        let path = flow.saving_path.clone().unwrap_or_default();
        let shipped = !self.ftp_down();
        let flow = &mut self.entries[index].flow;
        flow.state = FlowState::Finished;
        flow.finished = shipped;
        self.begin_shipping(index);
        if !shipped {
            return Answer::json(500, "the files could not be shipped").into();
        }
        if self.options().holder {
            self.ship(&path, shipment);
        }
        Answer::json(201, "flow finished").into()
    }

    pub(super) fn delete(&mut self, target: &Target) -> Outcome {
        let as_observed = self.options().as_observed;
        let Some(entry) = self.live_entry(target) else { return unknown_flow() };
        entry.flow.delete_calls += 1;
        if entry.flow.state == FlowState::FfmpegDead && as_observed {
            return Outcome::Hang(None);
        }
        entry.flow.state = FlowState::Deleted;
        entry.flow.deleted = true;
        self.live.remove(&(target.replica, target.name.clone()));
        Answer::json(200, "flow deleted").into()
    }

    fn ship(&mut self, saving_path: &str, shipment: Shipment) {
        let folder = saving_path.trim_matches('/');
        let files = streams::files(shipment);
        self.files_mut().extend(files.into_iter().map(|(path, bytes)| (format!("{folder}/{path}"), bytes)));
    }
}

fn unknown_flow() -> Outcome {
    Answer::json(404, "no such flow").into()
}
