//! The least HTTP client that talks to loopback servers: one request, one connection, one bounded answer.
//!
//! Unlike awc's its futures are Send and need no actix system, so tests of every kind can use it.

use std::time::Duration;

use anyhow::{Context, bail};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use url::Url;

/// The longest answer that is read, in bytes.
const ANSWER_LIMIT: u64 = 8 * 1024 * 1024;

/// An answer, whatever its status.
#[derive(Debug)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The body, decoded.
    pub body: Vec<u8>,
}

impl Answer {
    /// The answer itself when its status is 2xx.
    ///
    /// # Errors
    /// On any other status; the text holds the beginning of the body.
    pub fn success(self) -> anyhow::Result<Self> {
        if (200..300).contains(&self.status) {
            return Ok(self);
        }
        let text: String = String::from_utf8_lossy(&self.body).chars().take(300).collect();
        bail!("HTTP status {}: {text}", self.status)
    }
}

/// Sends one request and reads the whole answer; `body` is sent as JSON. Credentials may stand in the URL.
///
/// # Errors
/// When the URL is not `http://`, the server cannot be reached, its answer is no HTTP or longer than 8 MiB, or
/// `deadline` has passed.
pub async fn request(
    method: &str,
    url: &str,
    body: Option<&str>,
    deadline: Duration,
) -> anyhow::Result<Answer> {
    let target = Url::parse(url).with_context(|| format!("no URL: {url}"))?;
    let work = exchange(method, &target, body);
    let answer =
        tokio::time::timeout(deadline, work).await.context("no answer in time").and_then(|done| done);
    answer.with_context(|| format!("{method} {}", without_credentials(&target)))
}

/// GET.
///
/// # Errors
/// As `request`.
pub async fn get(url: &str, deadline: Duration) -> anyhow::Result<Answer> {
    request("GET", url, None, deadline).await
}

async fn exchange(method: &str, url: &Url, body: Option<&str>) -> anyhow::Result<Answer> {
    if url.scheme() != "http" {
        bail!("only http is spoken here");
    }
    let host = url.host_str().context("a URL without a host")?;
    let port = url.port_or_known_default().context("a URL without a port")?;
    let mut stream = TcpStream::connect((host, port)).await?;
    stream.write_all(head(method, url, body).as_bytes()).await?;
    stream.write_all(body.unwrap_or_default().as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(ANSWER_LIMIT + 1).read_to_end(&mut answer).await?;
    if answer.len() as u64 > ANSWER_LIMIT {
        bail!("an answer longer than {ANSWER_LIMIT} bytes");
    }
    parse(&answer)
}

fn head(method: &str, url: &Url, body: Option<&str>) -> String {
    let query = url.query().map(|query| format!("?{query}")).unwrap_or_default();
    let host = url.host_str().unwrap_or_default();
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    let mut head =
        format!("{method} {}{query} HTTP/1.1\r\nhost: {host}{port}\r\nconnection: close\r\n", url.path());
    if !url.username().is_empty() {
        let credentials = format!("{}:{}", url.username(), url.password().unwrap_or_default());
        head.push_str(&format!("authorization: Basic {}\r\n", STANDARD.encode(credentials)));
    }
    if let Some(body) = body {
        head.push_str(&format!("content-type: application/json\r\ncontent-length: {}\r\n", body.len()));
    }
    head.push_str("\r\n");
    head
}

fn without_credentials(url: &Url) -> String {
    format!(
        "{}:{}{}",
        url.host_str().unwrap_or_default(),
        url.port_or_known_default().unwrap_or(0),
        url.path()
    )
}

fn parse(answer: &[u8]) -> anyhow::Result<Answer> {
    let end = find(answer, b"\r\n\r\n").context("an answer without a complete head")?;
    let head = std::str::from_utf8(&answer[..end]).context("an answer with a garbled head")?;
    let body = &answer[end + 4..];
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).and_then(|code| code.parse().ok());
    let status = status.context("an answer without a status")?;
    let header = |name: &str| {
        let mut fields = lines.clone().filter_map(|line| line.split_once(':'));
        fields.find(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim().to_owned())
    };
    if header("transfer-encoding").is_some_and(|coding| coding.eq_ignore_ascii_case("chunked")) {
        return Ok(Answer { status, body: unchunk(body)? });
    }
    if let Some(length) = header("content-length").and_then(|length| length.parse::<usize>().ok())
        && body.len() < length
    {
        bail!("an answer cut off after {} of {length} bytes", body.len());
    }
    Ok(Answer { status, body: body.to_owned() })
}

fn unchunk(mut body: &[u8]) -> anyhow::Result<Vec<u8>> {
    let mut whole = Vec::new();
    loop {
        let line = find(body, b"\r\n").context("a chunk without a size")?;
        let size = std::str::from_utf8(&body[..line])?.split(';').next().unwrap_or_default().trim();
        let size = usize::from_str_radix(size, 16).context("a chunk with a garbled size")?;
        if size == 0 {
            return Ok(whole);
        }
        let start = line + 2;
        let end = start.checked_add(size).context("a chunk of an absurd size")?;
        whole.extend_from_slice(body.get(start..end).context("a chunk cut off")?);
        body = body.get(end + 2..).context("a chunk without an end")?;
    }
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn credentials_become_a_header_and_leave_the_error() {
        let url = Url::parse("http://guest:secret@127.0.0.1:8080/api/x?y=1").unwrap();
        let head = head("PUT", &url, Some("{}"));
        assert!(head.starts_with("PUT /api/x?y=1 HTTP/1.1\r\nhost: 127.0.0.1:8080\r\n"), "{head}");
        assert!(head.contains("authorization: Basic Z3Vlc3Q6c2VjcmV0\r\n"), "{head}");
        assert!(!without_credentials(&url).contains("secret"));
    }

    #[test]
    fn plain_and_chunked_bodies_are_read() {
        let plain = parse(b"HTTP/1.1 201 Created\r\nContent-Length: 2\r\n\r\nok").unwrap();
        assert_eq!((plain.status, plain.body.as_slice()), (201, b"ok".as_slice()));
        let chunked =
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n";
        assert_eq!(parse(chunked).unwrap().body, b"abcde");
    }

    #[test]
    fn a_cut_off_answer_is_an_error() {
        for answer in [
            "HTTP/1.1 200 OK\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nab",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nab",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nffffffffffffffff\r\nab",
        ] {
            assert!(parse(answer.as_bytes()).is_err(), "{answer}");
        }
    }
}
