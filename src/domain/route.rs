//! Which addresses count: a flow is spoken to only at an allowed origin, under its own name.

use std::fmt;

use url::Url;

use super::ids::FlowName;

/// The origins (scheme, host, port) that fflow may live at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AllowList(Vec<Url>);

impl AllowList {
    /// Takes whatever of `origins` is a URL with a host; only scheme, host and port of each count.
    pub fn new<S: AsRef<str>>(origins: impl IntoIterator<Item = S>) -> Self {
        let parsed = origins.into_iter().filter_map(|origin| Url::parse(origin.as_ref()).ok());
        AllowList(parsed.filter(Url::has_host).collect())
    }

    fn admits(&self, url: &Url) -> bool {
        self.0.iter().any(|allowed| allowed.origin() == url.origin())
    }
}

/// The address of one ffmpeg process: an allowed origin, its last path segment the flow's name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FlowUrl(String);

impl FlowUrl {
    /// The address, without a slash at its end.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The replica it lives at: the address without the flow's name.
    pub fn replica(&self) -> &str {
        self.0.rsplit_once('/').map_or("", |(replica, _)| replica)
    }

    /// Where blocks are pushed, `finish` or `delete` is asked for.
    pub fn call(&self, verb: &str) -> String {
        format!("{}/{verb}", self.0)
    }
}

impl fmt::Display for FlowUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The address that fflow answered to a create. One that does not end in the name is a replica's base.
///
/// Refuses, with a reason for an operator, whatever is no plain http(s) address at an allowed origin.
pub fn from_answer(answer: &str, name: &FlowName, allowed: &AllowList) -> Result<FlowUrl, String> {
    let url = plain(answer)?;
    if !allowed.admits(&url) {
        return Err(format!("{answer:?} is outside the allowed origins"));
    }
    let address = url.as_str().trim_end_matches('/');
    if last_segment(address) == name.as_str() {
        return Ok(FlowUrl(address.to_owned()));
    }
    Ok(FlowUrl(format!("{address}/{name}")))
}

/// An address that somebody stored: it counts only at an allowed origin and under exactly this name.
/// Names are used once, so a stale value cannot carry it.
pub fn from_stored(stored: &str, name: &FlowName, allowed: &AllowList) -> Option<FlowUrl> {
    let url = plain(stored).ok()?;
    let address = url.as_str().trim_end_matches('/');
    let ours = allowed.admits(&url) && last_segment(address) == name.as_str();
    ours.then(|| FlowUrl(address.to_owned()))
}

/// The address of a flow at a replica whose base is known.
pub fn at_replica(base: &str, name: &FlowName, allowed: &AllowList) -> Option<FlowUrl> {
    from_answer(&format!("{}/", base.trim_end_matches('/')), name, allowed).ok()
}

fn plain(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|error| format!("{text:?} is no address: {error}"))?;
    let bare = url.username().is_empty() && url.password().is_none();
    let simple =
        url.query().is_none() && url.fragment().is_none() && matches!(url.scheme(), "http" | "https");
    if bare && simple { Ok(url) } else { Err(format!("{text:?} is no plain http address")) }
}

fn last_segment(address: &str) -> &str {
    address.rsplit_once('/').map_or("", |(_, segment)| segment)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::domain::ids::{Generation, SessionId};

    const S: &str = "a48a81da-0c3b-4f0e-9d55-0d6f3c1c2b11";

    fn name(generation: i32) -> FlowName {
        Generation(generation).name(SessionId::parse(S.as_bytes()).unwrap())
    }

    fn allowed() -> AllowList {
        AllowList::new(["http://fflow:4050"])
    }

    #[test]
    fn a_flow_address_and_a_replica_base_come_to_the_same() {
        let want = format!("http://fflow:4050/r2/{S}");
        for answer in [&want, &format!("{want}/"), "http://fflow:4050/r2/", "http://fflow:4050/r2"] {
            let url = from_answer(answer, &name(1), &allowed()).unwrap();
            assert_eq!(url.as_str(), want);
            assert_eq!(url.replica(), "http://fflow:4050/r2");
        }
    }

    #[test]
    fn a_second_generation_keeps_its_tilde() {
        let url = from_answer("http://fflow:4050/r1/", &name(2), &allowed()).unwrap();
        assert_eq!(from_stored(url.as_str(), &name(2), &allowed()), Some(url));
    }

    #[test]
    fn hostile_answers_are_refused() {
        let cases = [
            "http://evil:4050/r1/",
            "https://fflow:4050/r1/",
            "http://fflow:4051/r1/",
            "http://user:pw@fflow:4050/r1/",
            "http://fflow:4050/r1/?x=1",
            "http://fflow:4050/r1/#f",
            "ftp://fflow:4050/r1",
            "http://fflow:4050@evil/r1",
            "r1",
            "",
        ];
        for answer in cases {
            assert!(from_answer(answer, &name(1), &allowed()).is_err(), "{answer}");
        }
    }

    #[test]
    fn a_stored_address_of_another_generation_does_not_count() {
        let old = format!("http://fflow:4050/r1/{S}");
        assert!(from_stored(&old, &name(1), &allowed()).is_some());
        assert_eq!(from_stored(&old, &name(2), &allowed()), None);
        assert_eq!(from_stored("http://fflow:4050/r1/", &name(1), &allowed()), None);
        assert_eq!(from_stored(&format!("http://evil/{S}"), &name(1), &allowed()), None);
    }
}
