//! The meaning of COS FTP Server's keys, each value checked.
//!
//! Its releases since 2019 have a section `[COS_ACCOUNT_n]` per user, with the store's keys and the user's own. The
//! earlier ones have one `[COS_ACCOUNT]`, and all users in one line of `[FTP_ACCOUNT]` ([`super::earlier`]).

use secrecy::SecretString;

use super::Mistake;
use super::earlier::Earlier;
use super::fields::{Fields, notes_on_entries};
use super::ini::Section;
use super::options::{self, Options, switch};
use crate::config::Endpoint;
use crate::config::printable;
use crate::config::{self, Provider, parse};

/// The whole file.
#[derive(Debug, Default)]
pub(super) struct Source {
    pub accounts: Vec<Account>,
    pub options: Options,
    /// The entries without a meaning, for the reader of the result and of the terminal.
    pub notes: Vec<String>,
    /// The differences, for the reader of the result.
    pub remarks: Vec<String>,
}

/// One user with its store.
#[derive(Debug)]
pub(super) struct Account {
    pub section: String,
    pub store: Store,
    pub home_dir: Option<String>,
    pub user: String,
    pub password: SecretString,
    pub authority: Authority,
    pub delete_enable: bool,
}

/// Where files are, and the keys to it.
#[derive(Debug, Clone)]
pub(super) struct Store {
    pub access_key_id: SecretString,
    pub secret_access_key: SecretString,
    pub place: Place,
}

/// Where an account's files are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub bucket: String,
    pub region: Option<String>,
    /// A URL; none where the region says it all.
    pub endpoint: Option<String>,
}

/// A user's rights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Authority {
    Read,
    Write,
    Both,
}

impl Authority {
    /// `R`, `W` or `RW`.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text.to_ascii_uppercase().as_str() {
            "R" => Ok(Authority::Read),
            "W" => Ok(Authority::Write),
            "RW" | "WR" => Ok(Authority::Both),
            _ => Err("write R, W or RW".to_owned()),
        }
    }
}

/// Reads all sections; every mistake is reported.
pub(super) fn read(sections: &[Section], mistakes: &mut Vec<Mistake>) -> Source {
    let mut source = Source::default();
    let mut earlier = Earlier::default();
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
                add(&mut source, account, &mut fields, section.line);
            }
        } else if !earlier.take(&mut fields, &mut source)
            && !options::read(&mut fields, &mut source.options)
        {
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
    earlier.finish(&mut source, mistakes);
    if source.accounts.is_empty() && mistakes.is_empty() {
        mistakes.push(Mistake {
            line: None,
            key: "[COS_ACCOUNT_0]".to_owned(),
            advice: "there is no account; is this conf/vsftpd.conf of COS FTP Server?".to_owned(),
        });
    }
    source
}

/// Adds `account`, unless another one has its user.
fn add(source: &mut Source, account: Account, fields: &mut Fields<'_, '_>, line: usize) {
    if let Some(other) = source
        .accounts
        .iter()
        .find(|other| other.user == account.user)
    {
        let advice = format!(
            "another account, [{}], has this user; rename or remove one",
            other.section
        );
        fields.wrong(line, "ftp_login_user_name", &advice);
    }
    source.accounts.push(account);
}

fn account(fields: &mut Fields<'_, '_>, notes: &mut Vec<String>) -> Option<Account> {
    let store = store(fields, notes);
    let home_dir = fields.entry("home_dir").map(|entry| entry.value.clone());
    let user = fields.required(
        "ftp_login_user_name",
        "the name that the client logs in with",
        user_name,
    );
    let password = fields.required("ftp_login_user_password", "the password", |text| {
        Ok(text.to_owned())
    });
    let authority = fields.required("authority", "R, W or RW", Authority::parse);
    let delete_enable = fields.optional("delete_enable", switch).unwrap_or(true);
    Some(Account {
        section: printable(&fields.section.name),
        store: store?,
        home_dir,
        user: user?,
        password: password?.into(),
        authority: authority?,
        delete_enable,
    })
}

/// A name as users of cosgate may have it.
pub(super) fn user_name(text: &str) -> Result<String, String> {
    if text.len() > 128 {
        Err("a name has at most 128 bytes; shorten it".to_owned())
    } else {
        Ok(text.to_owned())
    }
}

/// The store's keys of a section.
pub(super) fn store(fields: &mut Fields<'_, '_>, notes: &mut Vec<String>) -> Option<Store> {
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
    let bucket = bucket(fields);
    let is_tls = fields.optional("cos_protocol", |text| {
        match text.to_ascii_lowercase().as_str() {
            "https" => Ok(true),
            "http" => Ok(false),
            _ => Err("write https or http".to_owned()),
        }
    });
    let region = fields.optional("cos_region", |text| {
        config::region_name(full_region(text).unwrap_or(text))
    });
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
    Some(Store {
        access_key_id: id?.into(),
        secret_access_key: key?.into(),
        place: Place {
            bucket: bucket?,
            region,
            endpoint,
        },
    })
}

/// The bucket with its APPID, which stood apart in the earliest releases.
fn bucket(fields: &mut Fields<'_, '_>) -> Option<String> {
    let appid = fields.optional("cos_appid", |text| {
        match text.bytes().all(|byte| byte.is_ascii_digit()) {
            true => Ok(text.to_owned()),
            false => Err("an APPID is a number; write it as the console shows it".to_owned()),
        }
    });
    fields.required(
        "cos_bucket",
        "name-APPID, such as files-1250000000",
        |text| {
            let whole = match &appid {
                Some(appid) if !text.ends_with(&format!("-{appid}")) => format!("{text}-{appid}"),
                _ => text.to_owned(),
            };
            config::bucket_name(&whole, Some(Provider::Cos))
        },
    )
}

/// The region that COS's first API had a short name for. [cloud.tencent.com/document/product/436/6224]
fn full_region(short: &str) -> Option<&'static str> {
    let found = SHORT_REGIONS.iter().find(|(name, _)| *name == short)?;
    Some(found.1)
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

const ACCOUNT: &str = "COS_ACCOUNT_";

const SHORT_REGIONS: [(&str, &str); 10] = [
    ("tj", "ap-beijing-1"),
    ("bj", "ap-beijing"),
    ("sh", "ap-shanghai"),
    ("gz", "ap-guangzhou"),
    ("cd", "ap-chengdu"),
    ("cq", "ap-chongqing"),
    ("hk", "ap-hongkong"),
    ("sgp", "ap-singapore"),
    ("ca", "na-toronto"),
    ("ger", "eu-frankfurt"),
];
