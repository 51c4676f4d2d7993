//! Encrypted connections: the whole road over them, and servers that cannot prove who they are.

use devstack::{Identity, Nginx, PortLease, Postgres, RabbitMq, Redis, Stack, Workspace};
use peers::recording::RecordingOptions;

use crate::certificates::Authority;
use crate::world::{Plan, Replica, SOON, World, bytes, sha256};

const UNTRUSTED: &str = "set UPLOADER_TLS_CA_FILE";
const MISNAMED: &str = "certificate is for another name";
const PLAIN: &str = "does not speak TLS";
const EXPIRED: &str = "has expired";

/// Servers with certificates for `localhost`, on plain and encrypted ports.
struct Encrypted {
    world: World,
    stack: Stack,
    authority: Authority,
    _workspace: Workspace,
}

impl Encrypted {
    async fn start(options: RecordingOptions) -> Self {
        let workspace = Workspace::new("tls").unwrap();
        let authority = Authority::new(&workspace, "trusted");
        let identity = authority.identity("localhost");
        let (postgres, redis, rabbitmq) = tokio::try_join!(
            Postgres::start_tls(&workspace, &identity),
            Redis::start_tls(&workspace, &identity),
            RabbitMq::start_tls(&workspace, &identity)
        )
        .unwrap();
        let stack = Stack { postgres, redis, rabbitmq };
        let plan = Plan { fflow: options, endpoints: Some(stack.endpoints()), ..Plan::default() };
        let world = World::planned(plan).await;
        Encrypted { world, stack, authority, _workspace: workspace }
    }

    fn amqps(&self, host: &str) -> String {
        let port = self.stack.rabbitmq.tls_port().unwrap();
        format!("amqps://guest:guest@{host}:{port}/{}", self.world.sandbox.vhost)
    }

    fn rediss(&self, host: &str) -> String {
        format!("rediss://{host}:{}/{}", self.stack.redis.tls_port().unwrap(), self.world.sandbox.redis_db)
    }

    fn postgres(&self, host: &str, mode: &str) -> String {
        let (port, name) = (self.stack.postgres.port(), &self.world.sandbox.database_name);
        format!("jdbc:postgresql://postgres@{host}:{port}/{name}?sslmode={mode}")
    }
}

/// nginx with `identity` in front of one plain server.
async fn front(workspace: &Workspace, identity: &Identity, port: &PortLease, behind: &str) -> Nginx {
    let health = PortLease::take().unwrap();
    let servers = format!(
        "client_max_body_size 2m;\nserver {{ listen {}; location = /healthz {{ return 200; }} }}\n\
         server {{ listen {} ssl; ssl_certificate {}; ssl_certificate_key {}; location / {{ proxy_pass {behind}; }} }}\n",
        health.address(),
        port.address(),
        identity.certificate.display(),
        identity.key.display(),
    );
    Nginx::start(workspace, health, &servers).await.unwrap()
}

/// Waits until `/readyz` says why a server is refused.
async fn says(world: &World, replica: &Replica, dependency: &str, reason: &str) {
    let reason_of = async || {
        let board: serde_json::Value = serde_json::from_str(&replica.readyz().await.1).unwrap_or_default();
        board["dependencies"][dependency].to_string()
    };
    let what = format!("{dependency} of {} to say: {reason}", replica.process.name());
    let waited = devstack::wait_until(&what, SOON, async || reason_of().await.contains(reason)).await;
    let log = replica.process.log_tail(20);
    assert!(
        waited.is_ok(),
        "{what}, but it says {}\n{log}\n{}",
        reason_of().await,
        world.workspace.path().display()
    );
}

async fn encrypted_sessions(world: &World) -> (i64, i64) {
    let sql = "SELECT count(*) FILTER (WHERE ssl), count(*) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) \
               WHERE application_name = 'uploader-v4'";
    let row = &world.query(sql, vec![]).await[0];
    (row.try_get_by_index(0).unwrap(), row.try_get_by_index(1).unwrap())
}

#[tokio::test]
async fn a_whole_upload_goes_over_encrypted_connections() {
    let port = PortLease::take().unwrap();
    let public = format!("https://localhost:{}", port.number());
    let options = RecordingOptions { public_url: Some(public.clone()), ..RecordingOptions::default() };
    let mut servers = Encrypted::start(options).await;
    let identity = servers.authority.identity("localhost");
    let world = &mut servers.world;
    let _nginx = front(&world.workspace, &identity, &port, &world.fflow.base_url()).await;
    world.set("FFLOW_BASE_URL", public.clone());
    world.set("UPLOADER_HOLDER_BASE_URL", format!("{public}/holder"));
    world.set("UPLOADER_TLS_CA_FILE", servers.authority.path());
    let addresses = [
        ("AMQP_CONNECTION_STRING", servers.amqps("localhost")),
        ("FFLOW_CACHE_URL", servers.rediss("localhost")),
        ("DB_CONNECTION_STRING", servers.postgres("localhost", "verify-full")),
    ];
    addresses.into_iter().for_each(|(name, value)| servers.world.set(name, value));
    let world = &servers.world;
    let _one = world.replica("one").await;
    let _two = world.replica("two").await;
    let client = world.client().await;
    let file = bytes(60, 2_000_000);
    let upload = world.announce_one(file.len()).await;
    client.upload_range(&upload, &file, 65_536, 0, 1_000_000).await;
    world.wait("a route in redis", SOON, async || world.route(upload.session).await.is_some()).await;
    let route = world.route(upload.session).await.unwrap();
    assert!(route.starts_with(&public), "{route}");
    let (encrypted, all) = encrypted_sessions(world).await;
    assert!(
        encrypted > 0 && encrypted == all,
        "{encrypted} of {all} connections to PostgreSQL are encrypted"
    );
    client.upload_range(&upload, &file, 65_536, 1_000_000, file.len()).await;
    world.distributed(&upload).await;
    assert_eq!(world.fflow.flow(&upload.session.to_string()).unwrap().sha256, sha256(&file));
    world.nothing_left(&upload).await;
}

#[tokio::test]
async fn servers_that_cannot_prove_who_they_are_are_refused() {
    let servers = Encrypted::start(RecordingOptions::default()).await;
    let world = &servers.world;
    let (trusted, other) = (servers.authority.path(), Authority::new(&world.workspace, "other").path());
    for (host, ca, reason) in [("127.0.0.1", &trusted, MISNAMED), ("localhost", &other, UNTRUSTED)] {
        let cases = [
            ("amqp", "AMQP_CONNECTION_STRING", servers.amqps(host)),
            ("redis", "FFLOW_CACHE_URL", servers.rediss(host)),
            ("database", "DB_CONNECTION_STRING", servers.postgres(host, "verify-full")),
        ];
        for (dependency, variable, address) in cases {
            let settings = [(variable, address.as_str()), ("UPLOADER_TLS_CA_FILE", ca.as_str())];
            let replica = world.replica_unready(dependency, &settings).await;
            says(world, &replica, dependency, reason).await;
            replica.process.kill().await.unwrap();
        }
    }
    let no_file = [("AMQP_CONNECTION_STRING", servers.amqps("localhost"))];
    let no_file = no_file.each_ref().map(|(name, value)| (*name, value.as_str()));
    let replica = world.replica_unready("stranger", &no_file).await;
    says(world, &replica, "amqp", UNTRUSTED).await;
}

#[tokio::test]
async fn postgres_is_checked_as_far_as_its_sslmode_says() {
    let servers = Encrypted::start(RecordingOptions::default()).await;
    let world = &servers.world;
    let own =
        format!("{}&sslrootcert={}", servers.postgres("localhost", "verify-full"), servers.authority.path());
    for (address, encrypted) in [
        (servers.postgres("127.0.0.1", "verify-ca") + "&sslrootcert=" + &servers.authority.path(), true),
        (servers.postgres("127.0.0.1", "require"), true),
        (servers.postgres("127.0.0.1", "prefer"), true),
        (servers.postgres("127.0.0.1", "disable"), false),
        (own, true),
    ] {
        let replica = world.replica_unready("one", &[("DB_CONNECTION_STRING", &address)]).await;
        replica.ready().await;
        let (ssl, all) = encrypted_sessions(world).await;
        assert!(all > 0 && ssl == if encrypted { all } else { 0 }, "{address}: {ssl} of {all}");
        replica.process.kill().await.unwrap();
        world.wait("the connections to end", SOON, async || encrypted_sessions(world).await.1 == 0).await;
    }
}

#[tokio::test]
async fn https_servers_that_cannot_prove_who_they_are_get_no_bytes() {
    let mut world = World::new().await;
    let authority = Authority::new(&world.workspace, "trusted");
    let port = PortLease::take().unwrap();
    let behind = world.fflow.base_url();
    let _nginx = front(&world.workspace, &authority.identity("localhost"), &port, &behind).await;
    world.set("UPLOADER_TLS_CA_FILE", authority.path());
    let other = Authority::new(&world.workspace, "other").path();
    let client = world.client().await;
    let file = bytes(61, 600_000);
    for (host, ca, reason) in [("127.0.0.1", None, MISNAMED), ("localhost", Some(other.as_str()), UNTRUSTED)]
    {
        let address = format!("https://{host}:{}", port.number());
        let holder = format!("{address}/holder");
        let ca = ca.map(|ca| ("UPLOADER_TLS_CA_FILE", ca));
        for (dependency, variable, value) in
            [("fflow", "FFLOW_BASE_URL", &address), ("holder", "UPLOADER_HOLDER_BASE_URL", &holder)]
        {
            let before = world.fflow.calls().len();
            let settings: Vec<_> = [(variable, value.as_str())].into_iter().chain(ca).collect();
            let replica = world.replica_unready(dependency, &settings).await;
            replica.ready().await;
            let upload = world.announce_one(file.len()).await;
            client.upload(&upload, &file, 200_000).await;
            says(&world, &replica, dependency, reason).await;
            let heard = world.fflow.calls().len() - before;
            assert!(dependency == "holder" || heard == 0, "{heard} calls reached fflow");
            replica.process.kill().await.unwrap();
            world.execute("UPDATE uploader.session SET state = 'EXPIRED'", vec![]).await;
        }
    }
}

#[tokio::test]
async fn a_plain_server_at_an_encrypted_address_is_named_as_such() {
    let world = World::new().await;
    let sandbox = &world.sandbox;
    let redis = format!("rediss://{}:{}/{}", sandbox.redis_host, sandbox.redis_port, sandbox.redis_db);
    let database = format!("{}?sslmode=verify-full", sandbox.database_url);
    let cases = [
        ("amqp", "AMQP_CONNECTION_STRING", sandbox.amqp_url.replace("amqp://", "amqps://"), PLAIN),
        ("redis", "FFLOW_CACHE_URL", redis, PLAIN),
        ("database", "DB_CONNECTION_STRING", database, "PostgreSQL has ssl off"),
    ];
    for (dependency, variable, address, reason) in cases {
        let replica = world.replica_unready(dependency, &[(variable, &address)]).await;
        says(&world, &replica, dependency, reason).await;
        replica.process.kill().await.unwrap();
    }
    let https = world.fflow.base_url().replace("http://", "https://");
    let replica = world.replica_unready("fflow", &[("FFLOW_BASE_URL", &https)]).await;
    replica.ready().await;
    let file = bytes(62, 300_000);
    let upload = world.announce_one(file.len()).await;
    world.client().await.upload(&upload, &file, 100_000).await;
    says(&world, &replica, "fflow", PLAIN).await;
    assert!(world.fflow.calls().is_empty());
}

#[tokio::test]
async fn an_expired_certificate_is_named_as_such() {
    let mut world = World::new().await;
    let authority = Authority::new(&world.workspace, "trusted");
    let identity = authority.expired("localhost");
    let redis = Redis::start_tls(&world.workspace, &identity).await.unwrap();
    world.set("UPLOADER_TLS_CA_FILE", authority.path());
    world.set("FFLOW_CACHE_URL", format!("rediss://localhost:{}", redis.tls_port().unwrap()));
    let replica = world.replica_unready("one", &[]).await;
    says(&world, &replica, "redis", EXPIRED).await;
}
