//! One user, ready for use: where the files lie, what is allowed, under which conditions.

use std::net::IpAddr;

use crate::auth::mount::Mount;
use crate::charset::Charset;
use crate::config::{self, Ascii, Limits, NamePatterns};
use crate::networks::Networks;
use crate::password::PasswordHash;
use crate::store::client::Tenant;
use crate::store::key::Reserved;
use crate::store::{FileRules, Home, VirtualPath};

/// One FTP user.
#[derive(Debug)]
pub struct User {
    /// As typed after `USER`.
    pub name: String,
    /// Where the user's files lie. The last one, the home, contains all paths.
    pub(super) mounts: Vec<Mount>,
    /// The effect of `TYPE A`.
    pub ascii: Ascii,
    /// The charset of a client's names that are not UTF-8.
    pub charset: Charset,
    pub(super) password_hash: Option<PasswordHash>,
    /// Limits of bandwidth.
    pub limits: Limits,
    pub(super) max_sessions: Option<usize>,
    pub(super) max_sessions_per_ip: Option<usize>,
    pub(super) is_anonymous: bool,
    allow_from: Networks,
    /// Both connections must be protected.
    pub require_tls: bool,
    /// Uploads over TLS must end with close_notify.
    pub require_close_notify: bool,
    client_cert_cn: Option<String>,
}

/// Known facts about a client besides name and password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Where the client comes from.
    pub address: IpAddr,
    /// The control connection is encrypted.
    pub tls: bool,
    /// Common name of the client's certificate, if it has one that was verified.
    pub client_cert_cn: Option<String>,
}

/// The defaults of all homes.
#[derive(Debug, Clone)]
pub struct HomeDefaults {
    /// `storage.prefix`
    pub prefix: String,
    /// The store's limit for a key.
    pub max_key_bytes: usize,
    /// True if a key may begin with a backslash.
    pub takes_backslash: bool,
    /// The name that no key of a client has.
    pub reserved: Reserved,
    /// `upload.max_file_size`
    pub max_file_size: u64,
    /// `upload.allow_names` and `upload.deny_names`
    pub names: NamePatterns,
    /// `ascii`
    pub ascii: Ascii,
    /// `charset`
    pub charset: Charset,
    /// `tls.require_close_notify`
    pub require_close_notify: bool,
}

/// Why somebody whose password is right may not come in. For the log only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LoginRestriction {
    /// `allow_from`
    #[error("the address is not in allow_from")]
    Address,
    /// `require_tls`
    #[error("TLS is required")]
    Plain,
    /// `client_cert_cn`
    #[error("the client certificate is missing or has another common name")]
    Certificate,
}

impl HomeDefaults {
    fn mount(&self, mount: config::Mount) -> Mount {
        let mut home = Home::new(&self.prefix, &parsed(&mount.home), self.max_key_bytes)
            .reserving(self.reserved.clone())
            .with_rules(FileRules::new(
                mount.upload.names(&self.names),
                mount
                    .max_file_size
                    .map_or(self.max_file_size, |own| own.min(self.max_file_size)),
            ));
        if !self.takes_backslash {
            home = home.without_backslash();
        }
        // credentials of one's own often reach no further
        if mount.credentials.is_some() {
            home = home.with_outbox_inside();
        }
        Mount {
            path: parsed(&mount.path),
            home,
            permissions: mount.permissions,
            tenant: Tenant::of(mount),
        }
    }
}

#[cfg(test)]
impl HomeDefaults {
    /// Homes below `ftp/`.
    pub(super) fn for_tests() -> Self {
        HomeDefaults {
            prefix: "ftp/".to_owned(),
            max_key_bytes: 1024,
            takes_backslash: true,
            reserved: Reserved::default(),
            max_file_size: 1000,
            names: NamePatterns::default(),
            ascii: Ascii::Convert,
            charset: Charset::UTF_8,
            require_close_notify: true,
        }
    }
}

/// A path of the configuration.
fn parsed(path: &str) -> VirtualPath {
    VirtualPath::resolve(&VirtualPath::root(), path)
        // nobody gets more than that by a fault of ours
        .unwrap_or_else(|_| unreachable!("the configuration checks paths"))
}

impl User {
    /// The user of a configuration.
    pub fn new(user: &config::User, defaults: &HomeDefaults) -> Self {
        User {
            mounts: user.places().map(|place| defaults.mount(place)).collect(),
            ascii: user.ascii.unwrap_or(defaults.ascii),
            charset: user.charset.unwrap_or(defaults.charset),
            name: user.name.clone(),
            password_hash: user.password_hash.clone(),
            limits: user.limits,
            max_sessions: user.max_sessions,
            max_sessions_per_ip: user.max_sessions_per_ip,
            is_anonymous: user.is_anonymous,
            allow_from: user.allow_from.iter().copied().collect(),
            require_tls: user.require_tls,
            require_close_notify: user
                .require_close_notify
                .unwrap_or(defaults.require_close_notify),
            client_cert_cn: user.client_cert_cn.clone(),
        }
    }

    /// Checks network, TLS and certificate restrictions.
    pub(super) fn check_restrictions(&self, peer: &Peer) -> Result<(), LoginRestriction> {
        if !self.allow_from.is_empty() && !self.allow_from.contains(peer.address) {
            Err(LoginRestriction::Address)
        } else if self.require_tls && !peer.tls {
            Err(LoginRestriction::Plain)
        } else if self.client_cert_cn.is_some() && self.client_cert_cn != peer.client_cert_cn {
            Err(LoginRestriction::Certificate)
        } else {
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(change: impl FnOnce(&mut config::User)) -> User {
        let mut user = config::User::unconditional("alice", "/alice", None);
        change(&mut user);
        User::new(&user, &HomeDefaults::for_tests())
    }

    fn peer(address: &str) -> Peer {
        Peer {
            address: address.parse().expect("an address"),
            tls: false,
            client_cert_cn: None,
        }
    }

    #[test]
    fn a_user_comes_from_the_allowed_networks_only() {
        let nets = ["10.0.0.0/8", "192.0.2.7/32", "2001:db8::/32"];
        let user =
            user(|user| user.allow_from = nets.map(|net| net.parse().expect("a net")).to_vec());
        for inside in ["10.1.2.3", "192.0.2.7", "2001:db8::1", "::ffff:10.0.0.1"] {
            assert_eq!(user.check_restrictions(&peer(inside)), Ok(()), "{inside}");
        }
        for outside in [
            "11.0.0.1",
            "192.0.2.8",
            "2001:db9::1",
            "::ffff:11.0.0.1",
            "::1",
        ] {
            assert_eq!(
                user.check_restrictions(&peer(outside)),
                Err(LoginRestriction::Address),
                "{outside}"
            );
        }
    }

    #[test]
    fn tls_and_the_certificate_are_demanded_each_for_itself() {
        let encrypted = |cn: Option<&str>| Peer {
            tls: true,
            client_cert_cn: cn.map(str::to_owned),
            ..peer("::1")
        };
        let careful = user(|user| user.require_tls = true);
        assert_eq!(
            careful.check_restrictions(&peer("::1")),
            Err(LoginRestriction::Plain)
        );
        assert_eq!(careful.check_restrictions(&encrypted(None)), Ok(()));
        let certified = user(|user| user.client_cert_cn = Some("camera-7".to_owned()));
        for wrong in [peer("::1"), encrypted(None), encrypted(Some("camera-70"))] {
            assert_eq!(
                certified.check_restrictions(&wrong),
                Err(LoginRestriction::Certificate),
                "{wrong:?}"
            );
        }
        assert_eq!(
            certified.check_restrictions(&encrypted(Some("camera-7"))),
            Ok(())
        );
    }

    #[test]
    fn the_smaller_limit_of_a_files_size_holds() {
        for (own, limit) in [(None, 1000), (Some(10), 10), (Some(5000), 1000)] {
            let user = user(|user| user.max_file_size = own);
            let home = &user.mount(&VirtualPath::root()).home;
            assert_eq!(home.file_rules().max_bytes(), limit, "{own:?}");
        }
    }
}
