//! What the documents say of settings and tests is so.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use uploader_v4::config::{Config, ConfigSources, Report};

const README: &str = include_str!("../README.md");
const SECURITY: &str = include_str!("../SECURITY.md");
const RELIABILITY: &str = include_str!("../docs/RELIABILITY.md");

/// Rows of the tables of variables: name and default.
fn variables() -> Vec<(String, String)> {
    let rows = README.lines().filter_map(|line| {
        let mut cells = line.strip_prefix("| ")?.split(" |").map(|cell| cell.trim().trim_matches('`'));
        let (name, default) = (cells.next()?, cells.next()?);
        let is_variable = name.len() > 8 && name.bytes().all(|b| b.is_ascii_uppercase() || b == b'_');
        is_variable.then(|| (name.to_owned(), default.to_owned()))
    });
    rows.collect()
}

fn report(env: &[(&str, &str)]) -> Result<Report, String> {
    let env: BTreeMap<String, String> = env.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
    let loaded = Config::load(ConfigSources { file: None, env });
    loaded.map(|(config, provenance)| config.report(&provenance)).map_err(|error| error.to_string())
}

/// Whether a variable reaches a setting: its value's origin names it, or the complaint about its value does.
fn is_known(name: &str) -> bool {
    let origin = format!("environment variable {name}");
    ["!", "http://host:1"].iter().any(|value| match report(&[(name, value)]) {
        Ok(report) => report.settings.iter().any(|setting| setting.origin.contains(&origin)),
        Err(text) => text.contains(&origin) && !text.contains("no such setting"),
    })
}

#[test]
fn every_variable_in_the_readme_is_one_and_has_the_default_that_it_says() {
    let defaults = report(&[]).unwrap();
    let variables = variables();
    assert!(variables.len() > 25, "the tables were not found: {variables:?}");
    for (name, default) in variables {
        assert!(is_known(&name), "{name} is no setting");
        let said = report(&[(&name, &default)]).unwrap_or_else(|text| panic!("{name}={default}: {text}"));
        for (said, built_in) in said.settings.iter().zip(&defaults.settings) {
            assert_eq!(said.value, built_in.value, "{name}={default} changes {}", built_in.key);
        }
    }
}

/// Every source below `folder`.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let (folders, files): (Vec<_>, Vec<_>) = entries.partition(|path| path.is_dir());
    let below = folders.iter().flat_map(|folder| sources(folder));
    below.chain(files.into_iter().filter(|file| file.extension().is_some_and(|end| end == "rs"))).collect()
}

/// Whether the test `module::name` stands in a file or folder of that name.
fn is_a_test(named: &str, sources: &[(PathBuf, String)]) -> bool {
    let (module, name) = named.rsplit_once("::").unwrap();
    let definition = format!("fn {name}(");
    sources.iter().any(|(path, text)| {
        let inside = path.iter().any(|part| Path::new(part).file_stem().is_some_and(|stem| stem == module));
        inside && text.contains(&definition)
    })
}

/// Counts the tests named in the last column of a table, all of which exist; each of its rows names some.
fn named_tests(table: &str, sources: &[(PathBuf, String)]) -> usize {
    let rows = table.lines().skip(1).take_while(|line| line.starts_with('|'));
    let mut named = 0;
    for row in rows.filter(|line| !line.starts_with("| ---")) {
        let cell = row.trim_end_matches([' ', '|']).rsplit_once(" | ").unwrap().1;
        let tests: Vec<_> = cell.split('`').filter(|part| part.contains("::")).collect();
        assert!(!tests.is_empty(), "no test is named: {row}");
        for test in tests {
            assert!(is_a_test(test, sources), "there is no test {test}");
            named += 1;
        }
    }
    named
}

#[test]
fn every_threat_promise_and_failure_names_tests_that_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let files = ["src", "tests"].into_iter().flat_map(|folder| sources(&root.join(folder)));
    let sources: Vec<_> = files.map(|file| (file.clone(), std::fs::read_to_string(file).unwrap())).collect();
    for (text, tables) in [(SECURITY, 1), (RELIABILITY, 2)] {
        let found: Vec<_> = text.split("| shown by |").skip(1).collect();
        assert_eq!(found.len(), tables, "the tables were not found");
        let named: usize = found.iter().map(|table| named_tests(table, &sources)).sum();
        assert!(named > 20, "only {named} tests are named");
    }
    assert!(!is_a_test("tls::nothing_of_the_kind", &sources));
}
