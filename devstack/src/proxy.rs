//! A TCP proxy that breaks what passes through it: cuts, half-closes, refuses, stalls and delays.

mod pump;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::Context;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout;

use self::pump::{calm, pump};
use crate::ports::PortLease;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A loopback port that forwards to another address, as long as it is let.
#[derive(Debug)]
pub struct TcpProxy {
    port: PortLease,
    weather: watch::Sender<Weather>,
    commands: mpsc::Sender<Refusal>,
    open: Arc<AtomicUsize>,
    acceptor: JoinHandle<()>,
}

/// What connections have to put up with.
#[derive(Clone, Copy, Debug)]
struct Weather {
    target: SocketAddr,
    stalled: bool,
    delay: Duration,
    cuts: u64,
    /// Half-closures so far, towards the target and towards the clients.
    halves: [u64; 2],
}

/// A direction through the proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Towards {
    /// From the clients to the address that is forwarded to.
    Target,
    /// From there back to the clients.
    Clients,
}

#[derive(Debug)]
struct Refusal {
    refuse: bool,
    done: oneshot::Sender<std::io::Result<()>>,
}

impl TcpProxy {
    /// Listens on a free loopback port and forwards to `target`. Runs on the current tokio or actix runtime.
    ///
    /// # Errors
    /// When no port can be had.
    pub async fn start(target: SocketAddr) -> anyhow::Result<Self> {
        let port = PortLease::take()?;
        let listener = listen(port.number()).await.context("cannot listen")?;
        let calm = Weather { target, stalled: false, delay: Duration::ZERO, cuts: 0, halves: [0, 0] };
        let (weather, _) = watch::channel(calm);
        let (commands, received) = mpsc::channel(1);
        let open = Arc::new(AtomicUsize::new(0));
        let door = Door { port: port.number(), weather: weather.subscribe(), open: open.clone() };
        let acceptor = tokio::spawn(door.keep(listener, received));
        Ok(Self { port, weather, commands, open, acceptor })
    }

    /// The port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// `127.0.0.1:<port>`.
    #[must_use]
    pub fn address(&self) -> String {
        self.port.address()
    }

    /// How many connections are open through the proxy.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// Resets every connection, on both sides; bytes on their way are lost. New ones are accepted.
    pub fn cut(&self) {
        self.weather.send_modify(|weather| weather.cuts += 1);
    }

    /// Ends one direction of every open connection: its receiver sees the end of the stream, its sender is told
    /// nothing, and what is still sent that way is lost. The other direction and new connections go on.
    pub fn half_close(&self, towards: Towards) {
        self.weather.send_modify(|weather| weather.halves[towards as usize] += 1);
    }

    /// Closes the door to new connections, as if nobody listened, or opens it again; open ones go on.
    ///
    /// # Errors
    /// When the port cannot be bound again.
    pub async fn refuse(&self, refuse: bool) -> anyhow::Result<()> {
        let (done, answer) = oneshot::channel();
        self.commands.send(Refusal { refuse, done }).await.context("the proxy has ended")?;
        answer.await.context("the proxy has ended")?.context("cannot listen again")
    }

    /// While true, connections stay open, new ones are accepted, and no byte moves either way.
    pub fn stall(&self, stalled: bool) {
        self.weather.send_modify(|weather| weather.stalled = stalled);
    }

    /// Each byte arrives this much later, in both directions; zero for no delay.
    pub fn delay(&self, delay: Duration) {
        self.weather.send_modify(|weather| weather.delay = delay);
    }

    /// Forwards new connections to another address.
    pub fn set_target(&self, target: SocketAddr) {
        self.weather.send_modify(|weather| weather.target = target);
    }
}

impl Drop for TcpProxy {
    fn drop(&mut self) {
        self.acceptor.abort();
    }
}

async fn listen(port: u16) -> std::io::Result<TcpListener> {
    TcpListener::bind(("127.0.0.1", port)).await
}

/// Accepts connections and keeps them.
struct Door {
    port: u16,
    weather: watch::Receiver<Weather>,
    open: Arc<AtomicUsize>,
}

impl Door {
    async fn keep(self, listener: TcpListener, mut commands: mpsc::Receiver<Refusal>) {
        let mut listener = Some(listener);
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                command = commands.recv() => {
                    let Some(Refusal { refuse, done }) = command else { return };
                    // The caller may have given up waiting; the door moves all the same.
                    let _ = done.send(self.turn(&mut listener, refuse).await);
                }
                client = accept(listener.as_ref()) => {
                    connections.spawn(carry(client, self.weather.clone(), Count::one_more(&self.open)));
                }
                Some(_) = connections.join_next() => {}
            }
        }
    }

    async fn turn(&self, listener: &mut Option<TcpListener>, refuse: bool) -> std::io::Result<()> {
        if refuse {
            *listener = None;
        } else if listener.is_none() {
            *listener = Some(listen(self.port).await?);
        }
        Ok(())
    }
}

async fn accept(listener: Option<&TcpListener>) -> TcpStream {
    loop {
        match listener {
            None => std::future::pending().await,
            Some(listener) => match listener.accept().await {
                Ok((client, _)) => return client,
                // Out of file descriptors, most likely: a pause, not a hot loop.
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            },
        }
    }
}

/// Counts a connection for as long as it lives.
struct Count(Arc<AtomicUsize>);

impl Count {
    fn one_more(open: &Arc<AtomicUsize>) -> Self {
        open.fetch_add(1, Ordering::Relaxed);
        Self(open.clone())
    }
}

impl Drop for Count {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Forwards one connection until both sides have finished, one fails, or it is cut.
async fn carry(mut client: TcpStream, mut weather: watch::Receiver<Weather>, _count: Count) {
    let cuts = weather.borrow_and_update().cuts;
    let mut cut_weather = weather.clone();
    let mut server = None;
    let forwarding = async {
        let server = server.insert(connect(&mut weather).await?);
        let _ = client.set_nodelay(true);
        let _ = server.set_nodelay(true);
        let (from_client, to_client) = client.split();
        let (from_server, to_server) = server.split();
        let there = pump(from_client, to_server, weather.clone(), Towards::Target);
        let back = pump(from_server, to_client, weather.clone(), Towards::Clients);
        tokio::try_join!(there, back).map(drop)
    };
    let cut = cut_weather.wait_for(|weather| weather.cuts != cuts);
    let whole = tokio::select! {
        done = forwarding => done.is_ok(),
        _ = cut => false,
    };
    if !whole {
        let _ = client.set_zero_linger();
        let _ = server.map(|server| server.set_zero_linger());
    }
}

async fn connect(weather: &mut watch::Receiver<Weather>) -> std::io::Result<TcpStream> {
    let target = calm(weather).await?.target;
    timeout(CONNECT_TIMEOUT, TcpStream::connect(target)).await?
}

#[cfg(test)]
mod tests;
