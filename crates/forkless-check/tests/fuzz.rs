//! Programs that nobody writes: whatever the bytes are, the linter says something, soon, and never panics.
#![allow(clippy::unwrap_used)]

use forkless_check::{Format, Options, check_text};
use forkless_testing::fuzz;

/// Programs with much for rules to look at.
const GOOD: [&[u8]; 12] = [
    include_bytes!("corpus/FL001/bad_context_as_parameter.py"),
    include_bytes!("corpus/FL002/bad_arguments_of_tasks.py"),
    include_bytes!("corpus/FL010/good_other_guards.py"),
    include_bytes!("corpus/FL020/bad_pools_and_listeners.py"),
    include_bytes!("corpus/FL021/bad_held.py"),
    include_bytes!("corpus/FL030/good_prepared_for_it.py"),
    include_bytes!("corpus/FL040/bad_del.py"),
    include_bytes!("corpus/FL060/good_unlinked.py"),
    include_bytes!("corpus/FL071/bad_after_with.py"),
    include_bytes!("corpus/FL090/good_errors.py"),
    include_bytes!("corpus/FL131/good_reader.py"),
    include_bytes!("corpus/FL150/bad_big.py"),
];

/// The same, as notebooks.
const NOTEBOOKS: [&[u8]; 2] = [
    br#"{"cells": [{"cell_type": "code", "source": ["import multiprocessing as mp\n", "mp.get_context('spawn').Pool()"]},
        {"cell_type": "code", "source": "%%bash\nls"}, {"cell_type": "code", "source": "!ls\n%time f()"}], "metadata": {}}"#,
    br#"{"cells": [{"cell_type": "markdown", "source": []}], "metadata": {"language_info": {"name": "python"}}}"#,
];

fn look_at(bytes: &[u8], name: Option<&str>, target: Option<&str>) {
    let target_version = target.map(str::to_owned);
    let options = Options { select: vec!["ALL".to_owned()], target_version, ..Options::default() };
    let report = check_text(bytes, name.map(str::as_ref), &options).unwrap();
    for format in ["text", "json", "sarif", "github"] {
        assert!(Format::named(format, true).unwrap().write(&report).len() < 10_000_000);
    }
    for finding in &report.findings {
        assert!(finding.line >= 1 && finding.column >= 1 && finding.width >= 1);
    }
}

#[test]
fn programs() {
    fuzz(1000, &GOOD, |bytes| {
        look_at(bytes, Some("program.py"), None);
        look_at(bytes, None, Some("3.14"));
    });
}

#[test]
fn notebooks() {
    fuzz(1000, &NOTEBOOKS, |bytes| look_at(bytes, Some("notebook.ipynb"), None));
}
