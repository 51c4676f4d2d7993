//! Servers that mean ill: one that answers what a test scripts, byte by byte, and one that nobody may ever reach.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// A listener that counts who comes.
pub struct Trap {
    pub address: String,
    visits: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Trap {
    pub async fn set() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let visits = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&visits);
        let task = tokio::spawn(async move {
            while listener.accept().await.is_ok() {
                count.fetch_add(1, Ordering::Relaxed);
            }
        });
        Trap { address, visits, task }
    }

    pub fn visits(&self) -> usize {
        self.visits.load(Ordering::Relaxed)
    }
}

impl Drop for Trap {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// How a rogue answers one request.
#[derive(Clone)]
pub enum Reply {
    /// This status and body.
    Body(u16, String),
    /// This status and `Location`.
    Redirect(u16, String),
    /// A 200 whose body never ends.
    EndlessBody,
    /// A 200 whose body never ends, a byte every 100 ms.
    Drip,
    /// A 200 whose headers never end.
    EndlessHead,
}

/// What a rogue answers to a method and a path.
type Script = dyn Fn(&str, &str) -> Reply + Send + Sync;

/// A server that does what its script says and remembers who asked.
pub struct Rogue {
    pub address: String,
    asked: Arc<Mutex<Vec<(String, String)>>>,
    given: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

impl Rogue {
    /// `script` gets the rogue's own address first.
    pub async fn start(script: impl Fn(&str, &str, &str) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (asked, given) = (Arc::default(), Arc::new(AtomicU64::new(0)));
        let own = address.clone();
        let script: Arc<Script> = Arc::new(move |method, path| script(&own, method, path));
        let (log, count) = (Arc::clone(&asked), Arc::clone(&given));
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (script, log, count) = (Arc::clone(&script), Arc::clone(&log), Arc::clone(&count));
                tokio::spawn(async move { _ = serve(stream, &*script, &log, &count).await });
            }
        });
        Rogue { address, asked, given, task }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// How often a request of this method, whose path ends so, was answered.
    pub fn asked(&self, method: &str, end: &str) -> usize {
        let asked = self.asked.lock().unwrap();
        asked.iter().filter(|(how, path)| how == method && path.ends_with(end)).count()
    }

    /// Bytes of endless answers that were taken, by all together.
    pub fn given(&self) -> u64 {
        self.given.load(Ordering::Relaxed)
    }
}

impl Drop for Rogue {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(
    stream: TcpStream,
    script: &Script,
    log: &Mutex<Vec<(String, String)>>,
    given: &AtomicU64,
) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    stream.read_line(&mut line).await?;
    let mut words = line.split(' ').map(str::to_owned);
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let mut length = 0;
    loop {
        let mut header = String::new();
        stream.read_line(&mut header).await?;
        let Some((name, value)) = header.split_once(':') else { break };
        if name.eq_ignore_ascii_case("content-length") {
            length = value.trim().parse().unwrap_or(0);
        }
    }
    tokio::io::copy(&mut (&mut stream).take(length), &mut tokio::io::sink()).await?;
    let reply = script(&method, &path);
    log.lock().unwrap().push((method, path));
    answer(stream.into_inner(), reply, given).await
}

/// The head of a body of no stated length.
const CHUNKED: &str = "HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\n\r\n";

async fn answer(mut stream: TcpStream, reply: Reply, given: &AtomicU64) -> std::io::Result<()> {
    let (head, endless, pause) = match reply {
        Reply::Body(status, body) => {
            let head =
                format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
            return stream.write_all((head + &body).as_bytes()).await;
        }
        Reply::Redirect(status, location) => {
            let head = format!(
                "HTTP/1.1 {status} X\r\nLocation: {location}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            );
            return stream.write_all(head.as_bytes()).await;
        }
        Reply::EndlessBody => (CHUNKED, [b"10000\r\n", &[b' '; 64 << 10][..], b"\r\n"].concat(), None),
        Reply::Drip => (CHUNKED, b"1\r\n \r\n".to_vec(), Some(Duration::from_millis(100))),
        Reply::EndlessHead => ("HTTP/1.1 200 X\r\n", b"X-More: and more, and more\r\n".repeat(1000), None),
    };
    stream.write_all(head.as_bytes()).await?;
    loop {
        stream.write_all(&endless).await?;
        given.fetch_add(endless.len() as u64, Ordering::Relaxed);
        if let Some(pause) = pause {
            tokio::time::sleep(pause).await;
        }
    }
}
