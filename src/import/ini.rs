//! The form of the file: what Python's ConfigParser reads, with the comments that real files carry behind values.

use super::error::Mistake;
use crate::config::printable;

/// One section, as often as its header stands in the file.
pub(super) struct Section {
    pub name: String,
    pub line: usize,
    pub entries: Vec<Entry>,
}

/// One key with its value; never shown as a whole, since the value may be a secret.
pub(super) struct Entry {
    /// In lower case, as ConfigParser takes it.
    pub key: String,
    pub value: String,
    pub line: usize,
    /// A comment stood behind the value; the old program took that for a part of it.
    pub was_cut: bool,
}

/// Reads the sections; lines that are none of the file's form become mistakes.
pub(super) fn parse(text: &str, mistakes: &mut Vec<Mistake>) -> Vec<Section> {
    let mut sections: Vec<Section> = Vec::new();
    for (index, raw) in text.lines().enumerate() {
        let line = index + 1;
        let content = raw.trim();
        if content.is_empty() || content.starts_with(['#', ';']) {
            continue;
        }
        let mut wrong = |key: &str, advice: &str| {
            mistakes.push(Mistake {
                line: Some(line),
                key: key.to_owned(),
                advice: advice.to_owned(),
            });
        };
        // Tabs are space; other control characters would end up in another file's syntax.
        if content.chars().any(|c| c.is_control() && c != '\t') {
            wrong("control character", "remove it; the file is plain text");
        } else if let Some(rest) = content.strip_prefix('[') {
            match rest.split_once(']') {
                Some((name, _)) if !name.trim().is_empty() => sections.push(Section {
                    name: name.trim().to_owned(),
                    line,
                    entries: Vec::new(),
                }),
                _ => wrong(
                    "section",
                    "write a name between brackets, such as [NETWORK]",
                ),
            }
        } else {
            match (entry(content, line), sections.last_mut()) {
                (Some(entry), Some(section)) => section.entries.push(entry),
                (Some(entry), None) => wrong(
                    &printable(&entry.key),
                    "it stands before the first section; put it below one such as [NETWORK]",
                ),
                // What stands here may be half of a secret: it is not repeated.
                (None, _) => wrong(
                    "line",
                    "this is neither [SECTION] nor key = value; correct it or remove it",
                ),
            }
        }
    }
    sections
}

fn entry(content: &str, line: usize) -> Option<Entry> {
    let (key, value) = content.split_at(content.find(['=', ':'])?);
    let key = key.trim().to_lowercase();
    if key.is_empty() {
        return None;
    }
    let value = &value[1..];
    // semicolons are between users there
    let marks = if key == "login_users" {
        &['#'][..]
    } else {
        &['#', ';']
    };
    let comment = value
        .char_indices()
        .zip(value.chars().skip(1))
        .find(|((_, before), c)| before.is_whitespace() && marks.contains(c));
    let starts_with_comment = value.starts_with(marks);
    let end = match comment {
        _ if starts_with_comment => 0,
        Some(((at, _), _)) => at,
        None => value.len(),
    };
    Some(Entry {
        key,
        value: value[..end].trim().to_owned(),
        line,
        was_cut: end < value.len(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tabs_comments_and_both_separators_are_read() {
        let text =
            "# top\n[A]\r\n  Key\t=\t1 \t# one\n; no\nother: a#b;c\nempty =\nnone = # all\n[B]x\n";
        let mut mistakes = Vec::new();
        let sections = parse(text, &mut mistakes);
        assert!(mistakes.is_empty(), "{mistakes:?}");
        let seen: Vec<_> = sections[0]
            .entries
            .iter()
            .map(|entry| {
                (
                    entry.key.as_str(),
                    entry.value.as_str(),
                    entry.line,
                    entry.was_cut,
                )
            })
            .collect();
        assert_eq!(
            seen,
            [
                ("key", "1", 3, true),
                ("other", "a#b;c", 5, false),
                ("empty", "", 6, false),
                ("none", "", 7, true)
            ]
        );
        assert_eq!((sections[1].name.as_str(), sections[1].line), ("B", 8));
    }

    #[test]
    fn what_has_no_form_is_a_mistake_with_its_line_and_not_repeated() {
        let mut mistakes = Vec::new();
        parse(
            "a = 1\n[A]\nhunter2\n[\n = x\nb = \u{1b}[2J\n",
            &mut mistakes,
        );
        let lines: Vec<_> = mistakes.iter().filter_map(|mistake| mistake.line).collect();
        assert_eq!(lines, [1, 3, 4, 5, 6]);
        assert!(!format!("{mistakes:?}").contains("hunter2"));
    }
}
