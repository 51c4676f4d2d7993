//! Passwords stay where they belong: in no log line of any level, no answer and no output of a command.

use devstack::Process;

use crate::world::{SOON, World};

/// Each with signs that must be encoded in an address, and the encoded form.
const AMQP: (&str, &str) = ("amqp/Sesame#1", "amqp%2FSesame%231");
const DATABASE: (&str, &str) = ("db/Sesame#2", "db%2FSesame%232");
const REDIS: (&str, &str) = ("redis/Sesame#3", "redis%2FSesame%233");

fn assert_silent(text: &str, where_from: &str) {
    for secret in [AMQP.0, AMQP.1, DATABASE.0, DATABASE.1, REDIS.0, REDIS.1, "Sesame"] {
        let line = text.lines().find(|line| line.contains(secret));
        assert!(line.is_none(), "{secret} is in {where_from}: {}", line.unwrap_or_default());
    }
}

/// Everything that a process wrote, of any length.
fn output(process: &Process) -> String {
    let path = process.log_path().unwrap();
    String::from_utf8_lossy(&std::fs::read(path).unwrap()).into_owned()
}

fn with_password(url: &str, user: &str, encoded: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap();
    let host = rest.split_once('@').map_or(rest, |(_, host)| host);
    format!("{scheme}://{user}:{encoded}@{host}")
}

#[tokio::test]
async fn servers_that_refuse_a_password_leave_it_out_of_every_log_line() {
    let mut world = World::new().await;
    let sandbox = &world.sandbox;
    let amqp = with_password(&sandbox.amqp_url, "guest", AMQP.1);
    let database = with_password(&sandbox.database_url, "postgres", DATABASE.1);
    let redis =
        format!("redis://:{}@{}:{}/{}", REDIS.1, sandbox.redis_host, sandbox.redis_port, sandbox.redis_db);
    for (name, value) in [("AMQP_CONNECTION_STRING", amqp), ("DB_CONNECTION_STRING", database)] {
        world.set(name, value);
    }
    let file = world.workspace.path().join("redis-url");
    std::fs::write(&file, format!("{redis}\n")).unwrap();
    let settings = [("FFLOW_CACHE_URL_FILE", file.to_str().unwrap()), ("UPLOADER_LOG_FILTER", "trace")];
    let replica = world.replica_unready("one", &settings).await;
    world
        .wait("both refusals to show", SOON, async || {
            let board = replica.readyz().await.1;
            board.contains("ACCESS_REFUSED") && board.contains("routes come from PostgreSQL: ")
        })
        .await;
    let log = output(&replica.process);
    assert!(log.contains("TRACE") && log.contains("lapin"), "the log is that of trace");
    assert_silent(&log, "the log");
    assert_silent(&replica.readyz().await.1, "/readyz");
}

#[tokio::test]
async fn servers_that_are_away_and_every_command_keep_the_passwords_to_themselves() {
    let world = World::new().await;
    let closed = devstack::PortLease::take().unwrap();
    let settings = [
        ("AMQP_CONNECTION_STRING", format!("amqp://u:{}@{}/v", AMQP.1, closed.address())),
        ("DB_CONNECTION_STRING", format!("jdbc:postgresql://{}/d", closed.address())),
        ("DB_PASSWORD", DATABASE.0.to_owned()),
        ("FFLOW_CACHE_URL", format!("redis://:{}@{}/0", REDIS.1, closed.address())),
        ("UPLOADER_LOG_FILTER", "trace".to_owned()),
    ];
    let settings = settings.each_ref().map(|(name, value)| (*name, value.as_str()));
    let replica = world.replica_unready("one", &settings).await;
    world.wait("the refusal to show", SOON, async || replica.readyz().await.1.contains("efused")).await;
    assert_silent(&output(&replica.process), "the log");
    assert_silent(&replica.readyz().await.1, "/readyz");
    for (number, arguments) in [
        &["config"][..],
        &["config", "--json"],
        &["migrate"],
        &["check"],
        &["sessions", "ls"],
        &["sessions", "retry", "6f2c1f0e-8f0f-4a55-9a53-2d1d7a1c2b11"],
        &["janitor", "--once"],
        &["replicas", "ls"],
        &["send", "Cargo.toml"],
        &["healthcheck"],
        &["--help"],
    ]
    .into_iter()
    .enumerate()
    {
        let command = Process::command(env!("CARGO_BIN_EXE_uploader-v4"))
            .args(arguments)
            .envs(settings)
            .log(world.workspace.log(&format!("command-{number}")))
            .start()
            .unwrap();
        command.wait_exit(SOON).await.unwrap();
        assert_silent(&output(&command), &format!("{arguments:?}"));
    }
}

#[tokio::test]
async fn settings_that_cannot_be_used_are_refused_without_their_passwords() {
    let world = World::new().await;
    let cases = [
        ("AMQP_CONNECTION_STRING", format!("http://u:{}@h", AMQP.1), "amqp.url"),
        ("AMQP_CONNECTION_STRING", AMQP.0.to_owned(), "amqp.url"),
        ("DB_CONNECTION_STRING", format!("mysql://u:{}@h/d", DATABASE.1), "database.url"),
        ("DB_CONNECTION_STRING", format!("postgresql://u:{}@h/d?sslmode=x", DATABASE.1), "sslmode"),
        ("FFLOW_CACHE_URL", format!("http://:{}@h", REDIS.1), "redis.url"),
        ("FFLOW_BASE_URL", format!("http://u:{}@fflow", REDIS.1), "fflow.base_url"),
        ("UPLOADER_FFLOW_ALLOWED", format!("http://u:{}@fflow", REDIS.1), "fflow.allowed"),
        ("UPLOADER_HOLDER_BASE_URL", format!("https://u:{}@holder", REDIS.1), "holder.base_url"),
    ];
    for (name, value, named) in cases {
        let command = Process::command(env!("CARGO_BIN_EXE_uploader-v4"))
            .arg("config")
            .env(name, &value)
            .log(world.workspace.log("config"))
            .start()
            .unwrap();
        assert_eq!(command.wait_exit(SOON).await.unwrap().code(), Some(2), "{name}");
        let text = output(&command);
        assert!(text.contains(named), "{text}");
        assert_silent(&text, name);
    }
}
