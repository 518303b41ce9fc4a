//! What a line of a program takes, and what has been taken around it, by its source.
//!
//! A lock of `threading`, and every C-level lock, is a word without a name or an owner. But programs take locks by `with`
//! or `acquire`, and a frame says at which line it is; so the text around that line tells what it waits for and what
//! it has. It is read by indentation, not parsed: an answer is an expression such as `self._lock`, or nothing. What a name
//! stands for is not known, which is why the rules only ever compare names of one process.

use std::collections::HashMap;
use std::fs;

use crate::facts::{Frame, STREAM};

/// Sources by path and, where that is relative, process; nothing for those that cannot be read.
#[derive(Default)]
pub(crate) struct Sources(HashMap<(Option<u32>, String), Option<Vec<String>>>);

impl Sources {
    /// Completes a frame of a process with what its line takes, and what it has.
    pub(crate) fn annotate(&mut self, pid: u32, frame: &mut Frame) {
        let whose = (!frame.file.starts_with('/')).then_some(pid);
        let lines = self.0.entry((whose, frame.file.clone())).or_insert_with(|| {
            let text = read(pid, &frame.file)?;
            Some(String::from_utf8_lossy(&text).lines().map(str::to_owned).collect())
        });
        frame.has_source = lines.is_some();
        if let Some(lines) = lines {
            (frame.takes, frame.has) = around(lines, frame.line as usize);
        }
    }
}

/// The source of a process, as it sees its files; of `python -c`, the text on the command line.
fn read(pid: u32, file: &str) -> Option<Vec<u8>> {
    const MOST: u64 = 4 << 20;
    if file == "<string>" {
        let line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let mut words = line.split(|&byte| byte == 0).skip_while(|word| *word != b"-c");
        return words.nth(1).map(<[u8]>::to_vec);
    }
    let seen =
        if file.starts_with('/') { format!("/proc/{pid}/root{file}") } else { format!("/proc/{pid}/cwd/{file}") };
    let path = [seen.as_str(), file].into_iter().find(|path| fs::metadata(path).is_ok_and(|it| it.len() <= MOST))?;
    fs::read(path).ok()
}

/// What the line with this number takes, and what was taken around it and not given back, innermost first.
fn around(lines: &[String], number: usize) -> (Option<String>, Vec<String>) {
    let Some(line) = number.checked_sub(1).and_then(|index| lines.get(index)) else { return (None, Vec::new()) };
    let writes = ["print(", ".write(", ".flush("].iter().any(|call| line.contains(call));
    // Of several in one line it has all but the last, as far as one can tell.
    let (mut has, mut given_back) = (with(line), Vec::new());
    let takes = has.pop().or_else(|| call(line, ".acquire(")).or_else(|| writes.then(|| STREAM.to_owned()));
    let mut indentation = indent(line);
    for line in lines[..number - 1].iter().rev().filter(|line| !line.trim().is_empty()) {
        let here = indent(line);
        if here > indentation {
            continue;
        }
        let is_around = here < indentation;
        indentation = here;
        if is_around && (line.trim_start().starts_with("def ") || line.trim_start().starts_with("async def ")) {
            break;
        }
        if is_around {
            has.extend(with(line));
        }
        given_back.extend(call(line, ".release("));
        if let Some(name) = call(line, ".acquire(") {
            match given_back.iter().position(|it| *it == name) {
                Some(index) => drop(given_back.remove(index)),
                None => has.push(name),
            }
        }
    }
    (takes, has)
}

fn indent(line: &str) -> usize {
    line.len() - line.trim_start().len()
}

/// The expressions of `with EXPRESSION, ...:` that are names.
fn with(line: &str) -> Vec<String> {
    let Some((expressions, _)) = line.trim_start().strip_prefix("with ").and_then(|rest| rest.split_once(':')) else {
        return Vec::new();
    };
    let plain = |part: &str| name(part.split(" as ").next().unwrap_or(part).trim());
    expressions.split(',').filter_map(plain).collect()
}

/// The name before a call of a method.
fn call(line: &str, method: &str) -> Option<String> {
    let (before, _) = line.split_once(method)?;
    let start = before.rfind(|it: char| !(it.is_alphanumeric() || "_.[]'\"".contains(it))).map_or(0, |at| at + 1);
    name(before.get(start..)?)
}

fn name(text: &str) -> Option<String> {
    let is_name = !text.is_empty() && text.chars().all(|it| it.is_alphanumeric() || "_.[]'\"".contains(it));
    is_name.then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROGRAM: &str = "\
def one(a, b):
    with a:
        if True:
            x = 1

            with b:
                pass
        a.wait()

def two(self):
    self.first.acquire()
    self.second.acquire()
    self.second.release()
    with self.third as it:
        work()

def three(a, b):
    with a, b:
        print()
";

    fn at(number: usize) -> (Option<String>, Vec<String>) {
        around(&PROGRAM.lines().map(str::to_owned).collect::<Vec<_>>(), number)
    }

    #[test]
    fn a_line_takes_what_it_names_and_has_what_is_around_it() {
        let names = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
        assert_eq!(at(2), (Some("a".to_owned()), names(&[])));
        assert_eq!(at(6), (Some("b".to_owned()), names(&["a"])));
        assert_eq!(at(7), (None, names(&["b", "a"])));
        assert_eq!(at(8), (None, names(&["a"])));
        assert_eq!(at(12), (Some("self.second".to_owned()), names(&["self.first"])));
        assert_eq!(at(15), (None, names(&["self.third", "self.first"])));
        assert_eq!(at(18), (Some("b".to_owned()), names(&["a"])));
        assert_eq!(at(19), (Some(STREAM.to_owned()), names(&["a", "b"])));
        assert_eq!(at(0), (None, names(&[])));
        assert_eq!(at(99), (None, names(&[])));
    }
}
