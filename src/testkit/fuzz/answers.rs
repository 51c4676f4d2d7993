//! What fflow, or whoever answers in its place, says.

use uuid::Uuid;

use crate::domain::ids::{FlowName, Generation, SessionId};
use crate::domain::route::{self, AllowList, FlowUrl};
use crate::gateways::fflow::answer::{self, Body, MESSAGE_CHARS};

const ORIGINS: [&str; 2] = ["http://fflow:4050", "https://farm.example"];

/// Input: one byte for the generation (below 128 the body was read whole), then the body of an answer.
pub fn answers(data: &[u8]) {
    let Some((first, body)) = data.split_first() else { return };
    is_a_message(&answer::message(body));
    let name = Generation(i32::from(first & 0x7f)).name(SessionId(Uuid::from_u128(7)));
    let allowed = AllowList::new(ORIGINS);
    let text = String::from_utf8_lossy(body);
    if let Some(url) = route::from_stored(&text, &name, &allowed) {
        leads_where_it_may(&url, &name, &allowed);
    }
    match answer::flow_url(&Body { bytes: body.to_vec(), whole: *first < 128 }) {
        Ok(address) => {
            assert!(*first < 128, "half an answer counts");
            if let Ok(url) = route::from_answer(&address, &name, &allowed) {
                leads_where_it_may(&url, &name, &allowed);
            }
        }
        Err(reason) => assert!(reason.chars().count() <= MESSAGE_CHARS + 100, "{reason}"),
    }
    // An address alone, which no mutation has to wrap into JSON.
    if let Ok(url) = route::from_answer(&text, &name, &allowed) {
        leads_where_it_may(&url, &name, &allowed);
    }
}

fn is_a_message(message: &str) {
    assert!(message.chars().count() <= MESSAGE_CHARS, "{message}");
    assert!(!message.contains(char::is_control), "{message:?}");
}

/// Judged by its text alone, without a parser of URLs.
fn leads_where_it_may(url: &FlowUrl, name: &FlowName, allowed: &AllowList) {
    let text = url.as_str();
    let after_origin = ORIGINS.iter().find_map(|origin| text.strip_prefix(origin));
    assert!(after_origin.is_some_and(|path| path.starts_with('/')), "{text} is at no allowed origin");
    assert!(text.ends_with(&format!("/{name}")), "{text} is not the address of {name}");
    assert!(
        !text.contains(['?', '#', '\\']) && !text.contains(|c: char| c.is_whitespace() || c.is_control())
    );
    assert!(url.call("push").ends_with(&format!("/{name}/push")) && text.starts_with(url.replica()));
    assert_eq!(route::from_stored(text, name, allowed).as_ref(), Some(url), "it would not be known again");
    assert_eq!(
        route::from_answer(text, name, allowed).as_ref(),
        Ok(url),
        "it means something else when answered"
    );
}
