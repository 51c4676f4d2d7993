//! Waits for conditions, never for time.

use std::time::Duration;

use anyhow::bail;
use tokio::time::{Instant, sleep, timeout_at};

const FIRST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_millis(200);

/// Asks `check` again and again, at first every 5 ms and later every 200 ms, until it says true.
///
/// # Errors
/// When `deadline` has passed; the text names `what` was waited for. A `check` that is still running then is
/// dropped.
pub async fn wait_until<F>(what: &str, deadline: Duration, mut check: F) -> anyhow::Result<()>
where
    F: AsyncFnMut() -> bool,
{
    let end = Instant::now() + deadline;
    let mut pause = FIRST_PAUSE;
    loop {
        match timeout_at(end, check()).await {
            Ok(true) => return Ok(()),
            Ok(false) if Instant::now() + pause < end => sleep(pause).await,
            Ok(false) | Err(_) => bail!("waited {deadline:?} in vain until {what}"),
        }
        pause = (pause * 3 / 2).min(LONGEST_PAUSE);
    }
}

/// Tries `attempt` until it succeeds; when `deadline` has passed its last error is returned with `what`.
///
/// # Errors
/// The last error of `attempt`.
pub async fn retry_until<T, F>(what: &str, deadline: Duration, mut attempt: F) -> anyhow::Result<T>
where
    F: AsyncFnMut() -> anyhow::Result<T>,
{
    let end = Instant::now() + deadline;
    let mut pause = FIRST_PAUSE;
    let mut last = None;
    loop {
        match timeout_at(end, attempt()).await {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(error)) => last = Some(error),
            Err(_) => last = last.or_else(|| Some(anyhow::anyhow!("no answer at all"))),
        }
        if Instant::now() + pause >= end {
            let error = last.unwrap_or_else(|| anyhow::anyhow!("never tried"));
            return Err(error.context(format!("waited {deadline:?} in vain until {what}")));
        }
        sleep(pause).await;
        pause = (pause * 3 / 2).min(LONGEST_PAUSE);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[tokio::test]
    async fn a_condition_that_comes_true_ends_the_wait() {
        let mut asked = 0;
        wait_until("asked three times", Duration::from_secs(5), async || {
            asked += 1;
            asked == 3
        })
        .await
        .unwrap();
        assert_eq!(asked, 3);
    }

    #[tokio::test]
    async fn the_error_names_what_was_waited_for() {
        let error = wait_until("pigs fly", Duration::from_millis(20), async || false).await.unwrap_err();
        assert!(error.to_string().contains("until pigs fly"), "{error}");
    }

    #[tokio::test]
    async fn a_check_that_hangs_does_not_hang_the_wait() {
        let hangs = async || std::future::pending::<bool>().await;
        assert!(wait_until("it answers", Duration::from_millis(20), hangs).await.is_err());
    }

    #[tokio::test]
    async fn the_last_error_of_an_attempt_is_kept() {
        let fails = async || -> anyhow::Result<()> { Err(anyhow::anyhow!("no route")) };
        let error = retry_until("connected", Duration::from_millis(20), fails).await.unwrap_err();
        assert!(format!("{error:#}").ends_with("until connected: no route"), "{error:#}");
    }
}
