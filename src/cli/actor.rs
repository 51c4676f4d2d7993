//! Who works here by hand, as far as the system tells: for the log and for `last_error`.

use crate::config::Config;

/// `user@replica`, the user as the shell knows it.
pub(super) fn name(config: &Config) -> String {
    let user = ["SUDO_USER", "USER", "LOGNAME"].into_iter().find_map(|name| std::env::var(name).ok());
    // It goes into a column and a log: only what a user's name is made of.
    let plain =
        |text: String| text.chars().filter(|c| c.is_alphanumeric() || "-_.".contains(*c)).take(64).collect();
    let user: String = user.map_or_else(|| "unknown".to_owned(), plain);
    format!("{user}@{}", config.replica.name)
}
