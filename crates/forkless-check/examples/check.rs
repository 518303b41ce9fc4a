//! The linter without Python: checks the paths that it is given, and says how long that took.
//!
//! `cargo run --release -p forkless-check --example check -- PATH...`

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use forkless_check::{Format, Options, check};

#[allow(clippy::print_stdout, clippy::print_stderr)]
fn main() -> ExitCode {
    let paths: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let options = match Options::find(&paths) {
        Ok(options) => options,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(2);
        }
    };
    let start = Instant::now();
    match check(&paths, &options, false) {
        Ok(report) => {
            print!("{}", Format::Text { colour: false }.write(&report));
            eprintln!("{} files in {:.3} s", report.files, start.elapsed().as_secs_f64());
            ExitCode::from(report.exit_code())
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(2)
        }
    }
}
