//! Configurations of other FTP servers.

use secrecy::{ExposeSecret as _, SecretString};

use super::input::{choice, load};
use crate::config::HASH_FOR_TESTS as HASH;
use crate::import::{Format, Text, assignments, convert};

/// The first byte chooses the format of the result, then come the file and, behind a byte 0, the file of the users.
///
/// - A file is refused, or the result and its secrets are a configuration that is taken.
/// - No hash of a password is in the result, in a remark or in an error; where a hash stands for a greeting, say, that is a value.
pub fn import(input: &[u8]) {
    let (choice, input) = choice(input);
    let text = String::from_utf8_lossy(input);
    let (text, users) = match text.split_once('\0') {
        Some((text, users)) => (text, Some(Text::utf8(users))),
        None => (&*text, None),
    };
    let format = [Format::Yaml, Format::Env, Format::HelmValues][choice % 3];
    let hash = |_: &SecretString| Ok(HASH.into());
    let said = match convert(&Text::utf8(text), users.as_ref(), format, "cosgate", &hash) {
        Ok(imported) => {
            let secrets = imported.secrets.expose_secret();
            match format {
                Format::Yaml => is_taken(&imported.values, &assignments(secrets)),
                Format::Env => is_taken(
                    "",
                    &[assignments(&imported.values), assignments(secrets)].concat(),
                ),
                // what the chart makes of them is another program's
                Format::HelmValues => {}
            }
            format!(
                "{}{}",
                remarks(&imported.values, text),
                imported.warnings.join("\n")
            )
        }
        Err(error) => error.to_string(),
    };
    assert!(!said.contains(HASH), "{said}");
    let users = users.map(|users| users.content).unwrap_or_default();
    for hash in users
        .split([':', '\n'])
        .filter(|field| field.starts_with('$') && field.len() >= 12)
    {
        let is_telling = users.matches(hash).count() == 1 && !text.contains(hash);
        assert!(!is_telling || !said.contains(hash), "{hash} in {said}");
    }
}

/// Of the `values` that were made of `text`, all, or the remarks alone if there are hashes in `text`.
fn remarks(values: &str, text: &str) -> String {
    let has_hash = text.contains(HASH);
    let lines = values
        .lines()
        .filter(|line| !has_hash || line.trim_start().starts_with('#'));
    lines.map(|line| format!("{line}\n")).collect()
}

fn is_taken(yaml: &str, env: &[(String, String)]) {
    if let Err(error) = load(yaml, env.iter().cloned()) {
        // the files that it names are on another machine: here there are none, or other ones
        let error = error.to_string();
        let is_of_a_file = |line: &str| {
            let says = |words| line.contains(words);
            line.starts_with("tls.") && (says(": the file cannot be read") || says(" in the file"))
        };
        assert!(error.lines().all(is_of_a_file), "{error}\n{yaml}\n{env:?}");
    }
}
