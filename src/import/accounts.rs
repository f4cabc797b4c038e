//! The meaning of COS FTP Server's keys, each value checked.
//!
//! Its releases since 2019 have a section `[COS_ACCOUNT_n]` per user, with the store's keys and the user's own. The
//! earlier ones have one `[COS_ACCOUNT]`, and all users in one line of `[FTP_ACCOUNT]` ([`super::earlier`]).

use super::earlier::Earlier;
use super::error::Mistake;
use super::fields::{Fields, notes_on_entries};
use super::ini::Section;
use super::options::{self, switch};
use super::source::{Account, Authority, Source, user_name};
use super::store_keys::store;
use crate::config::printable;

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

const ACCOUNT: &str = "COS_ACCOUNT_";
