//! Reads the answers of fflow and of the proxies in front of it, whatever they contain.

use awc::ClientResponse;
use awc::error::PayloadError;
use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use serde::Deserialize;
use tokio::time::{Instant, timeout_at};

/// Characters of a message that are worth keeping.
pub(crate) const MESSAGE_CHARS: usize = 300;

/// As much of a body as was read.
pub(crate) struct Body {
    /// At most the limit.
    pub(crate) bytes: Vec<u8>,
    /// Whether that is all of it.
    pub(crate) whole: bool,
}

/// Reads a body up to `limit` bytes and until `end`; what fails or is more is left behind with its connection.
pub(super) async fn read<S>(response: &mut ClientResponse<S>, limit: usize, end: Instant) -> Body
where
    S: Stream<Item = Result<Bytes, PayloadError>>,
    ClientResponse<S>: Stream<Item = Result<Bytes, PayloadError>> + Unpin,
{
    let mut body = Body { bytes: Vec::new(), whole: false };
    while let Ok(next) = timeout_at(end, response.next()).await {
        let part = match next {
            None => return Body { whole: true, ..body },
            Some(Ok(part)) => part,
            Some(Err(_)) => return body,
        };
        let room = limit - body.bytes.len();
        body.bytes.extend_from_slice(&part[..part.len().min(room)]);
        if part.len() > room {
            return body;
        }
    }
    body
}

#[derive(Deserialize)]
struct Created {
    #[serde(rename = "flowUrl")]
    flow_url: String,
}

/// The address in the answer to a create; a reason if there is none.
pub(crate) fn flow_url(body: &Body) -> Result<String, String> {
    if !body.whole {
        return Err("the answer to create is too long or was cut off".to_owned());
    }
    match serde_json::from_slice::<Created>(&body.bytes) {
        Ok(created) => Ok(created.flow_url),
        Err(_) => Err(format!("the answer to create has no flowUrl: {}", message(&body.bytes))),
    }
}

/// What an answer says, for logs and `last_error`: its `message` if it is JSON with one, else its beginning. One line,
/// no control characters.
pub(crate) fn message(bytes: &[u8]) -> String {
    let said = serde_json::from_slice::<serde_json::Value>(bytes).ok().and_then(|value| {
        let message = value.get("message")?;
        Some(message.as_str().map_or_else(|| message.to_string(), str::to_owned))
    });
    let text = said.unwrap_or_else(|| String::from_utf8_lossy(bytes).into_owned());
    let words = text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty());
    let mut line = String::new();
    for word in words {
        if line.len() > 4 * MESSAGE_CHARS {
            break;
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    line.chars().take(MESSAGE_CHARS).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_message_is_one_short_line() {
        assert_eq!(message(br#"{"status":"error","message":"no such flow"}"#), "no such flow");
        assert_eq!(message(br#"{"message":["a","b"]}"#), r#"["a","b"]"#);
        assert_eq!(message(b"<html>\r\n\x1b[31m<h1>413</h1>\0\n"), "<html> [31m<h1>413</h1>");
        assert_eq!(message("ä".repeat(5000).as_bytes()).chars().count(), MESSAGE_CHARS);
        assert_eq!(message(b"\xff\xfe"), "\u{fffd}\u{fffd}");
        assert_eq!(message(b""), "");
    }

    #[test]
    fn only_a_whole_answer_names_a_flow() {
        let bytes = br#"{"status":"success","flowUrl":"http://f/r1/x"}"#.to_vec();
        assert_eq!(flow_url(&Body { bytes: bytes.clone(), whole: true }).unwrap(), "http://f/r1/x");
        assert!(flow_url(&Body { bytes, whole: false }).is_err());
        for odd in [&b"{}"[..], b"", b"[]", br#"{"flowUrl":7}"#] {
            assert!(flow_url(&Body { bytes: odd.to_vec(), whole: true }).is_err());
        }
    }
}
