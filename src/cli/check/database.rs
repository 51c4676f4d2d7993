//! PostgreSQL: reachable, its promises, the schema, the shared tables.

use super::Item;
use crate::config::Config;
use crate::gateways::upload_store::overview::{Overview, OverviewStore, PgOverview};
use crate::gateways::upload_store::pool;

const DATABASE: &str = "database";
const SCHEMA: &str = "schema";
const SHARED: &str = "shared tables";
const REPLICAS: &str = "replicas";

/// What is found, and the overview where it can be read.
pub(super) async fn check(config: &Config) -> (Vec<Item>, Option<Overview>) {
    let db = match pool::open(&config.database, 1).await {
        Ok(db) => db,
        Err(error) => {
            let mend =
                "check DB_CONNECTION_STRING, DB_USERNAME and DB_PASSWORD, and that PostgreSQL runs there";
            let skipped = [SCHEMA, SHARED, REPLICAS].map(|name| Item::skipped(name, "no database"));
            let items = [Item::wrong(DATABASE, error.to_string(), mend)].into_iter().chain(skipped);
            return (items.collect(), None);
        }
    };
    let store = PgOverview::new(db.clone());
    let mut items = server(&store, config).await;
    let usable = match migration::check(&db).await {
        Ok(state) => {
            items.push(schema(state, config));
            state.is_usable()
        }
        Err(error) => {
            items.push(Item::wrong(SCHEMA, error.to_string(), "see what stands in schema uploader"));
            false
        }
    };
    items.push(shared_tables(migration::shared_tables_present(&db).await));
    if !usable {
        items.push(Item::skipped(REPLICAS, "no usable schema"));
        return (items, None);
    }
    match store.overview().await {
        Ok(overview) => {
            items.push(replicas(&overview));
            (items, Some(overview))
        }
        Err(error) => {
            items.push(Item::wrong(
                REPLICAS,
                error.to_string(),
                "grant this user the tables of schema uploader",
            ));
            (items, None)
        }
    }
}

fn shared_tables(missing: Result<Vec<&'static str>, impl std::fmt::Display>) -> Item {
    match missing {
        Ok(missing) if missing.is_empty() => Item::ok(SHARED, "videos, flows, upload_sessions"),
        Ok(missing) => {
            let mend =
                "gateway makes them when it starts; without one run `uploader-v4 migrate --shared-tables`";
            Item::wrong(SHARED, format!("absent: {}", missing.join(", ")), mend)
        }
        Err(error) => Item::wrong(SHARED, error.to_string(), "grant this user the right to see them"),
    }
}

async fn server(store: &PgOverview, config: &Config) -> Vec<Item> {
    let facts = match store.server().await {
        Ok(facts) => facts,
        Err(error) => return vec![Item::wrong(DATABASE, error.to_string(), "see PostgreSQL's log")],
    };
    let mut items = vec![Item::ok(DATABASE, format!("PostgreSQL {}", facts.version))];
    for (name, on) in [("fsync", facts.fsync), ("synchronous_commit", facts.synchronous_commit)] {
        if !on {
            let found =
                format!("{name} is off: a crash of PostgreSQL or its machine loses chunks that were acked");
            items.push(Item::warning(
                DATABASE,
                found,
                format!("set {name} = on where this database is kept"),
            ));
        }
    }
    if !facts.unwritable.is_empty() {
        let mend = "GRANT SELECT, UPDATE, DELETE on them to this user";
        items.push(Item::wrong(DATABASE, format!("no rights on {}", facts.unwritable.join(", ")), mend));
    }
    if config.database.migrate && !facts.may_create {
        let mend = "run `uploader-v4 migrate` as a user who may, and set UPLOADER_DATABASE_MIGRATE=false";
        items.push(Item::warning(DATABASE, "this user may not create schemas here", mend));
    }
    items
}

fn schema(state: migration::SchemaState, config: &Config) -> Item {
    use migration::SchemaState;
    let known = migration::SCHEMA_VERSION;
    let migrate = if config.database.migrate {
        "`serve` does that when it starts, or run `uploader-v4 migrate`"
    } else {
        "run `uploader-v4 migrate`"
    };
    match state {
        SchemaState::Current => Item::ok(SCHEMA, format!("version {known}")),
        SchemaState::Newer { found } => {
            Item::ok(SCHEMA, format!("version {found}, one newer than this program's {known}"))
        }
        // With its own migration switched on this is how a first start finds things.
        SchemaState::Absent if config.database.migrate => Item::warning(SCHEMA, "absent", migrate),
        SchemaState::Older { found } if config.database.migrate => {
            Item::warning(SCHEMA, format!("version {found}, this program needs {known}"), migrate)
        }
        SchemaState::Absent => Item::wrong(SCHEMA, "absent", migrate),
        SchemaState::Older { found } => {
            Item::wrong(SCHEMA, format!("version {found}, this program needs {known}"), migrate)
        }
        SchemaState::TooNew { found } => {
            let found = format!("version {found}: this program knows {known} and runs on at most one more");
            Item::wrong(SCHEMA, found, "run a newer release")
        }
    }
}

fn replicas(overview: &Overview) -> Item {
    let alive: Vec<&str> = overview
        .replicas
        .iter()
        .filter(|replica| replica.alive)
        .map(|replica| replica.name.as_str())
        .collect();
    let consuming = overview.replicas.iter().filter(|replica| replica.alive && replica.consuming).count();
    if alive.is_empty() {
        return Item::ok(REPLICAS, "none runs");
    }
    let found = format!("{} run ({}), {consuming} take chunks", alive.len(), alive.join(", "));
    if consuming == 0 {
        return Item::warning(REPLICAS, found, "look at their /readyz");
    }
    Item::ok(REPLICAS, found)
}
