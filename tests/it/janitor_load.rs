//! Very many abandoned videos go while uploads go on: how fast, in how long transactions, in how much memory, and what
//! the uploads feel. `make janitor-load` runs it at full size.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::client::Client;
use crate::world::{Replica, SOON, World, bytes};

/// Videos, unless `JANITOR_VIDEOS` says otherwise.
const VIDEOS: i64 = 2_000;
/// Every second one has stored bytes, every twentieth an ffmpeg process and a route.
const WITH_BYTES: i64 = 2;
const WITH_PROCESS: i64 = 20;

const UPLOADERS: u64 = 6;
/// One chunk of each uploader in so long: a handful of people, not a load test of the chunk road.
const CHUNK_EVERY: Duration = Duration::from_millis(40);
const CHUNK: usize = 8 << 10;
const CHUNKS: usize = 64;

/// How long the uploads go on alone, for comparison.
const ALONE: Duration = Duration::from_secs(8);
const LOOK_EVERY: Duration = Duration::from_millis(500);
const SAMPLE_EVERY: Duration = Duration::from_millis(15);

const MAX_GROWTH_KIB: u64 = 64 << 10;
const MAX_TRANSACTION: Duration = Duration::from_secs(1);

const SETTINGS: [(&str, &str); 3] = [
    ("SCHEDULER_CLEAR_UPLOAD_RESOURCES_SLEEP_TIME", "200"),
    ("VIDEO_TTL", "600000"),
    ("UPLOADER_LOG_FILTER", "info,uploader_v4::actors::janitor_scheduler=debug"),
];

fn videos() -> i64 {
    std::env::var("JANITOR_VIDEOS").ok().map_or(VIDEOS, |text| text.parse().expect("a number of videos"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn very_many_abandoned_videos_go_in_bounded_memory_and_transactions_while_uploads_go_on() {
    let (world, count) = (World::alone(&SETTINGS).await, videos());
    let idle = world.replica("idle").await;
    let _busy = world.replica("busy").await;
    has_taken_chunks_for_long(&world).await;
    seed(&world, count).await;

    let client = world.client().await;
    let load = Load::default();
    let longest = Longest::default();
    let cleaning = async {
        tokio::time::timeout(ALONE, std::future::pending::<()>()).await.unwrap_err();
        load.cleaning.store(true, Ordering::Relaxed);
        let began = Instant::now();
        let enabled = [("SCHEDULER_CLEAR_UPLOAD_RESOURCES_ENABLED", "true")];
        let standalone = world.replica_unready("standalone", &enabled).await;
        let (limit, mut looks) =
            (SOON + Duration::from_millis(20 * count.unsigned_abs()), tokio::time::interval(LOOK_EVERY));
        world
            .wait("every abandoned video to be gone", limit, async || {
                looks.tick().await;
                !left(&world).await
            })
            .await;
        let took = began.elapsed();
        load.over.store(true, Ordering::Relaxed);
        (standalone, took)
    };
    let uploads =
        futures_util::future::join_all((0..UPLOADERS).map(|seed| load.upload(&world, &client, seed)));
    let ((standalone, took), _, ()) = tokio::join!(cleaning, uploads, longest.watch(&world, &load.over));

    assert_eq!(folders_left(&world).await, 0);
    let figures = Figures::new(&load, &longest, (peak_kib(&standalone), peak_kib(&idle)), took);
    figures.print(count);
    figures.check();
}

/// Makes the farm look as if it had been taking chunks since yesterday.
async fn has_taken_chunks_for_long(world: &World) {
    let since = "UPDATE uploader.service SET consuming_since = now() - interval '1 day' \
                 WHERE EXISTS (SELECT 1 FROM uploader.replica WHERE consuming)";
    world.wait("a replica to take chunks", SOON, async || world.execute(since, Vec::new()).await == 1).await;
}

/// Abandoned an hour ago, as a gateway and replicas would have left them.
async fn seed(world: &World, count: i64) {
    let sql = [
        "CREATE TABLE seed AS SELECT n, gen_random_uuid() AS video, gen_random_uuid() AS flow, \
         gen_random_uuid() AS session FROM generate_series(1, $1::bigint) AS n",
        "INSERT INTO videos (id, title, description, created_at, status) \
         SELECT video, 't', 'd', now() - interval '1 hour', CASE n % $1 WHEN 0 THEN 'UPLOADING' ELSE 'CREATED' END \
         FROM seed",
        "INSERT INTO flows (id, created_at, video_id, status) SELECT flow, now() - interval '1 hour', video, \
         CASE n % $1 WHEN 0 THEN 'UPLOADING' ELSE 'CREATED' END FROM seed",
        "INSERT INTO upload_sessions (id, total_bytes, uploaded_bytes, flow_id) \
         SELECT session, 1000, CASE n % $1 WHEN 0 THEN 100 ELSE 0 END, flow FROM seed",
        "INSERT INTO uploader.session (session_id, flow_id, video_id, total_bytes, state, committed, last_activity, \
         created_at) SELECT session, flow, video, 1000, 'OPEN', 100, now() - interval '1 hour', \
         now() - interval '1 hour' FROM seed WHERE n % $1 = 0",
        "INSERT INTO uploader.run (session_id, start, length, writer, position, record_end) \
         SELECT session, 0, 100, gen_random_uuid(), 0, 120 FROM seed WHERE n % $1 = 0",
    ];
    for (place, sql) in sql.into_iter().enumerate() {
        let value = if place == 0 { count } else { WITH_BYTES };
        world.execute(sql, vec![value.into()]).await;
    }
    // Everything stored is fed: no replica has a reason to claim them.
    let base = format!("{}/r1/", world.fflow.base_url());
    let fed = "UPDATE uploader.session SET generation = 1, fed = committed, flow_url = $1 || session_id \
               FROM seed WHERE session = session_id AND n % $2 = 0";
    world.execute(fed, vec![base.clone().into(), WITH_PROCESS.into()]).await;
    world.execute("ANALYZE videos, flows, upload_sessions, uploader.session", Vec::new()).await;
    let stored = "SELECT session::text, n % $1 = 0 FROM seed WHERE n % $2 = 0";
    let mut routes = redis::cmd("MSET");
    for row in world.query(stored, vec![WITH_PROCESS.into(), WITH_BYTES.into()]).await {
        let session: String = row.try_get_by_index(0).unwrap();
        let folder = world.spool.join(&session);
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(folder.join(uuid::Uuid::new_v4().to_string()), [7; 120]).unwrap();
        if row.try_get_by_index(1).unwrap() {
            routes.arg(&session).arg(format!("{base}{session}"));
        }
    }
    let (host, port) = (&world.sandbox.redis_host, world.sandbox.redis_port);
    let set: anyhow::Result<String> =
        devstack::servers::redis::command(host, port, world.sandbox.redis_db, &routes).await;
    set.unwrap();
}

/// Whether something of the abandoned videos is there: rows, what ended sessions leave behind, processes.
async fn left(world: &World) -> bool {
    let sql = "SELECT EXISTS (SELECT 1 FROM videos WHERE created_at < now() - interval '30 minutes') \
               OR EXISTS (SELECT 1 FROM uploader.session WHERE state = 'OPEN' AND created_at < now() - interval '30 minutes') \
               OR EXISTS (SELECT 1 FROM uploader.session WHERE state = 'EXPIRED' AND cleaned_at IS NULL) \
               OR EXISTS (SELECT 1 FROM uploader.stray)";
    world.query(sql, Vec::new()).await[0].try_get_by_index(0).unwrap()
}

/// Of seeded sessions: those of the uploads come and go.
async fn folders_left(world: &World) -> usize {
    let rows = world.query("SELECT session::text FROM seed", Vec::new()).await;
    let names = rows.iter().map(|row| row.try_get_by_index::<String>(0).unwrap());
    names.filter(|name| world.spool.join(name).exists()).count()
}

/// The most memory that a replica ever had.
fn peak_kib(replica: &Replica) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", replica.process.pid())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Uploads that go on all the time, and how long their chunks' answers took.
#[derive(Default)]
struct Load {
    cleaning: AtomicBool,
    over: AtomicBool,
    alone: Mutex<Vec<Duration>>,
    beside: Mutex<Vec<Duration>>,
}

impl Load {
    async fn upload(&self, world: &World, client: &Client, seed: u64) {
        let file = bytes(seed, CHUNK * CHUNKS);
        while !self.over.load(Ordering::Relaxed) {
            self.one(world, client, &file).await;
        }
    }

    async fn one(&self, world: &World, client: &Client, file: &[u8]) {
        let upload = world.announce_one(file.len()).await;
        let mut pace = tokio::time::interval(CHUNK_EVERY);
        for (number, chunk) in file.chunks(CHUNK).enumerate() {
            pace.tick().await;
            let (cleaning, began) = (self.cleaning.load(Ordering::Relaxed), Instant::now());
            let answer = client.send(&upload, number * CHUNK, chunk).await;
            assert!(answer.is_ack(), "{answer:?}");
            let times = if cleaning { &self.beside } else { &self.alone };
            times.lock().unwrap().push(began.elapsed());
        }
    }
}

/// The longest transactions seen: the janitor's, and any of this service's.
#[derive(Default)]
struct Longest {
    janitor: Mutex<(Duration, String)>,
    any: Mutex<Duration>,
}

impl Longest {
    async fn watch(&self, world: &World, over: &AtomicBool) {
        let sql = "SELECT (extract(epoch FROM clock_timestamp() - xact_start) * 1000)::bigint, left(query, 60), \
                   query ~ '(judged|videos WHERE id = ANY|video_id = ANY|k.id, .EXPIRED|uploader.run WHERE session_id|cleaned_at)' \
                   FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'uploader-v4' \
                   AND xact_start IS NOT NULL ORDER BY xact_start LIMIT 4";
        let mut pace = tokio::time::interval(SAMPLE_EVERY);
        while !over.load(Ordering::Relaxed) {
            pace.tick().await;
            for row in world.query(sql, Vec::new()).await {
                let millis: i64 = row.try_get_by_index(0).unwrap();
                let (query, janitor): (String, bool) =
                    (row.try_get_by_index(1).unwrap(), row.try_get_by_index(2).unwrap());
                self.saw(Duration::from_millis(millis.max(0).unsigned_abs()), query, janitor);
            }
        }
    }

    fn saw(&self, time: Duration, query: String, janitor: bool) {
        let mut any = self.any.lock().unwrap();
        *any = time.max(*any);
        let mut longest = self.janitor.lock().unwrap();
        if janitor && time > longest.0 {
            *longest = (time, query);
        }
    }
}

struct Figures {
    took: Duration,
    janitor: (Duration, String),
    any: Duration,
    peaks: (u64, u64),
    alone: Vec<Duration>,
    beside: Vec<Duration>,
}

impl Figures {
    fn new(load: &Load, longest: &Longest, peaks: (u64, u64), took: Duration) -> Self {
        let sorted = |times: &Mutex<Vec<Duration>>| {
            let mut times = times.lock().unwrap().clone();
            times.sort();
            times
        };
        Figures {
            took,
            janitor: longest.janitor.lock().unwrap().clone(),
            any: *longest.any.lock().unwrap(),
            peaks,
            alone: sorted(&load.alone),
            beside: sorted(&load.beside),
        }
    }

    fn check(&self) {
        assert!(self.janitor.0 < MAX_TRANSACTION, "a transaction of {:?}", self.janitor);
        let growth = self.peaks.0.saturating_sub(self.peaks.1);
        assert!(growth < MAX_GROWTH_KIB, "the standalone took {growth} KiB more than an idle replica");
        assert!(self.beside.len() >= 20, "hardly a chunk was sent meanwhile");
    }

    fn print(&self, videos: i64) {
        let per_second = videos as f64 / self.took.as_secs_f64();
        println!("abandoned videos          {videos}");
        println!("all gone within           {:.1} s ({per_second:.0} videos/s)", self.took.as_secs_f64());
        println!(
            "longest transaction       {:?} of the janitor ({}), {:?} of any",
            self.janitor.0, self.janitor.1, self.any
        );
        println!(
            "peak memory               {} KiB standalone, {} KiB a replica without",
            self.peaks.0, self.peaks.1
        );
        for (what, times) in [("alone", &self.alone), ("meanwhile", &self.beside)] {
            let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize].as_secs_f64() * 1000.0;
            let (p50, p99, max) = (at(0.5), at(0.99), at(1.0));
            println!(
                "chunk answers {what:<11} p50 {p50:.1} ms, p99 {p99:.1} ms, max {max:.1} ms ({})",
                times.len()
            );
        }
    }
}
