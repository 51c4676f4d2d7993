//! `healthcheck`: is the replica on this host well?

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use clap::Args;
use serde::Serialize;

use super::Outcome;
use super::output::Output;
use crate::config::Config;
use crate::http::probe::probe;

/// Ask the replica on this host whether it is well; for containers.
///
/// Asks /readyz at UPLOADER_HTTP_ADDR: exit code 0 while chunks can be taken, 1 with the reasons otherwise.
#[derive(Args, Debug)]
pub struct Healthcheck {
    /// Ask /livez instead: whether its actors live, ready or not.
    #[arg(long)]
    live: bool,
    /// Longest wait for the answer.
    #[arg(long, default_value = "3s", value_parser = humantime::parse_duration)]
    timeout: Duration,
    /// Ask there instead of at UPLOADER_HTTP_ADDR.
    #[arg(long)]
    addr: Option<SocketAddr>,
}

#[derive(Serialize)]
struct Health {
    well: bool,
    address: String,
    answer: String,
}

impl fmt::Display for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = if self.well { "well" } else { "not well" };
        write!(f, "{word}: {} says {}", self.address, self.answer)
    }
}

pub(super) async fn run(ask: &Healthcheck, config: &Config, output: Output) -> anyhow::Result<Outcome> {
    let path = if ask.live { "/livez" } else { "/readyz" };
    let address = format!("http://{}{path}", reachable(ask.addr.unwrap_or(config.http.addr)));
    let (well, answer) = match probe(&address, ask.timeout).await {
        Ok(probed) => (probed.status == 200, format!("{} {}", probed.status, probed.body.trim())),
        Err(why) => (false, format!("nothing: {why}")),
    };
    output.print(&Health { well, address, answer })?;
    Ok(if well { Outcome::Done } else { Outcome::Unwell })
}

/// A server that listens everywhere is asked on the loopback.
fn reachable(listens: SocketAddr) -> SocketAddr {
    let ip = match listens.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, listens.port())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_listens_everywhere_is_asked_here() {
        for (listens, asked) in
            [("0.0.0.0:1", "127.0.0.1:1"), ("[::]:2", "[::1]:2"), ("10.0.0.1:3", "10.0.0.1:3")]
        {
            assert_eq!(reachable(listens.parse().unwrap()), asked.parse().unwrap());
        }
    }
}
