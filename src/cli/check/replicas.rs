//! The replicas: is anybody at work, and does anybody clean?

use super::report::Item;
use crate::config::Config;
use crate::gateways::upload_store::survey::Service;

pub(super) fn items(config: &Config, service: &Result<Service, String>) -> [Item; 2] {
    match service {
        Ok(service) => [replicas(service), janitor(config, service)],
        Err(why) => [Item::skipped("replicas", why), Item::skipped("janitor", why)],
    }
}

fn replicas(service: &Service) -> Item {
    const NAME: &str = "replicas";
    let found =
        format!("{} alive, {} of them consuming, {} dead", service.live, service.consuming, service.dead);
    match (service.live, service.consuming, service.unfinished) {
        (0, _, 0) => Item::ok(NAME, format!("{found}; nothing waits for one")),
        (0, _, waiting) => Item::warning(
            NAME,
            format!("{found}; {waiting} uploads wait for one"),
            "start a replica: `uploader-v4 serve`",
        ),
        (_, 0, _) => Item::warning(
            NAME,
            format!("{found}: no chunk is taken"),
            "ask each replica why: `uploader-v4 healthcheck`",
        ),
        (_, _, _) => {
            let since = service.consuming_since.as_deref().unwrap_or("now");
            Item::ok(NAME, format!("{found}; consuming without a gap since {since}"))
        }
    }
}

fn janitor(config: &Config, service: &Service) -> Item {
    let here = if config.janitor.enabled { "cleans here" } else { "does not clean here" };
    if service.overdue == 0 {
        return Item::ok("janitor", format!("{here}; nothing is overdue"));
    }
    Item::warning(
        "janitor",
        format!("{here}; {} ended sessions should have been removed by now: nobody cleans", service.overdue),
        "set SCHEDULER_CLEAR_UPLOAD_RESOURCES_ENABLED=true on one replica, or run `uploader-v4 janitor --once`",
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::cli::check::report::State;
    use crate::config::ConfigSources;

    fn service(live: i64, consuming: i64, unfinished: i64, overdue: i64) -> Service {
        Service {
            spool_id: None,
            consuming_since: None,
            live,
            consuming,
            dead: 0,
            unfinished,
            overdue,
            reserved: 0,
            stored: 0,
        }
    }

    #[test]
    fn uploads_that_wait_for_nobody_and_nobodys_janitor_are_warnings() {
        let state = |live, consuming, unfinished| replicas(&service(live, consuming, unfinished, 0)).state;
        assert_eq!(state(0, 0, 0), State::Ok);
        assert_eq!(state(0, 0, 1), State::Warning);
        assert_eq!(state(1, 0, 0), State::Warning);
        assert_eq!(state(1, 1, 5), State::Ok);
        let config = Config::load(ConfigSources::default()).unwrap().0;
        assert_eq!(janitor(&config, &service(1, 1, 0, 0)).state, State::Ok);
        assert_eq!(janitor(&config, &service(1, 1, 0, 3)).state, State::Warning);
    }
}
