//! Which crate may depend on which, stated over `cargo metadata`.
//!
//! The layers are a line: a crate may use any crate to its left, never one to its right. Two crates stand at the
//! borders: only `forkless-sys` names the operating system, and only `forkless-python` knows PyO3. Development and
//! build dependencies count too, so that no test reaches around its layer; the one thing they may add is
//! `forkless-testing`, which nothing that is shipped depends on.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// The layers, from the operating system up.
const LAYERS: [&str; 6] =
    ["forkless-sys", "forkless-shm", "forkless-sync", "forkless-ipc", "forkless-process", "forkless-python"];

/// Stands beside the layers: it depends on none of them; the extension module and the facade use it.
const COLUMNS: &str = "forkless-columns";

/// The linter stands alone: it depends on no crate of ours, and only the extension module uses it.
const CHECK: &str = "forkless-check";

/// Looks at trees from outside: reads what the lower layers write, and only the extension module uses it.
const DOCTOR: &str = "forkless-doctor";
const DOCTOR_USES: [&str; 4] = ["forkless-sys", "forkless-shm", "forkless-sync", "forkless-ipc"];

/// For Rust users: sees every layer but the extension module.
const FACADE: &str = "forkless";

/// For tests only: a development dependency of any crate, which itself uses these.
const TESTING: &str = "forkless-testing";
const TESTING_USES: [&str; 2] = ["forkless-sys", "forkless-shm"];

/// For the model checker only: runs what is shared between processes, and nothing depends on it.
const MODELS: &str = "forkless-models";
const MODELS_USE: [&str; 4] = ["forkless-sys", "forkless-shm", "forkless-sync", "forkless-ipc"];

/// Dependencies that one crate alone may have (a trailing `*` stands for anything), and that crate.
const BORDERS: [(&str, &str); 6] = [
    ("libc", "forkless-sys"),
    ("linux-raw-sys", "forkless-sys"),
    ("nix", "forkless-sys"),
    ("rustix*", "forkless-sys"),
    ("pyo3*", "forkless-python"),
    ("numpy", "forkless-python"),
];

/// A dependency, as cargo knows it.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Normal,
    Development,
    Build,
}

/// Why `from` must not depend on `to`, or nothing.
fn objection(from: &str, to: &str, kind: Kind) -> Option<String> {
    let layer = |name: &str| LAYERS.iter().position(|layer| *layer == name);
    let ours = |name: &str| name == FACADE || name.starts_with("forkless-");
    if !ours(to) {
        let named = |pattern: &str| match pattern.strip_suffix('*') {
            Some(prefix) => to.starts_with(prefix),
            None => to == pattern,
        };
        let (_, owner) = BORDERS.iter().find(|(pattern, _)| named(pattern))?;
        return (*owner != from).then(|| format!("{from} depends on {to}: only {owner} may"));
    }
    if to == TESTING && from != TESTING {
        return (kind != Kind::Development).then(|| format!("{from} depends on {to}: for its tests it may, no more"));
    }
    match (layer(from), layer(to)) {
        (Some(user), Some(used)) if used < user => None,
        (None, Some(_)) if from == FACADE && to != "forkless-python" => None,
        (Some(_), None) if from == "forkless-python" && [COLUMNS, CHECK, DOCTOR].contains(&to) => None,
        (None, None) if from == FACADE && to == COLUMNS => None,
        (None, Some(_)) if from == DOCTOR && DOCTOR_USES.contains(&to) => None,
        (None, Some(_)) if from == TESTING && TESTING_USES.contains(&to) => None,
        (None, Some(_)) if from == MODELS && MODELS_USE.contains(&to) => None,
        _ => Some(format!("{from} depends on {to}: not an edge that is allowed")),
    }
}

/// Every crate of the workspace with all its dependencies.
fn workspace() -> BTreeMap<String, Vec<(String, Kind)>> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--format-version", "1", "--no-deps", "--locked", "--offline"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo runs, it started this test");
    assert!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("cargo metadata prints JSON");
    let name = |item: &Value| item["name"].as_str().expect("packages and dependencies have names").to_owned();
    let list = |item: &Value, key: &str| item[key].as_array().expect("cargo metadata prints a list").clone();
    let kind = |item: &Value| match item["kind"].as_str() {
        None => Kind::Normal,
        Some("dev") => Kind::Development,
        Some(_) => Kind::Build,
    };
    let dependencies = |package| list(package, "dependencies").iter().map(|item| (name(item), kind(item))).collect();
    list(&metadata, "packages").iter().map(|package| (name(package), dependencies(package))).collect()
}

#[test]
fn every_edge_is_allowed() {
    let objections: Vec<String> = workspace()
        .iter()
        .flat_map(|(from, dependencies)| dependencies.iter().filter_map(|(to, kind)| objection(from, to, *kind)))
        .collect();
    assert!(objections.is_empty(), "{}", objections.join("\n"));
}

#[test]
fn every_crate_has_its_place() {
    let known: Vec<&str> = LAYERS.into_iter().chain([COLUMNS, CHECK, DOCTOR, FACADE, TESTING, MODELS]).collect();
    let strangers: Vec<String> = workspace().into_keys().filter(|name| !known.contains(&name.as_str())).collect();
    assert!(strangers.is_empty(), "say where these belong: {strangers:?}");
}

#[test]
fn wrong_edges_are_noticed() {
    for (from, to) in [
        ("forkless-sys", "forkless-shm"),
        ("forkless-ipc", "forkless-process"),
        ("forkless-sync", "forkless-sync"),
        ("forkless-process", "forkless"),
        ("forkless", "forkless-python"),
        ("forkless", "forkless-unheard-of"),
        ("forkless-process", "libc"),
        ("forkless-shm", "rustix-extra"),
        ("forkless-process", "pyo3-ffi"),
        ("forkless-sync", "forkless-testing"),
        ("forkless-testing", "forkless-process"),
        ("forkless-models", "forkless-process"),
        ("forkless-process", "forkless-models"),
        ("forkless-testing", "forkless-testing"),
        ("forkless-check", "forkless-sys"),
        ("forkless", "forkless-check"),
        ("forkless-doctor", "forkless-process"),
        ("forkless-process", "forkless-doctor"),
    ] {
        assert!(objection(from, to, Kind::Normal).is_some(), "{from} must not depend on {to}");
    }
    for (from, to) in [
        ("forkless-shm", "forkless-sys"),
        ("forkless-python", "forkless-sys"),
        ("forkless", "forkless-process"),
        ("forkless-sys", "rustix"),
        ("forkless-python", "pyo3"),
        ("forkless-python", "forkless-check"),
        ("forkless-ipc", "thiserror"),
        ("forkless-testing", "forkless-shm"),
    ] {
        assert_eq!(objection(from, to, Kind::Normal), None, "{from} may depend on {to}");
    }
    assert_eq!(objection("forkless-shm", "forkless-testing", Kind::Development), None);
    assert!(objection("forkless-shm", "forkless-testing", Kind::Build).is_some());
    assert!(objection("forkless-shm", "forkless-ipc", Kind::Development).is_some());
}

/// The modules that let unsafe code in are the audit list, and ARCHITECTURE.md has it.
#[test]
fn every_module_with_unsafe_code_is_on_the_audit_list() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let architecture = std::fs::read_to_string(root.join("ARCHITECTURE.md")).expect("ARCHITECTURE.md can be read");
    let list = architecture.split("## Unsafe code").nth(1).and_then(|rest| rest.split("\n## ").next());
    let list = list.expect("ARCHITECTURE.md has a section on unsafe code");
    let mut found = 0;
    for krate in std::fs::read_dir(root.join("crates")).expect("crates can be listed") {
        for path in sources(&krate.expect("a crate").path().join("src")) {
            let text = std::fs::read_to_string(&path).unwrap_or_default();
            if text.contains("allow(unsafe_code)") {
                let name = path.file_name().and_then(|name| name.to_str()).expect("a name in UTF-8");
                assert!(list.contains(name), "{} is not on the audit list in ARCHITECTURE.md", path.display());
                found += 1;
            }
        }
    }
    assert!(found >= 8, "only {found} modules let unsafe code in: is this test looking in the right place?");
}

/// All files in a folder and the folders in it.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).expect("sources can be listed");
    let paths = entries.map(|entry| entry.expect("a source").path());
    paths.flat_map(|path| if path.is_dir() { sources(&path) } else { vec![path] }).collect()
}
