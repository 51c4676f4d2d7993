//! The database: is it there, does it keep what it commits, has it the tables and the rights?

use std::time::Duration;

use migration::SchemaState;

use super::report::Item;
use super::shown;
use crate::config::Config;
use crate::gateways::upload_store::StoreError;
use crate::gateways::upload_store::pool;
use crate::gateways::upload_store::survey::{Lack, PgSurvey, Server, Service};

/// What was found, and the service's row for the items that need it, or why there is none.
pub(super) struct Seen {
    pub(super) items: Vec<Item>,
    pub(super) service: Result<Service, String>,
}

const UNREACHED: &str = "the database is not reached";

pub(super) async fn look(config: &Config) -> Seen {
    let opened = async {
        let survey = PgSurvey::new(pool::open(&config.database, 1).await?);
        let server = survey.server().await?;
        Ok((survey, server))
    };
    match opened.await {
        Ok((survey, server)) => inside(config, &survey, &server).await,
        Err(error) => unreached(config, &error),
    }
}

fn unreached(config: &Config, error: &StoreError) -> Seen {
    let mut items = vec![Item::wrong(
        "database",
        format!("{}: {error}", shown(&config.database)),
        "see that PostgreSQL runs and knows this database and user: DB_CONNECTION_STRING, DB_USERNAME, DB_PASSWORD",
    )];
    let rest = ["durability", "schema", "shared_tables", "rights"];
    items.extend(rest.map(|name| Item::skipped(name, UNREACHED)));
    Seen { items, service: Err(UNREACHED.to_owned()) }
}

async fn inside(config: &Config, survey: &PgSurvey, server: &Server) -> Seen {
    let state = survey.schema().await;
    let items = vec![
        database(config, server),
        durability(server),
        schema(config, server, &state),
        shared_tables(survey).await,
        rights(server, survey.lacks().await),
    ];
    let service = match state {
        Ok(state) if state.is_usable() => {
            survey.service(patience(config)).await.map_err(|error| error.to_string())
        }
        Ok(_) => Err("the schema uploader cannot be used yet".to_owned()),
        Err(error) => Err(error.to_string()),
    };
    Seen { items, service }
}

/// By when a janitor has removed an ended session, were it slow twice.
fn patience(config: &Config) -> Duration {
    config.janitor.tombstone_ttl + 2 * config.janitor.interval + Duration::from_secs(60)
}

fn database(config: &Config, server: &Server) -> Item {
    let found = format!("PostgreSQL {} at {}", server.version, shown(&config.database));
    if server.read_only {
        let mend = "set DB_CONNECTION_STRING to the primary, or take default_transaction_read_only away";
        return Item::wrong("database", format!("{found} takes no writes"), mend);
    }
    Item::ok("database", found)
}

/// What is answered `ack` must outlive any one process and, for those who want it, the machine.
fn durability(server: &Server) -> Item {
    let risks = [
        (server.synchronous_commit == "off", "synchronous_commit = off: a crash of PostgreSQL loses commits"),
        (!server.fsync, "fsync = off: a crash of the machine loses commits"),
        (!server.full_page_writes, "full_page_writes = off: a crash of the machine may damage pages"),
    ];
    let risks: Vec<&str> = risks.iter().filter(|(risk, _)| *risk).map(|(_, text)| *text).collect();
    if risks.is_empty() {
        let commit = &server.synchronous_commit;
        return Item::ok("durability", format!("fsync = on, synchronous_commit = {commit}"));
    }
    let mend =
        "set fsync, full_page_writes and synchronous_commit to on (ALTER SYSTEM, ALTER DATABASE, ALTER ROLE)";
    Item::warning("durability", format!("{}; chunks answered ack are among them", risks.join("; ")), mend)
}

fn schema(config: &Config, server: &Server, state: &Result<SchemaState, StoreError>) -> Item {
    let mend = if config.database.migrate {
        "run `uploader-v4 migrate`, or start a replica, which does so itself (UPLOADER_DATABASE_MIGRATE)"
    } else {
        "run `uploader-v4 migrate`"
    };
    // A starting replica mends it by itself where it may.
    let mendable = |found: String| match config.database.migrate {
        true => Item::warning("schema", found, mend),
        false => Item::wrong("schema", found, mend),
    };
    match state {
        Ok(SchemaState::Current) => Item::ok("schema", format!("version {}", migration::SCHEMA_VERSION)),
        Ok(SchemaState::Newer { found }) => {
            Item::ok("schema", format!("version {found}, one newer than this program's, which runs on it"))
        }
        Ok(SchemaState::Older { found }) => {
            mendable(format!("version {found} is older than this program's {}", migration::SCHEMA_VERSION))
        }
        Ok(SchemaState::Absent) if server.may_create => mendable("absent".to_owned()),
        Ok(SchemaState::Absent) => Item::wrong(
            "schema",
            format!("absent, and {} may not make it", server.user),
            format!(
                "run `uploader-v4 migrate` as a user who may, or GRANT CREATE ON DATABASE \"{}\" TO \"{}\"",
                server.database, server.user
            ),
        ),
        Ok(SchemaState::TooNew { found }) => Item::wrong(
            "schema",
            format!("version {found}, this program knows {} and one more", migration::SCHEMA_VERSION),
            "run a newer uploader-v4",
        ),
        Err(error) => {
            Item::wrong("schema", error.to_string(), "see the item rights; is the schema this service's?")
        }
    }
}

async fn shared_tables(survey: &PgSurvey) -> Item {
    const NAME: &str = "shared_tables";
    let seen = async { Ok::<_, StoreError>((survey.missing_tables().await?, survey.byte_columns().await?)) };
    match seen.await {
        Ok((missing, columns)) if missing.is_empty() => match columns.as_deref() {
            Some("bigint") => Item::ok(NAME, "all there"),
            _ => Item::ok(NAME, "all there; their byte columns are integer: files end at 2147483647 bytes"),
        },
        Ok((missing, _)) => Item::wrong(
            NAME,
            format!("absent: {}", missing.join(", ")),
            "start gateway, which makes them, or run `uploader-v4 migrate --shared-tables`",
        ),
        Err(error) => Item::wrong(NAME, error.to_string(), "see the item database"),
    }
}

fn rights(server: &Server, lacks: Result<Vec<Lack>, StoreError>) -> Item {
    match lacks {
        Ok(lacks) if lacks.is_empty() => {
            Item::ok("rights", format!("{} may read and write what is there", server.user))
        }
        Ok(lacks) => {
            let text = |lack: &Lack| format!("{} ON {}", lack.privileges, lack.object);
            let lacking: Vec<String> = lacks.iter().map(text).collect();
            let grant = |right: &String| format!("GRANT {right} TO \"{}\";", server.user);
            let grants: Vec<String> = lacking.iter().map(grant).collect();
            Item::wrong(
                "rights",
                format!("{} lacks {}", server.user, lacking.join(", ")),
                format!("as the owner: {}", grants.join(" ")),
            )
        }
        Err(error) => Item::wrong("rights", error.to_string(), "see the item database"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::cli::check::report::State;
    use crate::config::ConfigSources;

    fn server() -> Server {
        Server {
            version: "15".into(),
            database: "retube".into(),
            user: "uploader".into(),
            read_only: false,
            may_create: true,
            fsync: true,
            full_page_writes: true,
            synchronous_commit: "on".into(),
        }
    }

    fn config(migrate: &str) -> Config {
        let env = [("UPLOADER_DATABASE_MIGRATE".to_owned(), migrate.to_owned())].into();
        Config::load(ConfigSources { file: None, env }).unwrap().0
    }

    #[test]
    fn a_server_that_may_lose_commits_is_a_warning() {
        assert_eq!(durability(&server()).state, State::Ok);
        let lossy = durability(&Server { synchronous_commit: "off".into(), ..server() });
        assert_eq!(lossy.state, State::Warning);
        assert!(lossy.found.contains("synchronous_commit = off"), "{lossy:?}");
    }

    #[test]
    fn a_schema_is_wrong_only_where_no_starting_replica_would_make_it() {
        let item = |migrate, state| schema(&config(migrate), &server(), &Ok(state)).state;
        assert_eq!(item("true", SchemaState::Absent), State::Warning);
        assert_eq!(item("false", SchemaState::Absent), State::Wrong);
        assert_eq!(item("true", SchemaState::Older { found: 0 }), State::Warning);
        assert_eq!(item("false", SchemaState::Older { found: 0 }), State::Wrong);
        assert_eq!(item("true", SchemaState::Newer { found: 2 }), State::Ok);
        assert_eq!(item("true", SchemaState::TooNew { found: 3 }), State::Wrong);
        let stranger = Server { may_create: false, ..server() };
        let item = schema(&config("true"), &stranger, &Ok(SchemaState::Absent));
        assert!(item.state == State::Wrong && item.mend.unwrap().contains("GRANT CREATE"));
    }
}
