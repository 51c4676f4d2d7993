//! holder's HTTP: media types, ranges, other origins; and nothing outside its folder.

use actix_web::http::Method;
use awc::Client;
use awc::http::header;

use crate::client::send;
use crate::process::Farm;

#[actix_web::test]
async fn files_have_their_media_types_and_any_origin_may_read_them() {
    let farm = Farm::start(&[]).await;
    std::fs::create_dir_all(farm.root.join("v/f/dash")).unwrap();
    let wanted = [
        ("manifest.mpd", "application/dash+xml"),
        ("manifest.m3u8", "application/vnd.apple.mpegurl"),
        ("a.ts", "video/mp2t"),
        ("a.m4s", "video/iso.segment"),
    ];
    for (name, media_type) in wanted {
        std::fs::write(farm.root.join("v/f/dash").join(name), "0123456789").unwrap();
        let url = format!("{}/v/f/dash/{name}", farm.holder_url);
        let answer = Client::default().get(&url).send().await.unwrap();
        assert_eq!(answer.headers().get(header::CONTENT_TYPE).unwrap(), media_type);
        assert_eq!(answer.headers().get(header::ACCESS_CONTROL_ALLOW_ORIGIN).unwrap(), "*");
    }
}

#[actix_web::test]
async fn a_range_is_served_as_a_part() {
    let farm = Farm::start(&[]).await;
    std::fs::write(farm.root.join("a.ts"), "0123456789").unwrap();
    let request = Client::default().get(format!("{}/a.ts", farm.holder_url));
    let mut part = request.insert_header((header::RANGE, "bytes=2-4")).send().await.unwrap();
    assert_eq!(part.status(), 206);
    assert_eq!(part.headers().get(header::CONTENT_RANGE).unwrap(), "bytes 2-4/10");
    assert_eq!(part.body().await.unwrap(), "234");
    let whole = Client::default().head(format!("{}/a.ts", farm.holder_url)).send().await.unwrap();
    assert_eq!(whole.headers().get(header::CONTENT_LENGTH).unwrap(), "10");
}

#[actix_web::test]
async fn folders_and_paths_that_leave_the_root_are_404() {
    let farm = Farm::start(&[]).await;
    std::fs::create_dir(farm.root.join("v")).unwrap();
    std::fs::write(farm.root.join("../secret"), "x").unwrap();
    for path in ["v", "none", "%2e%2e/secret", "v/..%2f../secret"] {
        let answer = send(Method::GET, &format!("{}/{path}", farm.holder_url), "text/plain", "").await;
        assert_eq!(answer.unwrap().0, 404, "{path}");
    }
}
