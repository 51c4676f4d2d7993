//! Redis, fflow and holder: do they answer?

use super::report::Item;
use super::shown;
use crate::config::Config;
use crate::gateways::fflow::AwcFflow;
use crate::gateways::holder::AwcHolder;
use crate::gateways::route_store::{RedisRoutes, RouteStore};

/// A balancer with nobody behind it.
const NOBODY: [u16; 3] = [502, 503, 504];

pub(super) async fn redis(config: &Config) -> Item {
    const NAME: &str = "redis";
    let address = shown(&config.redis);
    let routes = match RedisRoutes::new(&config.redis) {
        Ok(routes) => routes,
        Err(error) => return Item::wrong(NAME, error.to_string(), "correct FFLOW_CACHE_URL"),
    };
    match routes.ping().await {
        Ok(()) => Item::ok(NAME, format!("answers at {address}")),
        Err(error) => Item::warning(
            NAME,
            format!("{address}: {error}; routes are read from the database meanwhile"),
            "see that Redis runs there: FFLOW_CACHE_HOST, FFLOW_CACHE_PORT, FFLOW_CACHE_DB, or FFLOW_CACHE_URL",
        ),
    }
}

pub(super) async fn fflow(config: &Config) -> Item {
    let base = &config.fflow.base_url;
    let answer = AwcFflow::new(config.fflow.clone(), 1).knock().await;
    let mend =
        "see that fflow runs there, or set FFLOW_BASE_URL; uploads are stored meanwhile, no video is made";
    let allowed: Vec<String> = config.fflow.allowed.iter().map(ToString::to_string).collect();
    let ok = |status| {
        format!(
            "{base} answers ({status}); flows may live at {} (UPLOADER_FFLOW_ALLOWED)",
            allowed.join(", ")
        )
    };
    answered("fflow", base.as_str(), answer.map_err(|error| error.to_string()), ok, mend)
}

pub(super) async fn holder(config: &Config) -> Item {
    let (Some(base), Some(holder)) = (&config.holder.base_url, AwcHolder::new(&config.holder)) else {
        return Item::warning(
            "holder",
            "no address is set: fflow's word is believed when it reports a finish",
            "set UPLOADER_HOLDER_BASE_URL, so that a video is DISTRIBUTED only when its files were seen",
        );
    };
    let mend =
        "see that holder runs there, or set UPLOADER_HOLDER_BASE_URL; no video is DISTRIBUTED meanwhile";
    let ok = |status| format!("{base} answers ({status})");
    answered("holder", base.as_str(), holder.knock().await, ok, mend)
}

/// Any answer will do, but a balancer's own.
fn answered(
    name: &'static str,
    base: &str,
    answer: Result<u16, String>,
    ok: impl Fn(u16) -> String,
    mend: &str,
) -> Item {
    match answer {
        Ok(status) if NOBODY.contains(&status) => {
            Item::wrong(name, format!("{base} answers {status}: nobody is behind the balancer"), mend)
        }
        Ok(status) => Item::ok(name, ok(status)),
        Err(error) => Item::wrong(name, format!("{base}: {error}"), mend),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::check::report::State;

    #[test]
    fn any_answer_but_a_balancers_own_will_do() {
        let state = |answer| answered("fflow", "http://f", answer, |_| String::new(), "mend").state;
        assert_eq!(state(Ok(200)), State::Ok);
        assert_eq!(state(Ok(404)), State::Ok);
        assert_eq!(state(Ok(502)), State::Wrong);
        assert_eq!(state(Err("refused".into())), State::Wrong);
    }
}
