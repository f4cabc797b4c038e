//! Keys and values of one line each.

use std::collections::HashSet;

use crate::config::printable;
use crate::import::error::Mistake;

/// A key with its words.
pub(super) struct Line {
    /// In lower case.
    pub key: String,
    /// As it stands in the file.
    pub shown: String,
    pub value: String,
    pub number: usize,
}

/// The lines of a file; remembers which keys were asked for.
pub(super) struct Lines<'m> {
    lines: Vec<Line>,
    mistakes: &'m mut Vec<Mistake>,
    used: HashSet<&'static str>,
}

impl<'m> Lines<'m> {
    pub fn new(lines: Vec<Line>, mistakes: &'m mut Vec<Mistake>) -> Self {
        Lines {
            lines,
            mistakes,
            used: HashSet::new(),
        }
    }

    /// The value of `key`, the last one if it stands there several times; what `parse` refuses is a mistake.
    pub fn get<T>(
        &mut self,
        key: &'static str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<T> {
        self.used.insert(key);
        let line = self.lines.iter().rev().find(|line| line.key == key)?;
        if line.value.is_empty() {
            return None;
        }
        parse(&line.value)
            .map_err(|advice| {
                self.mistakes.push(Mistake {
                    line: Some(line.number),
                    key: format!("{} = {}", printable(&line.shown), printable(&line.value)),
                    advice,
                });
            })
            .ok()
    }

    /// The first key that nobody asked for, with their lines; none of the values, which may be secrets.
    pub fn left_out(&self) -> Option<String> {
        let left: Vec<String> = self
            .lines
            .iter()
            .filter(|line| !self.used.contains(line.key.as_str()))
            .map(|line| format!("{} (line {})", printable(&line.shown), line.number))
            .collect();
        (!left.is_empty()).then(|| left.join(", "))
    }
}

/// `Directive value`, with quotes around values that have spaces; comments begin with `#`.
pub(super) fn directive(number: usize, content: &str) -> Line {
    let (key, value) = content
        .split_once(char::is_whitespace)
        .unwrap_or((content, ""));
    Line {
        key: key.to_ascii_lowercase(),
        shown: key.to_owned(),
        value: value.trim().to_owned(),
        number,
    }
}

/// Lines that hold something, with their numbers.
pub(super) fn contents(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines()
        .enumerate()
        .map(|(index, line)| (index + 1, line.trim()))
        .filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
}
