//! `headgate verify`: the gateway's own verification over recorded calls. With vectors it counts; with one captured
//! request it explains what was signed. The secret of a captured request comes from the environment and is never shown.

use std::io::{Write, stdout};
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use headgate_gateway::vectors::{self, Explanation, VectorReport};
use headgate_schemas::time::now;
use serde_json::{Map, Value, json};

use crate::cli::VerifyArgs;
use crate::config::Env;
use crate::exit::{Exit, Failure};
use crate::output::{self, printable};
use headgate_schemas::bounded;

/// Largest file that is read.
const FILE_BYTES: u64 = 64 << 20;

/// Counts vectors or explains a request.
pub(super) fn run(args: &VerifyArgs, env: &Env) -> Result<Exit, Failure> {
    let mut out = stdout().lock();
    match (&args.request, &args.secret_env) {
        (Some(file), Some(secret)) => {
            let secret = env.get(secret).filter(|value| !value.is_empty()).ok_or_else(|| {
                Failure::new(Exit::Usage, format!("the environment variable {secret} is not set or empty"))
            })?;
            let case = case(&read(file)?, secret)?;
            let explanation = vectors::explain(&case, now())
                .map_err(|error| Failure::failed(format!("{}: {error}", file.display())))?;
            explain(&mut out, args.json, &explanation)?;
            Ok(if explanation.accepted { Exit::Ok } else { Exit::Failed })
        }
        _ => {
            let mut reports = Vec::new();
            for file in &args.vectors {
                reports.push((file.display().to_string(), vectors::run_file(&read(file)?)));
            }
            report(&mut out, args.json, &reports)?;
            let failed = reports.iter().any(|(_, report)| !report.failed.is_empty());
            Ok(if failed { Exit::Failed } else { Exit::Ok })
        }
    }
}

fn read(path: &Path) -> Result<String, Failure> {
    let unreadable = |problem| Failure::failed(format!("{}: it {problem}", path.display()));
    bounded::read(path, FILE_BYTES).map_err(unreadable)
}

/// A captured request as one case of a file of vectors, with the secret put in.
fn case(text: &str, secret: &str) -> Result<String, Failure> {
    const FORM: &str = "the request is not a JSON object with scheme, method, url, headers and body_base64 (or body)";
    let mut case: Map<String, Value> = serde_json::from_str(text).map_err(|_| Failure::failed(FORM))?;
    if !case.contains_key("body_base64") {
        let body = case.get("body").and_then(Value::as_str).ok_or_else(|| Failure::failed(FORM))?;
        case.insert("body_base64".to_owned(), STANDARD.encode(body).into());
    }
    let standard = case.get("scheme").and_then(Value::as_str) == Some("standard-webhooks");
    let encoding = match standard {
        true if secret.starts_with("whpk_") => "whpk",
        true => "whsec",
        false => "utf8",
    };
    case.insert("secret".to_owned(), secret.into());
    case.insert("secret_encoding".to_owned(), encoding.into());
    Ok(Value::from(case).to_string())
}

fn explain(out: &mut impl Write, json: bool, explanation: &Explanation) -> std::io::Result<()> {
    if !json {
        return writeln!(out, "{explanation}");
    }
    let value = json!({
        "accepted": explanation.accepted,
        "reason": explanation.reason,
        "scheme": explanation.scheme,
        "method": explanation.method,
        "signed_url": explanation.signed_url,
        "timestamp": explanation.timestamp,
        "judged_at": explanation.judged_at.to_string(),
        "body_bytes": explanation.body_bytes,
        "body_sha256": explanation.body_sha256,
    });
    super::print_json(out, &value)
}

/// A table of the files, every failed check, and the sum as the last line.
fn report(out: &mut impl Write, json: bool, reports: &[(String, VectorReport)]) -> std::io::Result<()> {
    let passed: usize = reports.iter().map(|(_, report)| report.passed).sum();
    let failed: usize = reports.iter().map(|(_, report)| report.failed.len()).sum();
    if json {
        let files: Vec<Value> = reports.iter().map(|(file, report)| file_json(file, report)).collect();
        return super::print_json(out, &json!({ "passed": passed, "failed": failed, "files": files }));
    }
    let mut rows = vec![["FILE", "PROVIDER", "PASSED", "FAILED"].map(str::to_owned).to_vec()];
    rows.extend(reports.iter().map(|(file, report)| {
        vec![file.clone(), printable(&report.provider), report.passed.to_string(), report.failed.len().to_string()]
    }));
    output::table(out, &rows)?;
    for (file, report) in reports {
        for failure in &report.failed {
            let (name, got) = (printable(&failure.name), printable(&failure.got));
            writeln!(out, "failed: {file}: {name}: expected {}, got {got}", printable(&failure.expected))?;
        }
    }
    writeln!(out, "{passed} passed, {failed} failed")
}

fn file_json(file: &str, report: &VectorReport) -> Value {
    let failed: Vec<Value> = report
        .failed
        .iter()
        .map(|failure| json!({ "name": failure.name, "expected": failure.expected, "got": failure.got }))
        .collect();
    json!({ "file": file, "provider": report.provider, "passed": report.passed, "failed": failed })
}
