//! The proxy forwards faithfully and breaks on command.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::Instant;

use super::*;
use crate::wait::wait_until;

const SOON: Duration = Duration::from_secs(10);
const BRIEFLY: Duration = Duration::from_millis(100);

/// A server that sends everything back.
async fn echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut from, mut to) = stream.split();
                let _ = tokio::io::copy(&mut from, &mut to).await;
            });
        }
    });
    address
}

async fn say_and_hear(stream: &mut TcpStream, bytes: &[u8]) -> std::io::Result<()> {
    stream.write_all(bytes).await?;
    let mut answer = vec![0; bytes.len()];
    stream.read_exact(&mut answer).await?;
    assert!(answer == bytes, "the bytes came back different");
    Ok(())
}

async fn proxy_and_client() -> (TcpProxy, TcpStream) {
    let proxy = TcpProxy::start(echo().await).await.unwrap();
    let mut client = TcpStream::connect(proxy.address()).await.unwrap();
    say_and_hear(&mut client, b"hello").await.unwrap();
    (proxy, client)
}

#[tokio::test]
async fn bytes_pass_both_ways_and_the_end_passes_too() {
    let (proxy, client) = proxy_and_client().await;
    let bytes: Vec<u8> = (0..1_000_000_u32).map(|number| number.to_le_bytes()[1]).collect();
    let (mut from, mut to) = client.into_split();
    let sent = bytes.clone();
    let sender = tokio::spawn(async move {
        to.write_all(&sent).await.unwrap();
        to.shutdown().await.unwrap();
    });
    let mut answer = Vec::new();
    timeout(SOON, from.read_to_end(&mut answer)).await.unwrap().unwrap();
    sender.await.unwrap();
    assert!(answer == bytes, "the bytes came back different");
    wait_until("the connection is closed", SOON, async || proxy.connections() == 0).await.unwrap();
}

#[tokio::test]
async fn a_cut_resets_and_a_new_connection_works() {
    let (proxy, mut client) = proxy_and_client().await;
    proxy.cut();
    let error = timeout(SOON, client.read_u8()).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    let mut again = TcpStream::connect(proxy.address()).await.unwrap();
    timeout(SOON, say_and_hear(&mut again, b"again")).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_refusing_proxy_refuses_new_and_keeps_old_connections() {
    let (proxy, mut client) = proxy_and_client().await;
    proxy.refuse(true).await.unwrap();
    let error = TcpStream::connect(proxy.address()).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
    say_and_hear(&mut client, b"still here").await.unwrap();
    proxy.refuse(false).await.unwrap();
    let mut again = TcpStream::connect(proxy.address()).await.unwrap();
    timeout(SOON, say_and_hear(&mut again, b"again")).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_stall_holds_the_bytes_and_loses_none() {
    let (proxy, mut client) = proxy_and_client().await;
    proxy.stall(true);
    client.write_all(b"x").await.unwrap();
    assert!(timeout(BRIEFLY, client.read_u8()).await.is_err());
    let mut during = TcpStream::connect(proxy.address()).await.unwrap();
    assert!(timeout(BRIEFLY, say_and_hear(&mut during, b"y")).await.is_err());
    proxy.stall(false);
    assert_eq!(timeout(SOON, client.read_u8()).await.unwrap().unwrap(), b'x');
}

#[tokio::test]
async fn a_delay_is_paid_once_each_way() {
    let (proxy, mut client) = proxy_and_client().await;
    proxy.delay(BRIEFLY);
    let start = Instant::now();
    timeout(SOON, say_and_hear(&mut client, b"slow")).await.unwrap().unwrap();
    assert!(start.elapsed() >= BRIEFLY * 2);
    proxy.delay(Duration::ZERO);
    timeout(SOON, say_and_hear(&mut client, b"fast")).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_dead_target_resets_the_client() {
    let proxy = TcpProxy::start("127.0.0.1:1".parse().unwrap()).await.unwrap();
    let mut client = TcpStream::connect(proxy.address()).await.unwrap();
    assert!(timeout(SOON, client.read_u8()).await.unwrap().is_err());
    proxy.set_target(echo().await);
    let mut again = TcpStream::connect(proxy.address()).await.unwrap();
    timeout(SOON, say_and_hear(&mut again, b"again")).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_dropped_proxy_leaves_nobody_waiting() {
    let (proxy, mut client) = proxy_and_client().await;
    drop(proxy);
    assert_ne!(timeout(SOON, client.read(&mut [0; 1])).await.unwrap().unwrap_or(0), 1);
}

#[tokio::test]
async fn a_half_closed_connection_ends_one_way_and_goes_on_the_other() {
    let (proxy, mut client) = proxy_and_client().await;
    proxy.half_close(Towards::Clients);
    let mut rest = Vec::new();
    timeout(SOON, client.read_to_end(&mut rest)).await.unwrap().unwrap();
    assert!(rest.is_empty(), "{rest:?}");
    client.write_all(b"still taken").await.unwrap();
    assert_eq!(proxy.connections(), 1);
    drop(client);
    wait_until("the connection is closed", SOON, async || proxy.connections() == 0).await.unwrap();
    let mut next = TcpStream::connect(proxy.address()).await.unwrap();
    say_and_hear(&mut next, b"hello again").await.unwrap();
}

#[tokio::test]
async fn a_target_sees_the_end_of_a_half_closed_connection_and_its_answer_still_passes() {
    let (proxy, mut client) = proxy_and_client().await;
    proxy.half_close(Towards::Target);
    // The echo ends with its input, and that end comes back.
    let mut rest = Vec::new();
    timeout(SOON, client.read_to_end(&mut rest)).await.unwrap().unwrap();
    assert!(rest.is_empty(), "{rest:?}");
}
