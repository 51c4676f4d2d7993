//! Which segments a template stands for: numbers and times, from a timeline or from a constant duration.

use roxmltree::Node;

use super::super::place::MOST_FILES;
use super::Named;
use super::template::Template;

/// What a template says about its segments.
pub(super) struct Timing {
    first: u64,
    plan: Plan,
}

enum Plan {
    /// Runs of equal segments: start, duration, how many.
    Runs(Vec<(u64, u64, u64)>),
    /// So many of this duration.
    Constant { duration: u64, count: u64 },
}

impl Timing {
    /// Reads a template in a period of `seconds`.
    pub(super) fn of(template: &Template<'_, '_>, seconds: Option<f64>) -> Result<Self, String> {
        let first = template.number("startNumber")?.unwrap_or(1);
        let timescale = template.number("timescale")?.unwrap_or(1).max(1);
        let ticks = seconds.map(|seconds| seconds * timescale as f64);
        let offset = template.number("presentationTimeOffset")?.unwrap_or(0);
        let plan = match template.timeline() {
            Some(timeline) => {
                Plan::Runs(runs(timeline, ticks.map(|ticks| (ticks.ceil() as u64).saturating_add(offset)))?)
            }
            None => constant(template, first, ticks)?,
        };
        Ok(Timing { first, plan })
    }
}

/// Calls `visit` with the number and time of each segment until it refuses.
pub(super) fn each(
    timing: &Timing,
    mut visit: impl FnMut(u64, u64) -> Result<(), String>,
) -> Result<(), String> {
    let mut number = timing.first;
    let mut run = |start: u64, duration: u64, count: u64| {
        (0..count).try_for_each(|index| {
            let time = start.saturating_add(index.saturating_mul(duration));
            visit(number, time)?;
            number = number.saturating_add(1);
            Ok(())
        })
    };
    match &timing.plan {
        Plan::Runs(runs) => runs.iter().try_for_each(|&(start, duration, count)| run(start, duration, count)),
        Plan::Constant { duration, count } => run(0, *duration, *count),
    }
}

fn constant(template: &Template<'_, '_>, first: u64, ticks: Option<f64>) -> Result<Plan, String> {
    let duration = template.number("duration")?.filter(|duration| *duration > 0);
    let last = template.number("endNumber")?;
    let by_number = last.map(|last| last.saturating_add(1).saturating_sub(first));
    // A rounding error must not ask for one segment more than there is.
    let by_time = duration.zip(ticks).map(|(duration, ticks)| (ticks / duration as f64 - 1e-6).ceil() as u64);
    match by_number.or(by_time) {
        Some(count) if count > 0 => Ok(Plan::Constant { duration: duration.unwrap_or(0), count }),
        _ => Err("has a template that does not tell how many segments there are".to_owned()),
    }
}

fn runs(timeline: Node<'_, '_>, end: Option<u64>) -> Result<Vec<(u64, u64, u64)>, String> {
    let entries: Vec<_> = timeline.named("S").collect();
    let mut runs = Vec::new();
    let (mut time, mut total) = (0u64, 0u64);
    for (index, entry) in entries.iter().enumerate() {
        let start = number(entry, "t")?.unwrap_or(time);
        let duration =
            number(entry, "d")?.filter(|duration| *duration > 0).ok_or("has a segment without duration")?;
        let next = entries.get(index + 1).map_or(Ok(None), |next| number(next, "t"))?;
        let count = match entry.attribute("r").unwrap_or("0").parse::<i64>() {
            Ok(repeat) if repeat >= 0 => repeat.unsigned_abs() + 1,
            // Repeated until the next entry, or the end of the period.
            Ok(_) => until(start, duration, next.or(end).ok_or("has a timeline without an end")?),
            Err(_) => return Err("has an odd timeline".to_owned()),
        };
        total = total.saturating_add(count);
        if total > MOST_FILES as u64 {
            return Err(format!("refers to more than {MOST_FILES} files"));
        }
        runs.push((start, duration, count));
        time = start.saturating_add(count.saturating_mul(duration));
    }
    if total == 0 { Err("has an empty timeline".to_owned()) } else { Ok(runs) }
}

fn until(start: u64, duration: u64, end: u64) -> u64 {
    end.saturating_sub(start).div_ceil(duration)
}

fn number(entry: &Node<'_, '_>, name: &str) -> Result<Option<u64>, String> {
    let text = entry.attribute(name);
    text.map(|text| text.parse().map_err(|_| format!("has a segment with {name}={text:?}"))).transpose()
}

/// Reads a duration such as `PT1H2M3.5S`, in seconds. Years and months, whose length varies, are refused.
pub(super) fn seconds(text: &str) -> Result<f64, String> {
    let odd = || format!("has an odd duration {text:?}");
    let (days, time) = text.strip_prefix('P').ok_or_else(odd)?.split_once('T').ok_or_else(odd)?;
    let mut total = if days.is_empty() { 0.0 } else { amount(days, 'D').ok_or_else(odd)? * 86_400.0 };
    let mut rest = time;
    for (unit, scale) in [('H', 3600.0), ('M', 60.0), ('S', 1.0)] {
        if let Some((digits, after)) = rest.split_once(unit) {
            total += digits.parse::<f64>().map_err(|_| odd())? * scale;
            rest = after;
        }
    }
    if rest.is_empty() && total.is_finite() && total >= 0.0 { Ok(total) } else { Err(odd()) }
}

fn amount(text: &str, unit: char) -> Option<f64> {
    text.strip_suffix(unit)?.parse().ok()
}
