//! Where in a trace something belongs, as W3C Trace Context writes it in a `traceparent`.

use std::fmt;

/// A span of some trace, perhaps of another process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceParent {
    /// The trace; not 0.
    pub trace: u128,
    /// The span in it; not 0.
    pub span: u64,
    /// Whether the trace is recorded.
    pub sampled: bool,
}

impl TraceParent {
    /// Reads `00-<32 hex digits>-<16 hex digits>-<2 hex digits>`; of a later version, what is the same there. Anything
    /// else is no context.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(text).ok()?;
        let (known, rest) = text.split_at_checked(55)?;
        let [version, trace, span, flags] = known.split('-').collect::<Vec<_>>().try_into().ok()?;
        let more_is_fine = rest.is_empty() || (version != "00" && rest.starts_with('-'));
        if !more_is_fine || version == "ff" {
            return None;
        }
        hex(version, 2)?;
        let parent = TraceParent {
            trace: hex(trace, 32)?,
            span: u64::try_from(hex(span, 16)?).ok()?,
            sampled: hex(flags, 2)? & 1 == 1,
        };
        (parent.trace != 0 && parent.span != 0).then_some(parent)
    }
}

fn hex(text: &str, digits: usize) -> Option<u128> {
    let lower = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    if text.len() != digits || !text.bytes().all(lower) {
        return None;
    }
    u128::from_str_radix(text, 16).ok()
}

impl fmt::Display for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{:032x}-{:016x}-{:02x}", self.trace, self.span, u8::from(self.sampled))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXAMPLE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn a_context_is_written_as_it_was_read() {
        let parent = TraceParent::parse(EXAMPLE.as_bytes());
        assert_eq!(parent.map(|parent| parent.to_string()).as_deref(), Some(EXAMPLE));
    }

    #[test]
    fn a_later_version_is_read_as_far_as_it_is_known() {
        let later = format!("cc{}-more", &EXAMPLE[2..]);
        assert_eq!(TraceParent::parse(later.as_bytes()), TraceParent::parse(EXAMPLE.as_bytes()));
    }

    #[test]
    fn what_is_no_context_is_none() {
        let zeros =
            [EXAMPLE.replace("0af7651916cd43dd8448eb211c80319c", &"0".repeat(32)), EXAMPLE.to_uppercase()];
        let wrong =
            ["", "00", "00-1-2-3", &EXAMPLE[1..], &format!("{EXAMPLE}-x"), &format!("ff{}", &EXAMPLE[2..])];
        for text in wrong.into_iter().chain(zeros.iter().map(String::as_str)) {
            assert_eq!(TraceParent::parse(text.as_bytes()), None, "{text}");
        }
        assert_eq!(TraceParent::parse(&[0xff; 55]), None);
    }
}
