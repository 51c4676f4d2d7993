//! Deliveries, sound and otherwise, with header tables in every form that a publisher may choose.

use proptest::prelude::*;

use crate::road::{MAX_BYTES, SESSIONS, TOTAL, session};

/// What must become of a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    /// It is a chunk: acked, or refused for its place.
    Judged,
    /// `nack` for what it says.
    Refused,
    /// Nobody can be told.
    Rejected,
}

#[derive(Clone)]
pub struct Sent {
    pub expected: Expected,
    pub session: usize,
    pub start: i64,
    pub body: Vec<u8>,
    form: Form,
}

impl std::fmt::Debug for Sent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Sent { expected, session, start, body, form } = self;
        write!(f, "[{expected:?}: session {session}, {start}+{}, {form:?}]", body.len())
    }
}

/// How a header table is written.
#[derive(Debug, Clone, Copy)]
struct Form {
    /// Picks one of the types that hold a number.
    wide: u8,
    upper_case: bool,
    /// A header that nobody asked for.
    extra: bool,
    defect: Option<Defect>,
}

/// What is wrong with a delivery.
#[derive(Debug, Clone, Copy)]
enum Defect {
    NoSession,
    SessionIsNoUuid,
    NoStart,
    NegativeStart,
    FractionalStart,
    StartIsText,
    StartIsNoNumber,
    SizeUnlikeBody(i64),
    TooLarge,
    Empty,
    NoCorrelation,
    LongCorrelation,
    CorrelationIsNumber,
    NoHeaders,
}

/// The byte of a session's file at `at`.
pub fn byte(session: usize, at: usize) -> u8 {
    ((at * 7 + session * 31) % 251) as u8
}

impl Sent {
    /// A chunk as gateway sends it.
    pub fn sound(session: usize, start: i64, body: Vec<u8>) -> Self {
        let form = Form { wide: 0, upper_case: false, extra: false, defect: None };
        Sent { expected: Expected::Judged, session, start, body, form }
    }

    /// Its headers as they stand on the wire.
    pub fn table(&self, correlation: &str) -> Vec<u8> {
        use Defect::*;
        let defect = self.form.defect;
        let mut entries = Vec::new();
        let id = session(self.session).to_string();
        let id = if self.form.upper_case { id.to_uppercase() } else { id };
        match defect {
            Some(NoSession) => {}
            Some(SessionIsNoUuid) => entries.push(("x-session-id", text("../../etc/passwd"))),
            _ => entries.push(("x-session-id", text(&id))),
        }
        match defect {
            Some(NoStart) => {}
            Some(NegativeStart) => entries.push(("x-start-byte", self.number(-1 - self.start))),
            Some(FractionalStart) => entries.push(("x-start-byte", real(self.start as f64 + 0.5))),
            Some(StartIsText) => entries.push(("x-start-byte", text(&self.start.to_string()))),
            Some(StartIsNoNumber) => entries.push(("x-start-byte", real(f64::NAN))),
            _ => entries.push(("x-start-byte", self.number(self.start))),
        }
        let size = self.body.len() as i64;
        let size = if let Some(SizeUnlikeBody(by)) = defect { size + by } else { size };
        entries.push(("x-size", self.number(size)));
        if self.form.extra {
            entries.push(("x-extra", [b"A".to_vec(), sized(b"Vt\x01")].concat()));
        }
        match defect {
            Some(NoCorrelation) => {}
            Some(LongCorrelation) => entries.push(("x-correlation-id", text(&"c".repeat(250)))),
            Some(CorrelationIsNumber) => entries.push(("x-correlation-id", self.number(7))),
            _ => entries.push(("x-correlation-id", text(correlation))),
        }
        if let Some(NoHeaders) = defect {
            entries.clear();
        }
        let written = entries
            .iter()
            .map(|(name, value)| [&[u8::try_from(name.len()).unwrap()][..], name.as_bytes(), value].concat());
        sized(&written.collect::<Vec<_>>().concat())
    }

    /// In one of the types that hold it.
    fn number(&self, value: i64) -> Vec<u8> {
        let all = [
            i8::try_from(value).ok().map(|value| [&b"b"[..], &value.to_be_bytes()].concat()),
            u8::try_from(value).ok().map(|value| [&b"B"[..], &value.to_be_bytes()].concat()),
            i16::try_from(value).ok().map(|value| [&b"s"[..], &value.to_be_bytes()].concat()),
            u16::try_from(value).ok().map(|value| [&b"u"[..], &value.to_be_bytes()].concat()),
            i32::try_from(value).ok().map(|value| [&b"I"[..], &value.to_be_bytes()].concat()),
            u32::try_from(value).ok().map(|value| [&b"i"[..], &value.to_be_bytes()].concat()),
            Some([&b"l"[..], &value.to_be_bytes()].concat()),
            Some([&b"L"[..], &value.to_be_bytes()].concat()),
            Some([&b"f"[..], &(value as f32).to_be_bytes()].concat()),
            Some(real(value as f64)),
        ];
        let fits: Vec<Vec<u8>> = all.into_iter().flatten().collect();
        fits[usize::from(self.form.wide) % fits.len()].clone()
    }
}

fn real(value: f64) -> Vec<u8> {
    [&b"d"[..], &value.to_be_bytes()].concat()
}

fn text(text: &str) -> Vec<u8> {
    [b"S".to_vec(), sized(text.as_bytes())].concat()
}

fn sized(bytes: &[u8]) -> Vec<u8> {
    [&u32::try_from(bytes.len()).unwrap().to_be_bytes()[..], bytes].concat()
}

fn defects() -> impl Strategy<Value = Defect> {
    use Defect::*;
    prop_oneof![
        Just(NoSession),
        Just(SessionIsNoUuid),
        Just(NoStart),
        Just(NegativeStart),
        Just(FractionalStart),
        Just(StartIsText),
        Just(StartIsNoNumber),
        prop_oneof![-5i64..0, 1i64..6].prop_map(SizeUnlikeBody),
        Just(TooLarge),
        Just(Empty),
        Just(NoCorrelation),
        Just(LongCorrelation),
        Just(CorrelationIsNumber),
        Just(NoHeaders),
    ]
}

fn expected(defect: Option<Defect>) -> Expected {
    use Defect::*;
    match defect {
        None => Expected::Judged,
        Some(NoCorrelation | LongCorrelation | CorrelationIsNumber | NoHeaders) => Expected::Rejected,
        Some(_) => Expected::Refused,
    }
}

/// Pieces in step with each other, others that are shifted and cut against them, and other bytes at the same place.
fn places() -> impl Strategy<Value = (i64, usize, bool)> {
    prop_oneof![
        8 => (0..TOTAL / 100).prop_map(|n| (n * 100, 100, false)),
        2 => (0..TOTAL + 50, 1..100usize).prop_map(|(start, size)| (start, size, false)),
        1 => (0..TOTAL / 100).prop_map(|n| (n * 100, 100, true)),
    ]
}

/// Any delivery for any session.
pub fn anything() -> impl Strategy<Value = Sent> {
    let defect = prop_oneof![5 => Just(None), 1 => defects().prop_map(Some)];
    let form = (any::<u8>(), any::<bool>(), any::<bool>(), defect)
        .prop_map(|(wide, upper_case, extra, defect)| Form { wide, upper_case, extra, defect });
    (0..SESSIONS, places(), form).prop_map(|(session, (start, size, other), form)| {
        let size = match form.defect {
            Some(Defect::TooLarge) => MAX_BYTES as usize + 1,
            Some(Defect::Empty) => 0,
            _ => size,
        };
        let body = (0..size).map(|at| byte(session, start as usize + at) ^ u8::from(other)).collect();
        Sent { expected: expected(form.defect), session, start, body, form }
    })
}
