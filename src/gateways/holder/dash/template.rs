//! SegmentTemplate: attributes that may stand at three levels, and names with `$Number%05d$` in them.

use roxmltree::Node;

use super::Named;

/// The templates on the way from the period to a representation; the innermost attribute counts.
pub(super) struct Template<'a, 'input>(Vec<Node<'a, 'input>>);

impl<'a, 'input> Template<'a, 'input> {
    /// The template of the last of `line`, if there is one.
    pub(super) fn of(line: &[Node<'a, 'input>]) -> Option<Self> {
        let inner_first = line.iter().rev().filter_map(|node| node.named("SegmentTemplate").next());
        let nodes: Vec<_> = inner_first.collect();
        (!nodes.is_empty()).then_some(Template(nodes))
    }

    pub(super) fn attribute(&self, name: &str) -> Option<&'a str> {
        self.0.iter().find_map(|node| node.attribute(name))
    }

    /// An attribute that is a whole number.
    pub(super) fn number(&self, name: &str) -> Result<Option<u64>, String> {
        let text = self.attribute(name);
        text.map(|text| text.parse().map_err(|_| format!("has {name}={text:?}"))).transpose()
    }

    /// The innermost timeline.
    pub(super) fn timeline(&self) -> Option<Node<'a, 'input>> {
        self.0.iter().find_map(|node| node.named("SegmentTimeline").next())
    }
}

/// A name with places to fill.
pub(super) struct Pattern(Vec<Part>);

enum Part {
    Text(String),
    Number(usize),
    Time(usize),
}

/// Digits that a place may be padded to.
const WIDEST: usize = 20;

impl Pattern {
    /// Reads a template's name; what the representation alone decides is filled in at once.
    pub(super) fn parse(text: &str, representation: &Node<'_, '_>) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut pieces = text.split('$');
        parts.extend(pieces.next().map(|first| Part::Text(first.to_owned())));
        while let Some(place) = pieces.next() {
            let after = pieces.next().ok_or_else(|| format!("has an odd template {text:?}"))?;
            parts.push(part(place, representation)?);
            parts.push(Part::Text(after.to_owned()));
        }
        Ok(Pattern(parts))
    }

    /// The name of the segment with this number and time.
    pub(super) fn fill(&self, number: u64, time: u64) -> String {
        let mut name = String::new();
        for part in &self.0 {
            match part {
                Part::Text(text) => name.push_str(text),
                Part::Number(width) => name.push_str(&format!("{number:0width$}")),
                Part::Time(width) => name.push_str(&format!("{time:0width$}")),
            }
        }
        name
    }
}

fn part(place: &str, representation: &Node<'_, '_>) -> Result<Part, String> {
    let (identifier, format) = place.split_once('%').unwrap_or((place, "0d"));
    let unknown = || format!("has an unknown place {place:?} in its template");
    let width: usize = format.strip_suffix('d').and_then(|width| width.parse().ok()).ok_or_else(unknown)?;
    if width > WIDEST {
        return Err(unknown());
    }
    match identifier {
        "" => Ok(Part::Text("$".to_owned())),
        "Number" => Ok(Part::Number(width)),
        "Time" => Ok(Part::Time(width)),
        "RepresentationID" => Ok(Part::Text(representation.attribute("id").unwrap_or_default().to_owned())),
        "Bandwidth" => {
            Ok(Part::Text(padded(representation.attribute("bandwidth").unwrap_or_default(), width)))
        }
        _ => Err(unknown()),
    }
}

fn padded(digits: &str, width: usize) -> String {
    format!("{digits:0>width$}")
}
