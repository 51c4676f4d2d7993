//! Reads a DASH manifest: what it refers to, and whether it is final.
//!
//! Knows what ffmpeg and its like write: SegmentTemplate by number or time, with a timeline or a constant duration;
//! SegmentList; a single file by BaseURL.

mod segments;
mod template;

use roxmltree::{Document, Node, ParsingOptions};

use self::segments::Timing;
use self::template::{Pattern, Template};
use super::place::MOST_FILES;

/// Elements of a manifest; a timeline that changes at each segment of the longest video stays below.
const MOST_NODES: u32 = 400_000;

/// The names that a manifest refers to, relative to itself; a reason if it is none, or not final yet.
pub(crate) fn read(bytes: &[u8]) -> Result<Vec<String>, String> {
    let text = std::str::from_utf8(bytes).map_err(|_| "is no text".to_owned())?;
    let options = ParsingOptions { nodes_limit: MOST_NODES, ..ParsingOptions::default() };
    let document =
        Document::parse_with_options(text, options).map_err(|error| format!("is no XML: {error}"))?;
    let mpd = document.root_element();
    if !mpd.has_tag_name_of("MPD") {
        return Err("is no MPD".to_owned());
    }
    if mpd.attribute("type") != Some("static") {
        return Err("is not static yet".to_owned());
    }
    let mut names = Vec::new();
    for period in mpd.named("Period") {
        let seconds = period_seconds(mpd, period)?;
        for set in period.named("AdaptationSet") {
            for representation in set.named("Representation") {
                representation_files([mpd, period, set, representation], seconds, &mut names)?;
            }
        }
    }
    if names.is_empty() { Err("refers to nothing".to_owned()) } else { Ok(names) }
}

/// The length of a period, if the manifest tells.
fn period_seconds(mpd: Node<'_, '_>, period: Node<'_, '_>) -> Result<Option<f64>, String> {
    let alone = mpd.named("Period").count() == 1;
    let whole = mpd.attribute("mediaPresentationDuration").filter(|_| alone);
    period.attribute("duration").or(whole).map(segments::seconds).transpose()
}

/// Adds what one representation refers to; `line` leads to it from the MPD.
fn representation_files(
    line: [Node<'_, '_>; 4],
    seconds: Option<f64>,
    names: &mut Vec<String>,
) -> Result<(), String> {
    let base: String =
        line.iter().filter_map(|node| base_url(*node)).fold(String::new(), |base, next| join(&base, next));
    let mut add = |name: String| {
        if names.len() >= MOST_FILES {
            return Err(format!("refers to more than {MOST_FILES} files"));
        }
        names.push(join(&base, &name));
        Ok(())
    };
    if let Some(template) = Template::of(&line) {
        return template_files(&template, &line[3], seconds, &mut add);
    }
    let list = line.iter().rev().find_map(|node| node.named("SegmentList").next());
    if let Some(list) = list {
        return list_files(list, &mut add);
    }
    if base.is_empty() || base.ends_with('/') {
        return Err("has a representation without media".to_owned());
    }
    names.push(base);
    Ok(())
}

fn template_files(
    template: &Template<'_, '_>,
    representation: &Node<'_, '_>,
    seconds: Option<f64>,
    add: &mut dyn FnMut(String) -> Result<(), String>,
) -> Result<(), String> {
    let pattern = |text: &str| Pattern::parse(text, representation);
    if let Some(initialization) = template.attribute("initialization") {
        add(pattern(initialization)?.fill(0, 0))?;
    }
    let media = template.attribute("media").ok_or("has a template without media")?;
    let media = pattern(media)?;
    segments::each(&Timing::of(template, seconds)?, |number, time| add(media.fill(number, time)))
}

fn list_files(list: Node<'_, '_>, add: &mut dyn FnMut(String) -> Result<(), String>) -> Result<(), String> {
    let initialization = list.named("Initialization").filter_map(|node| node.attribute("sourceURL"));
    let media = list.named("SegmentURL").filter_map(|node| node.attribute("media"));
    initialization.chain(media).try_for_each(|name| add(name.to_owned()))
}

fn base_url<'a>(node: Node<'a, '_>) -> Option<&'a str> {
    node.named("BaseURL").next().and_then(|base| base.text()).map(str::trim).filter(|text| !text.is_empty())
}

/// One relative name after another; whether the whole stays inside its folder is for the caller to judge.
fn join(base: &str, name: &str) -> String {
    let folder = base.rsplit_once('/').map_or("", |(folder, _)| folder);
    if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") }
}

/// Children by their local name, whatever prefix the namespace has.
trait Named<'a, 'input: 'a> {
    fn named(&self, name: &'static str) -> impl Iterator<Item = Node<'a, 'input>>;
    fn has_tag_name_of(&self, name: &str) -> bool;
}

impl<'a, 'input: 'a> Named<'a, 'input> for Node<'a, 'input> {
    fn named(&self, name: &'static str) -> impl Iterator<Item = Node<'a, 'input>> {
        self.children().filter(move |child| child.has_tag_name_of(name))
    }

    fn has_tag_name_of(&self, name: &str) -> bool {
        self.is_element() && self.tag_name().name() == name
    }
}

#[cfg(test)]
mod tests;
