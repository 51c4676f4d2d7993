//! What the README says of the environment is what the service does.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeMap;

use uploader_v4::config::{Config, ConfigSources, Report};

const README: &str = include_str!("../README.md");

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
