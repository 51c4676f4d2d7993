//! Checks whether a delivery is a chunk at all.
//!
//! Hears    ValidateChunk (AmqpConsumer), Ping and Retire (supervision)
//! Tells    AdmitChunk to SessionRegistry; a bad delivery's ticket is settled here
//! Owns     nothing
//! Decides  nothing itself, see `domain::chunk`
//! Fails    never for its input; a chunk that cannot be handed on goes back to the broker with its ticket

use actix::prelude::*;

use crate::domain::chunk::{self, Defect};
use crate::domain::session::Refusal;
use crate::messages::{AdmitChunk, Ping, Retire, ValidateChunk};
use crate::metrics;

/// The actor.
pub struct ChunkValidator {
    registry: Recipient<AdmitChunk>,
    max_bytes: u32,
}

impl ChunkValidator {
    /// A validator for chunks of at most `max_bytes`.
    pub fn new(registry: Recipient<AdmitChunk>, max_bytes: u32) -> Self {
        ChunkValidator { registry, max_bytes }
    }

    fn admit(&self, message: AdmitChunk) {
        let facts = message.chunk.facts;
        let span = message.ticket.span();
        // One record for all: in JSON each of them reads and writes anew what the span has already.
        tracing::record_all!(
            span,
            session.id = %facts.session,
            chunk.start = facts.start,
            chunk.size = facts.size,
        );
        metrics::posted("SessionRegistry");
        if let Err(error) = self.registry.try_send(message) {
            metrics::taken_up("SessionRegistry");
            // The refused message is dropped with its ticket, which gives the delivery back.
            tracing::warn!(session.id = %facts.session, %error, "chunk not handed on");
        }
    }
}

impl Actor for ChunkValidator {
    type Context = Context<Self>;

    fn started(&mut self, _: &mut Context<Self>) {
        metrics::mailbox_new("ChunkValidator");
    }
}

impl Supervised for ChunkValidator {}

impl Handler<ValidateChunk> for ChunkValidator {
    type Result = ();

    fn handle(&mut self, ValidateChunk { delivery, ticket }: ValidateChunk, _: &mut Context<Self>) {
        metrics::taken_up("ChunkValidator");
        match chunk::parse(delivery, self.max_bytes) {
            Ok(chunk) => self.admit(AdmitChunk { chunk, ticket }),
            Err(Defect::Unanswerable { reason }) => ticket.reject(reason),
            Err(Defect::Refused { correlation, reason }) => {
                ticket.refuse(correlation, Refusal::malformed(reason));
            }
        }
    }
}

impl Handler<Retire> for ChunkValidator {
    type Result = ();

    /// It holds nothing: it ends with its last address.
    fn handle(&mut self, _: Retire, _: &mut Context<Self>) {}
}

impl Handler<Ping> for ChunkValidator {
    type Result = ();

    fn handle(&mut self, _: Ping, _: &mut Context<Self>) {}
}

#[cfg(test)]
mod tests;
