//! Notebooks: JSON with cells, whose code is read as one program.

use serde::Deserialize;

use crate::source::NotSource;

#[derive(Deserialize)]
struct Notebook {
    cells: Vec<Cell>,
    #[serde(default)]
    metadata: Metadata,
}

#[derive(Deserialize)]
struct Cell {
    cell_type: String,
    #[serde(default)]
    source: Text,
}

#[derive(Default, Deserialize)]
struct Metadata {
    language_info: Option<Language>,
}

#[derive(Deserialize)]
struct Language {
    name: Option<String>,
}

/// Text is one string, or a list of lines.
#[derive(Deserialize)]
#[serde(untagged)]
enum Text {
    Whole(String),
    Lines(Vec<String>),
}

impl Default for Text {
    fn default() -> Self {
        Self::Whole(String::new())
    }
}

/// The code of all cells, and at which line of it each cell begins: pairs of line, from 1, and number of the cell,
/// from 1.
///
/// # Errors
/// If it is no notebook, or one in another language.
pub fn code(json: &str) -> Result<(String, Vec<(usize, usize)>), NotSource> {
    let notebook: Notebook = serde_json::from_str(json).map_err(|error| NotSource::Notebook(error.to_string()))?;
    let language = notebook.metadata.language_info.and_then(|language| language.name);
    if language.is_some_and(|language| !language.eq_ignore_ascii_case("python")) {
        return Err(NotSource::OtherLanguage);
    }
    let (mut text, mut cells, mut line) = (String::new(), Vec::new(), 1);
    for (number, cell) in notebook.cells.into_iter().enumerate() {
        let source = match cell.source {
            Text::Whole(source) => source,
            Text::Lines(lines) => lines.concat(),
        };
        if cell.cell_type != "code" || is_other_language(&source) {
            continue;
        }
        cells.push((line, number + 1));
        text.push_str(&source);
        text.push('\n');
        line += source.matches('\n').count() + 1;
    }
    Ok((text, cells))
}

/// Cells can begin with a magic that gives them to something else: `%%bash`.
fn is_other_language(source: &str) -> bool {
    let magic = source.trim_start().strip_prefix("%%").and_then(|rest| rest.split_whitespace().next());
    magic.is_some_and(|magic| !matches!(magic, "time" | "timeit" | "capture" | "prun" | "python" | "python3"))
}
