//! What is asked for: on the command line, or else in `[tool.forkless.check]` of `pyproject.toml`.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::model::Method;
use crate::rules::Rule;

/// What to look for, and where.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Options {
    /// Codes, beginnings of codes, hazards, or `ALL`. All but advice if there are none.
    #[serde(default)]
    pub select: Vec<String>,
    /// The same, of what is not to be told.
    #[serde(default)]
    pub ignore: Vec<String>,
    /// Patterns of paths that are left out, as in a `.gitignore`.
    #[serde(default)]
    pub exclude: Vec<String>,
    /// The version of Python that the program is for, such as `3.13`: it decides the default start method.
    pub target_version: Option<String>,
}

/// Why options make no sense.
#[derive(Debug, thiserror::Error)]
pub enum BadOptions {
    /// `pyproject.toml` cannot be read, or says what is not known.
    #[error("{0}: {1}")]
    File(PathBuf, String),
    /// No rule has this code, and no hazard is called so.
    #[error("no rule is called {0:?}: see `forkless check --list`")]
    Code(String),
    /// A version is two numbers.
    #[error("{0:?} is no version of Python 3: say, for example, 3.13")]
    Version(String),
    /// An exclude is no pattern.
    #[error("exclude: {0}")]
    Pattern(String),
}

#[derive(Deserialize)]
struct Project {
    tool: Option<Tools>,
}

#[derive(Deserialize)]
struct Tools {
    forkless: Option<Tool>,
}

#[derive(Deserialize)]
struct Tool {
    check: Option<Options>,
}

impl Options {
    /// Those of the nearest `pyproject.toml` with a table for this, from the first of these paths up, or from here.
    ///
    /// # Errors
    /// If one is found that cannot be understood.
    pub fn find(paths: &[PathBuf]) -> Result<Self, BadOptions> {
        let first = paths.first().map_or(Path::new("."), PathBuf::as_path);
        let folder = first.canonicalize().unwrap_or_else(|_| first.to_owned());
        for folder in folder.ancestors() {
            let path = folder.join("pyproject.toml");
            let Ok(text) = std::fs::read_to_string(&path) else { continue };
            let wrong = |error: toml::de::Error| BadOptions::File(path.clone(), error.message().to_owned());
            let project: Project = toml::from_str(&text).map_err(wrong)?;
            if let Some(options) = project.tool.and_then(|tools| tools.forkless).and_then(|tool| tool.check) {
                return Ok(options);
            }
        }
        Ok(Self::default())
    }

    /// These, and for what they leave open, others.
    #[must_use]
    pub fn or(self, others: Self) -> Self {
        let first = |own: Vec<String>, other| if own.is_empty() { other } else { own };
        Self {
            select: first(self.select, others.select),
            ignore: first(self.ignore, others.ignore),
            exclude: first(self.exclude, others.exclude),
            target_version: self.target_version.or(others.target_version),
        }
    }

    /// Whether all names are those of rules, and the version is one.
    ///
    /// # Errors
    /// If not.
    pub fn validate(&self) -> Result<(), BadOptions> {
        for name in self.select.iter().chain(&self.ignore) {
            if !crate::rules::RULES.iter().any(|rule| names(name, rule)) {
                return Err(BadOptions::Code(name.clone()));
            }
        }
        self.default_method().map(|_| ())
    }

    /// Whether a rule is asked for.
    pub(crate) fn asks_for(&self, rule: &Rule) -> bool {
        let selected =
            if self.select.is_empty() { !rule.is_advice } else { self.select.iter().any(|name| names(name, rule)) };
        selected && !self.ignore.iter().any(|name| names(name, rule))
    }

    /// How a program of that version starts processes on Linux if it does not say.
    pub(crate) fn default_method(&self) -> Result<Method, BadOptions> {
        let Some(version) = &self.target_version else { return Ok(Method::Fork) };
        let digits = version.strip_prefix("py3").or_else(|| version.strip_prefix("3."));
        let minor: Option<u32> = digits.and_then(|digits| digits.parse().ok());
        match minor {
            Some(minor) if minor >= 14 => Ok(Method::Forkserver),
            Some(_) => Ok(Method::Fork),
            None => Err(BadOptions::Version(version.clone())),
        }
    }
}

fn names(name: &str, rule: &Rule) -> bool {
    let upper = name.to_ascii_uppercase();
    upper == "ALL" || (upper.starts_with("FL") && rule.code.starts_with(&upper)) || name == rule.hazard
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::rule;

    #[test]
    fn rules_are_asked_for_by_code_beginning_or_hazard() {
        let select = |names: &[&str]| Options {
            select: names.iter().map(|name| (*name).to_owned()).collect(),
            ..Options::default()
        };
        let (first, advice) = (rule("FL001").unwrap(), rule("fl900").unwrap());
        assert!(Options::default().asks_for(first) && !Options::default().asks_for(advice));
        assert!(select(&["ALL"]).asks_for(advice));
        assert!(select(&["FL00"]).asks_for(first) && !select(&["FL00"]).asks_for(advice));
        assert!(select(&["context-mismatch"]).asks_for(first));
        assert!(select(&["FL777"]).validate().is_err() && select(&["fl9"]).validate().is_ok());
    }

    #[test]
    fn versions_decide_the_default() {
        let of = |version: &str| {
            Options { target_version: Some(version.to_owned()), ..Options::default() }.default_method().ok()
        };
        assert_eq!(of("3.13"), Some(Method::Fork));
        assert_eq!(of("py314"), Some(Method::Forkserver));
        assert_eq!((of("2.7"), of("three")), (None, None));
    }
}
