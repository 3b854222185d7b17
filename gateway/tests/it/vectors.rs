//! The published and hand-made signature vectors, through the same verification as live calls.

use headgate_gateway::vectors::{CaseError, explain, run_file};
use headgate_schemas::Timestamp;

const HUBSPOT: &str = include_str!("../vectors/hubspot.json");
const SALESFORCE_OUTBOUND: &str = include_str!("../vectors/salesforce-outbound.json");
const STANDARD_WEBHOOKS: &str = include_str!("../vectors/standard-webhooks.json");

#[test]
fn hubspot_has_37_checks_and_passes_them() {
    let report = run_file(HUBSPOT);
    assert_eq!(report.failed, []);
    assert_eq!((report.provider.as_str(), report.passed), ("hubspot", 37));
}

#[test]
fn standard_webhooks_has_22_checks_and_passes_them() {
    let report = run_file(STANDARD_WEBHOOKS);
    assert_eq!(report.failed, []);
    assert_eq!((report.provider.as_str(), report.passed), ("native", 22));
}

#[test]
fn salesforce_outbound_messages_have_19_checks_and_pass_them() {
    let report = run_file(SALESFORCE_OUTBOUND);
    assert_eq!(report.failed, []);
    assert_eq!((report.provider.as_str(), report.passed), ("salesforce", 19));
}

#[test]
fn a_body_that_is_read_otherwise_than_expected_is_found() {
    for (right, wrong) in [("\"Email\": \"ana@", "\"Email\": \"bob@"), ("XsUAI\"", "XsUAA\"")] {
        let report = run_file(&SALESFORCE_OUTBOUND.replace(right, wrong));
        assert!(!report.failed.is_empty(), "{right}");
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
    let file = r#"{"format":1,"provider":"dynamics","dates":[{"name":"d"}],"handshake":[{}],
        "encryption":{"cases":[{"name":"e"}]},
        "cases":[{"name":"c","scheme":"from-the-future","expect":"reject","expect_with_x":"accept"}]}"#;
    let report = run_file(file);
    assert_eq!(report.passed, 0);
    let names: Vec<_> = report.failed.iter().map(|f| f.name.as_str()).collect();
    assert_eq!(names, ["c", "c with x", "unnamed", "d", "e"]);
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
