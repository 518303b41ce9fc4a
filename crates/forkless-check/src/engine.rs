//! From files to findings: each file by itself, several at a time.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use crate::model::{self, Method, processes::Processes};
use crate::options::{BadOptions, Options};
use crate::rules::{Facts, RULES, Rule};
use crate::source::Source;
use crate::suppress::Suppressions;
use crate::{Finding, Problem, Report, fix, syntax, walk};

/// Room for the deepest tree that the parser lets through. It is reserved, not used.
const STACK: usize = 256 << 20;

/// Words without which a file has nothing that a rule could find.
const WORDS: [&str; 7] = ["multiprocessing", "concurrent", "fork", "__del__", "weakref", "signal", "SharedMemory"];

/// A file, and what was found in it.
#[derive(Default)]
struct Checked {
    findings: Vec<Finding>,
    problems: Vec<Problem>,
    fixed: usize,
}

/// Checks files and folders.
///
/// # Errors
/// If the options make no sense.
pub fn check(paths: &[PathBuf], options: &Options, with_fixes: bool) -> Result<Report, BadOptions> {
    options.validate()?;
    let method = options.default_method()?;
    let (files, problems) = walk::files(paths, &options.exclude)?;
    let next = AtomicUsize::new(0);
    let done = Mutex::new(Vec::new());
    let work = || {
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let Some(path) = files.get(number) else { break };
            let checked = check_file(path, paths.contains(path), options, method, with_fixes);
            done.lock().unwrap_or_else(PoisonError::into_inner).push((number, checked));
        }
    };
    let workers = thread::available_parallelism().map_or(1, usize::from).min(files.len());
    let started = thread::scope(|scope| {
        let builders = (0..workers).map(|_| thread::Builder::new().stack_size(STACK));
        builders.map(|builder| builder.spawn_scoped(scope, work)).filter(Result::is_ok).count()
    });
    if started == 0 && !files.is_empty() {
        return Ok(Report { problems: vec![no_thread()], ..Report::default() });
    }
    let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    done.sort_by_key(|(number, _)| *number);
    let mut report = Report { files: files.len(), problems, ..Report::default() };
    for (_, checked) in done {
        report.findings.extend(checked.findings);
        report.problems.extend(checked.problems);
        report.fixed += checked.fixed;
    }
    Ok(report)
}

/// Checks a program that is in memory: the text of a file, or, without a path, what came through standard input.
///
/// # Errors
/// If the options make no sense.
pub fn check_text(bytes: &[u8], path: Option<&Path>, options: &Options) -> Result<Report, BadOptions> {
    options.validate()?;
    let method = options.default_method()?;
    let work = || check_bytes(bytes, path.unwrap_or(Path::new("<stdin>")), path.is_none(), options, method);
    let checked = thread::scope(|scope| {
        let thread = thread::Builder::new().stack_size(STACK).spawn_scoped(scope, work);
        thread.map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    });
    let no_thread = |_| Checked { problems: vec![no_thread()], ..Checked::default() };
    let checked = checked.unwrap_or_else(no_thread);
    Ok(Report { findings: checked.findings, problems: checked.problems, files: 1, fixed: 0 })
}

/// Without a thread there is no stack that is surely deep enough.
fn no_thread() -> Problem {
    let message = "nothing is checked: no thread could be started".to_owned();
    Problem { path: PathBuf::from("."), line: None, message, is_fatal: true }
}

fn check_file(path: &Path, is_named: bool, options: &Options, method: Method, with_fixes: bool) -> Checked {
    let bytes = match read(path) {
        Ok(bytes) => bytes,
        Err(error) => {
            let message = format!("cannot be read: {error}");
            let problem = Problem { path: path.to_owned(), line: None, message, is_fatal: is_named };
            return Checked { problems: vec![problem], ..Checked::default() };
        }
    };
    let mut checked = check_bytes(&bytes, path, false, options, method);
    if !with_fixes || checked.findings.is_empty() || is_notebook(path) {
        return checked;
    }
    let Some(better) = str::from_utf8(&bytes).ok().and_then(fix::fixed) else { return checked };
    match std::fs::write(path, &better) {
        Ok(()) => {
            let before = checked.findings.len();
            checked = check_bytes(better.as_bytes(), path, false, options, method);
            checked.fixed = before.saturating_sub(checked.findings.len());
        }
        Err(error) => checked.problems.push(Problem {
            path: path.to_owned(),
            line: None,
            message: format!("cannot be mended: {error}"),
            is_fatal: true,
        }),
    }
    checked
}

/// What is in a file, if it is one: reading a device or a pipe might never end.
fn read(path: &Path) -> std::io::Result<Vec<u8>> {
    if !std::fs::metadata(path)?.is_file() {
        return Err(std::io::Error::other("not a file"));
    }
    std::fs::read(path)
}

fn is_notebook(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "ipynb")
}

fn check_bytes(bytes: &[u8], path: &Path, has_no_file: bool, options: &Options, method: Method) -> Checked {
    let mut checked = Checked::default();
    let mut problem = |line, message: String| {
        checked.problems.push(Problem { path: path.to_owned(), line, message, is_fatal: false });
    };
    let source = match Source::read(bytes, is_notebook(path)) {
        Ok(source) => source,
        Err(why) => {
            problem(None, why.to_string());
            return checked;
        }
    };
    if let Some(what) = source.problem {
        problem(None, what.to_owned());
    }
    let parsed = match syntax::parse(&source.text, is_notebook(path)) {
        Ok(parsed) => parsed,
        Err(why) => {
            problem(None, format!("{why}: skipped"));
            return checked;
        }
    };
    if let Some((range, what)) = parsed.errors.first() {
        let line = source.lines.position(range.start().to_usize()).line;
        problem(Some(line), format!("syntax error: {what}: the rest is checked as far as it can be understood"));
    }
    if !WORDS.iter().any(|word| source.text.contains(word)) {
        return checked;
    }
    let module = model::build(&parsed.body, has_no_file || is_notebook(path), method);
    let module = module.with_default_method();
    let processes = Processes::of(&module);
    let facts = Facts { module, processes, lines: &source.lines };
    let suppressions = Suppressions::of(&source.text, &parsed.comments, &source.lines);
    for rule in RULES.iter().filter(|rule| options.asks_for(rule)) {
        let hits = (rule.find)(&facts).into_iter();
        for hit in hits.filter(|hit| !facts.module.is_expected_to_fail(hit.range.start())) {
            let finding = finding(rule, hit, path, &source);
            if !suppressions.covers(finding.line_of_text, rule.code)
                && !suppressions.covers(finding.end_line, rule.code)
            {
                checked.findings.push(finding);
            }
        }
    }
    checked.findings.sort_by(|a, b| (a.line_of_text, a.column, a.code).cmp(&(b.line_of_text, b.column, b.code)));
    checked.findings.dedup_by(|a, b| (a.line_of_text, a.column, a.code) == (b.line_of_text, b.column, b.code));
    checked
}

fn finding(rule: &Rule, hit: crate::rules::Hit, path: &Path, source: &Source) -> Finding {
    let (start, end) = (hit.range.start().to_usize(), hit.range.end().to_usize());
    let position = source.lines.position(start);
    let last = source.lines.position(end.max(start));
    let code_line = source.lines.line(&source.text, position.line);
    let characters = |bytes: usize| code_line.get(..bytes).unwrap_or(code_line).chars().count();
    let end_byte = if last.line == position.line { last.byte } else { code_line.len() };
    let cell = source.cells.iter().rev().find(|(first, _)| *first <= position.line);
    Finding {
        code: rule.code,
        hazard: rule.hazard,
        path: path.to_owned(),
        line: cell.map_or(position.line, |(first, _)| position.line - first + 1),
        cell: cell.map(|(_, number)| *number),
        column: characters(position.byte) + 1,
        width: (characters(end_byte) - characters(position.byte)).max(1),
        message: hit.message,
        help: rule.help,
        code_line: code_line.to_owned(),
        is_advice: rule.is_advice,
        line_of_text: position.line,
        end_line: last.line,
    }
}
