//! Users: the `users` list, the users file, and what an authentication endpoint answers. All are made of the same keys.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};

use figment::Figment;
use figment::value::{Dict, Value};
use ipnet::IpNet;

use super::check::{Check, YamlFile};
use super::error::{ConfigError, Problem, printable};
use super::files;
use super::parse::{self, Parsed};
use super::reader::{Reader, Refused};
use super::rights;
use super::site::{self, Common};
use super::sources::{self, Layer, Sources};
use super::yaml::{self, Node};
use super::{Provider, StaticCredentials, Storage, User, UsersFile, names};
use crate::password::PasswordHash;
use crate::reload;

/// Who checks a user's password.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Authority {
    /// The gateway, against the user's `password_hash`.
    Hash,
    /// Somebody else, who then tells home and permissions as well: no default stands for what is missing.
    Endpoint,
}

/// Reads the users of the configuration and of the users file; entries with a problem are left out.
pub(super) fn resolve(
    read: &mut Reader,
    storage: &Storage,
    has_endpoint: bool,
) -> (Vec<User>, Option<UsersFile>) {
    let common = Common::read(read, storage);
    let users = entries(read, &common, Authority::Hash);
    let file = users_file(read, &common);
    if let Some(file) = &file {
        let names: HashSet<&str> = users.iter().map(|user| user.name.as_str()).collect();
        let twice = file
            .users
            .iter()
            .find(|user| names.contains(user.name.as_str()));
        if let Some(user) = twice {
            let advice = format!(
                "the user {} stands in it and in `users` too; remove one of the two",
                printable(&user.name)
            );
            read.refuse(FILE, advice);
        }
    }
    // The built-in store is for trials: there the program makes a user and tells its password.
    let nobody = read.sections(USERS) == 0 && !read.is_set(FILE) && !has_endpoint;
    let asked = ["auth.http.url", USERS, FILE];
    if nobody
        && storage.provider != Provider::Embedded
        && asked.iter().all(|key| read.is_sound(key))
    {
        read.refuse(
            USERS,
            "without users nobody can log in; run `cosgate hash-password` and add \
             users: [{name: alice, password_hash: '<its output>'}], or set users_file or auth.http.url",
        );
    }
    (users, file)
}

fn users_file(read: &mut Reader, common: &Common) -> Option<UsersFile> {
    let path = read.optional(FILE, |text| {
        if text.contains('\0') {
            Err("a path has no NUL; remove it".to_string())
        } else {
            Ok(PathBuf::from(text))
        }
    })?;
    let text = match sources::read(&path) {
        Ok(text) => text,
        Err(reason) => {
            let advice = format!("the file {reason}; correct the path or make the file readable");
            read.refuse(FILE, advice);
            return None;
        }
    };
    let digest = reload::digest([text.as_bytes()]);
    match users_of_file(&path, text, common) {
        Ok(users) => Some(UsersFile {
            path,
            users,
            digest,
        }),
        Err(error) => {
            read.refuse_all(error.problems().iter().cloned());
            None
        }
    }
}

/// The users in the text of the file at `path`, which is named in problems.
///
/// A file without users is an error: an empty or cut file must not lock everybody out. `common` is what their
/// stores are measured against.
pub fn users_of_file(path: &Path, text: String, common: &Common) -> Result<Vec<User>, ConfigError> {
    let name = printable(&path.display().to_string());
    let problem = |advice: String| {
        let origin = Some(name.clone());
        ConfigError::new(vec![Problem::about(FILE, origin, advice)])
    };
    let malformed = |error: String| {
        problem(format!(
            "not valid YAML or JSON: {error}; correct the file there (text with [ {{ * & # % or \": \" in it needs quotes)"
        ))
    };
    // a bare list, or the section as it stands in the configuration
    let (root, node) = match yaml::parse(&text, "").map_err(malformed)? {
        Node::List(_) => (USERS, yaml::parse(&text, USERS).map_err(malformed)?),
        Node::Map(entries) => {
            if let Some((other, _)) = entries.iter().find(|(key, _)| key != USERS) {
                return Err(problem(format!(
                    "only `users` stands in this file, not {}; move it to the configuration",
                    printable(other)
                )));
            }
            ("", Node::Map(entries))
        }
        Node::Null => return Err(problem(NO_USERS.to_string())),
        Node::Text(_) => {
            return Err(problem(
                "write a list of users, or users: with one".to_string(),
            ));
        }
    };
    let file = YamlFile::new(&name, root, text);
    let mut problems = Vec::new();
    let value = Check::of_file(&file, &mut problems).value(root, node);
    let value = match (root, value) {
        (USERS, Some(list)) => Some(Value::from(Dict::from([(USERS.to_string(), list)]))),
        (_, value) => value,
    };
    let layer = Layer {
        name: name.clone(),
        file: Some(path.to_path_buf()),
        value,
    };
    let mut read = Reader::new(Sources {
        figment: Figment::from(layer),
        file: Some(file),
        problems,
        in_pod: false,
        surroundings: BTreeMap::new(),
    });
    let users = entries(&mut read, common, Authority::Hash);
    read.finish()?;
    if users.is_empty() {
        return Err(problem(NO_USERS.to_string()));
    }
    Ok(users)
}

/// The user in the body of an endpoint's answer, a JSON object of the keys of `users[]`.
///
/// `name`, `home` and `permissions` must be there: an answer that says less, as any web server's might, lets nobody in.
pub fn answered_user(body: &str, common: &Common) -> Result<User, ConfigError> {
    const ORIGIN: &str = "the answer of auth.http.url";
    let problem = |advice: &str| {
        ConfigError::new(vec![Problem::about(
            "users[0]",
            Some(ORIGIN.to_string()),
            advice,
        )])
    };
    // as a list of one, so that it is read by the same rules as every other user
    let json: serde_json::Value = serde_json::from_str(body)
        .map_err(|_| problem("not valid JSON; answer with one JSON object"))?;
    if !json.is_object() {
        return Err(problem("write one JSON object"));
    }
    let list = format!("[{json}]");
    let node = yaml::parse(&list, USERS).map_err(|_| problem("not a flat JSON object"))?;
    let mut problems = Vec::new();
    let value = Check::of_variable(ORIGIN, &mut problems).value(USERS, node);
    let layer = Layer {
        name: ORIGIN.to_string(),
        file: None,
        value: value.map(|list| Value::from(Dict::from([(USERS.to_string(), list)]))),
    };
    let mut read = Reader::new(Sources {
        figment: Figment::from(layer),
        file: None,
        problems,
        in_pod: false,
        surroundings: BTreeMap::new(),
    });
    let users = entries(&mut read, common, Authority::Endpoint);
    read.finish()?;
    let mut users = users.into_iter();
    users
        .next()
        .ok_or_else(|| problem("there is no user in it"))
}

/// Reads the list `users`; entries with a problem are left out.
fn entries(read: &mut Reader, common: &Common, authority: Authority) -> Vec<User> {
    let mut names = HashSet::new();
    let mut users = Vec::new();
    for index in 0..read.sections(USERS) {
        let user = entry(read, index, common, authority);
        if let Some(name) = user.name
            && !names.insert(name.clone())
        {
            let advice = "another user has this name already; rename or remove one";
            read.refuse_entry(USERS, index, "name", Some(&name), advice);
        }
        users.extend(user.whole.ok());
    }
    users
}

/// One entry: its name even where the rest is refused, so that a second one of the same name is found.
struct Entry {
    name: Option<String>,
    whole: Result<User, Refused>,
}

fn entry(read: &mut Reader, index: usize, common: &Common, authority: Authority) -> Entry {
    let name = read.entry(USERS, index, "name", name);
    // every key is read, so that one run finds everything that is wrong
    let password_hash = match authority {
        Authority::Hash => read
            .entry(USERS, index, "password_hash", PasswordHash::parse)
            .map(Some)
            .ok_or(Refused),
        Authority::Endpoint => Ok(None),
    };
    if authority == Authority::Endpoint {
        for key in ["home", "permissions"] {
            if !read.entry_is_set(USERS, index, key) {
                read.refuse_entry(USERS, index, key, None, "this is required; add it");
            }
        }
    }
    let home = read.entry(USERS, index, "home", home);
    let permissions = rights::permissions(read, USERS, index);
    let bucket = read.entry_optional(USERS, index, "bucket", |text| {
        names::bucket(text, common.provider)
    });
    let credentials = credentials(read, index);
    // refused ones are there, too
    let has_credentials = !matches!(credentials, Ok(None));
    let site = site::resolve(read, USERS, index, common, has_credentials);
    let bucket = match (bucket, &site) {
        (Ok(Some(own)), Ok(site)) => match common.refuses_bucket(&own, site.as_ref()) {
            Some(advice) => {
                read.refuse_entry(USERS, index, "bucket", Some(own.as_str()), advice);
                Err(Refused)
            }
            None => Ok(Some(own)),
        },
        (bucket, _) => bucket,
    };
    let allow_from = read.entry_list(USERS, index, "allow_from", network);
    let max_sessions = read.entry_optional(USERS, index, "max_sessions", |text| {
        parse::count(text, 1, 1_000_000).map(|count| usize::try_from(count).unwrap_or(usize::MAX))
    });
    let max_file_size = read.entry_optional(USERS, index, "max_file_size", parse::size);
    let ascii = read.entry_optional(USERS, index, "ascii", files::ascii);
    let charset = read.entry_optional(USERS, index, "charset", files::charset);
    let require_tls = read.entry_optional(USERS, index, "require_tls", parse::switch);
    let require_close_notify =
        read.entry_optional(USERS, index, "require_close_notify", parse::switch);
    let client_cert_cn = read.entry_optional(USERS, index, "client_cert_cn", common_name);
    let whole = || {
        Ok(User {
            name: name.clone().ok_or(Refused)?,
            password_hash: password_hash?,
            home: home.ok_or(Refused)?,
            permissions: permissions?,
            bucket: bucket?,
            site: site?,
            credentials: credentials?,
            allow_from: allow_from?,
            max_sessions: max_sessions?,
            max_file_size: max_file_size?,
            ascii: ascii?,
            charset: charset?,
            require_tls: require_tls?.unwrap_or_default(),
            require_close_notify: require_close_notify?,
            client_cert_cn: client_cert_cn?,
        })
    };
    let whole = whole();
    Entry { name, whole }
}

fn credentials(read: &mut Reader, index: usize) -> Result<Option<StaticCredentials>, Refused> {
    let id = read.entry_optional(USERS, index, ID, parse::credential)?;
    let secret = read.entry_optional(USERS, index, SECRET, parse::credential)?;
    let token = read.entry_optional(USERS, index, TOKEN, parse::credential)?;
    let missing = match (&id, &secret) {
        (Some(_), Some(_)) => None,
        (None, None) if token.is_none() => return Ok(None),
        (None, _) => Some(ID),
        (Some(_), None) => Some(SECRET),
    };
    if let Some(missing) = missing {
        let advice = "the user's other credentials are set without it; add it, or remove them";
        read.refuse_entry(USERS, index, missing, None, advice);
    }
    let (Some(access_key_id), Some(secret)) = (id, secret) else {
        return Err(Refused);
    };
    Ok(Some(StaticCredentials {
        access_key_id,
        secret_access_key: secret.into(),
        session_token: token.map(Into::into),
    }))
}

fn name(text: &str) -> Parsed<String> {
    if text.chars().any(char::is_control) {
        Err("a name has no control characters; remove them".into())
    } else if text.len() > MAX_NAME_BYTES {
        Err(format!(
            "a name has at most {MAX_NAME_BYTES} bytes; shorten it"
        ))
    } else {
        Ok(text.to_string())
    }
}

fn home(text: &str) -> Parsed<String> {
    Ok(format!("/{}", parse::segments(text)?.join("/")))
}

/// A network, or an address alone.
fn network(text: &str) -> Parsed<IpNet> {
    let net = text.parse::<IpNet>().ok().or_else(|| {
        text.parse()
            .ok()
            .map(|address: std::net::IpAddr| address.into())
    });
    match net {
        // as it stands there, 10.1.2.3/8 means one address or sixteen million
        Some(net) if net.addr() != net.network() => Err(format!(
            "bits are set behind the prefix; write {}",
            net.trunc()
        )),
        Some(net) => Ok(net),
        None => {
            Err("write networks such as 10.0.0.0/8 or 2001:db8::/32, or single addresses".into())
        }
    }
}

/// The common name of a certificate, at most 64 characters (RFC 5280, appendix A.1, ub-common-name).
fn common_name(text: &str) -> Parsed<String> {
    if text.chars().count() > 64 || text.chars().any(char::is_control) {
        Err("a common name has 1 to 64 characters, none of them a control character".into())
    } else {
        Ok(text.to_string())
    }
}

const USERS: &str = "users";
const FILE: &str = "users_file";
const ID: &str = "access_key_id";
const SECRET: &str = "secret_access_key";
const TOKEN: &str = "session_token";
const NO_USERS: &str = "there are no users in it; write at least one, or remove the key users_file";
/// As long as the longest names of common directories; a name goes into every log line.
const MAX_NAME_BYTES: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_home_is_absolute_and_plain() {
        for (text, want) in [("/", "/"), ("in", "/in"), ("/a//b/./", "/a/b")] {
            assert_eq!(home(text).as_deref(), Ok(want), "{text}");
        }
        assert!(home("/a/../b").is_err());
    }

    #[test]
    fn a_name_is_short_and_printable() {
        assert!(name("ålice@example.com").is_ok());
        assert!(name(&"x".repeat(128)).is_ok());
        assert!(name(&"x".repeat(129)).is_err());
        assert!(name("a\tb").is_err());
    }

    #[test]
    fn a_network_says_what_it_means() {
        for text in [
            "10.0.0.0/8",
            "192.0.2.1",
            "2001:db8::/32",
            "::1",
            "0.0.0.0/0",
        ] {
            assert!(network(text).is_ok(), "{text}");
        }
        let advice = network("10.1.2.3/8").expect_err("one address or a network?");
        assert!(advice.contains("10.0.0.0/8"), "{advice}");
        for text in [
            "",
            "10.0.0.0/33",
            "10.0.0",
            "localhost",
            "10.0.0.0-10.0.0.9",
        ] {
            assert!(network(text).is_err(), "{text}");
        }
    }
}
