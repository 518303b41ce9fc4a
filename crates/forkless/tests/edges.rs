//! Which crate may depend on which, stated over `cargo metadata`.
//!
//! The layers are a line: a crate may use any crate to its left, never one to its right. Two crates stand at the
//! borders: only `forkless-sys` names the operating system, and only `forkless-python` knows PyO3. Development and
//! build dependencies count too, so that no test reaches around its layer.

use std::collections::BTreeMap;
use std::process::Command;

use serde_json::Value;

/// The layers, from the operating system up.
const LAYERS: [&str; 6] =
    ["forkless-sys", "forkless-shm", "forkless-sync", "forkless-ipc", "forkless-process", "forkless-python"];

/// For Rust users: sees every layer but the extension module.
const FACADE: &str = "forkless";

/// Dependencies that one crate alone may have (a trailing `*` stands for anything), and that crate.
const BORDERS: [(&str, &str); 6] = [
    ("libc", "forkless-sys"),
    ("linux-raw-sys", "forkless-sys"),
    ("nix", "forkless-sys"),
    ("rustix*", "forkless-sys"),
    ("pyo3*", "forkless-python"),
    ("numpy", "forkless-python"),
];

/// Why `from` must not depend on `to`, or nothing.
fn objection(from: &str, to: &str) -> Option<String> {
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
    match (layer(from), layer(to)) {
        (Some(user), Some(used)) if used < user => None,
        (None, Some(_)) if from == FACADE && to != "forkless-python" => None,
        _ => Some(format!("{from} depends on {to}: not an edge that is allowed")),
    }
}

/// Every crate of the workspace with the names of all its dependencies.
fn workspace() -> BTreeMap<String, Vec<String>> {
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
    list(&metadata, "packages")
        .iter()
        .map(|package| (name(package), list(package, "dependencies").iter().map(name).collect()))
        .collect()
}

#[test]
fn every_edge_is_allowed() {
    let objections: Vec<String> = workspace()
        .iter()
        .flat_map(|(from, dependencies)| dependencies.iter().filter_map(move |to| objection(from, to)))
        .collect();
    assert!(objections.is_empty(), "{}", objections.join("\n"));
}

#[test]
fn every_crate_has_its_place() {
    let mut expected: Vec<&str> = LAYERS.into_iter().chain([FACADE]).collect();
    expected.sort_unstable();
    assert_eq!(workspace().into_keys().collect::<Vec<_>>(), expected, "a new crate needs a place in LAYERS");
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
    ] {
        assert!(objection(from, to).is_some(), "{from} must not depend on {to}");
    }
    for (from, to) in [
        ("forkless-shm", "forkless-sys"),
        ("forkless-python", "forkless-sys"),
        ("forkless", "forkless-process"),
        ("forkless-sys", "rustix"),
        ("forkless-python", "pyo3"),
        ("forkless-ipc", "thiserror"),
    ] {
        assert_eq!(objection(from, to), None, "{from} may depend on {to}");
    }
}
