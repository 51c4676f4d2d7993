//! A web origin: the scheme, host and port that an address must have to be trusted.

use std::fmt;
use std::str::FromStr;

use url::Url;

/// Scheme, host and port of an address, for example `http://fflow:4050`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Origin {
    /// `http` or `https`.
    pub scheme: String,
    /// Host name, lower case, or IP address (IPv6 in brackets).
    pub host: String,
    /// Port, the scheme's own if the address names none.
    pub port: u16,
}

impl Origin {
    /// The origin of an address; `None` if it is not http(s) or has no host.
    pub fn of(url: &Url) -> Option<Self> {
        if !matches!(url.scheme(), "http" | "https") {
            return None;
        }
        let host = url.host_str()?.to_owned();
        Some(Self { scheme: url.scheme().to_owned(), host, port: url.port_or_known_default()? })
    }

    /// Whether the address has this origin.
    pub fn matches(&self, url: &Url) -> bool {
        Self::of(url).is_some_and(|origin| origin == *self)
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}:{}", self.scheme, self.host, self.port)
    }
}

impl FromStr for Origin {
    type Err = ();

    /// Reads `scheme://host[:port]`; a path, a query or credentials are refused.
    fn from_str(text: &str) -> Result<Self, ()> {
        let url = Url::parse(text.trim()).map_err(|_| ())?;
        let bare = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
        let nobody = url.username().is_empty() && url.password().is_none();
        if bare && nobody { Self::of(&url).ok_or(()) } else { Err(()) }
    }
}
