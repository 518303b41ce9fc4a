//! Which files: those that are named, and the Python files and notebooks of folders, without what git ignores.

use std::path::{Path, PathBuf};

use ignore::overrides::OverrideBuilder;
use ignore::{WalkBuilder, types::TypesBuilder};

use crate::Problem;
use crate::options::BadOptions;

/// Finds files, in the order of their names, and what could not be looked into.
///
/// # Errors
/// If an exclude is no pattern.
pub fn files(paths: &[PathBuf], exclude: &[String]) -> Result<(Vec<PathBuf>, Vec<Problem>), BadOptions> {
    let (mut found, mut problems) = (Vec::new(), Vec::new());
    for path in paths {
        if !path.is_dir() {
            found.push(path.clone());
            continue;
        }
        for entry in walker(path, exclude)? {
            match entry {
                Ok(entry) if entry.file_type().is_some_and(|kind| kind.is_file() || kind.is_symlink()) => {
                    if entry.path().is_file() {
                        found.push(entry.into_path());
                    }
                }
                Ok(_) => {}
                Err(error) => problems.push(Problem {
                    path: path.clone(),
                    line: None,
                    message: error.to_string(),
                    is_fatal: false,
                }),
            }
        }
    }
    found.sort();
    found.dedup();
    Ok((found, problems))
}

fn walker(path: &Path, exclude: &[String]) -> Result<ignore::Walk, BadOptions> {
    let wrong = |error: ignore::Error| BadOptions::Pattern(error.to_string());
    let mut types = TypesBuilder::new();
    for pattern in ["*.py", "*.pyw", "*.ipynb"] {
        types.add("python", pattern).map_err(wrong)?;
    }
    types.select("python");
    let mut overrides = OverrideBuilder::new(path);
    for pattern in exclude {
        overrides.add(&format!("!{pattern}")).map_err(wrong)?;
    }
    let mut builder = WalkBuilder::new(path);
    // A link to a folder is not followed: what it leads to is found in its own place, or not asked for.
    builder.follow_links(false).require_git(false).types(types.build().map_err(wrong)?);
    builder.overrides(overrides.build().map_err(wrong)?);
    Ok(builder.build())
}
