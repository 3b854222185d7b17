//! The published and hand-made signature vectors, through the same verification as live calls.

use headgate_gateway::vectors::{CaseError, explain, run_file};
use headgate_schemas::Timestamp;

const HUBSPOT: &str = include_str!("../vectors/hubspot.json");
const SALESFORCE_OUTBOUND: &str = include_str!("../vectors/salesforce-outbound.json");
const CLOUDEVENTS: &str = include_str!("../vectors/cloudevents.json");

#[test]
fn every_file_has_its_checks_and_passes_them() {
    for (file, provider, checks) in [
        (HUBSPOT, "hubspot", 37),
        (include_str!("../vectors/standard-webhooks.json"), "native", 22),
        (SALESFORCE_OUTBOUND, "salesforce", 19),
        (include_str!("../vectors/salesforce-cdc-bitmaps.json"), "salesforce", 6),
        (include_str!("../vectors/dataverse.json"), "dataverse", 21),
        (include_str!("../vectors/pipedrive.json"), "pipedrive", 9),
        (include_str!("../vectors/x-hub-signature-256.json"), "generic", 9),
        (include_str!("../vectors/t-v1.json"), "generic", 9),
        (CLOUDEVENTS, "cloudevents", 18),
    ] {
        let report = run_file(file);
        assert_eq!(report.failed, [], "{provider}");
        assert_eq!((report.provider.as_str(), report.passed), (provider, checks));
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
