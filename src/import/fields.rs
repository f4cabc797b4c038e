//! One section's entries, each value checked where it is read, and what is said of those that nobody read.

use super::error::Mistake;
use super::ini::{Entry, Section};
use super::placeholders;
use crate::config::printable;

/// The entries of one section, by key; the last of several counts, as ConfigParser has it.
pub(super) struct Fields<'a, 'm> {
    pub section: &'a Section,
    pub mistakes: &'m mut Vec<Mistake>,
    /// Keys that somebody asked for.
    pub used: Vec<&'static str>,
}

impl<'a> Fields<'a, '_> {
    /// The entry of `key` with a value.
    pub fn entry(&mut self, key: &'static str) -> Option<&'a Entry> {
        self.used.push(key);
        let entries = self.section.entries.iter();
        let entry = entries.rev().find(|entry| entry.key == key)?;
        (!entry.value.is_empty()).then_some(entry)
    }

    /// The value of `key`, if it is set; one that `parse` refuses, or that the example file came with, is a mistake.
    pub fn optional<T>(
        &mut self,
        key: &'static str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<T> {
        let entry = self.entry(key)?;
        let parsed = match placeholders::wanted(key, &entry.value) {
            Some(wanted) => Err(format!("this is still the example's placeholder; {wanted}")),
            None => parse(&entry.value),
        };
        parsed
            .map_err(|advice| {
                let is_secret = SECRETS.contains(&key);
                let value = if is_secret {
                    "***".to_owned()
                } else {
                    printable(&entry.value)
                };
                self.wrong(entry.line, &format!("{key} = {value}"), &advice);
            })
            .ok()
    }

    /// The value of `key`, which must be set; `what` says to what.
    pub fn required<T>(
        &mut self,
        key: &'static str,
        what: &str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<T> {
        if self.entry(key).is_none() {
            self.wrong(
                self.section.line,
                key,
                &format!("this is required; set it to {what}"),
            );
            return None;
        }
        self.optional(key, parse)
    }

    /// Reports a mistake of this section.
    pub fn wrong(&mut self, line: usize, key: &str, advice: &str) {
        let name = printable(&self.section.name);
        self.mistakes.push(Mistake {
            line: Some(line),
            key: format!("[{name}] {key}").trim_end().to_owned(),
            advice: advice.to_owned(),
        });
    }
}

/// The remarks on entries that nobody read, that stand there twice, or whose comment may belong to a secret.
pub(super) fn notes_on_entries(section: &Section, used: &[&str], notes: &mut Vec<String>) {
    let name = printable(&section.name);
    for (index, entry) in section.entries.iter().enumerate() {
        let Entry { key, line, .. } = entry;
        let shown = printable(key);
        if !used.contains(&key.as_str()) {
            // its value may be a secret under a misspelt key
            notes.push(format!(
                "[{name}] {shown} in line {line} is no key of COS FTP Server; it was passed over"
            ));
        } else if section.entries[index + 1..]
            .iter()
            .any(|later| later.key == *key)
        {
            notes.push(format!(
                "[{name}] {shown} stands in line {line} and again below; the last one was taken"
            ));
        } else if entry.was_cut && SECRETS.contains(&key.as_str()) {
            notes.push(format!("[{name}] {shown} in line {line} was read up to the comment behind it; check it if that belongs to the value"));
        }
    }
}

/// Keys whose values are never shown.
const SECRETS: [&str; 4] = [
    "cos_secretid",
    "cos_secretkey",
    "ftp_login_user_password",
    "login_users",
];
