//! Connections to PostgreSQL, each with its timeouts set by the server's side too.

use std::time::Duration;

use sea_orm::sqlx::postgres::{PgConnectOptions, PgConnection};
use sea_orm::sqlx::{self, Connection};
use sea_orm::{ConnectOptions, Database, DatabaseConnection};
use secrecy::ExposeSecret;
use url::Url;

use super::StoreError;
use crate::config::DatabaseConfig;
use crate::gateways::tls;

/// The server looks for a silent client after this many seconds, and gives it up three probes later.
const KEEPALIVE_SECONDS: &str = "15";

/// Opens a pool of at most `connections`; the first one is tried at once.
pub async fn open(config: &DatabaseConfig, connections: u32) -> Result<DatabaseConnection, StoreError> {
    let mut options = ConnectOptions::new(config.url.expose_secret().to_owned());
    options
        .max_connections(connections)
        .min_connections(1)
        .connect_timeout(config.connect_timeout)
        .acquire_timeout(config.connect_timeout)
        .sqlx_logging(false);
    let server_side = server_side(config);
    let trusted = config.clone();
    options.map_sqlx_postgres_opts(move |postgres| {
        trusting(postgres, &trusted)
            .application_name("uploader-v4")
            .options(server_side.iter().map(|(name, value)| (name, value)))
    });
    let connect = async {
        knock(config).await?;
        Ok(Database::connect(options).await?)
    };
    match tokio::time::timeout(config.connect_timeout + Duration::from_secs(1), connect).await {
        Ok(connected) => connected,
        Err(_) => Err(StoreError::Unavailable(format!("no connection within {:?}", config.connect_timeout))),
    }
}

/// One connection before the pool: a pool waits out its deadline and then no longer knows why it got none.
async fn knock(config: &DatabaseConfig) -> Result<(), StoreError> {
    let refused = |error: sqlx::Error| StoreError::Unavailable(tls::explained(error.to_string()));
    let options: PgConnectOptions = config.url.expose_secret().parse().map_err(refused)?;
    let connection = PgConnection::connect_with(&trusting(options, config)).await.map_err(refused)?;
    connection.close().await.map_err(refused)
}

/// The address decides how far the server is checked (`sslmode`); its own `sslrootcert` comes first.
fn trusting(options: PgConnectOptions, config: &DatabaseConfig) -> PgConnectOptions {
    let own = Url::parse(config.url.expose_secret())
        .is_ok_and(|url| url.query_pairs().any(|(name, _)| name == "sslrootcert"));
    match config.trust.pem().filter(|_| !own) {
        Some(pem) => options.ssl_root_cert_from_pem(pem.to_vec()),
        None => options,
    }
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
