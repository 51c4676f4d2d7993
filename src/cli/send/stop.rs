//! SIGINT and SIGTERM: the first asks to leave, the second to leave at once.

use std::io;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// Counts the signals that came.
#[derive(Debug, Clone)]
pub(super) struct Stop {
    signals: watch::Receiver<u32>,
}

impl Stop {
    /// Listens from now on, for as long as the process lives.
    pub fn listen() -> io::Result<Self> {
        let (mut interrupt, mut terminate) =
            (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        let (count, signals) = watch::channel(0);
        actix_rt::spawn(async move {
            loop {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
                count.send_modify(|count| *count += 1);
            }
        });
        Ok(Stop { signals })
    }

    /// Whether to leave.
    pub fn is_asked(&self) -> bool {
        *self.signals.borrow() > 0
    }

    /// Waits for the first signal.
    pub async fn asked(&self) {
        self.reached(1).await;
    }

    /// Waits for the second one.
    pub async fn insisted(&self) {
        self.reached(2).await;
    }

    async fn reached(&self, count: u32) {
        let mut signals = self.signals.clone();
        if signals.wait_for(|signals| *signals >= count).await.is_err() {
            // Nobody counts any more, so no signal ever comes.
            std::future::pending::<()>().await;
        }
    }
}
