//! `healthcheck`: is the replica on this host well?

use std::fmt;
use std::time::Duration;

use clap::Args;
use serde::Serialize;

use super::Outcome;
use super::output::Output;
use crate::config::Config;
use crate::http::probe::{self, Question};

/// Ask the replica on this host whether it is well; for containers.
///
/// Asks `/readyz` (or `/livez`) of the replica that listens on UPLOADER_HTTP_ADDR, on loopback if that means every
/// address. Ends with 0 when it answers 200, otherwise with 1 and the reasons on one line. Touches nothing else.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Healthcheck {
    /// Ask `/livez`: whether the process should be left running, whatever it waits for.
    #[arg(long)]
    live: bool,
    /// Longest wait for the answer, up to 60s.
    #[arg(long, default_value = "3s", value_name = "TIME", value_parser = short_time)]
    timeout: Duration,
    /// Ask this replica, by name or address, instead.
    #[arg(long, value_name = "HOST:PORT")]
    addr: Option<String>,
}

const EXAMPLES: &str = "\
Examples:
  HEALTHCHECK --interval=10s CMD [\"uploader-v4\", \"healthcheck\", \"--live\"]
  uploader-v4 healthcheck --addr uploader-2:8080 --timeout 1s --json";

fn short_time(text: &str) -> Result<Duration, String> {
    let time = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    let bounds = Duration::from_millis(1)..=Duration::from_secs(60);
    if bounds.contains(&time) { Ok(time) } else { Err("from 1ms to 60s".to_owned()) }
}

#[derive(Serialize)]
struct Health {
    well: bool,
    url: String,
    /// None when nobody answered.
    status: Option<u16>,
    reasons: Vec<String>,
}

impl fmt::Display for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = match (self.well, self.status) {
            (true, _) => "well".to_owned(),
            (false, Some(status)) => format!("not well, {} answers {status}", self.url),
            (false, None) => format!("not well, {} does not answer", self.url),
        };
        f.write_str(&word)?;
        if self.reasons.is_empty() { Ok(()) } else { write!(f, ": {}", self.reasons.join("; ")) }
    }
}

pub(super) async fn run(ask: &Healthcheck, config: &Config, output: Output) -> anyhow::Result<Outcome> {
    let configured = || probe::from_this_host(config.http.addr).to_string();
    let host = ask.addr.clone().unwrap_or_else(configured);
    let question = if ask.live { Question::Live } else { Question::Ready };
    let url = format!("http://{host}{}", question.path());
    let health = match probe::ask(&host, question, ask.timeout).await {
        Ok(said) => {
            Health { well: said.status == 200, url, status: Some(said.status), reasons: said.reasons }
        }
        Err(reason) => Health { well: false, url, status: None, reasons: vec![reason] },
    };
    output.print(&health)?;
    Ok(if health.well { Outcome::Done } else { Outcome::Unwell })
}
