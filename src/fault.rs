//! Three classes of error, each with its own ending: retry here, answer with the reason, or stop.

/// What an error means for the work that met it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The neighbour is away or busy: keep the work and try again with backoff, within its budget.
    Transient,
    /// The input itself is refused: answer it with the reason, never try it again.
    Poison,
    /// Nothing here can go on: stop the line, tickets drop, supervision decides.
    Fatal,
}

/// Errors that sort themselves, once, at the gateway that knows them.
pub trait Classified: std::error::Error {
    /// The class that decides how the work ends.
    fn fault(&self) -> Fault;
}
