//! `--fix`: what is certain to be right, which is to import forkless in place of `multiprocessing`.
//!
//! It is certain if the file uses only names that both have, asks for no start method that forkless refuses, and
//! gives none of
//! its objects to anything that knows `multiprocessing` by another import.

use crate::model::{self, Method, Module, Value};
use crate::syntax::ast::visitor::{Visitor, walk_stmt};
use crate::syntax::ast::{self, Stmt};
use crate::syntax::{self, Ranged, TextRange};

/// Names that mean the same in both.
const SAME: [&str; 33] = [
    "Array",
    "Barrier",
    "BoundedSemaphore",
    "Condition",
    "Event",
    "JoinableQueue",
    "Lock",
    "Manager",
    "Pipe",
    "Pool",
    "Process",
    "Queue",
    "RLock",
    "RawArray",
    "RawValue",
    "Semaphore",
    "SimpleQueue",
    "TimeoutError",
    "Value",
    "active_children",
    "cpu_count",
    "current_process",
    "freeze_support",
    "get_all_start_methods",
    "get_context",
    "get_start_method",
    "parent_process",
    "set_executable",
    "set_forkserver_preload",
    "set_start_method",
    "ProcessError",
    "AuthenticationError",
    "BufferTooShort",
];

/// A program with its imports changed, if that is certain to be right.
pub fn fixed(text: &str) -> Option<String> {
    let parsed = syntax::parse(text, false).ok().filter(|parsed| parsed.errors.is_empty())?;
    let module = model::build(&parsed.body, false, Method::Fork);
    let mut imports = Imports { edits: Vec::new(), is_certain: true };
    imports.visit_body(&parsed.body);
    if !imports.is_certain || imports.edits.is_empty() || asks_for_fork(&module) || !uses_common_names(&module) {
        return None;
    }
    let mut text = text.to_owned();
    for (range, replacement) in imports.edits.iter().rev() {
        text.replace_range(range.start().to_usize()..range.end().to_usize(), replacement);
    }
    Some(text)
}

/// The import statements that are to change.
struct Imports {
    edits: Vec<(TextRange, String)>,
    is_certain: bool,
}

impl<'a> Visitor<'a> for Imports {
    fn visit_stmt(&mut self, statement: &'a Stmt) {
        match statement {
            Stmt::Import(import) => {
                for alias in &import.names {
                    self.import(alias);
                }
            }
            Stmt::ImportFrom(import) if import.level == 0 => self.import_from(import),
            _ => walk_stmt(self, statement),
        }
    }
}

impl Imports {
    fn import(&mut self, alias: &ast::Alias) {
        let name = alias.name.as_str();
        match (name, &alias.asname) {
            ("multiprocessing", Some(_)) => self.edits.push((alias.name.range(), "forkless".to_owned())),
            ("multiprocessing", None) => self.edits.push((alias.range(), "forkless as multiprocessing".to_owned())),
            _ if is_about_processes(name) => self.is_certain = false,
            _ => {}
        }
    }

    fn import_from(&mut self, import: &ast::StmtImportFrom) {
        let Some(module) = &import.module else { return };
        match module.as_str() {
            "multiprocessing" if import.names.iter().all(|alias| SAME.contains(&alias.name.as_str())) => {
                self.edits.push((module.range(), "forkless".to_owned()));
            }
            name if is_about_processes(name) => self.is_certain = false,
            "concurrent.futures" | "concurrent" => {
                self.is_certain &= import.names.iter().all(|alias| alias.name.as_str() != "ProcessPoolExecutor");
            }
            _ => {}
        }
    }
}

/// Whether a module takes part in what `multiprocessing` does.
fn is_about_processes(name: &str) -> bool {
    let top = name.split('.').next().unwrap_or(name);
    top == "multiprocessing" || matches!(top, "torch" | "billiard" | "multiprocess" | "pathos" | "joblib")
}

fn asks_for_fork(module: &Module<'_>) -> bool {
    let methods = ["get_context", "set_start_method"].into_iter().flat_map(|name| module.calls_named(name));
    let mut methods = methods.filter_map(|call| call.argument("method", 0));
    methods.any(|method| !matches!(module.value(method), Value::Text(name) if matches!(&*name, "spawn" | "forkserver")))
}

/// Whether all attributes of `multiprocessing` that are used mean the same in both.
fn uses_common_names(module: &Module<'_>) -> bool {
    module.attributes.iter().all(|attribute| match module.path(&attribute.value).as_deref() {
        Some("multiprocessing") => SAME.contains(&attribute.attr.as_str()),
        Some(path) => !path.starts_with("multiprocessing."),
        None => true,
    })
}

#[cfg(test)]
mod tests {
    use super::fixed;

    #[test]
    fn imports_change_where_that_is_certain() {
        assert_eq!(
            fixed("import os, multiprocessing as mp\np = mp.Pool(2)\n").as_deref(),
            Some("import os, forkless as mp\np = mp.Pool(2)\n")
        );
        assert_eq!(
            fixed("def f():\n    import multiprocessing\n    multiprocessing.Queue()\nfrom multiprocessing import Lock as L\n").as_deref(),
            Some("def f():\n    import forkless as multiprocessing\n    multiprocessing.Queue()\nfrom forkless import Lock as L\n")
        );
    }

    #[test]
    fn what_is_not_certain_stays() {
        for text in [
            "import multiprocessing.pool\n",
            "import multiprocessing as mp\nmp.get_context('fork').Pool()\n",
            "import multiprocessing as mp\nmp.resource_tracker.unregister('x', 'y')\n",
            "import multiprocessing as mp\nmp.set_start_method(method)\n",
            "from multiprocessing import shared_memory\n",
            "import torch\nimport multiprocessing as mp\n",
            "import multiprocessing as mp\nx = (\n",
            "import threading\n",
        ] {
            assert_eq!(fixed(text), None, "{text}");
        }
    }
}
