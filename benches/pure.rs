//! The pure parts of a chunk's way, one by one: `cargo bench -p uploader-v4 --bench pure`.
#![allow(missing_docs, clippy::unwrap_used)]

use std::hint::black_box;
use std::time::Duration;

use bytes::Bytes;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use lapin::BasicProperties;
use lapin::message::Delivery;
use lapin::types::parsing::parse_field_table;
use lapin::types::{AMQPValue, FieldTable};
use uploader_v4::domain::chunk::{self, ChunkFacts, Field, Headers, RawDelivery};
use uploader_v4::domain::ids::{FlowId, ReplicaId, SessionId, VideoId};
use uploader_v4::domain::recent::Recent;
use uploader_v4::domain::session::{OwnRow, Session, SharedRows, Terms, decide};
use uploader_v4::domain::status::{FlowStatus, SessionState, VideoStatus};
use uploader_v4::gateways::broker::wire::raw_delivery;
use uploader_v4::gateways::spool::record::{Header, Names};
use uuid::Uuid;

const CHUNK: u32 = 8 << 10;
const LARGE: u32 = 1 << 20;
const FILE: i64 = 1 << 30;

/// The headers of a chunk as gateway encodes them.
const TABLE: &[u8] = b"\x0cx-session-idS\x00\x00\x00\x240b8f60f4-3a0e-4c5c-9a52-0d2b6f3f7c11\
    \x0cx-start-byteI\x00\x10\x00\x00\x06x-sizes\x20\x00\
    \x10x-correlation-idS\x00\x00\x00\x24a7a5b9b0-52a5-4c11-8a70-9f3b7b2d1e55";

fn encoded() -> Vec<u8> {
    [u32::try_from(TABLE.len()).unwrap().to_be_bytes().as_slice(), TABLE].concat()
}

fn facts(start: i64) -> ChunkFacts {
    ChunkFacts { session: SessionId(Uuid::from_u128(1)), start, size: CHUNK, digest: start as u128 }
}

/// In the middle of its file, with as many chunks remembered as there can be.
fn session() -> Session {
    let mut recent = Recent::default();
    (0..16).for_each(|number| recent.remember(&facts(number * i64::from(CHUNK))));
    let committed = 16 * i64::from(CHUNK);
    let own = OwnRow { state: SessionState::Open, committed, recent, last_error: None, owner: None };
    let shared = SharedRows {
        flow: FlowId(Uuid::from_u128(2)),
        video: VideoId(Uuid::from_u128(3)),
        total_bytes: FILE,
        uploaded_bytes: committed,
        flow_status: FlowStatus::Uploading,
        video_status: VideoStatus::Uploading,
    };
    Session { own: Some(own), shared: Some(shared), unreadable: None }
}

fn decoding(criterion: &mut Criterion) {
    let (encoded, body) = (encoded(), vec![7; CHUNK as usize]);
    criterion.bench_function("headers: bytes to a field table (lapin)", |bench| {
        bench.iter(|| parse_field_table(black_box(encoded.as_slice())).unwrap());
    });
    let delivery = || {
        let table: FieldTable = parse_field_table(encoded.as_slice()).unwrap().1;
        let mut delivery = Delivery::mock(1, "e".into(), "k".into(), false, body.clone());
        delivery.properties = BasicProperties::default().with_headers(table);
        delivery
    };
    criterion.bench_function("headers: field table to a delivery of ours", |bench| {
        bench.iter_batched(delivery, raw_delivery, BatchSize::SmallInput);
    });
    let field = |name: &str| {
        let table: FieldTable = parse_field_table(encoded.as_slice()).unwrap().1;
        match table.inner().get(name).unwrap() {
            AMQPValue::LongString(text) => Field::Text(text.as_bytes().to_vec()),
            AMQPValue::LongInt(number) => Field::Integer((*number).into()),
            AMQPValue::ShortInt(number) => Field::Integer((*number).into()),
            other => panic!("{other:?}"),
        }
    };
    let raw = RawDelivery {
        headers: Headers {
            session: field(chunk::SESSION_ID),
            start: field(chunk::START_BYTE),
            size: field(chunk::SIZE),
            correlation: field(chunk::CORRELATION_ID),
        },
        body: Bytes::from(body.clone()),
        trace: None,
    };
    criterion.bench_function("parse: headers and digest of 8 KiB", |bench| {
        bench.iter_batched(|| raw.clone(), |raw| chunk::parse(raw, LARGE).unwrap(), BatchSize::SmallInput);
    });
}

fn deciding(criterion: &mut Criterion) {
    let session = session();
    let terms = Terms {
        window_bytes: 8 * i64::from(LARGE),
        reorder_wait: Duration::from_secs(30),
        waited: Duration::ZERO,
        spool_left: FILE,
    };
    let place = |chunks: i64| facts(chunks * i64::from(CHUNK));
    for (name, chunk) in
        [("the next chunk", place(16)), ("a repeated one", place(3)), ("an early one", place(20))]
    {
        criterion.bench_function(&format!("decide: {name}"), |bench| {
            bench.iter(|| decide(black_box(&session), black_box(&chunk), &terms));
        });
    }
    let recent = session.own.unwrap().recent;
    criterion.bench_function("recent: pack 16", |bench| bench.iter(|| black_box(&recent).pack()));
    let packed = recent.pack();
    criterion.bench_function("recent: unpack 16", |bench| {
        bench.iter(|| Recent::unpack(black_box(&packed)).unwrap());
    });
}

fn storing(criterion: &mut Criterion) {
    let names = Names { session: SessionId(Uuid::from_u128(1)), writer: ReplicaId(Uuid::from_u128(2)) };
    for size in [CHUNK, LARGE] {
        let body = vec![7; size as usize];
        let mut group = criterion.benchmark_group(format!("spool record of {} KiB", size >> 10));
        group.throughput(Throughput::Bytes(size.into()));
        group.bench_function("checksum and header", |bench| {
            bench.iter(|| Header::of(names, 0, size, black_box(&body)).encode());
        });
        let header = Header::of(names, 0, size, &body);
        group.bench_function("verify", |bench| bench.iter(|| assert!(header.fits(names, black_box(&body)))));
        group.finish();
    }
}

criterion_group!(pure, decoding, deciding, storing);
criterion_main!(pure);
