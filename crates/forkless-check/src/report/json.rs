//! For programs: `{"findings": […], "files": N, "problems": […]}`.

use serde_json::{Value, json};

use crate::{Finding, Report};

/// Writes one document.
pub fn write(report: &Report) -> String {
    let findings: Vec<Value> = report.findings.iter().map(finding).collect();
    let problems: Vec<Value> = report
        .problems
        .iter()
        .map(
            |problem| json!({"path": problem.path.to_string_lossy(), "line": problem.line, "message": problem.message}),
        )
        .collect();
    let document = json!({"findings": findings, "files": report.files, "problems": problems, "fixed": report.fixed});
    format!("{document:#}\n")
}

fn finding(finding: &Finding) -> Value {
    let mut value = json!({
        "code": finding.code,
        "hazard": finding.hazard,
        "path": finding.path.to_string_lossy(),
        "line": finding.line,
        "column": finding.column,
        "message": finding.message,
        "help": finding.help,
    });
    if let Some(cell) = finding.cell {
        value["cell"] = cell.into();
    }
    value
}
