//! SIGTERM and SIGINT: the first asks the service to leave in good order, the second to leave at once.

use std::future::Future;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tracing::warn;

use crate::clock;
use crate::domain::ids::Timestamp;

/// What was asked for so far. Whatever the service does, it hears the next signal meanwhile.
pub struct Signals {
    heard: mpsc::Receiver<()>,
    /// When the first one came.
    first: Option<Timestamp>,
    hurried: bool,
}

impl Signals {
    /// Listens from now on; the signals no longer end the process by themselves.
    pub(super) fn listen() -> std::io::Result<Self> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let (tell, heard) = mpsc::channel(2);
        actix_rt::spawn(async move {
            loop {
                tokio::select! {
                    _ = terminate.recv() => {}
                    _ = interrupt.recv() => {}
                }
                // A third one says nothing that the second did not.
                let _ = tell.try_send(());
            }
        });
        Ok(Self::heard(heard))
    }

    /// Hears what comes through `heard` in their place.
    pub fn heard(heard: mpsc::Receiver<()>) -> Self {
        Signals { heard, first: None, hurried: false }
    }

    /// Waits for the next one.
    pub(super) async fn next(&mut self) {
        if self.heard.recv().await.is_none() {
            std::future::pending::<()>().await;
        }
        if self.first.is_some() {
            warn!("a second signal: leaving at once");
            self.hurried = true;
        }
        self.first.get_or_insert_with(clock::now);
    }

    /// Does `work` to its end, however often it is asked to leave in good order. `None`, the work broken off, when
    /// there is no time even for that.
    pub(super) async fn beside<T>(&mut self, work: impl Future<Output = T>) -> Option<T> {
        tokio::pin!(work);
        while !self.hurried {
            tokio::select! {
                biased;
                done = &mut work => return Some(done),
                () = self.next() => {}
            }
        }
        None
    }

    /// Waits, unless the service is to leave.
    pub(super) async fn pause(&mut self, span: Duration) {
        if !self.called() {
            tokio::select! {
                biased;
                () = tokio::time::sleep(span) => {}
                () = self.next() => {}
            }
        }
    }

    /// Whether the service is to leave.
    pub(super) fn called(&self) -> bool {
        self.first.is_some()
    }

    /// What is left of `span` since the first one came; all of it before.
    pub(super) fn left_of(&self, span: Duration) -> Duration {
        self.first.map_or(span, |first| span.saturating_sub(first.until(clock::now())))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    fn signals() -> (mpsc::Sender<()>, Signals) {
        let (tell, heard) = mpsc::channel(2);
        (tell, Signals::heard(heard))
    }

    async fn within<T>(work: impl Future<Output = T>) -> T {
        tokio::time::timeout(Duration::from_secs(5), work).await.unwrap()
    }

    #[tokio::test]
    async fn a_pause_ends_with_the_first_signal_and_none_begins_after_it() {
        let (tell, mut signals) = signals();
        tell.send(()).await.unwrap();
        within(signals.pause(LONG)).await;
        assert!(signals.called());
        within(signals.pause(LONG)).await;
    }

    #[tokio::test]
    async fn work_goes_on_beside_the_first_signal_and_is_broken_off_by_the_second() {
        let (tell, mut signals) = signals();
        tell.send(()).await.unwrap();
        assert_eq!(within(signals.beside(async { tokio::task::yield_now().await })).await, Some(()));
        tell.send(()).await.unwrap();
        tell.send(()).await.unwrap();
        assert_eq!(within(signals.beside(std::future::pending::<()>())).await, None);
    }

    #[tokio::test]
    async fn after_the_second_signal_no_work_begins() {
        let (tell, mut signals) = signals();
        tell.send(()).await.unwrap();
        tell.send(()).await.unwrap();
        within(signals.next()).await;
        within(signals.next()).await;
        assert_eq!(within(signals.beside(async { 1 })).await, None);
    }

    #[tokio::test]
    async fn time_to_leave_counts_from_the_first_signal() {
        let (tell, mut signals) = signals();
        assert_eq!(signals.left_of(LONG), LONG);
        tell.send(()).await.unwrap();
        within(signals.next()).await;
        assert!(signals.left_of(LONG) <= LONG);
        assert_eq!(signals.left_of(Duration::ZERO), Duration::ZERO);
    }
}
