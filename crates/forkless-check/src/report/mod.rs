//! What findings look like: for people, for programs, and for those who show findings beside the code.

mod github;
mod json;
mod sarif;
mod text;

use std::fmt::Write;

use crate::Report;
use crate::rules::{RULES, Rule, rule};

/// How a report is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// For people; with colours, if so.
    Text {
        /// Whether the terminal shows colours.
        colour: bool,
    },
    /// One JSON document.
    Json,
    /// One document of the Static Analysis Results Interchange Format, version 2.1.0.
    Sarif,
    /// Workflow commands of GitHub Actions, one line each.
    Github,
}

impl Format {
    /// The format of this name.
    pub fn named(name: &str, colour: bool) -> Option<Self> {
        match name {
            "text" => Some(Self::Text { colour }),
            "json" => Some(Self::Json),
            "sarif" => Some(Self::Sarif),
            "github" => Some(Self::Github),
            _ => None,
        }
    }

    /// Writes a report. Problems are part of it only where nobody would look for them elsewhere.
    pub fn write(self, report: &Report) -> String {
        match self {
            Self::Text { colour } => text::write(report, colour),
            Self::Json => json::write(report),
            Self::Sarif => sarif::write(report),
            Self::Github => github::write(report),
        }
    }
}

/// The explanation of a code or of a hazard, in Markdown; nothing if there is none of this name.
pub fn explain(name: &str) -> Option<String> {
    if let Some(rule) = rule(name) {
        return Some(section(rule));
    }
    let sections: Vec<String> = RULES.iter().filter(|rule| rule.hazard == name).map(section).collect();
    (!sections.is_empty()).then(|| sections.join("\n"))
}

/// One line for each rule.
pub fn list() -> String {
    RULES.iter().fold(String::new(), |mut lines, rule| {
        let advice = if rule.is_advice { " (advice: --select ALL)" } else { "" };
        let _ = writeln!(lines, "{}  {:<26} {}{advice}", rule.code, rule.hazard, rule.title);
        lines
    })
}

/// The explanations of all rules: the reference in `docs/check.md`.
pub fn reference() -> String {
    RULES.iter().map(section).collect::<Vec<_>>().join("\n")
}

fn section(rule: &Rule) -> String {
    format!(
        "### {} · {}\n\n*{}.*\n\n{}\n\n**Instead:** {}.\n",
        rule.code,
        rule.hazard,
        capitalised(rule.title),
        rule.explanation.trim(),
        rule.help
    )
}

fn capitalised(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().map(|letter| letter.to_uppercase().to_string());
    // A title that begins with code stays as it is.
    first.map_or_else(String::new, |first| first + letters.as_str())
}
