//! Connections to PostgreSQL, each with its timeouts set by the server's side too.

use std::time::Duration;

use sea_orm::sqlx::postgres::{PgConnectOptions, PgConnection};
use sea_orm::sqlx::{self, ConnectOptions as _, Connection};
use sea_orm::{
    AccessMode, ConnectOptions, Database, DatabaseConnection, DatabaseTransaction, IsolationLevel,
    TransactionTrait,
};
use secrecy::ExposeSecret;
use url::Url;

use super::StoreError;
use crate::config::DatabaseConfig;
use crate::gateways::tls;

/// The server looks for a silent client after this many seconds, and gives it up three probes later.
const KEEPALIVE_SECONDS: &str = "15";

/// A connection that was used so shortly before is not asked again whether it lives: the question costs a round trip.
const TRUSTED_FOR: Duration = Duration::from_secs(1);

/// sea-orm writes the address that it is given into its trace spans; it gets none that means anything.
const NO_ADDRESS: &str = "postgresql://localhost";

/// Opens a pool of at most `connections`; the first one is tried at once.
pub async fn open(config: &DatabaseConfig, connections: u32) -> Result<DatabaseConnection, StoreError> {
    connect(config, connections, postgres(config)?).await
}

/// Settings of connections whose statements run all the time and find their rows by key: each is planned once. Left to
/// choose, the server plans a batch of a few rows anew each time, which costs more than to run it; and a plan that was made
/// while the tables were small would go through them until they are analyzed. What can only be read whole counts as
/// endlessly dear then, so it must not be compiled for that.
pub const PLANNED_ONCE: [(&str, &str); 5] = [
    ("plan_cache_mode", "force_generic_plan"),
    ("enable_seqscan", "off"),
    ("enable_hashjoin", "off"),
    ("enable_mergejoin", "off"),
    ("jit", "off"),
];

/// The same with [`PLANNED_ONCE`].
pub async fn open_planned_once(
    config: &DatabaseConfig,
    connections: u32,
) -> Result<DatabaseConnection, StoreError> {
    connect(config, connections, postgres(config)?.options(PLANNED_ONCE)).await
}

async fn connect(
    config: &DatabaseConfig,
    connections: u32,
    postgres: PgConnectOptions,
) -> Result<DatabaseConnection, StoreError> {
    let mut options = ConnectOptions::new(NO_ADDRESS);
    options
        .max_connections(connections)
        .min_connections(1)
        .connect_timeout(config.connect_timeout)
        .acquire_timeout(config.connect_timeout)
        .test_before_acquire_if_idle_for(TRUSTED_FOR);
    let real = postgres.clone();
    options.map_sqlx_postgres_opts(move |_| real.clone());
    let connect = async {
        knock(&postgres).await?;
        Ok(Database::connect(options).await?)
    };
    match tokio::time::timeout(config.connect_timeout + Duration::from_secs(1), connect).await {
        Ok(connected) => connected,
        Err(_) => Err(StoreError::Unavailable(format!("no connection within {:?}", config.connect_timeout))),
    }
}

/// Begins a transaction. Whoever no longer waits for it gives it up as a whole: a `BEGIN` that nobody waited for to its
/// end would leave one that sqlx does not know of, and what the next user of that connection wrote would be part of it,
/// and lost with it.
///
/// # Errors
/// As any statement.
pub async fn begin(db: &DatabaseConnection) -> Result<DatabaseTransaction, StoreError> {
    begin_with(db, None, None).await
}

/// The same, isolated and restricted so.
///
/// # Errors
/// As any statement.
pub async fn begin_with(
    db: &DatabaseConnection,
    isolation: Option<IsolationLevel>,
    access: Option<AccessMode>,
) -> Result<DatabaseTransaction, StoreError> {
    let db = db.clone();
    let begun = tokio::spawn(async move { db.begin_with_config(isolation, access).await });
    let ended = |error: tokio::task::JoinError| StoreError::Unavailable(error.to_string());
    Ok(begun.await.map_err(ended)??)
}

/// One connection before the pool: a pool waits out its deadline and then no longer knows why it got none.
async fn knock(postgres: &PgConnectOptions) -> Result<(), StoreError> {
    let connection = PgConnection::connect_with(postgres).await.map_err(unavailable)?;
    connection.close().await.map_err(unavailable)
}

fn unavailable(error: sqlx::Error) -> StoreError {
    StoreError::Unavailable(tls::explained(error.to_string()))
}

/// How each connection is opened. The address decides how far the server is checked (`sslmode`), and its own
/// `sslrootcert` comes first.
fn postgres(config: &DatabaseConfig) -> Result<PgConnectOptions, StoreError> {
    let address = config.url.expose_secret();
    let postgres: PgConnectOptions = address.parse().map_err(unavailable)?;
    let postgres = postgres
        .disable_statement_logging()
        .application_name("uploader-v4")
        .options(server_side(config).iter().map(|(name, value)| (name, value)));
    let own = Url::parse(address).is_ok_and(|url| url.query_pairs().any(|(name, _)| name == "sslrootcert"));
    Ok(match config.trust.pem().filter(|_| !own) {
        Some(pem) => postgres.ssl_root_cert_from_pem(pem.to_vec()),
        None => postgres,
    })
}

fn server_side(config: &DatabaseConfig) -> Vec<(&'static str, String)> {
    let millis = |span: Duration| span.as_millis().to_string();
    vec![
        ("statement_timeout", millis(config.statement_timeout)),
        ("lock_timeout", millis(config.lock_timeout)),
        ("idle_in_transaction_session_timeout", millis(config.idle_in_transaction_timeout)),
        ("tcp_keepalives_idle", KEEPALIVE_SECONDS.to_owned()),
        ("tcp_keepalives_interval", "5".to_owned()),
        ("tcp_keepalives_count", "3".to_owned()),
    ]
}
