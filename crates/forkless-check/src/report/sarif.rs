//! The Static Analysis Results Interchange Format, version 2.1.0, as code hosts read it.

use serde_json::{Value, json};

use crate::rules::RULES;
use crate::{Finding, Report};

const SCHEMA: &str = "https://json.schemastore.org/sarif-2.1.0.json";

/// Writes one document.
pub fn write(report: &Report) -> String {
    let rules: Vec<Value> = RULES
        .iter()
        .map(|rule| {
            json!({
                "id": rule.code,
                "name": rule.hazard,
                "shortDescription": {"text": rule.title},
                "fullDescription": {"text": rule.explanation.trim()},
                "help": {"text": rule.help},
                "defaultConfiguration": {"level": if rule.is_advice { "note" } else { "warning" }},
            })
        })
        .collect();
    let results: Vec<Value> = report.findings.iter().map(result).collect();
    let notifications: Vec<Value> = report
        .problems
        .iter()
        .map(|problem| json!({"level": "warning", "message": {"text": problem.to_string()}}))
        .collect();
    let driver = json!({"name": "forkless check", "version": env!("CARGO_PKG_VERSION"), "rules": rules});
    let successful = report.exit_code() < 2;
    let document = json!({
        "$schema": SCHEMA,
        "version": "2.1.0",
        "runs": [{
            "tool": {"driver": driver},
            "columnKind": "unicodeCodePoints",
            "results": results,
            "invocations": [{"executionSuccessful": successful, "toolExecutionNotifications": notifications}],
        }],
    });
    format!("{document:#}\n")
}

fn result(finding: &Finding) -> Value {
    let index = RULES.iter().position(|rule| rule.code == finding.code);
    json!({
        "ruleId": finding.code,
        "ruleIndex": index,
        "level": if finding.is_advice { "note" } else { "warning" },
        "message": {"text": format!("{}. Instead: {}.", finding.message, finding.help)},
        "locations": [{
            "physicalLocation": {
                "artifactLocation": {"uri": uri(&finding.path.to_string_lossy())},
                "region": {
                    "startLine": finding.line,
                    "startColumn": finding.column,
                    "endColumn": finding.column + finding.width,
                    "snippet": {"text": finding.code_line},
                },
            },
        }],
    })
}

/// A path as a relative reference, or an absolute one as a URI: what is special in one is escaped.
fn uri(path: &str) -> String {
    let path = path.strip_prefix("./").unwrap_or(path);
    let scheme = if path.starts_with('/') { "file://" } else { "" };
    path.bytes().fold(scheme.to_owned(), |mut uri, byte| {
        if byte.is_ascii_alphanumeric() || b"/-._~".contains(&byte) {
            uri.push(char::from(byte));
        } else {
            uri.push_str(&format!("%{byte:02X}"));
        }
        uri
    })
}
