//! What COS FTP Server's keys mean, each value checked.

use std::net::Ipv4Addr;

use secrecy::SecretString;

use super::Mistake;
use super::ini::{Entry, Section};
use crate::config::endpoint::Endpoint;
use crate::config::error::printable;
use crate::config::{Provider, names, parse};

/// The whole file.
#[derive(Debug, Default)]
pub(super) struct Source {
    pub accounts: Vec<Account>,
    pub options: Options,
    /// What was in the file and has no meaning, for the reader of the result.
    pub notes: Vec<String>,
}

/// One `[COS_ACCOUNT_*]`.
#[derive(Debug)]
pub(super) struct Account {
    pub section: String,
    pub access_key_id: SecretString,
    pub secret_access_key: SecretString,
    pub place: Place,
    pub home_dir: Option<String>,
    pub user: String,
    pub password: SecretString,
    pub authority: Authority,
    pub delete_enable: bool,
}

/// Where an account's files are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub bucket: String,
    pub region: Option<String>,
    /// A URL; none where the region says it all.
    pub endpoint: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Authority {
    Read,
    Write,
    Both,
}

/// What holds for all accounts; none where the file says nothing.
#[derive(Debug, Default)]
pub(super) struct Options {
    pub masquerade_address: Option<String>,
    pub listen_port: Option<u16>,
    pub passive_ports: Option<(u16, u16)>,
    pub max_file_bytes: Option<u64>,
    pub min_part_bytes: Option<u64>,
    pub upload_threads: Option<u64>,
    pub max_connections: Option<u64>,
    pub log_level: Option<&'static str>,
    /// Keys without counterpart, as they stand in the file.
    pub without_counterpart: Vec<(String, String)>,
}

/// Reads all sections; every mistake is reported.
pub(super) fn read(sections: &[Section], mistakes: &mut Vec<Mistake>) -> Source {
    let mut source = Source::default();
    let mut users: Vec<(String, usize)> = Vec::new();
    let mut seen: Vec<&str> = Vec::new();
    for section in sections {
        let mut fields = Fields {
            section,
            mistakes,
            used: Vec::new(),
        };
        let name = section.name.as_str();
        let is_again = seen.contains(&name);
        seen.push(name);
        if name.starts_with(ACCOUNT) {
            if is_again {
                fields.wrong(
                    section.line,
                    "",
                    "this section stands here twice; give each account a name of its own",
                );
            }
            if let Some(account) = account(&mut fields, &mut source.notes) {
                if let Some((_, line)) = users.iter().find(|(user, _)| *user == account.user) {
                    let advice = format!(
                        "another account (line {line}) has this user; rename or remove one"
                    );
                    fields.wrong(section.line, "ftp_login_user_name", &advice);
                }
                users.push((account.user.clone(), section.line));
                source.accounts.push(account);
            }
        } else if !options(&mut fields, &mut source.options) {
            source.notes.push(format!(
                "[{}] in line {} is no section of COS FTP Server; nothing of it was taken",
                printable(name),
                section.line
            ));
            continue;
        }
        let used = std::mem::take(&mut fields.used);
        notes_on_entries(section, &used, &mut source.notes);
    }
    if source.accounts.is_empty() && mistakes.is_empty() {
        mistakes.push(Mistake {
            line: None,
            key: "[COS_ACCOUNT_0]".to_owned(),
            advice: "there is no account; is this conf/vsftpd.conf of COS FTP Server?".to_owned(),
        });
    }
    source
}

/// The entries of one section, by key; the last of several counts, as ConfigParser has it.
struct Fields<'a, 'm> {
    section: &'a Section,
    mistakes: &'m mut Vec<Mistake>,
    used: Vec<&'static str>,
}

impl<'a> Fields<'a, '_> {
    /// The entry of `key` with a value.
    fn entry(&mut self, key: &'static str) -> Option<&'a Entry> {
        self.used.push(key);
        let entries = self.section.entries.iter();
        let entry = entries.rev().find(|entry| entry.key == key)?;
        (!entry.value.is_empty()).then_some(entry)
    }

    fn optional<T>(
        &mut self,
        key: &'static str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<T> {
        let entry = self.entry(key)?;
        parse(&entry.value)
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

    fn required<T>(
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

    fn wrong(&mut self, line: usize, key: &str, advice: &str) {
        let name = printable(&self.section.name);
        self.mistakes.push(Mistake {
            line: Some(line),
            key: format!("[{name}] {key}").trim_end().to_owned(),
            advice: advice.to_owned(),
        });
    }
}

fn account(fields: &mut Fields<'_, '_>, notes: &mut Vec<String>) -> Option<Account> {
    let id = fields.required(
        "cos_secretid",
        "the SecretId of Tencent Cloud",
        parse::credential,
    );
    let key = fields.required(
        "cos_secretkey",
        "the SecretKey that goes with it",
        parse::credential,
    );
    let bucket = fields.required(
        "cos_bucket",
        "name-APPID, such as files-1250000000",
        |text| names::bucket(text, Some(Provider::Cos)),
    );
    let is_tls = fields.optional("cos_protocol", |text| {
        match text.to_ascii_lowercase().as_str() {
            "https" => Ok(true),
            "http" => Ok(false),
            _ => Err("write https or http".to_owned()),
        }
    });
    let region = fields.optional("cos_region", names::region);
    let has_region = fields.entry("cos_region").is_some();
    let endpoint = endpoint(fields, is_tls.unwrap_or(true), notes);
    if !has_region && fields.entry("cos_endpoint").is_none() {
        fields.wrong(
            fields.section.line,
            "cos_region",
            "neither region nor endpoint is set; write the bucket's region, such as ap-guangzhou",
        );
    }
    let region_url = region.as_ref().filter(|_| is_tls == Some(false));
    let endpoint = endpoint.or_else(|| Some(format!("http://cos.{}.myqcloud.com", region_url?)));
    let home_dir = fields.entry("home_dir").map(|entry| entry.value.clone());
    let user = fields.required(
        "ftp_login_user_name",
        "the name that the client logs in with",
        |text| {
            if text.len() > 128 {
                Err("a name has at most 128 bytes; shorten it".to_owned())
            } else {
                Ok(text.to_owned())
            }
        },
    );
    let password = fields.required("ftp_login_user_password", "the password", |text| {
        Ok(text.to_owned())
    });
    let authority = fields.required("authority", "R, W or RW", |text| {
        match text.to_ascii_uppercase().as_str() {
            "R" => Ok(Authority::Read),
            "W" => Ok(Authority::Write),
            "RW" | "WR" => Ok(Authority::Both),
            _ => Err("write R, W or RW".to_owned()),
        }
    });
    let delete_enable = fields.optional("delete_enable", switch).unwrap_or(true);
    Some(Account {
        section: printable(&fields.section.name),
        access_key_id: id?.into(),
        secret_access_key: key?.into(),
        place: Place {
            bucket: bucket?,
            region,
            endpoint,
        },
        home_dir,
        user: user?,
        password: password?.into(),
        authority: authority?,
        delete_enable,
    })
}

/// The endpoint is a host; some write the scheme or the bucket into it, too.
fn endpoint(fields: &mut Fields<'_, '_>, is_tls: bool, notes: &mut Vec<String>) -> Option<String> {
    let section = printable(&fields.section.name);
    let endpoint = fields.optional("cos_endpoint", |text| {
        let text = match text.contains("://") {
            true => text.to_owned(),
            false if is_tls => format!("https://{text}"),
            false => format!("http://{text}"),
        };
        let endpoint = Endpoint::parse(&text)?;
        if endpoint.has_path {
            return Err(
                "this has a path; write the host alone, such as cos.ap-guangzhou.myqcloud.com"
                    .to_owned(),
            );
        }
        Ok(endpoint)
    })?;
    match endpoint.without_tencent_bucket() {
        None => Some(endpoint.url),
        Some(host) => {
            notes.push(format!(
                "[{section}] cos_endpoint held the bucket; it is left out of storage.endpoint"
            ));
            let scheme = if endpoint.is_tls { "https" } else { "http" };
            Some(format!("{scheme}://{host}"))
        }
    }
}

/// Reads a section of options; false if there is none of this name.
fn options(fields: &mut Fields<'_, '_>, options: &mut Options) -> bool {
    match fields.section.name.as_str() {
        "NETWORK" => {
            keep(
                &mut options.masquerade_address,
                fields.optional("masquerade_address", |text| {
                    match text.parse::<Ipv4Addr>() {
                        Ok(_) => names::masquerade_address(text).map(|address| address.to_string()),
                        Err(_) => Err(
                            "write the IPv4 address that clients connect to, or remove the key"
                                .to_owned(),
                        ),
                    }
                }),
            );
            keep(
                &mut options.listen_port,
                fields.optional("listen_port", port),
            );
            keep(
                &mut options.passive_ports,
                fields.optional("passive_port", ports),
            );
        }
        "FILE_OPTION" => {
            keep(
                &mut options.max_file_bytes,
                fields.optional("single_file_max_size", bytes),
            );
        }
        "OPTIONAL" => {
            keep(
                &mut options.min_part_bytes,
                fields.optional("min_part_size", bytes),
            );
            let threads = |text: &str| parse::count(text, 1, 1_000_000);
            keep(
                &mut options.upload_threads,
                fields.optional("upload_thread_num", threads),
            );
            keep(
                &mut options.max_connections,
                fields.optional("max_connection_num", |text| {
                    parse::count(text, 1, 100_000_000)
                }),
            );
            keep(&mut options.log_level, fields.optional("log_level", level));
            for key in WITHOUT_COUNTERPART {
                if let Some(entry) = fields.entry(key) {
                    options
                        .without_counterpart
                        .push((key.to_owned(), printable(&entry.value)));
                }
            }
        }
        _ => return false,
    }
    true
}

/// A section may stand there twice: what it says the second time counts, what it does not say stays.
fn keep<T>(option: &mut Option<T>, given: Option<T>) {
    if given.is_some() {
        *option = given;
    }
}

fn notes_on_entries(section: &Section, used: &[&str], notes: &mut Vec<String>) {
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

fn switch(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" | "1" => Ok(true),
        "false" | "no" | "off" | "0" => Ok(false),
        _ => Err("write true or false".to_owned()),
    }
}

fn port(text: &str) -> Result<u16, String> {
    match text.parse() {
        Ok(port) if port > 0 => Ok(port),
        _ => Err("write a port from 1 to 65535".to_owned()),
    }
}

fn ports(text: &str) -> Result<(u16, u16), String> {
    const WANTED: &str = "write the first and the last port, such as 60000,65535";
    let (from, to) = text.split_once([',', '-']).ok_or(WANTED)?;
    match (port(from.trim())?, port(to.trim())?) {
        (from, to) if from <= to => Ok((from, to)),
        _ => Err(format!("the range is the wrong way round; {WANTED}")),
    }
}

fn bytes(text: &str) -> Result<u64, String> {
    match text.parse() {
        Ok(bytes) if bytes > 0 => Ok(bytes),
        _ => Err("write a number of bytes, such as 214748364800".to_owned()),
    }
}

fn level(text: &str) -> Result<&'static str, String> {
    match text.to_ascii_uppercase().as_str() {
        "DEBUG" | "NOTSET" => Ok("debug"),
        "INFO" => Ok("info"),
        "WARN" | "WARNING" => Ok("warn"),
        "ERROR" | "CRITICAL" | "FATAL" => Ok("error"),
        _ => Err("write DEBUG, INFO, WARNING or ERROR".to_owned()),
    }
}

const ACCOUNT: &str = "COS_ACCOUNT_";
const SECRETS: [&str; 3] = ["cos_secretid", "cos_secretkey", "ftp_login_user_password"];
const WITHOUT_COUNTERPART: [&str; 6] = [
    "config_check_enable",
    "max_list_file",
    "log_dir",
    "log_rotate_enabled",
    "log_rotate_when",
    "log_backup_count",
];
