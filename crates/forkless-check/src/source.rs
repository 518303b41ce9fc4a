//! From a file to the text that Python would see: encodings, byte order marks, notebooks.

use crate::notebook;

/// How much of a file is looked at to tell text from other things, in bytes.
const LOOKED_AT: usize = 8192;

/// A program as text.
#[derive(Debug)]
pub struct Source {
    pub text: String,
    pub lines: Lines,
    /// Cells of a notebook: the line of the text that each begins at, counted from 1, and its number.
    pub cells: Vec<(usize, usize)>,
    /// What is wrong with it, if it can be read nevertheless.
    pub problem: Option<&'static str>,
}

/// Why a file is no program.
#[derive(Debug, thiserror::Error)]
pub enum NotSource {
    /// It has bytes that no text has.
    #[error("is not text: skipped")]
    Binary,
    /// Its encoding is none that Python programs can have.
    #[error("has the encoding {0}, which is not read: skipped")]
    Encoding(String),
    /// It is longer than positions in it can be counted.
    #[error("is larger than 4 GiB: skipped")]
    TooLong,
    /// A notebook that is not JSON, or has no cells.
    #[error("is no notebook that can be read: {0}")]
    Notebook(String),
    /// A notebook in another language.
    #[error("is a notebook in another language than Python: skipped")]
    OtherLanguage,
}

impl Source {
    /// Reads the bytes of a file.
    ///
    /// # Errors
    /// If they are no program, see [`NotSource`].
    pub fn read(bytes: &[u8], is_notebook: bool) -> Result<Self, NotSource> {
        if u32::try_from(bytes.len()).is_err() {
            return Err(NotSource::TooLong);
        }
        let (text, problem) = decode(bytes)?;
        if !is_notebook {
            return Ok(Self { lines: Lines::of(&text), text, cells: Vec::new(), problem });
        }
        let (text, cells) = notebook::code(&text)?;
        Ok(Self { lines: Lines::of(&text), text, cells, problem })
    }
}

fn decode(bytes: &[u8]) -> Result<(String, Option<&'static str>), NotSource> {
    let start = &bytes[..bytes.len().min(LOOKED_AT)];
    if start.starts_with(b"\xff\xfe") || start.starts_with(b"\xfe\xff") {
        return Err(NotSource::Encoding("UTF-16".to_owned()));
    }
    if start.contains(&0) {
        return Err(NotSource::Binary);
    }
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    match declared(bytes).map(|name| name.to_ascii_lowercase().replace('_', "-")) {
        None => Ok(match str::from_utf8(bytes) {
            Ok(text) => (text.to_owned(), None),
            Err(_) => {
                (byte_by_byte(bytes), Some("is not UTF-8, and does not say what it is: some columns may be wrong"))
            }
        }),
        Some(name) if matches!(&*name, "utf-8" | "utf8" | "u8" | "utf-8-sig" | "ascii" | "us-ascii") => {
            Ok(match str::from_utf8(bytes) {
                Ok(text) => (text.to_owned(), None),
                Err(_) => (byte_by_byte(bytes), Some("is not the UTF-8 that it says it is: some columns may be wrong")),
            })
        }
        Some(name) if name.contains("utf") || name.contains("ucs") || name.contains("rot") => {
            Err(NotSource::Encoding(name))
        }
        // In all others ASCII is itself, and what a rule looks at is ASCII.
        Some(_) => Ok((byte_by_byte(bytes), None)),
    }
}

fn byte_by_byte(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| char::from(*byte)).collect()
}

/// The encoding that one of the first two lines names (PEP 263).
fn declared(bytes: &[u8]) -> Option<&str> {
    bytes.split(|byte| *byte == b'\n').take(2).find_map(|line| {
        let line = str::from_utf8(line.trim_ascii_start()).ok()?.strip_prefix('#')?;
        let rest = line.split_once("coding")?.1;
        let name = rest.strip_prefix([':', '='])?.trim_start_matches([' ', '\t']);
        let end = name.find(|letter: char| !letter.is_ascii_alphanumeric() && !"-_.".contains(letter));
        Some(&name[..end.unwrap_or(name.len())]).filter(|name| !name.is_empty())
    })
}

/// Where lines start.
#[derive(Debug)]
pub struct Lines {
    starts: Vec<usize>,
}

/// A place in a text: the line from 1, and the byte in it from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    pub line: usize,
    pub byte: usize,
}

impl Lines {
    fn of(text: &str) -> Self {
        let bytes = text.as_bytes();
        let mut starts = vec![0];
        for (at, byte) in bytes.iter().enumerate() {
            if *byte == b'\n' || (*byte == b'\r' && bytes.get(at + 1) != Some(&b'\n')) {
                starts.push(at + 1);
            }
        }
        Self { starts }
    }

    /// Where the byte with this number is.
    pub fn position(&self, offset: usize) -> Position {
        let line = self.starts.partition_point(|start| *start <= offset);
        Position { line, byte: offset - self.starts[line - 1] }
    }

    /// A line of a text, without its end.
    pub fn line<'t>(&self, text: &'t str, number: usize) -> &'t str {
        let start = self.starts.get(number - 1).copied().unwrap_or(text.len());
        let end = self.starts.get(number).copied().unwrap_or(text.len());
        text.get(start..end).unwrap_or("").trim_end_matches(['\n', '\r'])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encodings_are_told_apart() {
        let text = |bytes: &[u8]| Source::read(bytes, false).map(|source| (source.text, source.problem.is_some()));
        assert_eq!(text("\u{feff}x = 'ä'".as_bytes()).unwrap(), ("x = 'ä'".to_owned(), false));
        assert_eq!(text(b"# -*- coding: latin-1 -*-\nx = '\xe4'").unwrap().0, "# -*- coding: latin-1 -*-\nx = 'ä'");
        assert_eq!(text(b"x = '\xe4'").unwrap(), ("x = 'ä'".to_owned(), true));
        assert!(matches!(text(b"\xff\xfex\0"), Err(NotSource::Encoding(_))));
        assert!(
            matches!(text(b"#!/bin/python\n# vim: coding=utf-16 :\n"), Err(NotSource::Encoding(name)) if name == "utf-16")
        );
        assert!(matches!(text(b"\x7fELF\0\0"), Err(NotSource::Binary)));
    }

    #[test]
    fn lines_end_in_three_ways() {
        let text = "a\nbb\r\nccc\rd";
        let lines = Lines::of(text);
        assert_eq!((1..=5).map(|line| lines.line(text, line)).collect::<Vec<_>>(), ["a", "bb", "ccc", "d", ""]);
        assert_eq!(lines.position(7), Position { line: 3, byte: 1 });
    }
}
