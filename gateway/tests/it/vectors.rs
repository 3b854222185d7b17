//! The published and hand-made signature vectors, through the same verification as live calls.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use headgate_gateway::config::ProviderName;
use headgate_gateway::vectors::{CaseError, explain, run_file};
use headgate_schemas::Timestamp;

const HUBSPOT: &str = include_str!("../vectors/hubspot.json");
const SALESFORCE_OUTBOUND: &str = include_str!("../vectors/salesforce-outbound.json");
const CLOUDEVENTS: &str = include_str!("../vectors/cloudevents.json");

/// How many checks a file must have. One that is not here must have some.
const CHECKS: [(&str, usize); 9] = [
    ("cloudevents", 18),
    ("dataverse", 21),
    ("hubspot", 37),
    ("pipedrive", 9),
    ("salesforce-cdc-bitmaps", 6),
    ("salesforce-outbound", 19),
    ("standard-webhooks", 22),
    ("t-v1", 9),
    ("x-hub-signature-256", 9),
];

/// Every file by its name without the ending.
fn files() -> BTreeMap<String, String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors");
    let paths = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let named = |path: &Path| path.file_stem().unwrap().to_str().unwrap().to_owned();
    paths.map(|path| (named(&path), std::fs::read_to_string(&path).unwrap())).collect()
}

#[test]
fn every_file_passes_all_of_its_checks() {
    let files = files();
    for (name, file) in &files {
        let report = run_file(file);
        assert_eq!(report.failed, [], "{name}");
        match CHECKS.iter().find(|(known, _)| known == name) {
            Some((_, checks)) => assert_eq!(report.passed, *checks, "{name}"),
            None => assert!(report.passed > 0, "{name}"),
        }
    }
    assert!(CHECKS.iter().all(|(name, _)| files.contains_key(*name)));
}

#[test]
fn every_provider_has_recorded_calls_that_it_takes_and_such_that_it_refuses() {
    let mut verdicts = BTreeSet::new();
    for file in files().values() {
        let file: serde_json::Value = serde_json::from_str(file).unwrap();
        for case in file["cases"].as_array().into_iter().flatten() {
            // A case with a mode is one of CloudEvents.
            let scheme =
                if case["mode"].is_string() { "cloudevents-bearer" } else { case["scheme"].as_str().unwrap_or("") };
            if let (Some(provider), Some(verdict)) = (ProviderName::of_scheme(scheme), case["expect"].as_str()) {
                verdicts.insert((provider.as_str(), verdict.to_owned()));
            }
        }
    }
    for provider in ProviderName::ALL {
        for verdict in ["accept", "reject"] {
            let found = verdicts.contains(&(provider.as_str(), verdict.to_owned()));
            assert!(found, "{} has no recorded call to {verdict} in gateway/tests/vectors", provider.as_str());
        }
    }
}

#[test]
fn a_body_that_is_read_otherwise_than_expected_is_found() {
    for (file, right, wrong) in [
        (SALESFORCE_OUTBOUND, "\"Email\": \"ana@", "\"Email\": \"bob@"),
        (SALESFORCE_OUTBOUND, "XsUAI\"", "XsUAA\""),
        (CLOUDEVENTS, "\"subject\": \"Euro ", "\"subject\": \"Yen "),
        (CLOUDEVENTS, "\"WebHook-Allowed-Rate\": \"6000\"", "\"WebHook-Allowed-Rate\": \"6001\""),
        (include_str!("../vectors/salesforce-cdc-bitmaps.json"), "\"0x400800\"", "\"0x400801\""),
        (include_str!("../vectors/dataverse.json"), "1506384247000,", "1506384247001,"),
    ] {
        let changed = file.replace(right, wrong);
        assert_ne!(changed, file, "{right}");
        assert!(!run_file(&changed).failed.is_empty(), "{right}");
    }
}

#[test]
fn a_wrong_expectation_is_found() {
    let turned = HUBSPOT.replace("\"expect\": \"accept\"", "\"expect\": \"turned\"");
    let turned = turned.replace("\"expect\": \"reject\"", "\"expect\": \"accept\"");
    assert!(turned != HUBSPOT);
    let report = run_file(&turned);
    assert_eq!(report.passed, 2, "only the two checks with an option still expect what comes out");
    assert_eq!(report.failed.len(), 35);
}

#[test]
fn what_is_not_implemented_counts_as_failed_check_by_check() {
    let file = r#"{"format":1,"provider":"dynamics","handshake":[{}],
        "encryption":{"cases":[{"name":"e"}]},
        "cases":[{"name":"c","scheme":"from-the-future","expect":"reject","expect_with_x":"accept"}]}"#;
    let report = run_file(file);
    assert_eq!(report.passed, 0);
    let names: Vec<_> = report.failed.iter().map(|f| f.name.as_str()).collect();
    assert_eq!(names, ["c", "c with x", "unnamed", "e"]);
    assert!(report.failed.iter().all(|f| f.got == "error: this scheme is not available in this version"));
}

#[test]
fn a_file_that_is_none_is_a_failure() {
    for file in ["", "[]", r#"{"format":2,"provider":"hubspot"}"#] {
        assert_eq!(run_file(file).failed.len(), 1, "{file}");
    }
}

#[test]
fn a_captured_call_is_explained_without_its_secret() {
    let file: serde_json::Value = serde_json::from_str(HUBSPOT).unwrap();
    let case = file["cases"].as_array().unwrap().iter().find(|c| c["name"] == "v3-url-table-decoded").unwrap();
    let explanation = explain(&case.to_string(), Timestamp::from_millis(0)).unwrap();
    assert!(explanation.accepted);
    assert_eq!(explanation.signed_url.as_deref(), case["signed_url"].as_str());
    assert_eq!(explanation.timestamp.as_deref(), Some("1767268798000"));
    let text = explanation.to_string();
    assert!(text.starts_with("verdict    accept (hubspot-v3)\nscheme     hubspot-v3\n"), "{text}");
    assert!(!text.contains(case["secret"].as_str().unwrap()));
    assert!(!format!("{explanation:?}").contains(case["secret"].as_str().unwrap()));
    assert_eq!(explain("{}", Timestamp::from_millis(0)), Err(CaseError::NotAvailable));
}
