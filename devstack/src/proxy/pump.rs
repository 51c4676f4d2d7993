//! One direction of a connection: moves bytes through the weather until the end, or until it is half-closed.

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};

use super::{Towards, Weather};

/// How much is read at once, in bytes.
const BLOCK: usize = 64 * 1024;
/// How many blocks one direction of a connection may hold while they are delayed.
const QUEUE: usize = 64;

/// Waits while the proxy is stalled.
pub(super) async fn calm(weather: &mut watch::Receiver<Weather>) -> std::io::Result<Weather> {
    let calm = weather.wait_for(|weather| !weather.stalled).await;
    calm.map(|weather| *weather).map_err(|_| std::io::Error::other("the proxy has ended"))
}

/// Moves bytes one way. Blocks wait out their delay in a queue, so that a delay does not cost throughput.
pub(super) async fn pump(
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    mut weather: watch::Receiver<Weather>,
    towards: Towards,
) -> std::io::Result<()> {
    let halves = weather.borrow().halves[towards as usize];
    let mut closing_weather = weather.clone();
    let closed = closing_weather.wait_for(|weather| weather.halves[towards as usize] != halves);
    let moving = transfer(&mut from, &mut to, &mut weather);
    tokio::select! {
        moved = moving => return moved,
        _ = closed => {}
    }
    to.shutdown().await?;
    swallow(&mut from).await
}

async fn transfer(
    from: &mut ReadHalf<'_>,
    to: &mut WriteHalf<'_>,
    weather: &mut watch::Receiver<Weather>,
) -> std::io::Result<()> {
    let (queue, mut queued) = mpsc::channel::<(Instant, Bytes)>(QUEUE);
    let reading_weather = weather.clone();
    let reading = async move {
        loop {
            let mut block = BytesMut::with_capacity(BLOCK);
            if from.read_buf(&mut block).await? == 0 {
                return Ok(());
            }
            let due = Instant::now() + reading_weather.borrow().delay;
            if queue.send((due, block.freeze())).await.is_err() {
                return Ok(());
            }
        }
    };
    let writing = async {
        while let Some((due, block)) = queued.recv().await {
            if due > Instant::now() {
                sleep_until(due).await;
            }
            calm(weather).await?;
            to.write_all(&block).await?;
        }
        calm(weather).await?;
        to.shutdown().await
    };
    tokio::try_join!(reading, writing).map(drop)
}

/// Reads to the end of the stream and forgets it.
async fn swallow(from: &mut ReadHalf<'_>) -> std::io::Result<()> {
    let mut lost = vec![0; BLOCK];
    while from.read(&mut lost).await? > 0 {}
    Ok(())
}
