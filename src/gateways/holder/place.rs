//! Where a manifest's references lead: only to names inside the flow's own folder.

use url::Url;

/// Files that one flow may refer to; ten hours in blocks of two seconds are 54,000.
pub(crate) const MOST_FILES: usize = 100_000;

/// A flow's folder on holder.
pub(crate) struct Folder {
    root: Url,
}

impl Folder {
    /// The folder of this video's flow under holder's address.
    pub(crate) fn new(base: &Url, video: &str, flow: &str) -> Result<Self, String> {
        let text = format!("{}/{video}/{flow}/", base.as_str().trim_end_matches('/'));
        Url::parse(&text)
            .map(|root| Folder { root })
            .map_err(|error| format!("{text:?} is no address: {error}"))
    }

    /// A file whose name this service chose.
    pub(crate) fn file(&self, name: &str) -> Result<Url, String> {
        self.refer(&self.root, name)
    }

    /// Where `name`, found in the file at `from`, leads.
    ///
    /// Refuses what is no plain relative name or leaves the folder, however it is written.
    pub(crate) fn refer(&self, from: &Url, name: &str) -> Result<Url, String> {
        let refused = || format!("refers to {:?}, which is no name inside its folder", shorten(name));
        let relative = !name.is_empty() && !name.starts_with(['/', '\\']) && !has_scheme(name);
        if !relative || climbs(name) {
            return Err(refused());
        }
        let url = from.join(name).map_err(|_| refused())?;
        let bare = url.query().is_none() && url.fragment().is_none();
        let inside = url.as_str().starts_with(self.root.as_str());
        if bare && inside { Ok(url) } else { Err(refused()) }
    }

    /// The name of a file inside the folder, for people.
    pub(crate) fn name<'a>(&self, url: &'a Url) -> &'a str {
        url.as_str().strip_prefix(self.root.as_str()).unwrap_or(url.as_str())
    }
}

fn has_scheme(name: &str) -> bool {
    Url::parse(name).is_ok() || name.split('/').next().is_some_and(|first| first.contains(':'))
}

/// Whether a segment is `..`, plain or percent-encoded.
fn climbs(name: &str) -> bool {
    let name = name.to_ascii_lowercase().replace("%2e", ".");
    name.split(['/', '\\']).any(|segment| segment == "..") || name.contains("%2f") || name.contains("%5c")
}

fn shorten(name: &str) -> String {
    name.chars().take(100).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn folder() -> Folder {
        Folder::new(&Url::parse("http://holder:8080/videos").unwrap(), "v", "f").unwrap()
    }

    #[test]
    fn plain_names_stay_inside() {
        let manifest = folder().file("dash/manifest.mpd").unwrap();
        assert_eq!(manifest.as_str(), "http://holder:8080/videos/v/f/dash/manifest.mpd");
        for (name, want) in
            [("init.m4s", "dash/init.m4s"), ("./a/b.m4s", "dash/a/b.m4s"), ("a%20b", "dash/a%20b")]
        {
            assert_eq!(folder().name(&folder().refer(&manifest, name).unwrap()), want);
        }
    }

    #[test]
    fn names_that_lead_elsewhere_are_refused() {
        let manifest = folder().file("dash/manifest.mpd").unwrap();
        let bad = [
            "",
            "/etc/passwd",
            "//evil/x",
            "\\\\evil\\x",
            "http://evil/x",
            "http://holder:8080/videos/v/f/x",
            "data:,x",
            "../hls/x",
            "a/../../../x",
            "..",
            "%2e%2e/%2E%2e/x",
            "a/.%2e/b",
            "..%2f..%2fx",
            "..\\x",
            "x?y=1",
            "x#y",
        ];
        for name in bad {
            assert!(folder().refer(&manifest, name).is_err(), "{name}");
        }
    }
}
