//! A small valid DASH and HLS, with the files that they refer to, as ffmpeg would name them.

use bytes::Bytes;

/// Segments of each stream; their length is [`SEGMENT_SECONDS`].
const SEGMENTS: usize = 2;
const SEGMENT_SECONDS: usize = 2;

/// How much of a finished flow arrives on holder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shipment {
    /// Everything.
    Whole,
    /// The manifests, but the last segment of each stream is missing.
    Incomplete,
    /// Nothing.
    Nothing,
}

/// The files of one flow as (path below the saving path, bytes).
pub(super) fn files(shipment: Shipment) -> Vec<(String, Bytes)> {
    let segments = match shipment {
        Shipment::Whole => SEGMENTS,
        Shipment::Incomplete => SEGMENTS - 1,
        Shipment::Nothing => return Vec::new(),
    };
    let mut files = vec![
        ("dash/manifest.mpd".to_owned(), Bytes::from(mpd())),
        ("hls/manifest.m3u8".to_owned(), Bytes::from(playlist())),
    ];
    for stream in 0..2 {
        files.push((format!("dash/init-stream{stream}.m4s"), Bytes::from_static(b"init")));
        for number in 1..=segments {
            files.push((format!("dash/chunk-stream{stream}-{number:05}.m4s"), Bytes::from_static(b"media")));
        }
    }
    files.extend((0..segments).map(|n| (format!("hls/manifest{n}.ts"), Bytes::from_static(b"media"))));
    files
}

fn mpd() -> String {
    let total = SEGMENTS * SEGMENT_SECONDS;
    let sets: String = [("video", "avc1.64001e", "video/mp4"), ("audio", "mp4a.40.2", "audio/mp4")]
        .iter()
        .enumerate()
        .map(|(id, (kind, codec, mime))| adaptation_set(id, kind, codec, mime))
        .collect();
    format!(
        r#"<?xml version="1.0" encoding="utf-8"?>
<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" profiles="urn:mpeg:dash:profile:isoff-live:2011" type="static" mediaPresentationDuration="PT{total}.0S" maxSegmentDuration="PT{SEGMENT_SECONDS}.0S" minBufferTime="PT4.0S">
	<Period id="0" start="PT0.0S">
{sets}	</Period>
</MPD>
"#
    )
}

fn adaptation_set(id: usize, kind: &str, codec: &str, mime: &str) -> String {
    let repeat = SEGMENTS - 1;
    format!(
        r#"		<AdaptationSet id="{id}" contentType="{kind}" startWithSAP="1" segmentAlignment="true" bitstreamSwitching="true">
			<Representation id="{id}" mimeType="{mime}" codecs="{codec}" bandwidth="128000">
				<SegmentTemplate timescale="1" initialization="init-stream$RepresentationID$.m4s" media="chunk-stream$RepresentationID$-$Number%05d$.m4s" startNumber="1">
					<SegmentTimeline>
						<S t="0" d="{SEGMENT_SECONDS}" r="{repeat}" />
					</SegmentTimeline>
				</SegmentTemplate>
			</Representation>
		</AdaptationSet>
"#
    )
}

fn playlist() -> String {
    let segments: String =
        (0..SEGMENTS).map(|n| format!("#EXTINF:{SEGMENT_SECONDS}.000000,\nmanifest{n}.ts\n")).collect();
    format!(
        "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:{SEGMENT_SECONDS}\n#EXT-X-MEDIA-SEQUENCE:0\n\
         #EXT-X-PLAYLIST-TYPE:VOD\n{segments}#EXT-X-ENDLIST\n"
    )
}
