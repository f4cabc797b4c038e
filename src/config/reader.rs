//! Reads one key at a time: text to value, or a [`Problem`].
//!
//! Invariant: a value that is refused is reported here, once, and the caller goes on with the
//! default, so that one run finds everything that is wrong.

use std::collections::{BTreeMap, HashMap};
use std::str::FromStr;
use std::time::Duration;

use figment::Figment;
use figment::value::Value;
use strum::VariantNames;

use super::check::YamlFile;
use super::error::{ConfigError, DEFAULT, Problem};
use super::keys::{Key, variable};
use super::parse;
use super::sources::Sources;
use super::table::Table;

/// The value of a key as it may be shown, and where it came from.
#[derive(Debug, Clone)]
pub(super) struct Setting {
    pub value: Option<String>,
    pub origin: String,
}

/// A source's setting of a key.
#[derive(Debug, Clone)]
pub(super) struct RawSetting {
    pub texts: Vec<String>,
    pub origin: Origin,
}

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Origin {
    Default,
    /// The YAML file.
    File(String),
    /// A variable, or the file that one names.
    Variable(String),
}

/// A value was refused, and that has been reported.
#[derive(Debug, Clone, Copy)]
pub(super) struct Refused;

pub(super) struct Reader {
    pub(super) table: Table,
    figment: Figment,
    pub(super) root: Value,
    file: Option<YamlFile>,
    pub(super) problems: Vec<Problem>,
    warnings: Vec<String>,
    pub(super) settings: HashMap<&'static str, Setting>,
    platform_env: BTreeMap<String, String>,
}

impl Reader {
    pub fn new(sources: Sources) -> Self {
        let Sources {
            table,
            figment,
            file,
            mut problems,
            in_pod: _,
            platform_env,
        } = sources;
        let root = figment.find_value("").unwrap_or_else(|error| {
            // Our layers give no errors; if figment has one of its own, it must not be lost.
            problems.push(Problem::about("the configuration", None, error.to_string()));
            Value::from(figment::value::Dict::new())
        });
        let settings = HashMap::with_capacity(table.rows().len());
        Self {
            table,
            figment,
            root,
            file,
            problems,
            warnings: Vec::new(),
            settings,
            platform_env,
        }
    }

    /// The value that the platform set as the variable `name`, which is no key; never empty.
    pub fn platform_env(&self, name: &str) -> Option<String> {
        self.platform_env.get(name).cloned()
    }

    /// The value of `path`; the default where it is not set or was refused.
    pub fn value<T>(&mut self, path: &'static str, parse: impl Fn(&str) -> Result<T, String>) -> T {
        self.optional(path, &parse)
            .unwrap_or_else(|| default(self.table, path, parse))
    }

    /// The value of `path`; none where it is not set or was refused.
    pub fn optional<T>(
        &mut self,
        path: &'static str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<T> {
        let given = self.raw(path);
        let text = given
            .as_ref()
            .and_then(|given| given.texts.first().cloned());
        let origin = given.map_or(Origin::Default, |given| given.origin);
        self.settings.insert(
            path,
            Setting {
                value: text.as_deref().map(|text| self.table.shown(path, text)),
                origin: origin.to_string(),
            },
        );
        parse(&text?)
            .map_err(|advice| self.refuse(path, advice))
            .ok()
    }

    /// The values of the list `path`.
    pub fn list<T>(
        &mut self,
        path: &'static str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Vec<T> {
        let given = self.raw(path);
        let origin = given
            .as_ref()
            .map_or(Origin::Default, |given| given.origin.clone());
        let texts: Vec<String> = given
            .iter()
            .flat_map(|given| &given.texts)
            .flat_map(|text| text.split(','))
            .map(|text| text.trim().to_string())
            .collect();
        self.settings.insert(
            path,
            Setting {
                value: Some(
                    texts
                        .iter()
                        .map(|text| self.table.shown(path, text))
                        .collect::<Vec<_>>()
                        .join(", "),
                ),
                origin: origin.to_string(),
            },
        );
        if texts.is_empty() {
            self.refuse(
                path,
                "the list is empty; write at least one entry, or remove the key",
            );
        }
        let mut values = Vec::new();
        for text in texts {
            match parse(&text) {
                Ok(value) => values.push(value),
                Err(advice) => {
                    self.report(path, Some(self.table.shown(path, &text)), &origin, advice)
                }
            }
        }
        values
    }

    /// The values of the list `path`; none where it is not set.
    pub fn optional_list<T>(
        &mut self,
        path: &'static str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Vec<T> {
        if self.raw(path).is_some() {
            return self.list(path, parse);
        }
        let setting = Setting {
            value: None,
            origin: DEFAULT.to_string(),
        };
        self.settings.insert(path, setting);
        Vec::new()
    }

    /// A duration, with the bounds that hold for all.
    pub fn duration(&mut self, path: &'static str) -> Duration {
        self.value(path, parse::duration)
    }

    /// A number of bytes, at least 1.
    pub fn size(&mut self, path: &'static str) -> u64 {
        self.value(path, parse::size)
    }

    /// One of the words of `T`.
    pub fn choice<T: FromStr + VariantNames>(&mut self, path: &'static str) -> T {
        self.value(path, parse::choice)
    }

    /// Yes or no.
    pub fn switch(&mut self, path: &'static str) -> bool {
        self.value(path, parse::switch)
    }

    /// As [`Reader::count`]; the table bounds them far below what any usize holds.
    pub fn number(&mut self, path: &'static str) -> usize {
        usize::try_from(self.count(path)).unwrap_or(usize::MAX)
    }

    /// A whole number, with the bounds that the table states.
    pub fn count(&mut self, path: &'static str) -> u64 {
        let (min, max) = self.table.count_range(path);
        self.value(path, |text| parse::count(text, min, max))
    }

    /// The number at `path`, within the range of the table; none where it is not set or was refused.
    pub fn optional_count(&mut self, path: &'static str) -> Option<u64> {
        let (min, max) = self.table.count_range(path);
        self.optional(path, |text| parse::count(text, min, max))
    }

    /// Reports the value that `path` has as refused.
    pub fn refuse(&mut self, path: &'static str, advice: impl Into<String>) {
        let origin = self.raw(path).map_or(Origin::Default, |given| given.origin);
        let value = self
            .settings
            .get(path)
            .and_then(|setting| setting.value.clone());
        self.report(path, value, &origin, advice);
    }

    /// Reports that `key` is not set, unless its value was refused; `what` says to what. Returns nothing as its value.
    pub fn require(&mut self, key: &'static str, what: &str) -> String {
        if self.is_valid(key) {
            let variable = variable(key);
            self.refuse(
                key,
                format!("this is required; set it (or {variable}) to {what}"),
            );
        }
        String::new()
    }

    /// Reports problems that were found elsewhere.
    pub fn refuse_all(&mut self, problems: impl IntoIterator<Item = Problem>) {
        self.problems.extend(problems);
    }

    pub(super) fn report(
        &mut self,
        path: &str,
        value: Option<String>,
        origin: &Origin,
        advice: impl Into<String>,
    ) {
        let origin = match (origin, &self.file) {
            // "not set" says more than "from default".
            (Origin::Default, _) if value.is_none() => None,
            (Origin::File(_), Some(file)) => Some(file.origin_of(path)),
            (other, _) => Some(other.to_string()),
        };
        self.problems.push(Problem {
            key: path.to_string(),
            value,
            origin,
            advice: advice.into(),
        });
    }

    /// Says something that does not keep the program from starting.
    pub fn warn(&mut self, path: &'static str, words: &str) {
        let setting = self.settings.get(path);
        let value = setting.and_then(|setting| setting.value.as_deref());
        let origin = setting.map_or(DEFAULT, |setting| setting.origin.as_str());
        self.warnings.push(match value {
            Some(value) if origin == DEFAULT => format!("{path} = {value} (the default): {words}"),
            Some(value) => format!("{path} = {value} (from {origin}): {words}"),
            None => format!("{path}: {words}"),
        });
    }

    /// States the value that holds for `path` after all was considered.
    pub fn record_effective(&mut self, path: &'static str, value: &str) {
        let value = Some(self.table.shown(path, value));
        match self.settings.get_mut(path) {
            Some(setting) => setting.value = value,
            None => {
                self.settings.insert(
                    path,
                    Setting {
                        value,
                        origin: DEFAULT.to_string(),
                    },
                );
            }
        }
    }

    /// True if somebody set `path`.
    pub fn is_set(&self, path: &str) -> bool {
        self.raw(path)
            .is_some_and(|given| given.origin != Origin::Default)
    }

    /// True if nothing has been said against `path` yet.
    pub fn is_valid(&self, path: &str) -> bool {
        self.problems.iter().all(|problem| problem.key != path)
    }

    /// The warnings and settings; or the problems, if there are any.
    pub fn finish(self) -> Result<(Vec<String>, HashMap<&'static str, Setting>), ConfigError> {
        if self.problems.is_empty() {
            Ok((self.warnings, self.settings))
        } else {
            Err(ConfigError::new(self.problems))
        }
    }

    fn raw(&self, path: &str) -> Option<RawSetting> {
        let Some(value) = self.root.find_ref(path) else {
            let text = self.table.find(path)?.default_text()?;
            return Some(RawSetting {
                texts: vec![text.to_string()],
                origin: Origin::Default,
            });
        };
        let texts = match value {
            Value::Array(_, items) => items
                .iter()
                .filter_map(Value::as_str)
                .map(str::to_string)
                .collect(),
            other => vec![other.as_str()?.to_string()],
        };
        Some(RawSetting {
            texts,
            origin: self.origin(value),
        })
    }

    pub(super) fn origin(&self, value: &Value) -> Origin {
        match self.figment.get_metadata(value.tag()) {
            Some(metadata) if metadata.source.is_some() => Origin::File(metadata.name.to_string()),
            Some(metadata) => Origin::Variable(metadata.name.to_string()),
            None => Origin::Default,
        }
    }
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Default => DEFAULT,
            Self::File(name) | Self::Variable(name) => name,
        })
    }
}

fn default<T>(table: Table, path: &str, parse: impl Fn(&str) -> Result<T, String>) -> T {
    let text = table
        .find(path)
        .and_then(Key::default_text)
        .unwrap_or_default();
    match parse(text) {
        Ok(value) => value,
        // Every test of the configuration reads all of them.
        Err(reason) => unreachable!("the table's default of {path} is valid: {reason}"),
    }
}
