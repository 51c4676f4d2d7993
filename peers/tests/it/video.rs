//! Videos for tests, and what ffprobe says of their streams.

use std::path::Path;
use std::process::{Command, Stdio};

/// A fragmented mp4 of so many seconds.
pub fn make(seconds: u32, sound: bool) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("video.mp4");
    let mut arguments = vec!["-f".to_owned(), "lavfi".into(), "-i".into()];
    arguments.push(format!("testsrc2=size=320x180:rate=25:duration={seconds}"));
    if sound {
        arguments.extend(["-f".into(), "lavfi".into(), "-i".into(), format!("sine=duration={seconds}")]);
        arguments.extend(["-c:a".into(), "aac".into()]);
    }
    arguments.extend(["-c:v", "libx264", "-preset", "ultrafast", "-movflags"].map(str::to_owned));
    arguments.push("frag_keyframe+empty_moov".into());
    run("ffmpeg", &arguments, Some(&file));
    std::fs::read(file).unwrap()
}

/// Plays the stream to its end without a single error and gives its length in seconds.
pub fn played_seconds(url: &str) -> f64 {
    let decode = ["-xerror", "-i", url, "-f", "null", "-"].map(str::to_owned);
    assert_eq!(run("ffmpeg", &decode, None), "", "{url} does not decode cleanly");
    let probe = ["-show_entries", "format=duration", "-of", "csv=p=0", url].map(str::to_owned);
    run("ffprobe", &probe, None).trim().parse().unwrap()
}

/// The kinds of streams behind a manifest.
pub fn kinds(url: &str) -> Vec<String> {
    let probe = ["-show_entries", "stream=codec_type", "-of", "csv=p=0", url].map(str::to_owned);
    let mut kinds: Vec<String> = run("ffprobe", &probe, None)
        .split_whitespace()
        .map(|kind| kind.trim_matches(',').to_owned())
        .collect();
    kinds.sort();
    kinds.dedup();
    kinds
}

/// Standard output and standard error of a tool that must succeed.
fn run(tool: &str, arguments: &[String], file: Option<&Path>) -> String {
    let ran =
        Command::new(tool).args(["-v", "error"]).args(arguments).args(file).stdin(Stdio::null()).output();
    let ran = ran.unwrap_or_else(|error| {
        panic!("{tool} is needed for this test and cannot be run ({error}); `make test` installs it, or: apt-get install ffmpeg")
    });
    let said = String::from_utf8_lossy(&ran.stderr).into_owned();
    assert!(ran.status.success(), "{tool} {arguments:?}: {said}");
    String::from_utf8_lossy(&ran.stdout).into_owned() + &said
}
