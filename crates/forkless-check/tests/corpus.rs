//! Sources with and without each trap: what is found is what their comments expect, no more and no less.
//!
//! `corpus/FLxxx/bad_*.py` say `# expect: FLxxx` in each line that has a finding; `good_*.py` have none at all. A first line
//! `# target: 3.14` says which Python the program is for.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use forkless_check::{Options, check, list};

/// A line and a code.
type Expectation = (usize, String);

fn corpus() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus");
    let folders = std::fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> =
        folders.flat_map(|folder| std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path())).collect();
    files.sort();
    files
}

fn expected(text: &str) -> BTreeSet<Expectation> {
    let lines = text.lines().enumerate();
    lines
        .flat_map(|(number, line)| {
            line.split("# expect: ").skip(1).map(move |code| (number + 1, code.trim().to_owned()))
        })
        .collect()
}

fn found(path: &Path, text: &str) -> BTreeSet<Expectation> {
    let target = text.lines().next().and_then(|line| line.strip_prefix("# target: ")).map(str::to_owned);
    let options = Options { select: vec!["ALL".to_owned()], target_version: target, ..Options::default() };
    let report = check(&[path.to_owned()], &options, false).unwrap();
    assert!(report.problems.is_empty(), "{}: {:?}", path.display(), report.problems);
    report.findings.into_iter().map(|finding| (finding.line, finding.code.to_owned())).collect()
}

#[test]
fn what_is_found_is_what_is_expected() {
    let mut differences = Vec::new();
    for path in corpus() {
        let text = std::fs::read_to_string(&path).unwrap();
        let (expected, found) = (expected(&text), found(&path, &text));
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        assert_eq!(name.starts_with("bad_"), !expected.is_empty(), "{}: bad files expect something", path.display());
        for (line, code) in expected.symmetric_difference(&found) {
            let what = if expected.contains(&(*line, code.clone())) { "is not found" } else { "is found" };
            differences.push(format!("{}:{line}: {code} {what}", path.display()));
        }
    }
    assert!(differences.is_empty(), "\n{}", differences.join("\n"));
}

#[test]
fn every_rule_has_good_and_bad_sources() {
    for code in list().lines().map(|line| &line[..5]) {
        let files: Vec<String> = corpus()
            .into_iter()
            .filter(|path| path.parent().unwrap().ends_with(code))
            .map(|path| path.file_name().unwrap().to_string_lossy().into_owned())
            .collect();
        assert!(files.iter().any(|name| name.starts_with("bad_")), "{code} has no bad source");
        assert!(files.iter().any(|name| name.starts_with("good_")), "{code} has no good source");
    }
}
