//! Whether a request satisfies the contract of its CRM: path, required headers and queries, and the body's schema.
//!
//! The checker is itself checked: it must agree with every published case, the refused ones too.

use headgate_schemas::System;
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};

use crate::server::Request;

const CASES: &str = include_str!("../../../bench/tests/cases.json");

/// Panics unless the request is one that the contract of `system` allows.
pub(crate) fn assert_fits(system: System, request: &Request) {
    if let Err(why) = check(&contract(system), request) {
        panic!("{why}: {}", request.literal());
    }
}

fn contract(system: System) -> Value {
    let text = match system {
        System::Hubspot => include_str!("../../../bench/specs/hubspot.contract.json"),
        System::Salesforce => include_str!("../../../bench/specs/salesforce.contract.json"),
        other => panic!("no contract for {other}"),
    };
    serde_json::from_str(text).unwrap()
}

fn check(contract: &Value, request: &Request) -> Result<(), String> {
    let (path, query) = request.path.split_once('?').unwrap_or((&request.path, ""));
    let method = request.method.to_ascii_lowercase();
    // A template with fewer variables is the more exact one.
    let (template, operation) = contract["paths"]
        .as_object()
        .unwrap()
        .iter()
        .filter(|(template, item)| variables(template, path).is_some() && item.get(&method).is_some())
        .min_by_key(|(template, _)| template.matches('{').count())
        .map(|(template, item)| (template, &item[&method]))
        .ok_or("no such operation")?;
    if !request.headers.get("authorization").is_some_and(|v| v.starts_with("Bearer ")) {
        return Err("no token".to_owned());
    }
    let in_path = variables(template, path).unwrap();
    for parameter in operation["parameters"].as_array().into_iter().flatten() {
        let parameter = resolve(contract, parameter);
        let name = parameter["name"].as_str().unwrap();
        let value = match parameter["in"].as_str().unwrap() {
            "path" => in_path.iter().find(|(n, _)| n == name).map(|(_, v)| v.clone()),
            "query" => {
                query.split('&').filter_map(|p| p.split_once('=')).find(|(n, _)| *n == name).map(|(_, v)| decode(v))
            }
            _ => request.headers.get(&name.to_ascii_lowercase()).cloned(),
        };
        match value {
            Some(value) => valid(contract, &parameter["schema"], &typed(&parameter["schema"], value), name)?,
            None if parameter["required"] == json!(true) => return Err(format!("{name} is missing")),
            None => {}
        }
    }
    if operation.get("requestBody").is_none() {
        return if request.body.is_empty() { Ok(()) } else { Err("a body where none belongs".to_owned()) };
    }
    let body = resolve(contract, &operation["requestBody"]);
    let sent: Value = serde_json::from_str(&request.body).map_err(|e| e.to_string())?;
    valid(contract, &body["content"]["application/json"]["schema"], &sent, "body")
}

/// Everything in an address is text; the schema says what it stands for.
fn typed(schema: &Value, text: String) -> Value {
    match schema["type"].as_str() {
        Some("boolean" | "integer" | "number") => serde_json::from_str(&text).unwrap_or(Value::String(text)),
        _ => Value::String(text),
    }
}

/// The variables of a path template, or `None` where it does not fit.
fn variables(template: &str, path: &str) -> Option<Vec<(String, String)>> {
    let (names, parts): (Vec<&str>, Vec<&str>) = (template.split('/').collect(), path.split('/').collect());
    if names.len() != parts.len() {
        return None;
    }
    let mut found = Vec::new();
    for (name, part) in names.into_iter().zip(parts) {
        match name.strip_prefix('{').and_then(|n| n.strip_suffix('}')) {
            Some(variable) => found.push((variable.to_owned(), decode(part))),
            None if name == part => {}
            None => return None,
        }
    }
    Some(found)
}

fn decode(text: &str) -> String {
    percent_decode_str(text).decode_utf8().unwrap().into_owned()
}

fn resolve<'a>(contract: &'a Value, value: &'a Value) -> &'a Value {
    match value.get("$ref").and_then(Value::as_str) {
        Some(reference) => contract.pointer(&reference[1..]).unwrap(),
        None => value,
    }
}

fn valid(contract: &Value, schema: &Value, value: &Value, what: &str) -> Result<(), String> {
    let whole = json!({ "allOf": [schema], "components": contract["components"] });
    let validator = jsonschema::validator_for(&whole).unwrap();
    validator.validate(value).map_err(|e| format!("{what}: {e}"))
}

#[test]
fn the_checker_agrees_with_every_published_case() {
    let cases: Value = serde_json::from_str(CASES).unwrap();
    let mut checked = (0, 0);
    for case in cases["cases"].as_array().unwrap() {
        let system = match case["spec"].as_str().unwrap() {
            "hubspot.contract.json" => System::Hubspot,
            "salesforce.contract.json" => System::Salesforce,
            _ => continue,
        };
        let mut body = case.get("body").cloned().unwrap_or(Value::Null);
        if let Some(repeat) = case.get("repeat") {
            let list = body[repeat["field"].as_str().unwrap()].as_array_mut().unwrap();
            let only = list[0].clone();
            list.resize(usize::try_from(repeat["count"].as_u64().unwrap()).unwrap(), only);
        }
        let request = Request {
            method: case["method"].as_str().unwrap().to_owned(),
            path: case["path"].as_str().unwrap().to_owned(),
            headers: case["headers"]
                .as_object()
                .into_iter()
                .flatten()
                .map(|(n, v)| (n.to_ascii_lowercase(), v.as_str().unwrap().to_owned()))
                .collect(),
            body: if body.is_null() { String::new() } else { body.to_string() },
        };
        let verdict = check(&contract(system), &request);
        if case["expect"] == "accept" {
            checked.0 += 1;
            assert_eq!(verdict, Ok(()), "{}", case["name"]);
        } else {
            checked.1 += 1;
            assert!(verdict.is_err(), "{}", case["name"]);
        }
    }
    assert_eq!(checked, (6, 13));
}
