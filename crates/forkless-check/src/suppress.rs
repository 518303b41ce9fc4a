//! `# forkless: ignore` and `# forkless: ignore[FL001, FL002]`, at the line of a finding.

use std::collections::HashMap;

use crate::source::Lines;
use crate::syntax::TextRange;

/// What comments ask not to be told, by line.
#[derive(Default)]
pub struct Suppressions {
    lines: HashMap<usize, Vec<String>>,
}

impl Suppressions {
    /// Reads comments.
    pub fn of(text: &str, comments: &[TextRange], lines: &Lines) -> Self {
        let mut found = Self::default();
        for comment in comments {
            let Some(codes) = codes(&text[comment.start().to_usize()..comment.end().to_usize()]) else { continue };
            found.lines.insert(lines.position(comment.start().to_usize()).line, codes);
        }
        found
    }

    /// Whether a finding of this code is not to be told in this line.
    pub fn covers(&self, line: usize, code: &str) -> bool {
        self.lines.get(&line).is_some_and(|codes| codes.is_empty() || codes.iter().any(|ignored| ignored == code))
    }
}

/// The codes that a comment names; none for all.
fn codes(comment: &str) -> Option<Vec<String>> {
    let rest = comment.split_once("forkless:")?.1.trim_start().strip_prefix("ignore")?;
    match rest.trim_start().strip_prefix('[') {
        Some(list) => {
            let list = list.split_once(']')?.0;
            Some(list.split(',').map(|code| code.trim().to_ascii_uppercase()).filter(|code| !code.is_empty()).collect())
        }
        None => Some(Vec::new()),
    }
}

#[cfg(test)]
mod tests {
    use super::codes;

    #[test]
    fn comments_name_codes_or_all() {
        assert_eq!(codes("# forkless: ignore"), Some(vec![]));
        assert_eq!(codes("# noqa  # forkless: ignore[fl001, FL020] why"), Some(vec!["FL001".into(), "FL020".into()]));
        assert_eq!(codes("# type: ignore"), None);
        assert_eq!(codes("# forkless: ignore[FL001"), None);
    }
}
