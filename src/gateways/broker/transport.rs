//! The stream under an AMQP connection: plain TCP for `amqp`, TLS for `amqps`, never the one for the other.
//!
//! lapin's own TLS would bring a second set of authorities and readers of key stores that nobody asks for. It takes any
//! stream from a runtime's kit, so [`Kit`] is tokio's with another kind of stream.

use std::future::Future;
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_rs::traits::{Executor, Reactor, RuntimeKit};
use async_rs::util::{DummyIO, Task};
use async_rs::{Runtime, Tokio};
use futures_util::{AsyncRead, AsyncWrite, Stream};
use lapin::AsyncTcpStream;
use lapin::uri::{AMQPScheme, AMQPUri};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::compat::{Compat, TokioAsyncReadCompatExt};

use super::frames::Tamed;
use crate::config::Trust;
use crate::gateways::tls;

/// Bytes in both directions, encrypted or not.
pub(super) trait Bytes: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin {}
impl<T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin> Bytes for T {}

/// What lapin reads from and writes to.
pub(super) type Line = Compat<Box<dyn Bytes>>;

/// The runtime that a connection runs on: the one that it is opened on.
pub(super) fn runtime() -> Runtime<Kit> {
    Runtime::new(Kit(Tokio::current()))
}

/// Opens the stream that the address asks for; its host is the name that the certificate must have.
pub(super) async fn open(uri: &AMQPUri, trust: &Trust) -> io::Result<AsyncTcpStream<Line>> {
    let host = uri.authority.host.trim_matches(['[', ']']);
    let plain = TcpStream::connect((host, uri.authority.port)).await?;
    plain.set_nodelay(true)?;
    let bytes: Box<dyn Bytes> = match uri.scheme {
        AMQPScheme::AMQP => Box::new(plain),
        AMQPScheme::AMQPS => {
            Box::new(encrypt(plain, host, tls::client(trust).map_err(io::Error::other)?).await?)
        }
    };
    let tamed: Box<dyn Bytes> = Box::new(Tamed::new(bytes));
    Ok(AsyncTcpStream::Plain(tamed.compat()))
}

async fn encrypt(
    plain: TcpStream,
    host: &str,
    config: Arc<ClientConfig>,
) -> io::Result<TlsStream<TcpStream>> {
    let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
    TlsConnector::from(config).connect(name, plain).await
}

/// tokio as lapin wants a runtime, but for the kind of stream.
#[derive(Debug, Clone)]
pub(super) struct Kit(Tokio);

impl RuntimeKit for Kit {}

impl Executor for Kit {
    type Task<T: Send + 'static> = <Tokio as Executor>::Task<T>;

    fn block_on<T, F: Future<Output = T>>(&self, work: F) -> T {
        self.0.block_on(work)
    }

    fn spawn<T: Send + 'static, F: Future<Output = T> + Send + 'static>(
        &self,
        work: F,
    ) -> Task<Self::Task<T>> {
        self.0.spawn(work)
    }

    fn spawn_blocking<T: Send + 'static, F: FnOnce() -> T + Send + 'static>(
        &self,
        work: F,
    ) -> Task<Self::Task<T>> {
        self.0.spawn_blocking(work)
    }
}

impl Reactor for Kit {
    type TcpStream = Line;
    type Sleep = <Tokio as Reactor>::Sleep;

    /// Not for connections that `open` makes: they come with their stream.
    fn register<H: Read + Write + Send + 'static>(
        &self,
        _socket: H,
    ) -> io::Result<impl AsyncRead + AsyncWrite + Send + Unpin + 'static> {
        Err::<DummyIO, _>(io::ErrorKind::Unsupported.into())
    }

    fn sleep(&self, span: Duration) -> Self::Sleep {
        self.0.sleep(span)
    }

    fn interval(&self, span: Duration) -> impl Stream<Item = Instant> + Send + 'static {
        self.0.interval(span)
    }

    /// Unused for the same reason; plain, as its name says.
    fn tcp_connect_addr(
        &self,
        addr: SocketAddr,
    ) -> impl Future<Output = io::Result<Self::TcpStream>> + Send + 'static {
        let opening = TcpStream::connect(addr);
        async move { Ok((Box::new(opening.await?) as Box<dyn Bytes>).compat()) }
    }
}
