//! What a check found, item by item.

use std::fmt::{self, Display, Formatter};

use serde::Serialize;

/// How one thing is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum State {
    /// As it should be.
    Ok,
    /// The service runs, but something is missing or at risk.
    Warning,
    /// The service cannot do its work.
    Wrong,
    /// Not looked at: what it needs is wrong.
    Skipped,
}

impl State {
    fn word(self) -> &'static str {
        match self {
            State::Ok => "ok",
            State::Warning => "warning",
            State::Wrong => "wrong",
            State::Skipped => "skipped",
        }
    }
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Item {
    pub(super) name: &'static str,
    pub(super) state: State,
    /// What was found.
    pub(super) found: String,
    /// What to do; none where nothing is to be done.
    pub(super) mend: Option<String>,
}

impl Item {
    pub(super) fn ok(name: &'static str, found: impl Into<String>) -> Self {
        Item { name, state: State::Ok, found: found.into(), mend: None }
    }

    pub(super) fn warning(name: &'static str, found: impl Into<String>, mend: impl Into<String>) -> Self {
        Item { name, state: State::Warning, found: found.into(), mend: Some(mend.into()) }
    }

    pub(super) fn wrong(name: &'static str, found: impl Into<String>, mend: impl Into<String>) -> Self {
        Item { name, state: State::Wrong, found: found.into(), mend: Some(mend.into()) }
    }

    pub(super) fn skipped(name: &'static str, why: impl Into<String>) -> Self {
        Item { name, state: State::Skipped, found: why.into(), mend: None }
    }
}

/// All items, in the order of the road.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    /// Nothing is wrong; strictly, there is no warning either.
    pub(super) well: bool,
    pub(super) items: Vec<Item>,
}

impl Report {
    pub(super) fn new(items: Vec<Item>, strict: bool) -> Self {
        let bad = |item: &Item| match item.state {
            State::Wrong => true,
            State::Warning => strict,
            State::Ok | State::Skipped => false,
        };
        Report { well: !items.iter().any(bad), items }
    }

    fn count(&self, state: State) -> usize {
        self.items.iter().filter(|item| item.state == state).count()
    }
}

impl Display for Report {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for item in &self.items {
            writeln!(f, "{:<7}  {:<13}  {}", item.state.word(), item.name, item.found)?;
            if let Some(mend) = &item.mend {
                writeln!(f, "{:<7}  {:<13}  -> {mend}", "", "")?;
            }
        }
        let verdict = if self.well { "well" } else { "not well" };
        let states = [State::Ok, State::Warning, State::Wrong, State::Skipped];
        let counts = states.map(|state| format!("{} {}", self.count(state), state.word()));
        write!(f, "\n{verdict}: {}", counts.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warnings_count_only_where_they_are_asked_to() {
        let items = vec![Item::ok("a", "x"), Item::warning("b", "y", "do z"), Item::skipped("c", "no b")];
        assert!(Report::new(items.clone(), false).well);
        assert!(!Report::new(items.clone(), true).well);
        let text = Report::new(items, false).to_string();
        assert!(text.contains("warning  b              y\n                        -> do z\n"), "{text}");
        assert!(text.ends_with("well: 1 ok, 1 warning, 0 wrong, 1 skipped"), "{text}");
        assert!(!Report::new(vec![Item::wrong("d", "x", "y")], false).well);
    }
}
