//! The few statements that a stack needs of PostgreSQL: make, copy and remove whole databases.

use std::time::Duration;

use anyhow::Context;
use sea_orm::{ConnectOptions, ConnectionTrait, Database, DatabaseConnection, DbBackend, Statement};
use url::Url;

use crate::wait::retry_until;

/// How long a statement may wait for others to leave a database that it needs for itself.
const PATIENCE: Duration = Duration::from_secs(20);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The URL with another database's name.
pub(crate) fn url_of(admin_url: &str, name: &str) -> anyhow::Result<String> {
    let mut url = Url::parse(admin_url).context("a database URL that is no URL")?;
    url.set_path(&format!("/{name}"));
    Ok(url.into())
}

/// One connection, without logging of statements.
pub(crate) async fn connect(url: &str) -> anyhow::Result<DatabaseConnection> {
    let mut options = ConnectOptions::new(url);
    options.max_connections(1).connect_timeout(CONNECT_TIMEOUT).acquire_timeout(CONNECT_TIMEOUT);
    options.sqlx_logging(false);
    let connecting = tokio::time::timeout(CONNECT_TIMEOUT, Database::connect(options));
    connecting.await.context("no connection in time")?.context("cannot connect to PostgreSQL")
}

/// Runs one statement on a connection of its own.
pub(crate) async fn execute(url: &str, sql: &str) -> anyhow::Result<()> {
    let connection = connect(url).await?;
    let done = connection.execute_unprepared(sql).await;
    let closed = connection.close().await;
    done.with_context(|| sql.to_owned())?;
    closed.context("cannot close the connection")
}

/// Makes a database, as a copy of `template` when one is given. Waits while others use the template.
pub(crate) async fn create(admin_url: &str, name: &str, template: Option<&str>) -> anyhow::Result<()> {
    let template = template.map(|template| format!(" TEMPLATE {}", quoted(template))).unwrap_or_default();
    let sql = format!("CREATE DATABASE {}{template}", quoted(name));
    unless_in_use(admin_url, &sql).await
}

/// Removes a database and whoever is connected to it; an absent one is fine.
pub(crate) async fn remove(admin_url: &str, name: &str) -> anyhow::Result<()> {
    execute(admin_url, &format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", quoted(name))).await
}

/// Runs `sql` again while PostgreSQL says that the database is in use, which passes when others disconnect.
async fn unless_in_use(admin_url: &str, sql: &str) -> anyhow::Result<()> {
    let attempt = async || match execute(admin_url, sql).await {
        Err(error) if format!("{error:#}").contains("is being accessed by other users") => Err(error),
        done => Ok(done),
    };
    retry_until("nobody uses the database", PATIENCE, attempt).await?
}

/// Makes the database `name` once: the first caller makes it, under another name, and fills it by `fill`; all
/// others, also in other processes, wait for it. A failed `fill` leaves nothing behind.
pub(crate) async fn ensure<F>(admin_url: &str, name: &str, fill: F) -> anyhow::Result<()>
where
    F: AsyncFnOnce(String) -> anyhow::Result<()>,
{
    let connection = connect(admin_url).await?;
    let made = ensure_locked(&connection, admin_url, name, fill).await;
    // The lock belongs to the session and goes with it.
    let closed = connection.close().await;
    made?;
    closed.context("cannot close the connection")
}

async fn ensure_locked<F>(
    lock: &DatabaseConnection,
    admin_url: &str,
    name: &str,
    fill: F,
) -> anyhow::Result<()>
where
    F: AsyncFnOnce(String) -> anyhow::Result<()>,
{
    lock.execute_unprepared(&format!("SELECT pg_advisory_lock(hashtext({}))", literal(name))).await?;
    let known = format!("SELECT 1 FROM pg_database WHERE datname = {}", literal(name));
    if lock.query_one_raw(Statement::from_string(DbBackend::Postgres, known)).await?.is_some() {
        return Ok(());
    }
    let unfinished = format!("{name}_unfinished");
    remove(admin_url, &unfinished).await?;
    create(admin_url, &unfinished, None).await?;
    if let Err(error) = fill(url_of(admin_url, &unfinished)?).await {
        remove(admin_url, &unfinished).await?;
        return Err(error.context(format!("cannot fill the template {name}")));
    }
    unless_in_use(admin_url, &format!("ALTER DATABASE {} RENAME TO {}", quoted(&unfinished), quoted(name)))
        .await
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn a_url_gets_another_database() {
        let url = url_of("postgresql://postgres@127.0.0.1:20000/postgres", "t_1").unwrap();
        assert_eq!(url, "postgresql://postgres@127.0.0.1:20000/t_1");
    }

    #[test]
    fn names_are_quoted() {
        assert_eq!(quoted("a\"b"), "\"a\"\"b\"");
        assert_eq!(literal("it's"), "'it''s'");
    }
}
