//! The route cache on a real Redis, and the farm's tables on a real PostgreSQL.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use devstack::{Endpoints, Sandbox};
use sea_orm::{ConnectionTrait, Database, DatabaseConnection, DbBackend, Statement};
use uploader_v4::actors::fflow_router::FflowRouter;
use uploader_v4::config::{FflowConfig, RedisConfig};
use uploader_v4::domain::ids::{FlowName, Generation, SessionId};
use uploader_v4::domain::route::{self, AllowList, FlowUrl};
use uploader_v4::gateways::route_store::{RedisRoutes, RouteStore};
use uploader_v4::gateways::upload_store::farm::{FarmStore, PgFarmStore, Worked};
use uploader_v4::messages::{PublishRoute, ResolveFlow};
use uploader_v4::readiness::Readiness;
use uploader_v4::testkit::memory_fflow::{MemoryFflow, ORIGIN};
use uploader_v4::testkit::memory_holder::MemoryHolder;
use uploader_v4::testkit::memory_routes::MemoryFarm;
use url::Url;
use uuid::Uuid;

async fn sandbox() -> Sandbox {
    let endpoints = Endpoints::from_env().expect("these tests need servers: run `make test`");
    Sandbox::create(&endpoints, None).await.unwrap()
}

fn routes(sandbox: &Sandbox) -> RedisRoutes {
    let config = RedisConfig {
        url: sandbox.redis_url().into(),
        response_timeout: Duration::from_secs(2),
        route_ttl: Duration::from_secs(3600),
        trust: Default::default(),
    };
    RedisRoutes::new(&config).unwrap()
}

fn session(number: u128) -> SessionId {
    SessionId(Uuid::from_u128(number))
}

fn name(number: u128) -> FlowName {
    Generation(1).name(session(number))
}

fn url(number: u128) -> FlowUrl {
    route::at_replica(&MemoryFflow::replica(1), &name(number), &AllowList::new([ORIGIN])).unwrap()
}

/// Runs one command on the sandbox's Redis, past the gateway.
async fn redis<T: redis::FromRedisValue>(sandbox: &Sandbox, command: &redis::Cmd) -> T {
    let client = redis::Client::open(sandbox.redis_url()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    command.query_async(&mut connection).await.unwrap()
}

#[actix_rt::test]
async fn a_route_lives_in_redis_for_its_time() {
    let sandbox = sandbox().await;
    let routes = routes(&sandbox);
    routes.ping().await.unwrap();
    assert_eq!(routes.get(session(1)).await.unwrap(), None);
    routes.set(session(1), &url(1)).await.unwrap();
    assert_eq!(routes.get(session(1)).await.unwrap().as_deref(), Some(url(1).as_str()));
    let left: i64 = redis(&sandbox, redis::cmd("TTL").arg(session(1).to_string())).await;
    assert!((3500..=3600).contains(&left), "{left}");
    routes.remove(session(1)).await.unwrap();
    routes.remove(session(1)).await.unwrap();
    assert_eq!(routes.get(session(1)).await.unwrap(), None);
    sandbox.remove().await.unwrap();
}

#[actix_rt::test]
async fn values_that_are_no_address_count_as_absent() {
    let sandbox = sandbox().await;
    let routes = routes(&sandbox);
    let key = session(1).to_string();
    for value in [vec![b'x'; 2049], vec![0xff, 0xfe], Vec::new()] {
        let _: () = redis(&sandbox, redis::cmd("SET").arg(&key).arg(value)).await;
        assert_eq!(routes.get(session(1)).await.unwrap(), None);
    }
    let _: i64 = redis(&sandbox, redis::cmd("DEL").arg(&key)).await;
    let _: i64 = redis(&sandbox, redis::cmd("LPUSH").arg(&key).arg("x")).await;
    assert!(routes.get(session(1)).await.is_err());
    // Only that key is odd: the next call is not held back, and a SET mends it.
    routes.set(session(1), &url(1)).await.unwrap();
    assert_eq!(routes.get(session(1)).await.unwrap().as_deref(), Some(url(1).as_str()));
    sandbox.remove().await.unwrap();
}

#[actix_rt::test]
async fn a_connection_that_redis_cut_is_made_again() {
    let sandbox = sandbox().await;
    let routes = routes(&sandbox);
    routes.set(session(1), &url(1)).await.unwrap();
    let clients: String = redis(&sandbox, redis::cmd("CLIENT").arg("LIST")).await;
    // Other tests use the same server: only clients of this one's database are cut.
    let database = format!(" db={} ", sandbox.redis_db);
    let ours = clients.lines().filter(|line| line.contains(&database) && !line.contains("cmd=client"));
    let ids: Vec<&str> = ours.filter_map(|line| line.split(' ').next()?.strip_prefix("id=")).collect();
    assert_eq!(ids.len(), 1, "{clients}");
    let cut: i64 = redis(&sandbox, redis::cmd("CLIENT").arg("KILL").arg("ID").arg(ids[0])).await;
    assert_eq!(cut, 1);
    devstack::wait_until("the route is read again", Duration::from_secs(10), async || {
        routes.get(session(1)).await.is_ok_and(|value| value.is_some())
    })
    .await
    .unwrap();
    sandbox.remove().await.unwrap();
}

fn router(sandbox: &Sandbox) -> Addr<FflowRouter> {
    let second = Duration::from_secs(1);
    let config = FflowConfig {
        base_url: Url::parse(ORIGIN).unwrap(),
        allowed: Vec::new(),
        create_timeout: second,
        push_timeout: second,
        finish_timeout: second,
        delete_timeout: second,
        body_limit: 1024,
        refused_pause: second,
        trust: Default::default(),
    };
    let fflow = Rc::new(MemoryFflow::new(1, MemoryHolder::default()));
    let farm = Arc::new(MemoryFarm::default());
    let allowed = AllowList::new([ORIGIN]);
    FflowRouter::new(fflow, Arc::new(routes(sandbox)), farm, allowed, config, Readiness::new()).start()
}

#[actix_rt::test]
async fn one_replica_finds_the_flow_of_another_through_redis_alone() {
    let sandbox = sandbox().await;
    let (one, other) = (router(&sandbox), router(&sandbox));
    one.send(PublishRoute { session: session(1), url: url(1) }).await.unwrap();
    let resolve =
        |generation| ResolveFlow { session: session(1), generation: Generation(generation), stored: None };
    assert_eq!(other.send(resolve(1)).await.unwrap(), Some(url(1)));
    assert_eq!(other.send(resolve(2)).await.unwrap(), None);
    sandbox.flush_redis().await.unwrap();
    assert_eq!(other.send(resolve(1)).await.unwrap(), None);
    let from_row = ResolveFlow { stored: Some(url(1).to_string()), ..resolve(1) };
    assert_eq!(other.send(from_row).await.unwrap(), Some(url(1)));
    assert_eq!(one.send(resolve(1)).await.unwrap(), Some(url(1)));
    sandbox.remove().await.unwrap();
}

async fn database(sandbox: &Sandbox) -> DatabaseConnection {
    let db = Database::connect(&sandbox.database_url).await.unwrap();
    migration::up(&db).await.unwrap();
    db
}

async fn run(db: &DatabaseConnection, sql: &str) {
    db.execute_raw(Statement::from_string(DbBackend::Postgres, sql.to_owned())).await.unwrap();
}

#[actix_rt::test]
async fn strays_are_remembered_until_they_are_gone() {
    let sandbox = sandbox().await;
    let db = database(&sandbox).await;
    let farm = PgFarmStore::new(db.clone());
    farm.add_stray(&name(1), session(1), None).await.unwrap();
    farm.add_stray(&name(2), session(2), Some("http://f/r1")).await.unwrap();
    farm.add_stray(&name(1), session(1), Some("http://f/r2")).await.unwrap();
    farm.add_stray(&name(1), session(1), None).await.unwrap();
    run(&db, "UPDATE uploader.stray SET since = clock_timestamp() - interval '2 hours' WHERE base_url = 'http://f/r1'")
        .await;
    let mut strays = farm.strays(10).await.unwrap();
    strays.sort_by(|a, b| a.name.cmp(&b.name));
    assert_eq!(strays.len(), 2);
    assert_eq!(strays[0].base_url.as_deref(), Some("http://f/r2"));
    assert_eq!((&strays[1].name, strays[1].session), (&name(2), session(2)));
    assert!(strays[0].age < Duration::from_secs(60) && strays[1].age >= Duration::from_secs(7200));
    assert_eq!(farm.strays(1).await.unwrap().len(), 1);
    farm.stray_gone(&name(1)).await.unwrap();
    farm.stray_gone(&name(1)).await.unwrap();
    assert_eq!(farm.strays(10).await.unwrap().len(), 1);
    drop((farm, db));
    sandbox.remove().await.unwrap();
}

#[actix_rt::test]
async fn replicas_are_known_for_a_day_and_keep_their_newest_evidence() {
    let sandbox = sandbox().await;
    let db = database(&sandbox).await;
    let farm = PgFarmStore::new(db.clone());
    farm.saw_replica("http://f/r1").await.unwrap();
    farm.saw_replica("http://f/r1").await.unwrap();
    farm.saw_replica("http://f/old").await.unwrap();
    run(
        &db,
        "UPDATE uploader.fflow_replica SET last_seen = last_seen - interval '2 days' WHERE base_url = 'http://f/old'",
    )
    .await;
    let worked = |base: &str, push, finish| Worked { base: base.to_owned(), push, finish };
    let first = worked("http://f/r1", Some(session(1)), None);
    let second = worked("http://f/r2", None, Some(session(2)));
    farm.worked(vec![first, second]).await.unwrap();
    farm.worked(vec![worked("http://f/r1", None, Some(session(3)))]).await.unwrap();
    farm.worked(Vec::new()).await.unwrap();
    let mut known = farm.known_replicas().await.unwrap();
    known.sort();
    assert_eq!(known, ["http://f/r1", "http://f/r2"]);
    let sql = "SELECT base_url FROM uploader.fflow_replica WHERE base_url = 'http://f/r1' \
        AND last_push_session = $1 AND last_finish_session = $2 AND last_push_ok <= last_finish_ok";
    let values = [session(1).0.into(), session(3).0.into()];
    let found =
        db.query_one_raw(Statement::from_sql_and_values(DbBackend::Postgres, sql, values)).await.unwrap();
    assert!(found.is_some());
    drop((farm, db));
    sandbox.remove().await.unwrap();
}
