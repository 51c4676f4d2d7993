//! Manifests as ffmpeg writes them, and as others might.
#![allow(clippy::unwrap_used)]

use super::*;

fn mpd(kind: &str, inside: &str) -> String {
    format!(
        r#"<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="{kind}" mediaPresentationDuration="PT7.5S">
        <Period id="0"><AdaptationSet><Representation id="0" bandwidth="5">{inside}</Representation></AdaptationSet></Period></MPD>"#
    )
}

fn names(inside: &str) -> Result<Vec<String>, String> {
    read(mpd("static", inside).as_bytes())
}

#[test]
fn a_timeline_names_each_segment_by_number() {
    let got = names(
        r#"<SegmentTemplate timescale="10" initialization="init-stream$RepresentationID$.m4s"
            media="chunk-stream$RepresentationID$-$Number%05d$.m4s" startNumber="1">
            <SegmentTimeline><S t="0" d="20" r="1"/><S d="35"/></SegmentTimeline></SegmentTemplate>"#,
    );
    let want =
        ["init-stream0.m4s", "chunk-stream0-00001.m4s", "chunk-stream0-00002.m4s", "chunk-stream0-00003.m4s"];
    assert_eq!(got.unwrap(), want);
}

#[test]
fn a_timeline_names_each_segment_by_time() {
    let got = names(
        r#"<SegmentTemplate media="$Bandwidth$_$Time$$$.m4s"><SegmentTimeline><S t="5" d="2" r="-1"/></SegmentTimeline></SegmentTemplate>"#,
    );
    assert_eq!(got.unwrap(), ["5_5$.m4s", "5_7$.m4s"]);
}

#[test]
fn a_constant_duration_counts_the_segments_of_the_period() {
    let template = |duration: &str| {
        format!(
            r#"<SegmentTemplate timescale="2" duration="{duration}" startNumber="0" media="s$Number$.m4s"/>"#
        )
    };
    assert_eq!(names(&template("4")).unwrap(), ["s0.m4s", "s1.m4s", "s2.m4s", "s3.m4s"]);
    assert_eq!(names(&template("5")).unwrap().len(), 3);
    assert!(names(&template("0")).is_err());
}

#[test]
fn templates_and_bases_are_inherited() {
    let text = r#"<MPD type="static" mediaPresentationDuration="PT1S"><BaseURL>media/</BaseURL><Period><AdaptationSet>
        <SegmentTemplate timescale="1" media="$RepresentationID$-$Number$.m4s" duration="1"/>
        <Representation id="a"><BaseURL>low/</BaseURL></Representation><Representation id="b"/></AdaptationSet></Period></MPD>"#;
    assert_eq!(read(text.as_bytes()).unwrap(), ["media/low/a-1.m4s", "media/b-1.m4s"]);
}

#[test]
fn lists_and_single_files_are_known() {
    let list = r#"<SegmentList><Initialization sourceURL="i"/><SegmentURL media="a"/><SegmentURL media="b"/></SegmentList>"#;
    assert_eq!(names(list).unwrap(), ["i", "a", "b"]);
    assert_eq!(names("<BaseURL>whole.mp4</BaseURL>").unwrap(), ["whole.mp4"]);
}

#[test]
fn what_is_not_final_or_no_manifest_is_refused() {
    let template = r#"<SegmentTemplate media="$Number$" duration="1"/>"#;
    assert!(read(mpd("dynamic", template).as_bytes()).unwrap_err().contains("static"));
    for odd in ["", "<html/>", "<MPD type='static'/>", "<MPD type='static'><Period>", "\u{0}"] {
        assert!(read(odd.as_bytes()).is_err(), "{odd}");
    }
    assert!(read(b"\xff\xfe").is_err());
    assert!(read(b"<!DOCTYPE x [<!ENTITY a 'b'>]><MPD type='static'>&a;</MPD>").is_err());
    assert!(names("").is_err());
}

#[test]
fn absurd_counts_are_refused() {
    for timeline in [r#"<S d="1" r="999999999999"/>"#, r#"<S d="0"/>"#, r#"<S/>"#, r#"<S d="1" r="x"/>"#, ""]
    {
        let text = format!(
            r#"<SegmentTemplate media="$Number$"><SegmentTimeline>{timeline}</SegmentTimeline></SegmentTemplate>"#
        );
        assert!(names(&text).is_err(), "{timeline}");
    }
    assert!(
        names(r#"<SegmentTemplate media="$Number$" timescale="18446744073709551615" duration="1"/>"#)
            .is_err()
    );
    assert!(names(r#"<SegmentTemplate media="$Number%0999999999d$" duration="1"/>"#).is_err());
    assert!(names(r#"<SegmentTemplate media="$Number" duration="1"/>"#).is_err());
    assert!(names(r#"<SegmentTemplate media="x$Number$" endNumber="18446744073709551615"/>"#).is_err());
}

#[test]
fn durations_are_read() {
    assert_eq!(segments::seconds("PT1H2M3.5S").unwrap(), 3723.5);
    assert_eq!(segments::seconds("P1DT0S").unwrap(), 86_400.0);
    for odd in ["", "1S", "P1Y", "PT-5S", "PTxS", "PT5"] {
        assert!(segments::seconds(odd).is_err(), "{odd}");
    }
}
