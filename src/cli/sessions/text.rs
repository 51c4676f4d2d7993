//! Sessions as text for people.

use std::fmt::{self, Display, Formatter};
use std::time::Duration;

use indicatif::HumanBytes;

use super::super::output::age;
use super::{Intervention, Listed, Shown, Unknown};
use crate::gateways::spool::FolderSize;
use crate::gateways::upload_store::desk::{SessionDetail, SessionLine};

/// The longest reason in a list.
const REASON: usize = 60;

impl Display for Listed {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if self.sessions.is_empty() {
            return write!(f, "no sessions");
        }
        write!(
            f,
            "{:<36}  {:<7}  {:>26}  {:>4}  {:>7}  {:<16}  {:>3}  {:>7}  LAST ERROR",
            "SESSION", "STATE", "STORED", "%", "IDLE", "OWNER", "GEN", "STRIKES"
        )?;
        self.sessions.iter().try_for_each(|line| write_line(f, line))
    }
}

fn write_line(f: &mut Formatter<'_>, line: &SessionLine) -> fmt::Result {
    let stored = format!("{} of {}", bytes(line.committed), bytes(line.total_bytes));
    let reason: String = one_line(line.last_error.as_deref().unwrap_or("-")).take(REASON).collect();
    write!(
        f,
        "\n{:<36}  {:<7}  {stored:>26}  {:>4}  {:>7}  {:<16}  {:>3}  {:>7}  {reason}",
        line.session_id,
        line.state,
        percent(line),
        age_of(line.idle_seconds),
        line.owner.as_deref().unwrap_or("-"),
        line.generation,
        line.strikes,
    )
}

/// What others said may hold line breaks and worse.
fn one_line(text: &str) -> impl Iterator<Item = char> + '_ {
    text.chars().map(|c| if c.is_control() { ' ' } else { c })
}

fn percent(line: &SessionLine) -> String {
    if line.total_bytes == 0 {
        return "-".to_owned();
    }
    format!("{}%", line.committed.saturating_mul(100) / line.total_bytes)
}

fn bytes(count: i64) -> HumanBytes {
    HumanBytes(u64::try_from(count).unwrap_or(0))
}

fn age_of(seconds: f64) -> String {
    age(Duration::try_from_secs_f64(seconds).unwrap_or_default())
}

impl Display for Unknown {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "refused: session {}: {}", self.session_id, self.refused)
    }
}

impl Display for Shown {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Shown { detail, spool_folder } = self;
        let line = &detail.line;
        writeln!(f, "session        {}", line.session_id)?;
        writeln!(f, "state          {}", line.state)?;
        writeln!(f, "stored         {} of {} bytes ({})", line.committed, line.total_bytes, percent(line))?;
        writeln!(f, "last activity  {} ({} ago)", line.last_activity, age_of(line.idle_seconds))?;
        writeln!(f, "video          {} {}", text(&line.video_id), text(&detail.video_status))?;
        writeln!(f, "flow           {} {}", text(&detail.flow_id), text(&detail.flow_status))?;
        match detail.uploaded_bytes {
            Some(uploaded) => writeln!(f, "upload         {uploaded} bytes in upload_sessions")?,
            None => writeln!(f, "upload         no row in upload_sessions")?,
        }
        detail.write_feed(f)?;
        writeln!(
            f,
            "spool          {} runs in {} files; {}",
            detail.runs,
            detail.writers,
            folder(spool_folder)
        )?;
        if !detail.strays.is_empty() {
            writeln!(f, "strays         {}", detail.strays.join(" "))?;
        }
        detail.write_times(f)?;
        if let Some(error) = &line.last_error {
            writeln!(f, "last error     {}", one_line(error).collect::<String>())?;
        }
        write!(f, "\n{}", detail.advice())
    }
}

/// Records have headers, and appends that were never committed count too: more than the committed bytes is normal.
fn folder(size: &Option<FolderSize>) -> String {
    match size {
        Some(size) => format!("its folder holds {} bytes in {} files", size.bytes, size.files),
        None => "no folder of it is seen from here".to_owned(),
    }
}

impl SessionDetail {
    fn write_feed(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let lease = self.owner_lease_seconds.map_or(String::new(), |left| {
            if left >= 0.0 {
                format!(", lease for {} more", age_of(left))
            } else {
                format!(", lease over since {}", age_of(-left))
            }
        });
        writeln!(f, "owner          {}{lease} (epoch {})", text(&self.line.owner), self.epoch)?;
        writeln!(f, "process        generation {} at {}", self.line.generation, text(&self.flow_url))?;
        writeln!(
            f,
            "fed            {} at the last release, settled: {}, farthest {}",
            self.fed, self.settled, self.farthest
        )?;
        writeln!(f, "strikes        {}", self.line.strikes)
    }

    fn write_times(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let times = [
            ("failing since", &self.failing_since),
            ("next attempt", &self.next_attempt_at),
            ("finish sent", &self.finish_sent_at),
            ("ended", &self.ended_at),
            ("cleaned", &self.cleaned_at),
            ("bytes given up", &self.spool_gone_at),
        ];
        for (name, time) in times {
            if let Some(time) = time {
                writeln!(f, "{name:<14} {time}")?;
            }
        }
        Ok(())
    }

    /// What it waits for, and what can be done.
    fn advice(&self) -> String {
        let id = &self.line.session_id;
        match self.line.state.as_str() {
            "OPEN" => {
                "It waits for its client's next chunk. Without one for VIDEO_TTL the janitor removes it."
                    .to_owned()
            }
            "SEALED" if self.finish_sent_at.is_some() => {
                "All bytes are stored and fed; its files are being written, or awaited on holder.".to_owned()
            }
            "SEALED" => {
                "All bytes are stored; they are being fed, or wait for a replica or for fflow.".to_owned()
            }
            "FAILED" if self.spool_gone_at.is_some() => {
                "It failed and its bytes were given up: the file must be uploaded again.".to_owned()
            }
            "FAILED" if self.line.committed < self.line.total_bytes => {
                "It failed before all bytes were here: the file must be uploaded again.".to_owned()
            }
            "FAILED" => format!(
                "It failed; its bytes are kept for VIDEO_TTL after that. `uploader-v4 sessions retry {id}` feeds them again."
            ),
            "DONE" => "It plays. The row is kept for a while to answer late duplicates.".to_owned(),
            _ => "It is over; late chunks are refused with the last error as their reason.".to_owned(),
        }
    }
}

fn text(value: &Option<String>) -> &str {
    value.as_deref().unwrap_or("-")
}

impl Display for Intervention {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if let Some(reason) = &self.refused {
            return write!(f, "refused: session {}: {reason}", self.session_id);
        }
        let Some(change) = &self.change else { return Ok(()) };
        let before = change.before.as_deref().unwrap_or("not begun");
        write!(f, "session {}: {before} -> {}", self.session_id, change.after)?;
        if let Some(status) = &change.video_status {
            write!(f, "\nvideo {}: {status}", text(&change.video_id))?;
        }
        if self.action == "retry" && change.video_status.as_deref() == Some("BLOCKED") {
            write!(f, " still, for another of its flows is HIDDEN: `sessions ls --video` tells which")?;
        }
        if self.action == "expire" {
            write!(
                f,
                "\nthe janitor removes its route and bytes at its next run, or `uploader-v4 janitor --once`;"
            )?;
            write!(f, "\na running replica ends its process within a minute")?;
        }
        if change.finish_sent {
            write!(f, "\nits finish was asked for before: files may still appear on holder")?;
        }
        self.waited.iter().try_for_each(|watched| write!(f, "\n{watched}"))
    }
}
