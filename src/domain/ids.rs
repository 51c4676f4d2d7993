//! Names of things: typed, so that a session id can never stand where a video id belongs.

use std::fmt;

use uuid::Uuid;

macro_rules! uuid_newtype {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(pub Uuid);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.hyphenated().fmt(f)
            }
        }
    };
}

uuid_newtype!(
    /// One upload session: one file on its way.
    SessionId
);
uuid_newtype!(
    /// The row in `flows` that a session fills.
    FlowId
);
uuid_newtype!(
    /// The row in `videos` that a flow belongs to.
    VideoId
);
uuid_newtype!(
    /// One run of one uploader process; a restarted process is another replica. Writers of spool files have ids of the
    /// same kind, one for each file.
    ReplicaId
);

impl SessionId {
    /// Reads the hyphenated form in either case, 36 characters, and nothing else.
    pub fn parse(text: &[u8]) -> Option<Self> {
        if text.len() != 36 {
            return None;
        }
        Uuid::try_parse_ascii(text).ok().map(SessionId)
    }
}

/// Identifies the reply to one chunk; 1 to 249 bytes, so that `reply.<id>` fits a routing key.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct CorrelationId(String);

impl CorrelationId {
    /// The longest readable id in bytes: a routing key holds 255, `reply.` takes six of them.
    pub const MAX_BYTES: usize = 249;

    /// Takes a readable id; anything else counts as missing.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let fits = (1..=Self::MAX_BYTES).contains(&text.len());
        let text = std::str::from_utf8(text).ok()?;
        fits.then(|| CorrelationId(text.to_owned()))
    }

    /// The id as it came.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the binding `reply.*` routes its reply: a dot begins another word of the routing key.
    pub fn is_one_word(&self) -> bool {
        !self.0.contains('.')
    }
}

/// The number of an ffmpeg process of a session: 1 for the first, 0 while there was none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Generation(pub i32);

impl Generation {
    /// The one after this.
    pub fn next(self) -> Self {
        Generation(self.0 + 1)
    }

    /// The name of its ffmpeg process: `<session>`, then `<session>~2`, `<session>~3`. Used once.
    pub fn name(self, session: SessionId) -> FlowName {
        let text = if self.0 <= 1 { session.to_string() } else { format!("{session}~{}", self.0) };
        FlowName(text)
    }
}

/// The name of one ffmpeg process at fflow.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FlowName(String);

impl FlowName {
    /// The name as it stands in addresses.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// A name that this service stored earlier, as it reads it back.
    pub fn from_stored(text: String) -> Self {
        FlowName(text)
    }
}

impl fmt::Display for FlowName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The fencing number of ownership, raised at each change of owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Epoch(pub i64);

/// A moment of the process's monotonic clock, in milliseconds. Only differences mean anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// This moment, later by `span`.
    pub fn after(self, span: std::time::Duration) -> Self {
        Timestamp(self.0.saturating_add(span.as_millis() as u64))
    }

    /// How long before `later` this moment was; zero if it was not.
    pub fn until(self, later: Timestamp) -> std::time::Duration {
        std::time::Duration::from_millis(later.0.saturating_sub(self.0))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_upper_case_session_id_is_the_same_session() {
        let lower = SessionId::parse(b"a48a81da-0c3b-4f0e-9d55-0d6f3c1c2b11").unwrap();
        let upper = SessionId::parse(b"A48A81DA-0C3B-4F0E-9D55-0D6F3C1C2B11").unwrap();
        assert_eq!(lower, upper);
        assert_eq!(upper.to_string(), "a48a81da-0c3b-4f0e-9d55-0d6f3c1c2b11");
    }

    #[test]
    fn only_the_hyphenated_form_is_a_session_id() {
        for bad in
            ["", "../../x", "a48a81da0c3b4f0e9d550d6f3c1c2b11", "{a48a81da-0c3b-4f0e-9d55-0d6f3c1c2b11}"]
        {
            assert_eq!(SessionId::parse(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn each_generation_has_a_name_of_its_own() {
        let session = SessionId(Uuid::nil());
        assert_eq!(Generation(1).name(session).as_str(), session.to_string());
        assert_eq!(Generation(2).name(session).as_str(), format!("{session}~2"));
    }
}
