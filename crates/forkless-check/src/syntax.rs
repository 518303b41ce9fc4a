//! The parser, behind one door: the only module that knows which one it is.
//!
//! It recovers from syntax errors: there is always a tree, of what could be understood.

pub use ruff_python_ast as ast;
pub use ruff_text_size::{Ranged, TextRange, TextSize};

use ruff_python_ast::token::TokenKind;
use ruff_python_parser::{Mode, ParseOptions, parse_unchecked};

/// How deep a tree may be: whoever walks it, and whoever drops it, uses the stack for each level.
const DEEPEST: usize = 10_000;

/// What a parser makes of a source.
pub struct Parsed {
    /// The statements.
    pub body: ast::Suite,
    /// Where comments are.
    pub comments: Vec<TextRange>,
    /// Syntax errors, the first ones first.
    pub errors: Vec<(TextRange, String)>,
}

/// Why there is no tree.
#[derive(Debug, thiserror::Error)]
#[error("is nested too deeply to be read")]
pub struct TooDeep;

/// Reads a whole module.
///
/// # Errors
/// If it is so deeply nested that no stack is large enough to walk its tree.
pub fn parse(source: &str, is_notebook: bool) -> Result<Parsed, TooDeep> {
    let mode = if is_notebook { Mode::Ipython } else { Mode::Module };
    let Some(parsed) = parse_unchecked(source, ParseOptions::from(mode)).try_into_module() else {
        return Ok(Parsed { body: ast::Suite::default(), comments: Vec::new(), errors: Vec::new() });
    };
    let kinds = parsed.tokens().iter().map(|token| token.kind());
    if depth(kinds) > DEEPEST {
        // Dropping it would overflow the stack, too: better to lose the memory than the process.
        std::mem::forget(parsed);
        return Err(TooDeep);
    }
    let comments = parsed.tokens().iter().filter(|token| token.kind() == TokenKind::Comment);
    let comments = comments.map(Ranged::range).collect();
    let errors = parsed.errors().iter().map(|error| (error.location, error.error.to_string())).collect();
    Ok(Parsed { body: parsed.into_syntax().body, comments, errors })
}

/// The most levels that a tree of these tokens can have: every token may add one to the expression that it is in,
/// until a
/// comma or the end of the line.
fn depth(kinds: impl Iterator<Item = TokenKind>) -> usize {
    use TokenKind::{
        Comma, Comment, Dedent, Indent, Lbrace, Lpar, Lsqb, Newline, NonLogicalNewline, Rbrace, Rpar, Rsqb,
    };
    let (mut most, mut all, mut here) = (0, 0_usize, 0_usize);
    let mut outer = Vec::new();
    for kind in kinds {
        match kind {
            Lpar | Lsqb | Lbrace | Indent => {
                outer.push(here + 1);
                (all, here) = (all + 1, 0);
            }
            Rpar | Rsqb | Rbrace | Dedent => {
                all -= here;
                here = outer.pop().unwrap_or(0);
            }
            Comma | Newline => (all, here) = (all - here, 0),
            Comment | NonLogicalNewline => {}
            _ => (all, here) = (all + 1, here + 1),
        }
        most = most.max(all);
    }
    most
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_deep_is_refused_and_long_is_not_deep() {
        for deep in
            ["(".repeat(60_000), "not ".repeat(60_000), format!("x{}", ".y".repeat(60_000)), "x+".repeat(60_000)]
        {
            assert!(parse(&deep, false).is_err(), "{}", &deep[..10]);
        }
        let long = format!("x = [{}]\n", "f(1), ".repeat(60_000)) + &"y = 1\n".repeat(60_000);
        let parsed = parse(&long, false).unwrap();
        assert_eq!((parsed.errors.len(), parsed.body.len()), (0, 60_001));
    }

    #[test]
    fn there_is_a_tree_in_spite_of_errors() {
        let parsed = parse("x = 1 # one\ndef f(:\n    pass\ny = 2\n", false).unwrap();
        assert!(!parsed.errors.is_empty() && parsed.body.len() >= 2);
        assert_eq!(parsed.comments.len(), 1);
    }
}
