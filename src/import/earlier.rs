//! The releases before 2019: one `[COS_ACCOUNT]`, and all users in `login_users` of `[FTP_ACCOUNT]`.

use super::error::Mistake;
use super::fields::Fields;
use super::source::{Account, Authority, Source, Store, user_name};
use super::store_keys::store;
use crate::config::printable;

/// The content of the two sections.
#[derive(Debug, Default)]
pub(super) struct Earlier {
    account: Option<(usize, Option<Store>)>,
    users: Option<(usize, Option<Vec<LoginUser>>)>,
}

/// One entry of `login_users`.
#[derive(Debug)]
struct LoginUser {
    name: String,
    password: String,
    authority: Authority,
}

impl Earlier {
    /// Reads a section, if it is one of the two.
    pub fn take(&mut self, fields: &mut Fields<'_, '_>, source: &mut Source) -> bool {
        let line = fields.section.line;
        match fields.section.name.as_str() {
            COS_ACCOUNT => {
                if self.account.is_some() {
                    fields.wrong(line, "", "this section stands here twice; remove one");
                }
                let store = store(fields, &mut source.notes);
                if let Some(home) = fields.entry("cos_user_home_dir") {
                    source.remarks.push(format!(
                        "cos_user_home_dir = {} stood for the bucket's root, where all users met: their home is /. `home` \
                         gives a user a directory of its own.",
                        printable(&home.value)
                    ));
                }
                if let Some(domain) = fields.entry("cos_download_domain") {
                    source.remarks.push(format!(
                        "cos_download_domain = {} has no counterpart: files come from the bucket itself.",
                        printable(&domain.value)
                    ));
                }
                self.account = Some((line, store));
            }
            FTP_ACCOUNT => {
                if self.users.is_some() {
                    fields.wrong(line, "", "this section stands here twice; remove one");
                }
                let wanted = "name:password:RW, with a semicolon between users";
                let users = fields.required("login_users", wanted, login_users);
                self.users = Some((line, users));
            }
            _ => return false,
        }
        true
    }

    /// Makes accounts of the two sections; one without the other is a mistake.
    pub fn finish(self, source: &mut Source, mistakes: &mut Vec<Mistake>) {
        let mut wrong = |line, key: &str, advice: String| {
            mistakes.push(Mistake {
                line: Some(line),
                key: key.to_owned(),
                advice,
            });
        };
        let (store, users, line) = match (self.account, self.users) {
            (Some((_, store)), Some((line, users))) => (store, users, line),
            (Some((line, _)), None) => {
                let advice =
                    "there are no users; add [FTP_ACCOUNT] with login_users = name:password:RW";
                return wrong(line, "[COS_ACCOUNT]", advice.to_owned());
            }
            (None, Some((line, _))) => {
                let advice = "there is no [COS_ACCOUNT] with the keys of the store; add it";
                return wrong(line, "[FTP_ACCOUNT]", advice.to_owned());
            }
            (None, None) => return,
        };
        let (Some(store), Some(users)) = (store, users) else {
            return;
        };
        for user in users {
            if source.accounts.iter().any(|other| other.user == user.name) {
                let name = printable(&user.name);
                let advice = format!("the user {name} stands here twice; rename or remove one");
                wrong(line, "[FTP_ACCOUNT] login_users", advice);
            }
            source.accounts.push(Account {
                section: FTP_ACCOUNT.to_owned(),
                store: store.clone(),
                home_dir: None,
                user: user.name,
                password: user.password.into(),
                authority: user.authority,
                delete_enable: true,
            });
        }
    }
}

/// `name:password:RW;name:password:R`. The first colon ends the name, the last one the password. Nothing of an entry that is
/// wrong is repeated: it may be a password.
fn login_users(text: &str) -> Result<Vec<LoginUser>, String> {
    let mut users = Vec::new();
    let entries = text.split(';').map(str::trim);
    for (index, entry) in entries.enumerate().filter(|(_, entry)| !entry.is_empty()) {
        let wrong = |advice: &str| format!("user {}: {advice}", index + 1);
        let fields = entry
            .split_once(':')
            .and_then(|(name, rest)| Some((name, rest.rsplit_once(':')?)));
        let (name, (password, authority)) =
            fields.ok_or_else(|| wrong("write it as name:password:RW"))?;
        if name.is_empty() || password.is_empty() {
            return Err(wrong("neither name nor password may be empty"));
        }
        users.push(LoginUser {
            name: user_name(name).map_err(|advice| wrong(&advice))?,
            password: password.to_owned(),
            authority: Authority::parse(authority.trim()).map_err(|advice| wrong(&advice))?,
        });
    }
    match users.is_empty() {
        true => Err("there is no user; write name:password:RW".to_owned()),
        false => Ok(users),
    }
}

const COS_ACCOUNT: &str = "COS_ACCOUNT";
const FTP_ACCOUNT: &str = "FTP_ACCOUNT";
