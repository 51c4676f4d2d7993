//! The overview as text for people.

use std::fmt::{self, Display, Formatter};
use std::time::Duration;

use super::super::output::age;
use crate::gateways::upload_store::overview::{FflowReplica, Overview, Replica, Service};

impl Display for Overview {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if self.replicas.is_empty() {
            writeln!(f, "no replica of this service: `uploader-v4 serve` starts one")?;
        } else {
            let width = width("REPLICA", self.replicas.iter().map(|replica| replica.name.as_str()));
            writeln!(f, "{:<width$}  {:<18}  CONSUMING  FEEDS  {:>5}  ID", "REPLICA", "STATE", "UP")?;
            self.replicas.iter().try_for_each(|replica| write_replica(f, replica, width))?;
        }
        if self.fflow_replicas.is_empty() {
            writeln!(f, "\nno replica of fflow has been met yet")?;
        } else {
            let width = width("FFLOW", self.fflow_replicas.iter().map(|fflow| fflow.base_url.as_str()));
            writeln!(f, "\n{:<width$}  LAST SEEN  LAST PUSH  LAST FINISH", "FFLOW")?;
            self.fflow_replicas.iter().try_for_each(|fflow| write_fflow(f, fflow, width))?;
        }
        write_service(f, &self.service)
    }
}

fn width<'a>(title: &str, names: impl Iterator<Item = &'a str>) -> usize {
    names.map(|name| name.chars().count()).max().unwrap_or(0).max(title.len())
}

fn write_replica(f: &mut Formatter<'_>, replica: &Replica, width: usize) -> fmt::Result {
    let state = match replica.alive {
        true => format!("alive, lease {}", span(replica.lease_left_ms)),
        false => format!("dead for {}", span(-replica.lease_left_ms)),
    };
    let consuming = if replica.alive && replica.consuming { "yes" } else { "no" };
    writeln!(
        f,
        "{:<width$}  {state:<18}  {consuming:<9}  {:>5}  {:>5}  {}",
        replica.name,
        replica.feeds,
        span(replica.age_ms),
        replica.replica_id
    )
}

fn write_fflow(f: &mut Formatter<'_>, fflow: &FflowReplica, width: usize) -> fmt::Result {
    let ago = |time: Option<i64>| time.map_or_else(|| "-".to_owned(), |age| format!("{} ago", span(age)));
    writeln!(
        f,
        "{:<width$}  {:<9}  {:<9}  {}",
        fflow.base_url,
        ago(Some(fflow.last_seen_ms)),
        ago(fflow.last_push_ms),
        ago(fflow.last_finish_ms)
    )
}

fn write_service(f: &mut Formatter<'_>, service: &Service) -> fmt::Result {
    writeln!(f, "\nspool            {}", service.spool_id.as_deref().unwrap_or("none yet"))?;
    writeln!(f, "consuming since  {}", service.consuming_since.as_deref().unwrap_or("never"))?;
    writeln!(f, "schema version   {}", service.schema_version)?;
    write!(f, "unowned uploads  {}", service.unowned_sessions)
}

fn span(millis: i64) -> String {
    age(Duration::from_millis(u64::try_from(millis).unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn replica(name: &str, lease_left_ms: i64) -> Replica {
        Replica {
            replica_id: "0a".into(),
            name: name.into(),
            alive: lease_left_ms > 0,
            consuming: true,
            started_at: String::new(),
            age_ms: 7_300_000,
            lease_until: String::new(),
            lease_left_ms,
            feeds: 3,
        }
    }

    #[test]
    fn the_dead_are_told_from_the_living() {
        let fflow = FflowReplica {
            base_url: "http://f/r1".into(),
            last_seen: String::new(),
            last_seen_ms: 5_000,
            last_push_ok: None,
            last_push_ms: None,
            last_finish_ok: None,
            last_finish_ms: Some(600_000),
        };
        let service =
            Service { spool_id: None, consuming_since: None, schema_version: 1, unowned_sessions: 2 };
        let replicas = vec![replica("one", 14_000), replica("another", -40_000)];
        let text = Overview { service, replicas, fflow_replicas: vec![fflow] }.to_string();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[1], "one      alive, lease 14s    yes            3     2h  0a");
        assert_eq!(lines[2], "another  dead for 40s        no             3     2h  0a");
        assert_eq!(lines[5], "http://f/r1  5s ago     -          10m ago");
    }
}
