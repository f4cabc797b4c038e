//! Logins that an LDAP directory decides, Active Directory among them.
//!
//! ```text
//! auth.ldap.bind:        bind as the user ─> search for the user's entry, if a filter is set ─> groups
//! auth.ldap.service_dn:  bind as the service account ─> search for the user's entry ─> groups ─> bind as the entry
//! ```
//!
//! Each login has a connection of its own, so that nobody's rights are left on it for the next one. A password is wrong if the
//! directory refuses the user's bind with a code that says so; all other codes and faults are no answer. With a service account a
//! password is tried only for an entry that may log in here: directories lock accounts after wrong ones.

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
        let group = match &self.settings.lookup {
            LdapLookup::Bind { template, search } => {
                let bind_name = template::bind_name(template, name);
                check_password(connection, &bind_name, password, Asker::User).await?;
                let dn = match search {
                    None => Some(bind_name),
                    Some(search) => find(connection, search, name, Asker::User).await?,
                };
                let dn = dn.ok_or_else(|| wrong(NO_ENTRY))?;
                self.group(connection, name, &dn, Asker::User).await?
            }
            LdapLookup::Search { service, search } => {
                log_in(connection, service).await?;
                let found = find(connection, search, name, Asker::Service).await?;
                let entry = match &found {
                    None => Err(NO_ENTRY),
                    Some(dn) if is_account(service, dn, name) => Err(OWN_ACCOUNT),
                    Some(dn) => Ok(dn.as_str()),
                };
                // as many questions and binds for everybody
                let asked = entry.unwrap_or(&search.base);
                let group = self.group(connection, name, asked, Asker::Service).await?;
                match entry {
                    Ok(dn) if group.is_some() => {
                        check_password(connection, dn, password, Asker::Service).await?;
                    }
                    _ => log_in(connection, service).await?,
                }
                entry.map_err(wrong)?;
                group
            }
        };
        group.ok_or_else(|| wrong("the user is in none of auth.ldap.groups"))
    }

    /// What the first of the groups grants that the user is in, if there is one; without groups what everybody has. All are asked about,
    /// so that the time says nothing about the user.
    async fn group(
        &self,
        connection: &mut Connection,
        name: &str,
        dn: &str,
        asker: Asker,
    ) -> Result<Option<(&str, Permissions)>, Denied> {
        let LdapAuth {
            groups,
            group_filter,
            ..
        } = &self.settings;
        if groups.is_empty() {
            return Ok(Some((&self.settings.home, self.settings.permissions)));
        }
        let mut first = None;
        for group in groups {
            let values = [(USER, name), (DN, dn), (GROUP, group.dn.as_str())];
            let filter = template::filter(group_filter, &values);
            let asked = match self.settings.asks_user_entry() {
                true => dn,
                false => &group.dn,
            };
            let found = connection.examine(asked, &filter).await;
            if let Found::One(_) = found.map_err(|fault| asker.denied(fault))? {
                first = first.or(Some((group.home.as_str(), group.permissions)));
            }
        }
        Ok(first)
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

/// Binds as the user, after requests of `asker`.
async fn check_password(
    connection: &mut Connection,
    bind_name: &str,
    password: &SecretString,
    asker: Asker,
) -> Result<(), Denied> {
    let outcome = connection.bind(bind_name, password).await?;
    match outcome.code {
        0 => Ok(()),
        _ if asker.is_about_the_user(&outcome) => {
            Err(Denied::Wrong(format!("the directory refuses: {outcome}")))
        }
        // the service account's requests have just succeeded: this is about the user, too
        _ => Err(Asker::User.denied(Fault::Refused("the user's bind", outcome))),
    }
}

/// The name of the user's entry, if there is one.
async fn find(
    connection: &mut Connection,
    search: &LdapSearch,
    name: &str,
    asker: Asker,
) -> Result<Option<String>, Denied> {
    const NO_BASE: &str = "auth.ldap.base is not there, or may not be seen";
    let filter = template::filter(&search.filter, &[(USER, name)]);
    let found = connection.find(&search.base, &filter).await;
    match found.map_err(|fault| asker.denied(fault))? {
        Found::One(dn) => Ok(Some(dn)),
        Found::None => Ok(None),
        Found::Several => Err(Denied::Unusable(
            "auth.ldap.filter fits more than one entry".to_owned(),
        )),
        Found::NoBase => Err(match asker {
            Asker::Service => Denied::Failing(NO_BASE.to_owned()),
            Asker::User => Denied::Unusable(NO_BASE.to_owned()),
        }),
    }
}

/// The account whose rights requests have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asker {
    Service,
    User,
}

impl Asker {
    /// The meaning of a request that has no good answer. What the directory refuses to one user it may grant to others, unless the code
    /// says how the directory itself is.
    fn denied(self, fault: Fault) -> Denied {
        match &fault {
            Fault::Refused(_, outcome) if self == Asker::User && !is_unwell(outcome) => {
                Denied::Unusable(Chain(&fault).to_string())
            }
            _ => fault.into(),
        }
    }

    /// True if a bind was refused for who the user is or what the password is, and not for the directory's own state: 49, and for locked
    /// accounts and such without a password also constraintViolation, noSuchObject and inappropriateAuthentication.
    /// unwillingToPerform is one of them only if the directory has just served the service account: in maintenance everybody gets it.
    fn is_about_the_user(self, outcome: &Outcome) -> bool {
        match outcome.code {
            19 | 32 | 48 | 49 => true,
            53 => self == Asker::Service,
            _ => false,
        }
    }
}

/// True if a refusal is about the directory itself and not about one user: operationsError, protocolError, timeLimitExceeded,
/// authMethodNotSupported, strongerAuthRequired, adminLimitExceeded, confidentialityRequired, busy, unavailable and other.
fn is_unwell(outcome: &Outcome) -> bool {
    matches!(outcome.code, 1 | 2 | 3 | 7 | 8 | 11 | 13 | 51 | 52 | 80)
}

/// True if the entry `dn`, found for `name`, is that of the service account, as far as names show it. Guessers must not have the
/// directory lock this account: nobody could log in any more.
fn is_account(service: &LdapService, dn: &str, name: &str) -> bool {
    if template::is_distinguished(&service.dn) {
        let parts = |dn: &str| -> Vec<String> {
            let parts = dn.split([',', '=']);
            parts.map(|part| part.trim().to_ascii_lowercase()).collect()
        };
        return parts(&service.dn) == parts(dn);
    }
    // user@domain, or DOMAIN\user
    let user = service.dn.split('@').next().unwrap_or_default();
    let user = user.rsplit('\\').next().unwrap_or_default();
    [user, &service.dn]
        .iter()
        .any(|own| own.eq_ignore_ascii_case(name))
}

const NO_ENTRY: &str = "the directory has no entry of this user";

const OWN_ACCOUNT: &str = "the entry is that of auth.ldap.service_dn, which is no user";

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

    fn outcome(code: u32) -> Outcome {
        Outcome {
            code,
            text: String::new(),
        }
    }

    #[test]
    fn only_a_refusal_of_the_user_is_a_guess() {
        for code in 1..=100 {
            let expected = [19, 32, 48, 49].contains(&code);
            let is_guess = |asker: Asker| asker.is_about_the_user(&outcome(code));
            assert_eq!(is_guess(Asker::User), expected, "{code}");
            // in maintenance the service account would have got it, too
            assert_eq!(is_guess(Asker::Service), expected || code == 53, "{code}");
        }
    }

    #[test]
    fn what_is_refused_to_one_user_says_nothing_about_others() {
        for code in 1..=100 {
            let denied = |asker: Asker| asker.denied(Fault::Refused("the search", outcome(code)));
            let of_all = [1, 2, 3, 7, 8, 11, 13, 51, 52, 80].contains(&code);
            let is_failing = |denied| matches!(denied, Denied::Failing(_));
            assert_eq!(is_failing(denied(Asker::User)), of_all, "{code}");
            assert!(is_failing(denied(Asker::Service)), "{code}");
        }
        for fault in [Fault::Closed, Fault::Malformed] {
            assert!(matches!(Asker::User.denied(fault), Denied::Failing(_)));
        }
    }

    #[test]
    fn the_service_account_is_known_however_its_name_is_written() {
        let is_own = |service: &str, dn, name| {
            let service = LdapService {
                dn: service.to_owned(),
                password: "x".into(),
            };
            is_account(&service, dn, name)
        };
        let dn = "CN=FTP Service,OU=Services,DC=x";
        for service in [
            dn,
            "cn=ftp service, ou = services, dc=x",
            "svc-ftp@x.example.com",
            "X\\SVC-FTP",
            "svc-ftp",
        ] {
            assert!(is_own(service, dn, "svc-ftp"), "{service}");
        }
        assert!(is_own("svc@x.example.com", dn, "svc@x.example.com"));
        for service in [
            "cn=ftpservice,ou=services,dc=x",
            "cn=ftp service,dc=x",
            "svc@x.example.com",
        ] {
            assert!(!is_own(service, dn, "svc-ftp"), "{service}");
        }
    }
}
