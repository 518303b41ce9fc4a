//! Workflow commands of GitHub Actions: each shows up beside the line that it is about.

use std::fmt::Write;

use crate::Report;

/// Writes one line for each finding and each problem.
pub fn write(report: &Report) -> String {
    let mut lines = String::new();
    for finding in &report.findings {
        let level = if finding.is_advice { "notice" } else { "error" };
        let _ = writeln!(
            lines,
            "::{level} file={},line={},col={},endColumn={},title={}::{}",
            property(&finding.path.to_string_lossy()),
            finding.line,
            finding.column,
            finding.column + finding.width,
            property(&format!("{} {}", finding.code, finding.hazard)),
            data(&format!("{}. Instead: {}.", finding.message, finding.help)),
        );
    }
    for problem in &report.problems {
        let _ = writeln!(
            lines,
            "::warning file={},line={}::{}",
            property(&problem.path.to_string_lossy()),
            problem.line.unwrap_or(1),
            data(&problem.message)
        );
    }
    lines
}

fn data(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}
