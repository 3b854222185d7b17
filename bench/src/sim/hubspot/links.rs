//! Associations between records, in the v4 and the dated path style.
//!
//! The surprising thing: a link is stored in both directions and fires two events, one per direction.

use serde::Deserialize;
use serde_json::{Value, json};

use super::objects::{IdInput, body};
use super::portal::{By, Portal};
use super::problem::Problem;
use crate::sim::http::{Answer, Call};

/// Kind of a link, as a caller names it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct LinkType {
    association_category: String,
    association_type_id: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Inputs<T> {
    inputs: Vec<T>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Pair {
    from: IdInput,
    to: IdInput,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TypedPair {
    from: IdInput,
    to: IdInput,
    types: Vec<LinkType>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Fan {
    from: IdInput,
    to: Vec<IdInput>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct From {
    id: String,
    #[serde(rename = "after")]
    _after: Option<String>,
}

/// Type id of the unlabelled link between two standard types; custom pairs share one number.
fn default_type(from: &str, to: &str) -> u64 {
    match (from, to) {
        ("contacts", "companies") => 279,
        ("companies", "contacts") => 280,
        ("deals", "contacts") => 3,
        ("contacts", "deals") => 4,
        ("deals", "companies") => 341,
        ("companies", "deals") => 342,
        ("contacts", "tickets") => 15,
        ("tickets", "contacts") => 16,
        _ => 1_000,
    }
}

fn endpoint(portal: &Portal, table: usize, id: &str) -> Result<(usize, u64), Problem> {
    let found = portal.find(table, id, None)?;
    let missing = || Problem::missing(&portal.tables[table].spec.singular, vec![id.to_owned()]);
    found.map(|id| (table, id)).ok_or_else(missing)
}

fn known(types: &[LinkType]) -> Result<(), Problem> {
    let names = ["HUBSPOT_DEFINED", "USER_DEFINED", "INTEGRATOR_DEFINED", "WORK"];
    if types.is_empty() || types.iter().any(|t| !names.contains(&t.association_category.as_str())) {
        return Err(Problem::invalid("An association needs at least one type with a known associationCategory"));
    }
    Ok(())
}

/// Links a new record to another of any type, as a creation with associations does.
pub(super) fn connect(
    portal: &mut Portal,
    from: (usize, u64),
    to: &str,
    types: &[LinkType],
    by: &By,
) -> Result<(), Problem> {
    known(types)?;
    let target = (0..portal.tables.len()).find_map(|t| endpoint(portal, t, to).ok());
    let target = target.ok_or_else(|| Problem::missing("object", vec![to.to_owned()]))?;
    for kind in types {
        portal.link(from, target, kind.association_type_id, false, by);
    }
    Ok(())
}

/// Answers `associations/{from}/{to}/batch/…`.
pub(super) fn answer(
    portal: &mut Portal,
    call: &Call,
    by: &By,
    from: &str,
    to: &str,
    verb: &[&str],
) -> Result<Answer, Problem> {
    let tables = (portal.table(from)?, portal.table(to)?);
    if call.method != hyper::Method::POST {
        return Err(Problem::new(405, "VALIDATION_ERROR", "Method not allowed"));
    }
    match verb {
        ["associate", "default"] => {
            let names = (portal.tables[tables.0].spec.name.as_str(), portal.tables[tables.1].spec.name.as_str());
            let kind = default_type(names.0, names.1);
            let pairs = sized(body::<Inputs<Pair>>(call)?.inputs, 2_000)?;
            let pairs = pairs.into_iter().map(|p| (p.from.id, p.to.id, vec![kind])).collect();
            Ok(write(portal, tables, pairs, by, 200))
        }
        ["create"] => {
            let pairs = sized(body::<Inputs<TypedPair>>(call)?.inputs, 2_000)?;
            pairs.iter().try_for_each(|p| known(&p.types))?;
            let ids = |t: Vec<LinkType>| t.into_iter().map(|t| t.association_type_id).collect();
            let pairs = pairs.into_iter().map(|p| (p.from.id, p.to.id, ids(p.types))).collect();
            Ok(write(portal, tables, pairs, by, 201))
        }
        ["archive"] => {
            for fan in sized(body::<Inputs<Fan>>(call)?.inputs, 2_000)? {
                for to in &fan.to {
                    if let (Ok(from), Ok(to)) =
                        (endpoint(portal, tables.0, &fan.from.id), endpoint(portal, tables.1, &to.id))
                    {
                        portal.link(from, to, 0, true, by);
                    }
                }
            }
            Ok(Answer::empty(204))
        }
        ["read"] => read(portal, tables, &sized(body::<Inputs<From>>(call)?.inputs, 1_000)?),
        _ => Err(Problem::new(404, "OBJECT_NOT_FOUND", "No such path")),
    }
}

fn sized<T>(inputs: Vec<T>, most: usize) -> Result<Vec<T>, Problem> {
    if inputs.is_empty() || inputs.len() > most {
        return Err(Problem::invalid(format!("The inputs list must hold 1 to {most} items")));
    }
    Ok(inputs)
}

fn write(
    portal: &mut Portal,
    tables: (usize, usize),
    pairs: Vec<(String, String, Vec<u64>)>,
    by: &By,
    status: u16,
) -> Answer {
    let (mut results, mut errors) = (Vec::new(), Vec::new());
    for (from, to, kinds) in pairs {
        match endpoint(portal, tables.0, &from).and_then(|f| Ok((f, endpoint(portal, tables.1, &to)?))) {
            Ok((f, t)) => {
                for kind in &kinds {
                    portal.link(f, t, *kind, false, by);
                }
                results.push(json!({"from": {"id": from}, "to": {"id": to}, "associationSpec":
                    {"associationCategory": "HUBSPOT_DEFINED", "associationTypeId": kinds.first()}}));
            }
            Err(problem) => errors.push(problem.body()),
        }
    }
    finish(results, errors, status)
}

fn read(portal: &Portal, tables: (usize, usize), inputs: &[From]) -> Result<Answer, Problem> {
    let (mut results, mut errors) = (Vec::new(), Vec::new());
    for From { id, .. } in inputs {
        let Ok((_, from)) = endpoint(portal, tables.0, id) else {
            errors.push(Problem::missing(&portal.tables[tables.0].spec.singular, vec![id.clone()]).body());
            continue;
        };
        let all = portal.links.range((from, 0)..=(from, u64::MAX));
        let live = all.filter(|((_, to), kinds)| !kinds.is_empty() && portal.live(tables.1, *to).is_some());
        let to: Vec<Value> = live
            .map(|((_, to), kinds)| {
                let kinds: Vec<_> =
                    kinds.iter().map(|k| json!({"category": "HUBSPOT_DEFINED", "typeId": k, "label": null})).collect();
                json!({"toObjectId": to, "associationTypes": kinds})
            })
            .collect();
        results.push(json!({"from": {"id": id}, "to": to}));
    }
    Ok(finish(results, errors, 200))
}

fn finish(results: Vec<Value>, errors: Vec<Value>, status: u16) -> Answer {
    let mut body = json!({"status": "COMPLETE", "results": results});
    if errors.is_empty() {
        return Answer::json(status, &body);
    }
    body["numErrors"] = errors.len().into();
    body["errors"] = errors.into();
    Answer::json(207, &body)
}
