//! The schema `uploader`: replicas, sessions with their runs in the spool, and the farm as it was last seen.
//!
//! Nothing refers to the shared tables by a foreign key: their owner drops and makes columns as it likes.

use sea_orm_migration::prelude::*;

/// What one process of this service tells the others.
const REPLICAS: &str = "
CREATE TABLE uploader.replica (
    replica_id  uuid PRIMARY KEY,
    name        text NOT NULL,
    consuming   boolean NOT NULL DEFAULT false,
    started_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    lease_until timestamptz NOT NULL
);
CREATE TABLE uploader.service (
    id              integer PRIMARY KEY DEFAULT 1 CHECK (id = 1),
    spool_id        uuid,
    consuming_since timestamptz,
    schema_version  integer NOT NULL
);
INSERT INTO uploader.service (schema_version) VALUES (1);
";

/// A chunk changes `state`, `committed`, `recent` and `last_activity` of its session: no index, and no condition of
/// one, names these, and half of each page stays free, so that such an update touches one page and no index.
const SESSIONS: &str = "
CREATE TABLE uploader.session (
    session_id      uuid PRIMARY KEY,
    flow_id         uuid,
    video_id        uuid,
    total_bytes     bigint NOT NULL DEFAULT 0,
    state           text NOT NULL CHECK (state IN ('OPEN', 'SEALED', 'DONE', 'EXPIRED', 'FAILED')),
    committed       bigint NOT NULL DEFAULT 0,
    recent          bytea NOT NULL DEFAULT '',
    owner           uuid,
    epoch           bigint NOT NULL DEFAULT 0 CHECK (epoch >= 0),
    generation      integer NOT NULL DEFAULT 0 CHECK (generation >= 0),
    generation_at   timestamptz,
    flow_url        text,
    fed             bigint NOT NULL DEFAULT 0,
    settled         boolean NOT NULL DEFAULT false,
    farthest        bigint NOT NULL DEFAULT 0 CHECK (farthest >= 0),
    strikes         integer NOT NULL DEFAULT 0 CHECK (strikes >= 0),
    failing_since   timestamptz,
    next_attempt_at timestamptz,
    finish_sent_at  timestamptz,
    last_error      text,
    last_activity   timestamptz NOT NULL DEFAULT clock_timestamp(),
    created_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    ended_at        timestamptz,
    cleaned_at      timestamptz,
    spool_gone_at   timestamptz,
    CONSTRAINT session_committed_check CHECK (committed BETWEEN 0 AND total_bytes),
    CONSTRAINT session_fed_check CHECK (fed BETWEEN 0 AND committed),
    CONSTRAINT session_sealed_check CHECK (state NOT IN ('SEALED', 'DONE') OR committed = total_bytes)
) WITH (fillfactor = 50);
CREATE INDEX session_video_idx ON uploader.session (video_id);
CREATE INDEX session_live_idx ON uploader.session (created_at) WHERE ended_at IS NULL;
CREATE INDEX session_ended_idx ON uploader.session (ended_at) WHERE ended_at IS NOT NULL;
";

/// The spool holds bytes `start` to `start + length` of a session in one writer's file, from `position` to `record_end`.
const RUNS: &str = "
CREATE TABLE uploader.run (
    session_id uuid NOT NULL,
    start      bigint NOT NULL CHECK (start >= 0),
    length     bigint NOT NULL CHECK (length > 0),
    writer     uuid NOT NULL,
    position   bigint NOT NULL CHECK (position >= 0),
    record_end bigint NOT NULL,
    PRIMARY KEY (session_id, start),
    CONSTRAINT run_record_end_check CHECK (record_end > position)
) WITH (fillfactor = 50);
";

/// Processes that may exist and are no longer wanted, and the fflow replicas with what last worked there.
const FARM: &str = "
CREATE TABLE uploader.stray (
    name       text PRIMARY KEY,
    session_id uuid NOT NULL,
    base_url   text,
    since      timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE TABLE uploader.fflow_replica (
    base_url            text PRIMARY KEY,
    last_seen           timestamptz NOT NULL DEFAULT clock_timestamp(),
    last_push_ok        timestamptz,
    last_push_session   uuid,
    last_finish_ok      timestamptz,
    last_finish_session uuid
);
";

/// The first step.
#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

// The trait leaves this lifetime unwritten, and an implementation has to do the same.
#[allow(elided_lifetimes_in_paths)]
#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for sql in [REPLICAS, SESSIONS, RUNS, FARM] {
            manager.get_connection().execute_unprepared(sql).await?;
        }
        Ok(())
    }
}
