//! Logins that an LDAP directory decides, Active Directory among them.
//!
//! ```text
//! auth.ldap.bind:        bind as the user ─> search for the user's entry, if a filter is set ─> groups
//! auth.ldap.service_dn:  bind as the service account ─> search ─> bind as the entry ─> bind as the service account ─> groups
//! ```
//!
//! Each login has a connection of its own, so that nobody's rights are left on it for the next one. A password is wrong if the
//! directory refuses the user's bind with a code that says so; all other codes and faults are no answer.

use secrecy::{ExposeSecret, SecretString};

use crate::auth::denied::Denied;
use crate::chain::Chain;
use crate::config::{self, LdapAuth, LdapLookup, LdapSearch, LdapService, Permissions};
use crate::http_client::TlsSetupError;
use crate::ldap::template::{self, DN, GROUP, USER};
use crate::ldap::{Connection, Directory, Fault, Found, Outcome};

/// Asks the directory.
pub(super) struct Ldap {
    directory: Directory,
    settings: LdapAuth,
}

impl Ldap {
    /// Prepares the client; nothing is sent.
    pub(super) fn new(settings: &LdapAuth) -> Result<Self, TlsSetupError> {
        let ca_file = settings.ca_file.as_deref();
        Ok(Ldap {
            directory: Directory::new(settings.place.clone(), ca_file)?,
            settings: settings.clone(),
        })
    }

    /// The user, if the directory says yes. For a login without a [`refusal`] only.
    pub(super) async fn ask(
        &self,
        name: &str,
        password: &SecretString,
    ) -> Result<config::User, Denied> {
        let mut connection = self.directory.connect(self.settings.timeout).await?;
        let granted = self.granted(&mut connection, name, password).await;
        connection.close().await;
        let (home, permissions) = granted?;
        let home = home.replace(USER, name);
        Ok(config::User {
            permissions,
            ..config::User::unconditional(name, &home, None)
        })
    }

    /// The template of the user's home, and the user's permissions.
    async fn granted(
        &self,
        connection: &mut Connection,
        name: &str,
        password: &SecretString,
    ) -> Result<(&str, Permissions), Denied> {
        let dn = match &self.settings.lookup {
            LdapLookup::Bind { template, search } => {
                let bind_name = template::bind_name(template, name);
                check_password(connection, &bind_name, password).await?;
                match search {
                    None => bind_name,
                    Some(search) => find(connection, search, name).await?,
                }
            }
            LdapLookup::Search { service, search } => {
                log_in(connection, service).await?;
                let dn = match find(connection, search, name).await {
                    Err(Denied::Wrong(reason)) => {
                        // as much work as for a user who is there
                        log_in(connection, service).await?;
                        return Err(Denied::Wrong(reason));
                    }
                    found => found?,
                };
                check_password(connection, &dn, password).await?;
                if !self.settings.groups.is_empty() {
                    log_in(connection, service).await?;
                }
                dn
            }
        };
        self.group(connection, name, &dn).await
    }

    /// What the first of the groups grants that the user is in; without groups what everybody has.
    async fn group(
        &self,
        connection: &mut Connection,
        name: &str,
        dn: &str,
    ) -> Result<(&str, Permissions), Denied> {
        let LdapAuth {
            groups,
            group_filter,
            ..
        } = &self.settings;
        if groups.is_empty() {
            return Ok((&self.settings.home, self.settings.permissions));
        }
        for group in groups {
            let values = [(USER, name), (DN, dn), (GROUP, group.dn.as_str())];
            let filter = template::filter(group_filter, &values);
            let asked = match self.settings.asks_user_entry() {
                true => dn,
                false => &group.dn,
            };
            if let Found::One(_) = connection.examine(asked, &filter).await? {
                return Ok((&group.home, group.permissions));
            }
        }
        Err(wrong("the user is in none of auth.ldap.groups"))
    }
}

/// The reason why the directory is not even asked.
pub(super) fn refusal(name: &str, password: &SecretString) -> Option<&'static str> {
    let password = password.expose_secret();
    if !is_ordinary(name) {
        Some("the name is none that the directory is asked about")
    } else if password.is_empty() || password.contains('\0') {
        // to the directory an empty one is no password at all, and a success (RFC 4513, section 5.1.2), and one with a zero byte is
        // empty to those that read C strings
        Some("the password is empty")
    } else {
        None
    }
}

/// Binds as the service account.
async fn log_in(connection: &mut Connection, service: &LdapService) -> Result<(), Denied> {
    let outcome = connection.bind(&service.dn, &service.password).await?;
    match outcome.code {
        0 => Ok(()),
        _ => Err(Fault::Refused("the bind of auth.ldap.service_dn", outcome).into()),
    }
}

/// Binds as the user.
async fn check_password(
    connection: &mut Connection,
    bind_name: &str,
    password: &SecretString,
) -> Result<(), Denied> {
    let outcome = connection.bind(bind_name, password).await?;
    match outcome.code {
        0 => Ok(()),
        _ if is_about_the_user(&outcome) => {
            Err(Denied::Wrong(format!("the directory refuses: {outcome}")))
        }
        _ => Err(Fault::Refused("the user's bind", outcome).into()),
    }
}

/// The name of the user's entry.
async fn find(
    connection: &mut Connection,
    search: &LdapSearch,
    name: &str,
) -> Result<String, Denied> {
    let filter = template::filter(&search.filter, &[(USER, name)]);
    match connection.find(&search.base, &filter).await? {
        Found::One(dn) => Ok(dn),
        Found::None => Err(wrong("the directory has no entry of this user")),
        Found::Several => Err(Denied::Unusable(
            "auth.ldap.filter fits more than one entry".to_owned(),
        )),
        Found::NoBase => Err(Denied::Failing(
            "auth.ldap.base is not there, or may not be seen".to_owned(),
        )),
    }
}

/// True if a bind was refused for who the user is or what the password is, and not for the directory's own state: 49, and for locked
/// accounts and such without a password also constraintViolation, noSuchObject, inappropriateAuthentication and unwillingToPerform.
fn is_about_the_user(outcome: &Outcome) -> bool {
    matches!(outcome.code, 19 | 32 | 48 | 49 | 53)
}

/// True if `name` can be only one way of writing one user's name, but for the case. Directories ignore a space at either end and a
/// second one in between, and more about letters beyond ASCII (RFC 4518): two names of one user would have two homes, and twice as many
/// guesses. A slash, or dots alone, would lead to another home.
fn is_ordinary(name: &str) -> bool {
    let is_letter = |byte: u8| byte == b' ' || byte.is_ascii_graphic() && byte != b'/';
    (1..=MAX_NAME_BYTES).contains(&name.len())
        && name.bytes().all(is_letter)
        && !name.starts_with(' ')
        && !name.ends_with(' ')
        && !name.contains("  ")
        && !matches!(name, "." | "..")
}

/// As of `users[].name`.
const MAX_NAME_BYTES: usize = 128;

impl From<Fault> for Denied {
    fn from(fault: Fault) -> Self {
        Denied::Failing(Chain(&fault).to_string())
    }
}

fn wrong(reason: &str) -> Denied {
    Denied::Wrong(reason.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_has_one_name() {
        for name in ["alice", "a.b-c@example.com", "Alice Smith", "a*)(\\,=+#"] {
            assert!(is_ordinary(name), "{name}");
        }
        for name in [
            "",
            " alice",
            "alice ",
            "alice  smith",
            "alice\u{ad}",
            "ålice",
            "a/b",
            ".",
            "..",
            "a\tb",
            &"x".repeat(129),
        ] {
            assert!(!is_ordinary(name), "{name:?}");
        }
    }

    #[test]
    fn only_a_refusal_of_the_user_is_a_guess() {
        for code in 1..=100 {
            let outcome = Outcome {
                code,
                text: String::new(),
            };
            let expected = [19, 32, 48, 49, 53].contains(&code);
            assert_eq!(is_about_the_user(&outcome), expected, "{code}");
        }
    }
}
