//! The linter behind `forkless check`: reads Python programs, without running them, and finds the traps of processes
//! in them.
//!
//! ```
//! use forkless_check::{Options, check_text};
//!
//! let program = b"import multiprocessing as mp\nmp.get_context('spawn').Pool(2)\n";
//! let report = check_text(program, Some("program.py".as_ref()), &Options::default()).unwrap();
//! assert_eq!(report.findings[0].code, "FL010");
//! ```
//!
//! A file is read (`source`, `notebook`) and parsed (`syntax`); one walk over the tree makes a `model` of it: scopes,
//! blocks and
//! calls. The model answers what an expression is (`model/value.rs`), what runs before what (`model/flow.rs`), and
//! which processes and tasks there are (`model/processes.rs`). The `rules` ask it. All is for one file at a time:
//! what another
//! module does is unknown, and a rule that would have to know it says nothing.

mod engine;
mod fix;
mod model;
mod notebook;
mod options;
mod report;
mod rules;
mod source;
mod suppress;
mod syntax;
mod walk;

use std::path::PathBuf;

pub use engine::{check, check_text};
pub use options::{BadOptions, Options};
pub use report::{Format, explain, list, reference};

/// Something that will go wrong, and where.
#[derive(Clone, Debug)]
pub struct Finding {
    /// The code of the rule: `FL` and three digits.
    pub code: &'static str,
    /// The name of the trap.
    pub hazard: &'static str,
    /// The file.
    pub path: PathBuf,
    /// The line, from 1; in a notebook, that of the cell.
    pub line: usize,
    /// In a notebook, the number of the cell, from 1.
    pub cell: Option<usize>,
    /// The character of the line, from 1.
    pub column: usize,
    /// How many characters of the line it is about.
    pub width: usize,
    /// Why it breaks.
    pub message: String,
    /// How to mend it.
    pub help: &'static str,
    /// The line itself.
    pub code_line: String,
    /// Whether it is only advice, which never fails a run.
    pub is_advice: bool,
    /// The line of the text that was read, and the one that it ends in.
    line_of_text: usize,
    end_line: usize,
}

/// A file that could not be read as it should be.
#[derive(Clone, Debug)]
pub struct Problem {
    /// The file.
    pub path: PathBuf,
    /// Where in it, from 1.
    pub line: Option<usize>,
    /// What is wrong.
    pub message: String,
    /// Whether it was asked for by its name and is not there.
    pub is_fatal: bool,
}

/// What a run has found.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// In the order of files and lines.
    pub findings: Vec<Finding>,
    /// Files that could not be read as they should be.
    pub problems: Vec<Problem>,
    /// How many files were looked at.
    pub files: usize,
    /// How many findings were mended.
    pub fixed: usize,
}

impl Report {
    /// 0 if there is nothing but advice, 1 if there is, 2 if a file that was asked for could not be read.
    pub fn exit_code(&self) -> u8 {
        match () {
            () if self.problems.iter().any(|problem| problem.is_fatal) => 2,
            () if self.findings.iter().any(|finding| !finding.is_advice) => 1,
            () => 0,
        }
    }
}
