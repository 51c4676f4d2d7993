//! What it costs that several replicas share the sessions: rows of `uploader.run` and the database's time.

use serde_json::{Map, Value, json};

use crate::bench::cell;
use crate::bench::figures::rounded;
use crate::bench::ground::Ground;
use crate::bench::plan::{Pace, Scenario};
use crate::bench::report::Summary;

const CHUNK: usize = 8 << 10;
const SESSIONS: usize = 100;

pub(super) async fn measure(ground: &Ground, pace: Pace) -> anyhow::Result<Value> {
    let mut figures = Map::new();
    let mut single = None;
    for replicas in 1..=3 {
        let cell = cell::measure(ground, Scenario::new(CHUNK, SESSIONS, replicas), pace).await?;
        let service = Summary::of(&cell.service).median;
        let database = service.cpu_us.database;
        let one = *single.get_or_insert(database);
        let told = json!({
            "chunks_per_s": service.chunks_per_s,
            "run_rows_per_chunk": rounded(cell.run_rows_per_chunk),
            "service_us_per_chunk": service.cpu_us.service,
            "database_us_per_chunk": database,
            "database_of_one_replica": if one > 0.0 { rounded(database / one) } else { 0.0 },
        });
        figures.insert(format!("replicas_{replicas}"), told);
    }
    Ok(Value::Object(figures))
}
