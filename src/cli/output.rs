//! Where answers go: text for people or JSON for machines, on standard output.

use std::fmt::Display;
use std::io::{self, Write};

use serde::Serialize;

/// The form that was asked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Output {
    json: bool,
}

impl Output {
    pub(super) fn new(json: bool) -> Self {
        Output { json }
    }

    /// Prints for a reader that may have seen enough, such as `head`.
    pub(super) fn print(self, answer: &(impl Serialize + Display)) -> anyhow::Result<()> {
        let text = if self.json { serde_json::to_string_pretty(answer)? } else { answer.to_string() };
        match writeln!(io::stdout().lock(), "{text}") {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            printed => Ok(printed?),
        }
    }
}
