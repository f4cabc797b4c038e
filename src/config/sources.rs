//! Where values come from: YAML file, environment, files named by the environment.
//!
//! Invariant: what leaves here has passed the table of keys. Every leaf is a known key, and holds
//! the text that was written, with a figment tag that has its origin.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use figment::value::{Dict, Map, Value};
use figment::{Figment, Metadata, Profile};

use super::check::{Check, YamlFile, example};
use super::error::{Problem, printable};
use super::foreign_env::is_foreign;
use super::keys::{CONFIG_VARIABLE, FILE_SUFFIX, Kind, PREFIX};
use super::table::Table;
use super::yaml::{self, Node};
use crate::reload;

/// All sources, merged, and what was wrong with them.
pub(super) struct Sources {
    pub table: Table,
    pub figment: Figment,
    pub file: Option<YamlFile>,
    pub problems: Vec<Problem>,
    /// True if Kubernetes started this process.
    pub in_pod: bool,
    /// Variables that are no keys, but say where this process runs.
    pub platform_env: BTreeMap<String, String>,
}

/// Variables that the platform sets: TKE's pod identity, and the name of the pod.
const SURROUNDINGS: [&str; 6] = [
    "HOSTNAME",
    "POD_NAMESPACE",
    "TKE_PROVIDER_ID",
    "TKE_REGION",
    "TKE_ROLE_ARN",
    "TKE_WEB_IDENTITY_TOKEN_FILE",
];

/// Reads every source; with `file` or else `COSGATE_CONFIG` as the YAML file.
pub(super) fn collect(
    table: Table,
    file: Option<&Path>,
    env: Vec<(String, String)>,
    problems: Vec<Problem>,
) -> Sources {
    let in_pod = env
        .iter()
        .any(|(name, value)| name == POD_VARIABLE && !value.is_empty());
    // Sorted, so that the same environment gives the same report.
    let (env, others): (BTreeMap<_, _>, BTreeMap<_, _>) = env
        .into_iter()
        .partition(|(name, _)| name.starts_with(PREFIX));
    let platform_env = others
        .into_iter()
        .filter(|(name, value)| SURROUNDINGS.contains(&name.as_str()) && !value.is_empty())
        .collect();
    let mut sources = Sources {
        table,
        figment: Figment::new(),
        file: None,
        problems,
        in_pod,
        platform_env,
    };
    sources.add_file(
        file,
        env.get(CONFIG_VARIABLE).filter(|path| !path.is_empty()),
    );
    let (files, values): (Vec<_>, Vec<_>) = env
        .iter()
        .partition(|(name, _)| table.of_file_variable(name).is_some());
    for (name, value) in values {
        sources.add_variable(name, value);
    }
    for (name, value) in files {
        sources.add_secret_file(name, value, &env);
    }
    sources
}

/// This process's variables, and a problem for each of ours that is not UTF-8.
///
/// `std::env::vars` panics where this reports.
pub(super) fn process_environment() -> (Vec<(String, String)>, Vec<Problem>) {
    let mut variables = Vec::new();
    let mut problems = Vec::new();
    for (name, value) in std::env::vars_os() {
        let name = name.to_string_lossy().into_owned();
        match value.into_string() {
            Ok(value) => variables.push((name, value)),
            Err(_) if !name.starts_with(PREFIX) => {}
            Err(_) => problems.push(Problem::about(
                &name,
                None,
                "the value is not UTF-8; set it to text",
            )),
        }
    }
    (variables, problems)
}

impl Sources {
    fn add_file(&mut self, flag: Option<&Path>, variable: Option<&String>) {
        let named_by_variable = variable.map(Path::new);
        let Some(path) = flag.or(named_by_variable) else {
            return;
        };
        // The caller may have read the variable itself, so equal paths mean the variable.
        let named_by = if named_by_variable == Some(path) {
            CONFIG_VARIABLE
        } else {
            "--config"
        };
        let subject = printable(&path.display().to_string());
        let text = match read(path) {
            Ok(text) => text,
            Err(reason) => {
                let advice = format!("{reason}; correct the path or make the file readable");
                self.problems
                    .push(Problem::about(&subject, Some(named_by.into()), advice));
                return;
            }
        };
        let tree = yaml::parse(&text, "", self.table);
        let file = YamlFile::new(&subject, "", text);
        match tree {
            Ok(tree) => {
                let value = Check::of_file(self.table, &file, &mut self.problems).value("", tree);
                self.add(Layer {
                    name: subject,
                    file: Some(path.to_path_buf()),
                    value,
                });
            }
            Err(error) => self.problems.push(Problem::about(
                &subject,
                Some(named_by.into()),
                format!(
                    "not valid YAML: {error}; correct the file there \
                     (text with [ {{ * & # % or \": \" in it needs quotes)"
                ),
            )),
        }
        self.file = Some(file);
    }

    fn add_variable(&mut self, name: &str, text: &str) {
        if is_foreign(name, text) {
            return;
        }
        let Some(key) = self.table.of_variable(name) else {
            self.problems.push(Problem::about(
                name,
                None,
                unknown_variable(self.table, name),
            ));
            return;
        };
        if text.is_empty() {
            return;
        }
        let node = match key.kind {
            Kind::Sections => match yaml::parse(text, key.path, self.table) {
                Ok(node) => node,
                Err(error) => {
                    let advice = format!(
                        "not valid YAML or JSON: {error}; write a list such as {}",
                        example(key.path)
                    );
                    self.problems
                        .push(Problem::about(key.path, Some(name.into()), advice));
                    return;
                }
            },
            _ => Node::Text(text.to_string()),
        };
        let value = Check::of_variable(self.table, name, &mut self.problems).value(key.path, node);
        self.add(Layer {
            name: name.to_string(),
            file: None,
            value: value.map(|value| figment::util::nest(key.path, value)),
        });
    }

    fn add_secret_file(&mut self, name: &str, path: &str, env: &BTreeMap<String, String>) {
        let Some(key) = self
            .table
            .of_file_variable(name)
            .filter(|_| !path.is_empty())
        else {
            return;
        };
        let direct = name.strip_suffix(FILE_SUFFIX).unwrap_or(name);
        let mut problem = |advice: String| {
            self.problems
                .push(Problem::about(key.path, Some(name.to_string()), advice));
        };
        if env.get(direct).is_some_and(|value| !value.is_empty()) {
            problem(format!(
                "{direct} is set too, and one of them is wrong; unset one"
            ));
            return;
        }
        let text = match read(Path::new(path)) {
            Ok(text) => text,
            Err(reason) => {
                let path = printable(path);
                problem(format!(
                    "{path}: {reason}; give the path of a file that holds the secret"
                ));
                return;
            }
        };
        let text = text.strip_suffix('\n').map_or(text.as_str(), |line| {
            line.strip_suffix('\r').unwrap_or(line)
        });
        if text.is_empty() {
            let path = printable(path);
            problem(format!(
                "{path} is empty; write the secret into it, or unset {name}"
            ));
            return;
        }
        let value = Some(figment::util::nest(key.path, Value::from(text)));
        let name = format!("{name}: {}", printable(path));
        self.add(Layer {
            name,
            file: None,
            value,
        });
    }

    fn add(&mut self, layer: Layer) {
        self.figment = std::mem::take(&mut self.figment).merge(layer);
    }
}

/// One source, as figment wants it.
pub(super) struct Layer {
    /// The origin in a report, after "from".
    pub name: String,
    pub file: Option<PathBuf>,
    pub value: Option<Value>,
}

impl figment::Provider for Layer {
    fn metadata(&self) -> Metadata {
        let metadata = Metadata::named(self.name.clone());
        match &self.file {
            Some(path) => metadata.source(path.as_path()),
            None => metadata,
        }
    }

    fn data(&self) -> figment::Result<Map<Profile, Dict>> {
        let dict = self
            .value
            .clone()
            .and_then(Value::into_dict)
            .unwrap_or_default();
        Ok(Profile::Default.collect(dict))
    }
}

fn unknown_variable(table: Table, name: &str) -> String {
    if let Some(direct) = name.strip_suffix(FILE_SUFFIX)
        && table.of_variable(direct).is_some()
    {
        return format!("only secrets are read from files; set {direct} itself");
    }
    match table.similar_variable(name) {
        Some(similar) => format!("no key has this variable; did you mean {similar}?"),
        None => "no key has this variable; unset it, or look the name up in the table of keys (src/guide/configuration.md)"
            .to_string(),
    }
}

/// Kubernetes sets it in each container.
const POD_VARIABLE: &str = "KUBERNETES_SERVICE_HOST";

/// The text of a file, or why there is none.
pub(super) fn read(path: &Path) -> Result<String, String> {
    let bytes = reload::read_bounded(path)?;
    String::from_utf8(bytes).map_err(|_| "is not UTF-8 text".to_string())
}
