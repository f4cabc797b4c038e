//! The sections of the configuration: one file each, with the section's type, its rows of the table and its parsing. What
//! must hold between sections stands here.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::sync::LazyLock;
use std::time::Duration;

use super::error::ConfigError;
use super::keys::Key;
use super::reader::{Reader, Setting};
use super::sources::Sources;
use super::table::{Rows, Table};
use crate::charset::Charset;

mod access;
mod active;
mod admin;
mod auth;
mod download;
mod drain;
mod events;
mod files;
mod handover;
mod kubernetes;
mod limits;
mod listen;
mod log;
mod masquerade;
mod objects;
mod overrides;
mod passive;
mod proxy_protocol;
mod reload;
mod sessions;
mod storage;
mod tls;
mod upload;
mod users;

pub use access::{Access, AccessFile, AccessLists, access_lists_of_file};
pub use active::Active;
pub use admin::{Admin, StoreOutage};
pub(super) use auth::ldap::group_lines;
pub use auth::ldap::{LdapAuth, LdapGroup, LdapLookup, LdapSearch, LdapService};
pub use auth::{Auth, HttpAuth, Lockout};
pub use download::Download;
pub use drain::Drain;
pub(super) use events::sink_lines;
pub use events::{Delivery, EventSink, EventType, Events};
pub use files::{Ascii, Times};
pub use handover::{Handover, Peers};
pub use kubernetes::Kubernetes;
pub use limits::{Limits, Rates};
pub(crate) use listen::greeting;
pub use log::{Log, LogFormat};
pub(crate) use masquerade::masquerade_address;
pub use masquerade::{AfterGrace, Masquerade, MasqueradeAddress, Multiple};
pub use objects::{NamePatterns, NewObjects, Pairs};
pub use overrides::{ObjectOverrides, UploadOverrides};
pub use passive::Passive;
pub use proxy_protocol::ProxyProtocol;
pub use sessions::Sessions;
pub(crate) use storage::bucket_name;
pub(crate) use storage::credentials::is_role_name;
pub use storage::credentials::{CredentialSource, CvmRole, StaticCredentials, TkeIdentity};
pub use storage::location::{Addressing, ListVersion};
pub(crate) use storage::location::{cos_endpoint_of, is_reached_in_private, region_name};
pub use storage::provider::Provider;
pub use storage::{Integrity, Retry, SignPayload, Storage};
pub use tls::{CertificateSource, ClientCertificates, SessionReuse, Tls, TlsRequired, TlsVersion};
pub use upload::{OnInterrupt, Sweep, Upload};
pub use users::documents::{UsersFile, answered_user, users_of_file};
pub(super) use users::entry::user_lines;
pub use users::entry::{ANONYMOUS, User};
pub use users::mounts::Mount;
pub use users::rights::Permissions;
pub(crate) use users::site::may_share_credentials;
pub use users::site::{StorageDefaults, StoreLocation};

/// The rows of all sections, in the order in which they are documented and printed.
const KEYS: &[&[Key]] = &[
    listen::KEYS,
    masquerade::KEYS,
    passive::KEYS,
    proxy_protocol::KEYS,
    access::KEYS,
    active::KEYS,
    tls::KEYS,
    handover::KEYS,
    kubernetes::KEYS,
    sessions::KEYS,
    limits::KEYS,
    storage::KEYS,
    storage::location::KEYS,
    storage::credentials::KEYS,
    storage::REQUESTS,
    files::KEYS,
    upload::KEYS,
    objects::KEYS,
    download::KEYS,
    drain::KEYS,
    users::list::KEYS,
    users::entry::KEYS,
    users::rights::KEYS,
    users::site::KEYS,
    users::entry::LIMITS,
    limits::USER_KEYS,
    overrides::USER_KEYS,
    users::mounts::KEYS,
    overrides::MOUNT_KEYS,
    users::documents::KEYS,
    auth::KEYS,
    auth::ldap::keys::KEYS,
    auth::LOCKOUT,
    reload::KEYS,
    events::KEYS,
    admin::KEYS,
    log::KEYS,
];

/// The table of all keys.
pub(super) fn table() -> Table {
    static ROWS: LazyLock<Rows> = LazyLock::new(|| Rows::new(KEYS));
    Table::new(&ROWS)
}

/// The whole configuration, checked.
#[derive(Debug, Clone)]
pub struct Config {
    /// Addresses of the FTP control port; at least one, no two alike (port 0 excepted).
    pub listen: Vec<SocketAddr>,
    /// Text of the 220 greeting; one line of at most 200 bytes.
    pub greeting: String,
    /// The address in PASV replies.
    pub masquerade: Masquerade,
    /// Passive data connections.
    pub passive: Passive,
    /// Data connections that reach another replica than theirs; none: there is one replica, or each gets its own.
    pub handover: Option<Handover>,
    /// Proxies before the gateway.
    pub proxy_protocol: ProxyProtocol,
    /// The addresses that may connect.
    pub access: Access,
    /// Active data connections.
    pub active: Active,
    /// FTPS; none: connections are in clear.
    pub tls: Option<Tls>,
    /// Limits on control connections.
    pub sessions: Sessions,
    /// Limits of bandwidth.
    pub limits: Limits,
    /// The object store.
    pub storage: Storage,
    /// The effect of `TYPE A` to files.
    pub ascii: Ascii,
    /// The charset of a client's names that are not UTF-8.
    pub charset: Charset,
    /// Which times listings give.
    pub listing_times: Times,
    /// Client to store.
    pub upload: Upload,
    /// Store to client.
    pub download: Download,
    /// The end of the process.
    pub drain: Drain,
    /// The users who may log in. No name occurs twice, here and in [`Config::users_file`] together.
    pub users: Vec<User>,
    /// More users, in a file of their own.
    pub users_file: Option<UsersFile>,
    /// The checks of logins besides.
    pub auth: Auth,
    /// The interval at which files are looked at that may change at run time; 1 ms to 7 days.
    pub reload_interval: Duration,
    /// The cluster around this process, if any.
    pub kubernetes: Kubernetes,
    /// The consumers of events about committed objects.
    pub events: Events,
    /// The HTTP probes.
    pub admin: Admin,
    /// Log output.
    pub log: Log,
}

impl Config {
    /// The handover by which failed logins reach the other replicas, if they do.
    pub fn shared_lockouts(&self) -> Option<&Handover> {
        let handover = self.handover.as_ref();
        handover.filter(|_| self.auth.lockout.shared)
    }

    /// The passive ports that this process binds on each address: with handover those of the other replicas, too.
    pub fn bound_ports(&self) -> RangeInclusive<u16> {
        let handover = self.handover.as_ref();
        handover.map_or_else(
            || self.passive.ports.clone(),
            |handover| handover.ports.clone(),
        )
    }
}

/// The configuration, the warnings about it, and each key as it was set.
pub(super) type Resolved = (Config, Vec<String>, HashMap<&'static str, Setting>);

/// Turns what the sources say into a configuration, or reports all that is wrong.
pub(super) fn resolve(sources: Sources) -> Result<Resolved, ConfigError> {
    let in_pod = sources.in_pod;
    let mut read = Reader::new(sources);
    let config = config(&mut read, in_pod);
    let (warnings, settings) = read.finish()?;
    Ok((config, warnings, settings))
}

/// Of use only if the reader has found no problem: then no default stands for a refused value.
fn config(read: &mut Reader, in_pod: bool) -> Config {
    let listen = listen::listen(read);
    let admin = admin::resolve(read);
    let kubernetes = kubernetes::resolve(read, in_pod);
    let (passive, range, slice) = passive::resolve(read, &listen, kubernetes.pod_name.as_deref());
    listen::admin_conflicts(read, &admin, &listen, &range);
    let tls = tls::resolve(read);
    if let Some(tls) = &tls {
        listen::implicit_conflicts(read, &tls.implicit_listen, &listen, &range, &admin);
    }
    let implicit = tls.iter().flat_map(|tls| &tls.implicit_listen);
    let public: Vec<SocketAddr> = listen.iter().chain(implicit).copied().collect();
    let handover = handover::resolve(read, &public, admin.listen, &range, slice);
    let outbox = events::resolve_outbox(read);
    let storage = storage::resolve(read, events::reserved_name(&outbox));
    let auth = auth::resolve(read);
    let (users, users_file) = users::resolve(read, &storage, auth.has_authenticator());
    tls::check_users(read, tls.as_ref(), &users);
    Config {
        greeting: read.value("greeting", listen::greeting),
        masquerade: masquerade::resolve(read),
        proxy_protocol: proxy_protocol::resolve(read),
        access: access::resolve(read),
        sessions: sessions::resolve(read),
        limits: limits::resolve(read),
        ascii: read.choice("ascii"),
        charset: read.value("charset", files::charset),
        listing_times: read.choice("listing.times"),
        upload: upload::resolve(read, &storage::Limits::of(storage.provider)),
        download: download::resolve(read),
        drain: drain::resolve(read),
        users,
        users_file,
        auth,
        reload_interval: read.duration("reload.interval"),
        log: log::resolve(read),
        events: events::resolve(read, outbox),
        active: active::resolve(read),
        listen,
        passive,
        handover,
        tls,
        kubernetes,
        storage,
        admin,
    }
}
