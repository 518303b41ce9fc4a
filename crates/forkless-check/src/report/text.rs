//! For people: where, what, the line with a marker, and what to do.

use std::fmt::Write;

use crate::{Finding, Problem, Report};

/// Writes all findings, and one line that sums them up.
pub fn write(report: &Report, colour: bool) -> String {
    let paint = |code: &'static str| if colour { code } else { "" };
    let (bold, red, blue, plain) = (paint("\x1b[1m"), paint("\x1b[31m"), paint("\x1b[34m"), paint("\x1b[0m"));
    let mut text = String::new();
    for finding in &report.findings {
        let place = place(finding);
        let Finding { code, hazard, message, help, line, column, width, code_line, .. } = finding;
        let _ = writeln!(text, "{bold}{place}{plain}: {red}{code}{plain} {hazard}: {message}");
        let (gap, number) = (" ".repeat(line.to_string().len()), line);
        // Tabs stay tabs, so that the marker stands where the code does.
        let before: String = code_line.chars().take(column - 1).map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
        let _ = writeln!(text, "{blue}{gap} |{plain}");
        let _ = writeln!(text, "{blue}{number} |{plain} {code_line}");
        let _ = writeln!(text, "{blue}{gap} |{plain} {before}{red}{}{plain}", "^".repeat(*width));
        let _ = writeln!(text, "{blue}{gap} ={plain} instead: {help}");
        let _ = writeln!(text, "{blue}{gap} ={plain} more: forkless check --explain {code}\n");
    }
    text + &summary(report)
}

/// `file:line:column`, as editors read it.
fn place(finding: &Finding) -> String {
    let path = finding.path.display();
    match finding.cell {
        Some(cell) => format!("{path}:cell {cell}:{}:{}", finding.line, finding.column),
        None => format!("{path}:{}:{}", finding.line, finding.column),
    }
}

fn summary(report: &Report) -> String {
    let count = |number: usize, noun: &str| match number {
        1 => format!("1 {noun}"),
        _ => format!("{number} {noun}s"),
    };
    let files = count(report.files, "file");
    let fixed = if report.fixed > 0 { format!(", {} mended", report.fixed) } else { String::new() };
    match report.findings.len() {
        0 => format!("Nothing found in {files}{fixed}.\n"),
        found => format!("{} in {files}{fixed}.\n", count(found, "finding")),
    }
}

/// One line about a file that could not be read as it should be.
impl std::fmt::Display for Problem {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.line {
            Some(line) => write!(formatter, "{}:{line}: {}", self.path.display(), self.message),
            None => write!(formatter, "{}: {}", self.path.display(), self.message),
        }
    }
}
