//! The private servers really start, stop, start again and go away; sandboxes on them are apart.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::time::Duration;

use devstack::servers::redis::command;
use devstack::{Balancer, Kill, Nginx, PortLease, Postgres, RabbitMq, Redis, Sandbox, Stack, Workspace};
use devstack::{tools, wait_until};
use lapin::options::{BasicPublishOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Connection, ConnectionProperties};
use sea_orm::{ConnectionTrait, Database, DbBackend, Statement};

const SOON: Duration = Duration::from_secs(20);

fn has_ended(pid: u32) -> bool {
    !std::path::Path::new(&format!("/proc/{pid}")).exists()
}

async fn run(url: &str, sql: &str) {
    let connection = Database::connect(url).await.unwrap();
    connection.execute_unprepared(sql).await.unwrap();
    connection.close().await.unwrap();
}

async fn number(url: &str, sql: &str) -> i32 {
    let connection = Database::connect(url).await.unwrap();
    let statement = Statement::from_string(DbBackend::Postgres, sql.to_owned());
    let row = connection.query_one_raw(statement).await.unwrap().unwrap();
    connection.close().await.unwrap();
    row.try_get_by_index(0).unwrap()
}

#[tokio::test]
async fn postgres_keeps_its_data_over_a_crash_and_goes_away_when_dropped() {
    tools::ensure(&[devstack::Tool::Postgres]).unwrap();
    let workspace = Workspace::new("test").unwrap();
    let mut postgres = Postgres::start(&workspace).await.unwrap();
    postgres.create_database("first", None).await.unwrap();
    let url = postgres.url("first");
    run(&url, "CREATE TABLE kept (n int)").await;
    run(&url, "INSERT INTO kept VALUES (7)").await;
    postgres.stop(Kill::Immediate).await.unwrap();
    assert!(Database::connect(&url).await.is_err());
    postgres.restart().await.unwrap();
    assert_eq!(number(&url, "SELECT n FROM kept").await, 7);
    postgres.restart().await.unwrap();
    postgres.create_database("second", Some("first")).await.unwrap();
    assert_eq!(number(&postgres.url("second"), "SELECT n FROM kept").await, 7);
    let pid = postgres.process().pid();
    let path = workspace.path().to_owned();
    drop(postgres);
    assert!(has_ended(pid));
    drop(workspace);
    assert!(!path.exists());
}

#[tokio::test]
async fn redis_is_empty_after_a_restart_on_the_same_port() {
    tools::ensure(&[devstack::Tool::Redis]).unwrap();
    let workspace = Workspace::new("test").unwrap();
    let mut server = Redis::start(&workspace).await.unwrap();
    let port = server.port();
    command::<()>(server.host(), port, 4095, redis::cmd("SET").arg("key").arg("value")).await.unwrap();
    server.restart().await.unwrap();
    assert_eq!(server.port(), port);
    let value: Option<String> =
        command(server.host(), port, 4095, redis::cmd("GET").arg("key")).await.unwrap();
    assert_eq!(value, None);
    server.stop().await.unwrap();
    assert!(command::<()>("127.0.0.1", port, 0, &redis::cmd("PING")).await.is_err());
}

#[tokio::test]
async fn rabbitmq_restarts_on_the_same_port_and_counts_its_queues() {
    tools::ensure(&[devstack::Tool::RabbitMq]).unwrap();
    let workspace = Workspace::new("test").unwrap();
    let mut broker = RabbitMq::start(&workspace).await.unwrap();
    broker.create_vhost("mine").await.unwrap();
    publish_three(&broker.amqp_url("mine")).await;
    three_are_there(&broker).await;
    broker.restart().await.unwrap();
    three_are_there(&broker).await;
    broker.kill().await.unwrap();
    broker.restart().await.unwrap();
    assert_eq!(broker.queue_depth("mine", "unknown").await.unwrap(), None);
    broker.delete_vhost("mine").await.unwrap();
    broker.delete_vhost("mine").await.unwrap();
    let pid = broker.process().pid();
    drop(broker);
    assert!(has_ended(pid));
}

async fn three_are_there(broker: &RabbitMq) {
    let counted =
        async || broker.queue_depth("mine", "durable").await.unwrap().is_some_and(|depth| depth.ready == 3);
    wait_until("the queue holds three messages", SOON, counted).await.unwrap();
}

async fn publish_three(url: &str) {
    let connection = Connection::connect(url, ConnectionProperties::default()).await.unwrap();
    let channel = connection.create_channel().await.unwrap();
    channel.confirm_select(Default::default()).await.unwrap();
    let options = QueueDeclareOptions { durable: true, ..Default::default() };
    channel.queue_declare("durable".into(), options, FieldTable::default()).await.unwrap();
    for _ in 0..3 {
        let properties = BasicProperties::default().with_delivery_mode(2);
        let options = BasicPublishOptions::default();
        let sent =
            channel.basic_publish("".into(), "durable".into(), options, b"x", properties).await.unwrap();
        sent.await.unwrap();
    }
    connection.close(200, "done".into()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sandboxes_on_one_stack_are_apart_and_a_template_is_made_once() {
    tools::ensure(&tools::SERVERS).unwrap();
    let workspace = Workspace::new("test").unwrap();
    let stack = Stack::start(&workspace).await.unwrap();
    let endpoints = stack.endpoints();
    let made = std::sync::atomic::AtomicU32::new(0);
    let ensure = || {
        endpoints.ensure_template("template_of_test", async |url| {
            made.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            run(&url, "CREATE TABLE made (n int)").await;
            Ok(())
        })
    };
    let failed = endpoints.ensure_template("template_of_test", async |_| anyhow::bail!("no luck")).await;
    assert!(failed.is_err());
    let (one, two, three) = tokio::join!(ensure(), ensure(), ensure());
    one.and(two).and(three).unwrap();
    assert_eq!(made.load(std::sync::atomic::Ordering::SeqCst), 1);

    let template = Some("template_of_test");
    let (one, two) =
        tokio::join!(Sandbox::create(&endpoints, template), Sandbox::create(&endpoints, template));
    let (one, two) = (one.unwrap(), two.unwrap());
    assert_ne!(one.database_name, two.database_name);
    assert_ne!(one.redis_db, two.redis_db);
    assert_eq!(number(&one.database_url, "SELECT count(*)::int FROM made").await, 0);
    publish_three(&one.amqp_url).await;
    assert_eq!(two.queue_depth("durable").await.unwrap(), None);
    command::<()>(&one.redis_host, one.redis_port, one.redis_db, redis::cmd("SET").arg("k").arg("v"))
        .await
        .unwrap();
    one.flush_redis().await.unwrap();

    let _held = Connection::connect(&two.amqp_url, ConnectionProperties::default()).await.unwrap();
    let closed = async || two.close_amqp_connections().await.unwrap() == 1;
    wait_until("the connection is known and closed", SOON, closed).await.unwrap();

    let (gone, dropped) = (one.database_name.clone(), two.database_name.clone());
    one.remove().await.unwrap();
    drop(two);
    for name in [gone, dropped] {
        let sql = format!("SELECT count(*)::int FROM pg_database WHERE datname = '{name}'");
        assert_eq!(number(&endpoints.postgres_url, &sql).await, 0);
        let url = format!("{}/{name}", endpoints.amqp_url);
        assert!(Connection::connect(&url, ConnectionProperties::default()).await.is_err());
    }
}

/// An fflow that only says who it is and what it was asked.
async fn replica(name: &'static str) -> u16 {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = vec![0; 4096];
            let length = stream.read(&mut request).await.unwrap_or(0);
            let line = String::from_utf8_lossy(&request[..length]).lines().next().unwrap_or("").to_owned();
            let body = format!("{name} {line}");
            let head =
                format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
            let _ = stream.write_all(format!("{head}{body}").as_bytes()).await;
        }
    });
    port
}

#[tokio::test]
async fn the_balancer_goes_by_turns_and_by_prefix() {
    tools::ensure(&[devstack::Tool::Nginx]).unwrap();
    let workspace = Workspace::new("test").unwrap();
    let ports = vec![replica("one").await, replica("two").await, PortLease::take().unwrap().number()];
    let port = PortLease::take().unwrap();
    let servers = Balancer::new(ports).render(port.number());
    let nginx = Nginx::start(&workspace, port, &servers).await.unwrap();
    let post = async |path: &str, body: &str| {
        let url = format!("{}{path}", nginx.url());
        let answer = devstack::http::request("POST", &url, Some(body), SOON).await.unwrap();
        (answer.status, String::from_utf8(answer.body).unwrap())
    };
    let mut turns = Vec::new();
    for _ in 0..6 {
        turns.push(post("/flow~2", "").await);
    }
    for expected in [(200, "one POST /r1/flow~2 HTTP/1.1"), (200, "two POST /r2/flow~2 HTTP/1.1")] {
        let hits = turns.iter().filter(|(status, body)| (*status, body.as_str()) == expected).count();
        assert_eq!(hits, 2, "{expected:?} in {turns:?}");
    }
    assert_eq!(turns.iter().filter(|(status, _)| *status == 502).count(), 2, "{turns:?}");
    let direct = (200, "two POST /r2/flow~2/push?x=1 HTTP/1.1".to_owned());
    assert_eq!(post("/r2/flow~2/push?x=1", "bytes").await, direct);
    assert_eq!(post("/r1/flow/push", &"x".repeat(1024 * 1024 + 1)).await.0, 413);
}
