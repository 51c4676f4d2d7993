//! Two connections, `one` and `two`, and the gates that stop them in the middle of their statements.

use std::future::Future;
use std::pin::pin;

use sea_orm::{
    ConnectOptions, ConnectionTrait, Database, DatabaseConnection, DatabaseTransaction, DbBackend, DbErr,
    ExecResult, QueryResult, Statement, TransactionTrait, Value,
};
use uploader_v4::domain::feed::Claim;
use uploader_v4::domain::ids::{Epoch, Generation, ReplicaId, SessionId};
use uploader_v4::gateways::upload_store::feeds::{FeedStore, Guard, PgFeedStore, Wanted};
use uploader_v4::gateways::upload_store::replicas::{Heartbeat, PgReplicaStore, ReplicaStore};
use uuid::Uuid;

use crate::world::{SOON, Upload, World};

/// The connection that stops at gates.
pub const ONE: &str = "one";
/// The connection that crosses it.
pub const TWO: &str = "two";

/// A world with our schema and two connections that know each other by name.
pub struct Stage {
    pub world: World,
    pub one: DatabaseConnection,
    pub two: DatabaseConnection,
}

/// Where connection `one` stops.
#[derive(Clone, Copy)]
pub enum At {
    /// Before a row is changed, its lock held already: the event of a trigger, `UPDATE ON flows`.
    Row(&'static str),
    /// In COMMIT, after everything was written: the event of a trigger likewise.
    Commit(&'static str),
}

/// Closed for connection `one` as long as this lives.
pub struct Gate {
    closed: DatabaseTransaction,
}

/// What came of a crossing.
pub struct Crossed<A, B> {
    pub one: A,
    pub two: B,
    /// `two` had to wait for a row that `one` held.
    pub waited: bool,
}

/// Whoever is called like the trigger's argument waits until nobody holds the gate.
const GATE: &str = "CREATE OR REPLACE FUNCTION uploader.gate() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
     IF current_setting('application_name') = 'one' THEN PERFORM pg_advisory_xact_lock_shared(1); END IF; \
     IF TG_OP = 'DELETE' THEN RETURN OLD; END IF; RETURN NEW; END $$";

impl Stage {
    pub async fn new() -> Self {
        let world = World::new().await;
        migration::up(&world.db).await.unwrap();
        let url = &world.sandbox.database_url;
        let (one, two) = (connect(url, ONE).await, connect(url, TWO).await);
        Stage { world, one, two }
    }

    /// Closes a gate for connection `one`.
    pub async fn gate(&self, at: At) -> Gate {
        self.world.execute(GATE, Vec::new()).await;
        let trigger = match at {
            At::Row(event) => {
                format!("CREATE TRIGGER gate BEFORE {event} FOR EACH ROW EXECUTE FUNCTION uploader.gate()")
            }
            At::Commit(event) => format!(
                "CREATE CONSTRAINT TRIGGER gate AFTER {event} DEFERRABLE INITIALLY DEFERRED \
                 FOR EACH ROW EXECUTE FUNCTION uploader.gate()"
            ),
        };
        self.world.execute(&trigger, Vec::new()).await;
        let closed = self.world.db.begin().await.unwrap();
        closed.execute_raw(sql("SELECT pg_advisory_xact_lock(1)", [])).await.unwrap();
        Gate { closed }
    }

    /// Runs `one` up to the gate, then `two` until it is done or waits for a row; then the gate opens for both.
    pub async fn cross<A, B>(
        &self,
        gate: Gate,
        one: impl Future<Output = A>,
        two: impl Future<Output = B>,
    ) -> Crossed<A, B> {
        let (mut one, mut two) = (pin!(one), pin!(two));
        tokio::select! {
            _ = &mut one => panic!("the first statement never came to the gate"),
            () = self.stands(ONE, "advisory") => {}
        }
        let early = tokio::select! {
            done = &mut two => Some(done),
            () = self.waits_for_row(TWO) => None,
        };
        gate.open().await;
        match early {
            Some(two) => Crossed { one: one.await, two, waited: false },
            None => {
                let (one, two) = tokio::join!(one, two);
                Crossed { one, two, waited: true }
            }
        }
    }

    /// Waits until a connection stands at a gate.
    pub async fn at_gate(&self) {
        self.stands(ONE, "advisory").await;
    }

    /// Waits until a connection waits for a row that somebody else holds.
    pub async fn waits_for_row(&self, who: &str) {
        let waiting = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() \
                       AND application_name = $1 AND wait_event_type = 'Lock' AND wait_event <> 'advisory'";
        self.sees(waiting, vec![who.into()]).await;
    }

    async fn stands(&self, who: &str, event: &str) {
        let standing = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() \
                        AND application_name = $1 AND wait_event_type = 'Lock' AND wait_event = $2";
        self.sees(standing, vec![who.into(), event.into()]).await;
    }

    async fn sees(&self, query: &str, values: Vec<Value>) {
        let found = async || !self.world.query(query, values.clone()).await.is_empty();
        self.world.wait(query, SOON, found).await;
    }

    /// Writes down an upload of `total` bytes, all of them stored and none fed, as the registry leaves it.
    pub async fn sealed(&self, upload: &Upload, total: i64) {
        let insert = "INSERT INTO uploader.session (session_id, flow_id, video_id, total_bytes, committed, state) \
                      VALUES ($1, $2, $3, $4, $4, 'SEALED')";
        let values = vec![upload.session.into(), upload.flow.into(), upload.video.into(), total.into()];
        self.world.execute(insert, values).await;
        let status = "UPDATE videos SET status = 'UPLOADING' WHERE id = $1";
        self.world.execute(status, vec![upload.video.into()]).await;
        let status = "UPDATE flows SET status = 'PROCESSING' WHERE id = $1";
        self.world.execute(status, vec![upload.flow.into()]).await;
    }

    /// One upload of 1000 bytes that waits to be fed.
    pub async fn one_sealed(&self) -> Upload {
        let upload = self.world.announce_one(1000).await;
        self.sealed(&upload, 1000).await;
        upload
    }

    /// Changes columns of a session's row by hand.
    pub async fn set(&self, upload: &Upload, columns: &str) {
        let update = format!("UPDATE uploader.session SET {columns} WHERE session_id = $1");
        assert_eq!(self.world.execute(&update, vec![upload.session.into()]).await, 1);
    }

    /// Columns of a session's row as one text.
    pub async fn row(&self, upload: &Upload, columns: &str) -> String {
        let query =
            format!("SELECT concat_ws(' ', {columns})::text FROM uploader.session WHERE session_id = $1");
        self.world.text(&query, upload.session).await.unwrap()
    }

    /// Makes a replica live for `seconds`; a negative number for one whose lease has ended.
    pub async fn beat(&self, replica: ReplicaId, seconds: f64) {
        let heartbeat = Heartbeat { replica, name: "r".to_owned(), consuming: true, lease_seconds: seconds };
        PgReplicaStore::new(self.world.db.clone()).beat(&heartbeat).await.unwrap();
    }

    /// Claims one session for a replica, by the real statement.
    pub async fn claim(&self, me: ReplicaId, upload: &Upload) -> Claim {
        claimed(&self.world.db, me, upload).await.expect("the session is free")
    }
}

impl Gate {
    pub async fn open(self) {
        self.closed.commit().await.unwrap();
    }
}

/// A connection of this name.
pub async fn connect(url: &str, name: &'static str) -> DatabaseConnection {
    let mut options = ConnectOptions::new(url);
    options.max_connections(2);
    // As the chunk road's connections are.
    let plans = [("plan_cache_mode", "force_generic_plan")];
    options.map_sqlx_postgres_opts(move |postgres| postgres.application_name(name).options(plans));
    Database::connect(options).await.unwrap()
}

/// What a claim of this one session gets.
pub async fn claimed(db: &DatabaseConnection, me: ReplicaId, upload: &Upload) -> Option<Claim> {
    let only = [id(upload)];
    let mut claims = PgFeedStore::new(db.clone()).claim(&wanted(me, Some(&only))).await.unwrap();
    assert!(claims.len() <= 1);
    claims.pop()
}

/// A claim of any of these, from living and expired owners.
pub fn wanted(me: ReplicaId, only: Option<&[SessionId]>) -> Wanted<'_> {
    Wanted { me, except: &[], only, limit: 10, start_bytes: 1, from_expired: true }
}

/// What a claim's writes are guarded by.
pub fn guard(me: ReplicaId, claim: &Claim) -> Guard {
    Guard { session: claim.session, owner: me, epoch: claim.epoch, generation: claim.generation }
}

pub fn id(upload: &Upload) -> SessionId {
    SessionId(upload.session)
}

pub fn replica() -> ReplicaId {
    ReplicaId(Uuid::new_v4())
}

/// The values of a guard, in the order of its parameters.
pub fn guard_values(guard: Guard) -> [Value; 4] {
    let Guard { session, owner, epoch: Epoch(epoch), generation: Generation(generation) } = guard;
    [session.0.into(), epoch.into(), owner.0.into(), generation.into()]
}

pub fn sql(text: &str, values: impl IntoIterator<Item = Value>) -> Statement {
    Statement::from_sql_and_values(DbBackend::Postgres, text, values)
}

/// Runs a mutant's write.
pub async fn run(
    db: &impl ConnectionTrait,
    text: &str,
    values: impl IntoIterator<Item = Value>,
) -> Result<ExecResult, DbErr> {
    db.execute_raw(sql(text, values)).await
}

/// Runs a mutant's read.
pub async fn rows(
    db: &impl ConnectionTrait,
    text: &str,
    values: impl IntoIterator<Item = Value>,
) -> Vec<QueryResult> {
    db.query_all_raw(sql(text, values)).await.unwrap()
}

/// A real statement with one clause of it replaced.
pub fn mutated(real: &str, clause: &str, by: &str) -> String {
    assert!(real.contains(clause), "the rule {clause:?} is not in {real:?}");
    real.replace(clause, by)
}
