//! The shape of the source: who may use whom, and how long files are. Read from the text, so that it also sees what
//! only compiles on another platform.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Lines of a file without its tests.
const MAX_LINES: usize = 300;

/// Every part of the workspace that holds source of its own.
const TREES: [&str; 5] = ["src", "peers/src", "devstack/src", "entity/src", "migration/src"];

/// External crates that have one home. `app` and `main` put things together and may name what they hand on.
const HOMES: [(&str, &[&str]); 21] = [
    ("lapin", &["gateways::broker"]),
    ("redis", &["gateways::route_store"]),
    ("sea_orm", &["gateways::upload_store", "app"]),
    ("entity", &["gateways::upload_store"]),
    ("migration", &["gateways::upload_store", "app", "cli"]),
    ("awc", &["gateways::fflow", "gateways::holder", "http", "gateways::collector"]),
    ("actix_web", &["http"]),
    ("m3u8_rs", &["gateways::holder"]),
    ("roxmltree", &["gateways::holder"]),
    ("nix", &["gateways::spool"]),
    ("crc32c", &["gateways::spool"]),
    ("figment", &["config"]),
    ("clap", &["cli", "main"]),
    ("anyhow", &["app", "cli"]),
    ("indicatif", &["cli"]),
    ("opentelemetry", &["trace", "telemetry", "gateways::collector"]),
    ("tracing_opentelemetry", &["trace", "telemetry"]),
    ("metrics_exporter_prometheus", &["metrics"]),
    ("rustls", &["config", "gateways"]),
    ("tokio_rustls", &["gateways::broker"]),
    ("async_rs", &["gateways::broker"]),
];

/// What a module of the root crate may use of the same crate. The first part that fits a module's path counts.
const LAW: [(&str, &[&str]); 27] = [
    ("domain", &["domain"]),
    ("fault", &[]),
    ("readiness", &["messages", "metrics"]),
    ("metrics", &["metrics"]),
    ("config", &["config"]),
    ("clock", &["domain"]),
    ("lease", &["clock", "domain"]),
    ("tasks", &[]),
    ("allocator", &[]),
    ("moderation", &[]),
    ("ticket", &["metrics", "domain"]),
    ("messages", &["ticket", "domain"]),
    ("gateways::broker", &["gateways::broker", "gateways::tls", "ticket", "config", "fault", "domain"]),
    ("gateways::spool", &["gateways::spool", "config", "fault", "domain"]),
    ("gateways::route_store", &["gateways::route_store", "gateways::tls", "config", "fault", "domain"]),
    (
        "gateways::upload_store",
        &["gateways::upload_store", "gateways::spool", "gateways::tls", "config", "fault", "domain"],
    ),
    ("gateways::fflow", &["gateways::fflow", "gateways::tls", "trace", "config", "fault", "domain"]),
    ("gateways::holder", &["gateways::holder", "gateways::tls", "config", "fault", "domain"]),
    ("gateways::collector", &["gateways::tls", "config"]),
    ("gateways::tls", &["config"]),
    ("http", &["readiness", "config", "metrics"]),
    ("supervision", &["messages", "metrics", "clock", "domain"]),
    ("telemetry", &["telemetry", "trace", "config"]),
    ("trace", &["domain"]),
    ("testkit", &["testkit", "gateways", "config", "clock", "fault", "ticket", "domain"]),
    (
        "cli",
        &["cli", "app", "config", "telemetry", "http", "gateways", "messages", "fault", "clock", "domain"],
    ),
    ("main", &["allocator", "moderation", "cli", "config"]),
];

/// What every actor may use, besides its own module. Never another actor.
const ACTOR_MAY: [&str; 13] = [
    "messages",
    "ticket",
    "gateways",
    "config",
    "readiness",
    "metrics",
    "trace",
    "fault",
    "clock",
    "lease",
    "tasks",
    "moderation",
    "domain",
];

/// What `app` may use: everything that runs.
const APP_MAY: [&str; 14] = [
    "app",
    "supervision",
    "actors",
    "messages",
    "gateways",
    "config",
    "readiness",
    "http",
    "telemetry",
    "clock",
    "lease",
    "fault",
    "metrics",
    "domain",
];

/// External crates that the domain may name.
const DOMAIN_MAY: [&str; 4] = ["bytes", "uuid", "url", "xxhash_rust"];

struct Source {
    path: PathBuf,
    /// `gateways::spool::file` for `src/gateways/spool/file.rs`; empty for `src/lib.rs`.
    module: Vec<String>,
    text: String,
    /// The text without tests and comments.
    code: String,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All Rust files below a folder, in order.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("the folder can be read") {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn is_test(path: &Path) -> bool {
    path.components().any(|part| part.as_os_str() == "tests") || path.ends_with("tests.rs")
}

/// The sources of a tree that are not tests.
fn sources(tree: &str) -> Vec<Source> {
    let folder = root().join(tree);
    let read = |path: PathBuf| {
        let text = fs::read_to_string(&path).unwrap();
        let code = without_comments(&without_tests(&text));
        let inside = path.strip_prefix(&folder).unwrap().with_extension("");
        let mut module: Vec<String> = inside.iter().map(|part| part.to_string_lossy().into_owned()).collect();
        if module == ["lib"] {
            module.clear();
        }
        let path = path.strip_prefix(root()).unwrap().to_owned();
        Source { path, module, text, code }
    };
    files(&folder).into_iter().filter(|path| !is_test(path)).map(read).collect()
}

/// Cuts out `#[cfg(test)]` items: up to the brace that closes them, or to the end of their line.
fn without_tests(text: &str) -> String {
    let mut kept = String::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if line.trim() != "#[cfg(test)]" {
            kept.push_str(line);
            kept.push('\n');
            continue;
        }
        let indent = &line[..line.len() - line.trim_start().len()];
        let close = format!("{indent}}}");
        let item = lines.by_ref().find(|line| !line.trim_start().starts_with("#[")).unwrap_or_default();
        if item.ends_with('{') {
            lines.by_ref().find(|line| *line == close);
        }
    }
    kept
}

fn without_comments(text: &str) -> String {
    let code = |line: &str| {
        let comment = line.match_indices("//").find(|(at, _)| !line[..*at].ends_with(':'));
        comment.map_or(line, |(at, _)| &line[..at]).to_owned() + "\n"
    };
    text.lines().map(code).collect()
}

fn is_ident(letter: char) -> bool {
    letter.is_alphanumeric() || letter == '_'
}

/// The paths that begin with `head` (`crate`, `super`, or a crate's name), groups in braces written out.
fn paths(code: &str, head: &str) -> Vec<Vec<String>> {
    let start = format!("{head}::");
    let mut found = Vec::new();
    for (at, _) in code.match_indices(&start) {
        let before = code[..at].chars().next_back();
        if before.is_some_and(|letter| is_ident(letter) || letter == ':') {
            continue;
        }
        let path = vec![head.to_owned()];
        expand(&code[at + start.len()..], path, &mut found);
    }
    found
}

/// Reads a path, or a group of paths, from the beginning of `text`; returns what follows it.
fn expand<'a>(text: &'a str, mut path: Vec<String>, found: &mut Vec<Vec<String>>) -> &'a str {
    let mut rest = text.trim_start();
    if let Some(group) = rest.strip_prefix('{') {
        rest = group;
        loop {
            rest = expand(rest, path.clone(), found).trim_start();
            rest = match rest.strip_prefix(',') {
                Some(more) if !more.trim_start().starts_with('}') => more,
                Some(last) => return last.trim_start().strip_prefix('}').unwrap_or(last),
                None => return rest.strip_prefix('}').unwrap_or(rest),
            };
        }
    }
    let end = rest.find(|letter| !is_ident(letter)).unwrap_or(rest.len());
    path.push(rest[..end].to_owned());
    rest = &rest[end..];
    match rest.strip_prefix("::") {
        Some(more) => expand(more, path, found),
        None => {
            found.push(path);
            rest.trim_start()
                .strip_prefix("as ")
                .map_or(rest, |alias| alias.trim_start_matches(|letter| is_ident(letter) || letter == ' '))
        }
    }
}

/// Where paths within the crate lead, whether they begin at its root or climb.
fn uses(source: &Source) -> Vec<Vec<String>> {
    let down = paths(&source.code, "crate").into_iter().map(|path| path[1..].to_vec());
    let library = paths(&source.code, "uploader_v4").into_iter().map(|path| path[1..].to_vec());
    let climb = |path: Vec<String>| {
        let ups = path.iter().take_while(|part| *part == "super").count();
        let base = source.module.len().saturating_sub(ups);
        source.module[..base].iter().chain(&path[ups..]).cloned().collect()
    };
    down.chain(library).chain(paths(&source.code, "super").into_iter().map(climb)).collect()
}

fn begins_with(path: &[String], prefix: &str) -> bool {
    let prefix: Vec<&str> = prefix.split("::").collect();
    path.len() >= prefix.len() && path.iter().zip(&prefix).all(|(part, wanted)| part == wanted)
}

/// The parts that a module may use; `None` for one that the law does not know.
fn allowed(module: &[String]) -> Option<Vec<String>> {
    let owned = |parts: &[&str]| parts.iter().map(|part| (*part).to_owned()).collect::<Vec<_>>();
    if begins_with(module, "actors") {
        let own = module.iter().take(2).cloned().collect::<Vec<_>>().join("::");
        return Some(owned(&ACTOR_MAY).into_iter().chain([own]).collect());
    }
    if begins_with(module, "app") {
        return Some(owned(&APP_MAY));
    }
    LAW.iter().find(|(part, _)| begins_with(module, part)).map(|(_, parts)| owned(parts))
}

/// Every name that the root crate depends on, as Rust writes it.
fn dependencies() -> BTreeSet<String> {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let section = manifest.split("\n[dependencies]\n").nth(1).unwrap();
    let lines = section.lines().take_while(|line| !line.starts_with('['));
    let name = |line: &str| line.split(['.', ' ', '=']).next().unwrap_or_default().replace('-', "_");
    lines.map(name).filter(|name| !name.is_empty()).collect()
}

fn complain(broken: &[String], rule: &str) {
    assert!(broken.is_empty(), "{rule}:\n  {}", broken.join("\n  "));
}

/// The uses of a file that the law does not allow.
fn against_the_law(source: &Source) -> Vec<String> {
    if source.module.is_empty() || is_list(source) {
        return Vec::new();
    }
    let Some(allowed) = allowed(&source.module) else {
        return vec![format!("{} has no law", source.path.display())];
    };
    let own = &source.module[0];
    uses(source)
        .into_iter()
        .filter(|path| source.module.len() != 1 || !begins_with(path, own))
        .filter(|path| !allowed.iter().any(|part| begins_with(path, part)))
        .map(|path| format!("{} uses {}", source.path.display(), path.join("::")))
        .collect()
}

#[test]
fn imports_point_down_and_never_sideways() {
    let broken: Vec<String> = sources("src").iter().flat_map(against_the_law).collect();
    complain(&broken, "imports against the law");
}

/// A file that only lists modules.
fn is_list(source: &Source) -> bool {
    matches!(source.module[0].as_str(), "actors" | "gateways" | "testkit") && source.module.len() == 1
}

#[test]
fn the_domain_knows_no_io_no_clock_and_no_chance() {
    let mut broken = Vec::new();
    let foreign: Vec<String> =
        dependencies().into_iter().filter(|name| !DOMAIN_MAY.contains(&name.as_str())).collect();
    let banned =
        ["std::io", "std::net", "std::fs", "std::thread", "std::sync", "Instant", "SystemTime", "async fn"];
    for source in sources("src").iter().filter(|source| begins_with(&source.module, "domain")) {
        let names = foreign.iter().filter(|name| !paths(&source.code, name).is_empty());
        let words = banned.iter().filter(|word| source.code.contains(**word)).map(|word| (*word).to_owned());
        broken.extend(names.cloned().chain(words).map(|what| format!("{}: {what}", source.path.display())));
    }
    complain(&broken, "the domain is pure");
}

#[test]
fn each_outside_system_is_spoken_to_in_one_place() {
    let mut broken = Vec::new();
    for source in sources("src") {
        for (name, homes) in HOMES {
            let at_home = homes.iter().any(|home| begins_with(&source.module, home));
            if !at_home && !paths(&source.code, name).is_empty() {
                broken.push(format!("{} names {name}", source.path.display()));
            }
        }
    }
    complain(&broken, "a crate away from its home");
}

#[test]
fn files_are_short() {
    let mut broken = Vec::new();
    for source in TREES.iter().flat_map(|tree| sources(tree)) {
        let lines = without_tests(&source.text).lines().count();
        if lines > MAX_LINES {
            broken.push(format!("{} has {lines} lines", source.path.display()));
        }
    }
    complain(&broken, "files above 300 lines without their tests");
}

#[test]
fn every_file_says_what_it_is_for() {
    let mut broken = Vec::new();
    let trees = TREES.iter().chain(&[
        "tests",
        "fuzz",
        "peers/tests",
        "devstack/tests",
        "entity/tests",
        "migration/tests",
    ]);
    for tree in trees.map(|tree| root().join(tree)).filter(|tree| tree.is_dir()) {
        for path in files(&tree) {
            if !fs::read_to_string(&path).unwrap().starts_with("//! ") {
                broken.push(path.strip_prefix(root()).unwrap().display().to_string());
            }
        }
    }
    complain(&broken, "files without a first line about themselves");
}

#[test]
fn no_unwrap_outside_tests() {
    let mut broken = Vec::new();
    for source in TREES.iter().flat_map(|tree| sources(tree)) {
        for (number, line) in source.code.lines().enumerate() {
            let hit =
                [".unwrap()", ".expect(", "todo!(", "unimplemented!("].iter().any(|word| line.contains(word));
            broken
                .extend(hit.then(|| format!("{} about line {}: {line}", source.path.display(), number + 1)));
        }
    }
    complain(&broken, "panics on purpose");
}

/// `pool::begin` goes on to its end when nobody waits for it any more.
#[test]
fn transactions_begin_in_one_place() {
    let mut broken = Vec::new();
    for source in sources("src") {
        let gateway = begins_with(&source.module, "gateways");
        let home = begins_with(&source.module, "gateways::upload_store::pool");
        let begins =
            [".begin(", ".begin_with", ".transaction("].iter().any(|call| source.code.contains(call));
        broken.extend((gateway && !home && begins).then(|| source.path.display().to_string()));
    }
    complain(&broken, "a transaction that is not begun by the pool");
}

#[test]
fn modules_are_named_after_what_they_hold() {
    let bad = ["mod", "utils", "util", "helpers", "common", "types", "misc"];
    let broken: Vec<String> = TREES
        .iter()
        .flat_map(|tree| files(&root().join(tree)))
        .filter(|path| path.file_stem().is_some_and(|stem| bad.iter().any(|bad| stem == *bad)))
        .map(|path| path.display().to_string())
        .collect();
    complain(&broken, "names that say nothing");
}

fn source(module: &[&str], code: &str) -> Source {
    let module = module.iter().map(|part| (*part).to_owned()).collect();
    Source { path: PathBuf::new(), module, text: String::new(), code: code.to_owned() }
}

#[test]
fn the_law_bites() {
    let forbidden: [(&[&str], &str); 8] = [
        (&["actors", "session_feed"], "use crate::actors::fflow_router::FflowRouter;"),
        (&["actors", "session_feed", "steps"], "use super::super::fflow_router;"),
        (&["domain", "feed"], "use crate::gateways::spool;"),
        (&["gateways", "spool", "file"], "use crate::gateways::broker::Broker;"),
        (&["gateways", "broker"], "fn a() { crate::readiness::b(); }"),
        (&["messages"], "use crate::{actors::a, domain::b};"),
        (&["http"], "use crate::actors;"),
        (&["somewhere", "new"], ""),
    ];
    for (module, code) in forbidden {
        assert_eq!(against_the_law(&source(module, code)).len(), 1, "{module:?}: {code}");
    }
    let allowed = "use super::writes; use crate::gateways::spool::Spool; use crate::domain::ids;";
    assert!(against_the_law(&source(&["actors", "session_feed", "steps"], allowed)).is_empty());
}

#[test]
fn the_reader_of_paths_sees_through_groups_and_climbs() {
    let seen =
        |source: &Source| -> Vec<String> { uses(source).into_iter().map(|path| path.join("::")).collect() };
    let grouped = "use crate::{a::{b as x, c::d}, e,};\nlet y = mycrate::z; crate::f::g();";
    assert_eq!(seen(&source(&["m"], grouped)), ["a::b", "a::c::d", "e", "f::g"]);
    let climbing = "use super::super::{StoreError, rows}; use super::sql;";
    let found = seen(&source(&["gateways", "upload_store", "feeds", "claim"], climbing));
    assert!(found.contains(&"gateways::upload_store::StoreError".to_owned()), "{found:?}");
    assert!(found.contains(&"gateways::upload_store::feeds::sql".to_owned()), "{found:?}");
    let tested =
        "fn a() {}\n#[cfg(test)]\nmod tests {\n    use crate::b;\n}\n#[cfg(test)]\nmod more;\nfn c() {}\n";
    assert_eq!(without_tests(tested), "fn a() {}\nfn c() {}\n");
}
