//! The real look at a holder in memory, served over HTTP.
#![allow(clippy::unwrap_used)]

use std::io::{Read, Write};
use std::time::Duration;

use peers::recording::{CallKind, Fault, FaultRule, RecordingFflow, RecordingOptions};
use url::Url;
use uuid::Uuid;

use super::*;
use crate::config::{FflowConfig, HolderConfig};
use crate::domain::ids::{Generation, SessionId};
use crate::domain::route::{self, AllowList};
use crate::gateways::fflow::{AwcFflow, Fflow};

struct World {
    server: RecordingFflow,
    holder: AwcHolder,
    video: VideoId,
    flow: FlowId,
}

fn holder(base: &str) -> AwcHolder {
    let base_url = Some(Url::parse(base).unwrap());
    let (timeout, poll) = (Duration::from_secs(2), Duration::from_secs(5));
    AwcHolder::new(&HolderConfig { base_url, timeout, poll, trust: Default::default() }).unwrap()
}

impl World {
    /// A flow that was finished, perhaps with a fault.
    async fn finished(fault: Option<Fault>) -> Self {
        let server = RecordingFflow::start(RecordingOptions::default()).unwrap();
        if let Some(fault) = fault {
            server.inject(FaultRule::on(CallKind::Finish, fault));
        }
        let (video, flow) = (VideoId(Uuid::from_u128(1)), FlowId(Uuid::from_u128(2)));
        ship(&server, &format!("/{video}/{flow}")).await;
        World { holder: holder(&server.holder_url()), server, video, flow }
    }

    async fn look(&self) -> Sight {
        self.holder.look(self.video, self.flow).await
    }

    fn path(&self, name: &str) -> String {
        format!("{}/{}/{name}", self.video, self.flow)
    }

    fn put(&self, name: &str, text: &str) {
        self.server.put_holder_file(&self.path(name), text.as_bytes().to_vec());
    }

    async fn not_whole_because(&self, part: &str) {
        match self.look().await {
            Sight::NotWhole(reason) => assert!(reason.contains(part), "{reason}"),
            other => panic!("{other:?}"),
        }
    }
}

async fn ship(server: &RecordingFflow, saving_path: &str) {
    let seconds = Duration::from_secs(5);
    let config = FflowConfig {
        base_url: Url::parse(&server.base_url()).unwrap(),
        allowed: Vec::new(),
        create_timeout: seconds,
        push_timeout: seconds,
        finish_timeout: seconds,
        delete_timeout: seconds,
        body_limit: 1024,
        refused_pause: seconds,
        trust: Default::default(),
    };
    let fflow = AwcFflow::new(config, 1);
    let name = Generation(1).name(SessionId(Uuid::from_u128(3)));
    let answer = fflow.create(&name).await.unwrap();
    let url = route::from_answer(&answer, &name, &AllowList::new([server.base_url()])).unwrap();
    fflow.finish(&url, saving_path).await.unwrap();
}

#[actix_rt::test]
async fn a_whole_flow_looks_the_same_twice_and_unlike_a_changed_one() {
    let world = World::finished(None).await;
    let first = world.look().await;
    assert!(matches!(first, Sight::Whole { .. }), "{first:?}");
    assert_eq!(world.look().await, first);
    world.put("hls/manifest0.ts", "longer than before");
    let third = world.look().await;
    assert!(matches!(third, Sight::Whole { .. }) && third != first);
}

#[actix_rt::test]
async fn missing_and_empty_files_are_not_whole() {
    World::finished(Some(Fault::FinishWithoutFiles))
        .await
        .not_whole_because("manifest.mpd answered 404")
        .await;
    World::finished(Some(Fault::FinishIncomplete)).await.not_whole_because("404").await;
    let world = World::finished(None).await;
    world.put("dash/chunk-stream0-00001.m4s", "");
    world.not_whole_because("dash/chunk-stream0-00001.m4s is empty").await;
    world.server.remove_holder_file(&world.path("dash/chunk-stream0-00001.m4s"));
    world.not_whole_because("dash/chunk-stream0-00001.m4s answered 404").await;
    world.server.remove_holder_file(&world.path("hls/manifest.m3u8"));
    world.not_whole_because("hls/manifest.m3u8 answered 404").await;
}

#[actix_rt::test]
async fn manifests_that_are_not_final_are_not_whole() {
    let world = World::finished(None).await;
    world.put("hls/manifest.m3u8", "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\nmanifest0.ts\n");
    world.not_whole_because("ENDLIST").await;
    world.put("dash/manifest.mpd", "<MPD type='dynamic'/>");
    world.not_whole_because("static").await;
    world.put("dash/manifest.mpd", &"x".repeat((4 << 20) + 1));
    world.not_whole_because("longer").await;
}

#[actix_rt::test]
async fn references_out_of_the_folder_are_not_followed() {
    let world = World::finished(None).await;
    for name in ["../../../secret", "/secret", "http://127.0.0.1:1/x", "..%2fx"] {
        world.put("hls/manifest.m3u8", &format!("#EXTM3U\n#EXTINF:2,\n{name}\n#EXT-X-ENDLIST\n"));
        world.not_whole_because("no name inside").await;
    }
}

#[actix_rt::test]
async fn a_master_playlist_leads_to_its_playlists() {
    let world = World::finished(None).await;
    world.put("hls/manifest.m3u8", "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\nlow/index.m3u8\n");
    world.not_whole_because("hls/low/index.m3u8 answered 404").await;
    world.put("hls/low/index.m3u8", "#EXTM3U\n#EXTINF:2,\na.ts\n#EXT-X-ENDLIST\n");
    world.not_whole_because("hls/low/a.ts answered 404").await;
    world.put("hls/low/a.ts", "media");
    assert!(matches!(world.look().await, Sight::Whole { .. }));
}

#[actix_rt::test]
async fn a_holder_that_is_away_tells_nothing() {
    let world = World::finished(None).await;
    world.server.set_holder_down(true);
    assert!(matches!(world.look().await, Sight::Unreachable(_)));
    let nobody = holder("http://127.0.0.1:1/");
    assert!(matches!(nobody.look(world.video, world.flow).await, Sight::Unreachable(_)));
}

/// A server that knows no HEAD, and answers to the request for one byte with this head.
fn without_head(ranged: &'static str) -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let mut heard = [0; 8192];
            let length = stream.read(&mut heard).unwrap_or(0);
            let request = String::from_utf8_lossy(&heard[..length]).to_ascii_lowercase();
            let body = match () {
                () if request.starts_with("head") => "HTTP/1.1 405 x\r\ncontent-length: 0\r\n\r\n".to_owned(),
                () if request.contains("range: bytes=0-0") => ranged.to_owned(),
                () if request.contains(".mpd") => whole(
                    "<MPD type='static'><Period><AdaptationSet><Representation>\
                    <BaseURL>a.mp4</BaseURL></Representation></AdaptationSet></Period></MPD>",
                ),
                () => whole("#EXTM3U\n#EXTINF:2,\na.ts\n#EXT-X-ENDLIST\n"),
            };
            let _ = stream.write_all(body.replace("\r\n\r\n", "\r\nconnection: close\r\n\r\n").as_bytes());
        }
    });
    format!("http://{address}")
}

fn whole(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

#[actix_rt::test]
async fn a_server_without_head_is_asked_for_one_byte() {
    let (video, flow) = (VideoId(Uuid::from_u128(1)), FlowId(Uuid::from_u128(2)));
    let partial = "HTTP/1.1 206 x\r\ncontent-range: bytes 0-0/42\r\ncontent-length: 1\r\n\r\nx";
    let full = "HTTP/1.1 200 x\r\ncontent-length: 3\r\n\r\nxyz";
    for ranged in [partial, full] {
        let sight = holder(&without_head(ranged)).look(video, flow).await;
        assert!(matches!(sight, Sight::Whole { .. }), "{sight:?}");
    }
    let empty = "HTTP/1.1 416 x\r\ncontent-length: 0\r\n\r\n";
    let odd = "HTTP/1.1 206 x\r\ncontent-length: 1\r\n\r\nx";
    for ranged in [empty, odd] {
        assert!(matches!(holder(&without_head(ranged)).look(video, flow).await, Sight::NotWhole(_)));
    }
}
