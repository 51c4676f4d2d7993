//! Carries a call out, with the fault that a test scripted for it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::Shared;
use super::effect::{Address, Answer, Outcome};
use super::fault::{CallKind, Fault};
use super::ledger::Target;
use super::streams::Shipment;

/// A call with its body read.
pub(super) struct Request {
    pub(super) target: Target,
    pub(super) body: Bytes,
    /// The content type is `application/octet-stream`.
    pub(super) octet_stream: bool,
    /// Of a finish; empty when the body has none.
    pub(super) saving_path: String,
}

/// Carries the call out to its end, however long that takes; the client may have left meanwhile.
pub(super) async fn carry_out(shared: Arc<Shared>, request: Request, fault: Option<Fault>) -> Outcome {
    let outcome = match fault {
        None => effect(&shared, &request),
        Some(fault) => faulted(&shared, &request, fault).await,
    };
    shared.notify();
    outcome
}

async fn faulted(shared: &Shared, request: &Request, fault: Fault) -> Outcome {
    match fault {
        Fault::Status(status) => Answer::json(status, "as scripted").into(),
        Fault::StatusAfterEffect(status) => {
            effect(shared, request);
            Answer::json(status, "as scripted").into()
        }
        Fault::ResetBefore => Outcome::Close,
        Fault::ResetAfter => {
            effect(shared, request);
            Outcome::Close
        }
        Fault::EffectTwice => {
            effect(shared, request);
            effect(shared, request)
        }
        Fault::Hang(end) => Outcome::Hang(end),
        Fault::HangAfterEffect(end) => {
            effect(shared, request);
            Outcome::Hang(end)
        }
        Fault::DelayThen(delay) => slowly(shared, request, delay, false).await,
        Fault::SlowShip(delay) => slowly(shared, request, delay, true).await,
        Fault::BaseAddress => create(shared, request, Address::Base),
        Fault::ForeignAddress(url) => create(shared, request, Address::Foreign(url)),
        Fault::Garbage(bytes) => {
            effect(shared, request);
            Answer { status: 201, content_type: "application/json", body: bytes.into() }.into()
        }
        Fault::FinishWithoutFiles => finish(shared, request, Shipment::Nothing),
        Fault::FinishIncomplete => finish(shared, request, Shipment::Incomplete),
        Fault::KillFlow => {
            shared.ledger().kill_flow(&request.target.name);
            effect(shared, request)
        }
        Fault::KillReplica => {
            shared.ledger().set_replica(request.target.replica, false);
            Outcome::Close
        }
    }
}

/// The call without any fault.
fn effect(shared: &Shared, request: &Request) -> Outcome {
    match request.target.kind {
        CallKind::Create => create(shared, request, Address::Usual),
        CallKind::Push => shared.ledger().push(&request.target, &request.body, request.octet_stream),
        CallKind::Finish => finish(shared, request, Shipment::Whole),
        CallKind::Delete => shared.ledger().delete(&request.target),
    }
}

fn create(shared: &Shared, request: &Request, address: Address) -> Outcome {
    match request.target.kind {
        CallKind::Create => shared.ledger().create(&request.target, address),
        CallKind::Push | CallKind::Finish | CallKind::Delete => effect(shared, request),
    }
}

fn finish(shared: &Shared, request: &Request, shipment: Shipment) -> Outcome {
    if request.target.kind != CallKind::Finish {
        return effect(shared, request);
    }
    let mut ledger = shared.ledger();
    match ledger.begin_finish(&request.target, &request.saving_path) {
        Ok(index) => ledger.end_finish(index, shipment),
        Err(outcome) => outcome,
    }
}

/// The effect after a delay; a finish takes the flow at once and ends after the delay.
async fn slowly(shared: &Shared, request: &Request, delay: Duration, shipping: bool) -> Outcome {
    if request.target.kind != CallKind::Finish {
        tokio::time::sleep(delay).await;
        return effect(shared, request);
    }
    let begun = {
        let mut ledger = shared.ledger();
        let begun = ledger.begin_finish(&request.target, &request.saving_path);
        if let (Ok(index), true) = (&begun, shipping) {
            ledger.begin_shipping(*index);
        }
        begun
    };
    let index = match begun {
        Ok(index) => index,
        Err(outcome) => return outcome,
    };
    tokio::time::sleep(delay).await;
    shared.ledger().end_finish(index, Shipment::Whole)
}
