//! Where the current work belongs in a trace. Costs one load where no traces are exported.

use std::sync::atomic::{AtomicBool, Ordering};

use opentelemetry::trace::{SpanContext, SpanId, TraceContextExt, TraceFlags, TraceId, TraceState};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

use crate::domain::trace::TraceParent;

static EXPORTED: AtomicBool = AtomicBool::new(false);

/// From now on spans have a context. Said once, by the one who exports them.
pub(crate) fn begin() {
    EXPORTED.store(true, Ordering::Relaxed);
}

fn exported() -> bool {
    EXPORTED.load(Ordering::Relaxed)
}

/// Makes `span` a child of one elsewhere. Before it is entered: later it keeps the parent it has.
pub fn adopt(span: &Span, parent: Option<TraceParent>) {
    if let Some(parent) = parent.filter(|_| exported()) {
        let context = opentelemetry::Context::new().with_remote_span_context(remote(parent));
        // Fails for a span that is filtered out or has begun: then nobody looks at its parent.
        let _ = span.set_parent(context);
    }
}

/// Ties `span` to one that caused it without waiting for it.
pub fn link(span: &Span, cause: Option<TraceParent>) {
    if let Some(cause) = cause.filter(|_| exported()) {
        span.add_link(remote(cause));
    }
}

/// The context of a span, for whoever goes on with its work elsewhere.
pub fn of(span: &Span) -> Option<TraceParent> {
    if !exported() {
        return None;
    }
    let context = span.context();
    let context = context.span().span_context().clone();
    context.is_valid().then(|| TraceParent {
        trace: u128::from_be_bytes(context.trace_id().to_bytes()),
        span: u64::from_be_bytes(context.span_id().to_bytes()),
        sampled: context.is_sampled(),
    })
}

fn remote(parent: TraceParent) -> SpanContext {
    let flags = if parent.sampled { TraceFlags::SAMPLED } else { TraceFlags::default() };
    let (trace, span) = (parent.trace.to_be_bytes(), parent.span.to_be_bytes());
    SpanContext::new(TraceId::from_bytes(trace), SpanId::from_bytes(span), flags, true, TraceState::NONE)
}
