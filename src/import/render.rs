//! The forms in which a plan is written.

use std::fmt::Write as _;

use secrecy::ExposeSecret as _;

use super::error::without_hashes;
use super::plan::{Plan, Setting, User};
use crate::config::keys;
use crate::config::yaml_text::{quoted, scalar};

/// The format of the result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// A configuration file; secrets as variables of the environment.
    Yaml,
    /// Variables of the environment, for a shell or systemd's `EnvironmentFile`.
    Env,
    /// Values for the Helm chart; secrets as the manifest of a Kubernetes Secret.
    HelmValues,
}

/// The part without secrets.
pub(super) fn values(plan: &Plan, format: Format, secret_name: &str) -> String {
    let mut text = comment(
        0,
        &format!(
            "Made by `cosgate import` from the configuration of {}.",
            plan.program
        ),
    );
    text += &comment(
        0,
        match format {
            Format::Yaml => {
                "Users and keys are in the file of the secrets, variables of the environment:\nset -a; . ./SECRETS; set +a; cosgate check-config --config THIS_FILE"
            }
            Format::Env => {
                "Users and keys are in the file of the secrets:\nset -a; . ./THIS_FILE; . ./SECRETS; set +a; cosgate check-config"
            }
            Format::HelmValues => {
                "Users and keys are in the Secret: kubectl apply -f SECRETS, before helm install."
            }
        },
    );
    for note in &plan.notes {
        text += &comment(0, note);
    }
    match format {
        Format::Yaml => text += &yaml(&plan.settings, 0),
        Format::Env => {
            for Setting {
                path,
                value,
                comments,
            } in &plan.settings
            {
                for words in comments {
                    text += &comment(0, words);
                }
                text += &assignment(&keys::variable(path), value);
            }
        }
        Format::HelmValues => {
            text += &format!("existingSecret: {}\nconfig:\n", scalar(secret_name));
            text += &yaml(&plan.settings, 2);
        }
    }
    text
}

/// The secrets.
pub(super) fn secrets(plan: &Plan, format: Format, secret_name: &str) -> String {
    let pair = plan.keys.iter().flat_map(|(id, key)| {
        [
            ("COSGATE_STORAGE__ACCESS_KEY_ID", id.expose_secret()),
            ("COSGATE_STORAGE__SECRET_ACCESS_KEY", key.expose_secret()),
        ]
    });
    let mut text = comment(0, "Secrets: keep this file to yourself.");
    match format {
        Format::Yaml | Format::Env => {
            for (name, value) in pair {
                text += &assignment(name, value);
            }
            let users: Vec<String> = plan.users.iter().map(user_inline).collect();
            if users.is_empty() {
                return text;
            }
            text += &assignment("COSGATE_USERS", &format!("[{}]", users.join(", ")));
        }
        Format::HelmValues => {
            text += "apiVersion: v1\nkind: Secret\nmetadata:\n";
            text += &format!(
                "  name: {}\ntype: Opaque\nstringData:\n",
                scalar(secret_name)
            );
            for (name, value) in pair {
                text += &format!("  {name}: {}\n", quoted(value));
            }
            if plan.users.is_empty() {
                return text;
            }
            text += "  users.yaml: |\n    users:\n";
            for user in &plan.users {
                text += &format!("      - {}\n", user_inline(user));
            }
        }
    }
    text
}

/// One user on one line, which is YAML and JSON at once.
fn user_inline(user: &User) -> String {
    let mut fields = vec![
        ("name", quoted(&user.name)),
        ("password_hash", quoted(user.password_hash.expose_secret())),
        ("home", quoted(&user.home)),
    ];
    fields.push(("permissions", quoted(user.permissions)));
    if !user.delete {
        fields.push(("delete", "false".to_owned()));
    }
    fields.extend(
        user.own
            .iter()
            .map(|(name, value)| (*name, quoted(value.expose_secret()))),
    );
    let fields: Vec<String> = fields
        .into_iter()
        .map(|(name, value)| format!("\"{name}\": {value}"))
        .collect();
    format!("{{{}}}", fields.join(", "))
}

/// The settings as nested sections.
fn yaml(settings: &[Setting], indent: usize) -> String {
    let mut text = String::new();
    let mut open = "";
    let plain = settings
        .iter()
        .filter(|setting| !setting.path.contains('.'));
    let nested = settings.iter().filter(|setting| setting.path.contains('.'));
    for Setting {
        path,
        value,
        comments,
    } in plain.chain(nested)
    {
        let (section, name) = path.split_once('.').unwrap_or(("", path));
        if section != open {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{:indent$}{section}:", "");
            open = section;
        }
        let depth = if section.is_empty() {
            indent
        } else {
            indent + 2
        };
        for words in comments {
            text += &comment(depth, words);
        }
        let _ = writeln!(text, "{:depth$}{name}: {}", "", scalar(value));
    }
    text
}

/// A value for a shell and for systemd: between single quotes nothing has a meaning but these.
fn assignment(name: &str, value: &str) -> String {
    format!("{name}='{}'\n", value.replace('\'', "'\\''"))
}

/// Names and values of assignments, as a shell reads them.
#[cfg(any(test, fuzzing))]
pub(crate) fn assignments(text: &str) -> Vec<(String, String)> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| {
            let (name, value) = line.split_once('=').expect("an assignment");
            let value = value
                .strip_prefix('\'')
                .and_then(|value| value.strip_suffix('\''));
            let value = value.expect("quotes").replace("'\\''", "'");
            (name.to_owned(), value)
        })
        .collect()
}

/// Lines of a comment; the words come from files, too.
fn comment(indent: usize, words: &str) -> String {
    let words = without_hashes(words);
    let lines = words.lines().map(|line| {
        let line: String = line
            .chars()
            .map(|c| if c.is_control() { ' ' } else { c })
            .collect();
        format!("{:indent$}# {line}\n", "")
    });
    lines.collect()
}
