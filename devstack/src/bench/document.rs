//! Writes the measured part of a document anew, between two marks, and the plot beside it.

use std::path::Path;

use anyhow::Context;

const BEGIN: &str = "<!-- measured: begin -->\n";
const END: &str = "<!-- measured: end -->";
/// The plot's name beside the document.
const PLOT: &str = "performance.svg";

/// Replaces what stands between the marks.
///
/// # Errors
/// When the file cannot be read or written, or has no marks.
pub(crate) fn renew(path: &Path, tables: &str, plot: &str) -> anyhow::Result<()> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let renewed = replace(&text, tables).with_context(|| format!("{} has no marks", path.display()))?;
    std::fs::write(path, renewed).with_context(|| format!("cannot write {}", path.display()))?;
    std::fs::write(path.with_file_name(PLOT), plot).context("cannot write the plot")
}

fn replace(text: &str, tables: &str) -> Option<String> {
    let begin = text.find(BEGIN)? + BEGIN.len();
    let end = begin + text[begin..].find(END)?;
    Some(format!("{}\n{}\n{}", &text[..begin], tables.trim_end(), &text[end..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_stands_between_the_marks_is_replaced() {
        let text = format!("before\n{BEGIN}old\n{END}\nafter");
        let expected = format!("before\n{BEGIN}\n| new |\n{END}\nafter");
        assert_eq!(replace(&text, "| new |\n"), Some(expected));
        assert_eq!(replace("no marks", "x"), None);
    }
}
