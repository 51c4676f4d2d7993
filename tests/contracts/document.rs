//! A contract as it stands in `docs`, and its schemas at work.

use std::path::Path;

use serde_json::Value;

pub const DRAFT_7: &str = "http://json-schema.org/draft-07/schema#";
pub const DRAFT_2020: &str = "https://json-schema.org/draft/2020-12/schema";

pub struct Document {
    root: Value,
    dialect: &'static str,
}

impl Document {
    pub fn asyncapi() -> Self {
        Self::load("asyncapi.yaml", DRAFT_7)
    }

    pub fn openapi() -> Self {
        Self::load("openapi.yaml", DRAFT_2020)
    }

    pub fn fflow() -> Self {
        Self::load("openapi-fflow.yaml", DRAFT_2020)
    }

    fn load(name: &str, dialect: &'static str) -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(name);
        let text = std::fs::read_to_string(path).unwrap();
        Document { root: yaml_serde::from_str(&text).unwrap(), dialect }
    }

    /// What a JSON pointer leads to.
    pub fn at(&self, pointer: &str) -> &Value {
        self.root.pointer(pointer).unwrap_or_else(|| panic!("the contract has no {pointer}"))
    }

    /// The examples of a list, by name.
    pub fn examples(&self, pointer: &str) -> Vec<(String, &Value)> {
        let list = self.at(pointer).as_array().expect("a list of examples");
        assert!(!list.is_empty(), "{pointer} is empty");
        list.iter().map(|example| (example["name"].as_str().unwrap().to_owned(), example)).collect()
    }

    /// What is wrong with a value by the schema at a pointer; nothing if it is as it should be.
    pub fn complaints(&self, schema: &str, value: &Value) -> Vec<String> {
        self.at(schema);
        let mut root = self.root.clone();
        let reference = format!("#{}", schema.replace('{', "%7B").replace('}', "%7D"));
        root["$ref"] = reference.into();
        root["$schema"] = self.dialect.into();
        let validator = jsonschema::validator_for(&root).unwrap();
        validator.iter_errors(value).map(|error| format!("{error} at {}", error.instance_path())).collect()
    }

    /// Every reference in the document.
    fn references(&self) -> Vec<String> {
        let mut found = Vec::new();
        collect(&self.root, &mut found);
        found
    }
}

fn collect(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            found.extend(map.get("$ref").and_then(Value::as_str).map(str::to_owned));
            map.values().for_each(|value| collect(value, found));
        }
        Value::Array(list) => list.iter().for_each(|value| collect(value, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[test]
fn every_reference_leads_to_something_in_the_same_file() {
    for document in [Document::asyncapi(), Document::openapi(), Document::fflow()] {
        let references = document.references();
        assert!(references.len() > 5);
        for reference in references {
            document.at(reference.strip_prefix('#').expect("a reference within the file"));
        }
    }
}

#[test]
fn a_value_against_its_schema_is_complained_about() {
    let openapi = Document::openapi();
    let schema = "/components/schemas/State";
    let fine = serde_json::json!({"state": "down", "reason": "gone"});
    assert!(openapi.complaints(schema, &fine).is_empty());
    for odd in [
        serde_json::json!({"state": "down"}),
        serde_json::json!({"state": "up", "reason": "why"}),
        serde_json::json!({"state": "sideways", "reason": "why"}),
        serde_json::json!({"state": "up", "more": 1}),
    ] {
        assert!(!openapi.complaints(schema, &odd).is_empty(), "{odd}");
    }
}
