//! What a checked configuration holds: the types, with their units and ranges.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use secrecy::SecretString;

use super::{Ascii, Events, Times};
use crate::charset::Charset;
use crate::password::PasswordHash;

/// The whole configuration, checked.
#[derive(Debug, Clone)]
pub struct Config {
    /// Addresses of the FTP control port; at least one, no two alike (port 0 excepted).
    pub listen: Vec<SocketAddr>,
    /// Text of the 220 greeting; one line of at most 200 bytes.
    pub greeting: String,
    /// What PASV replies tell the client to connect to.
    pub masquerade: Masquerade,
    /// Passive data connections.
    pub passive: Passive,
    /// Active data connections.
    pub active: Active,
    /// FTPS; none: connections are in clear.
    pub tls: Option<Tls>,
    /// Limits on control connections.
    pub sessions: Sessions,
    /// The object store.
    pub storage: Storage,
    /// What `TYPE A` does to files.
    pub ascii: Ascii,
    /// What a client's names are in that are not UTF-8.
    pub charset: Charset,
    /// Which times listings give.
    pub listing_times: Times,
    /// Client to store.
    pub upload: Upload,
    /// Store to client.
    pub download: Download,
    /// The end of the process.
    pub drain: Drain,
    /// Who may log in. No name occurs twice, here and in [`Config::users_file`] together.
    pub users: Vec<User>,
    /// More users, in a file of their own.
    pub users_file: Option<UsersFile>,
    /// How logins are checked besides.
    pub auth: Auth,
    /// How often files are looked at that may change at run time; 1 ms to 7 days.
    pub reload_interval: Duration,
    /// The cluster around this process, if any.
    pub kubernetes: Kubernetes,
    /// Who is told of committed objects.
    pub events: Events,
    /// The HTTP probes.
    pub admin: Admin,
    /// Log output.
    pub log: Log,
}

/// Where the public address comes from.
#[derive(Debug, Clone)]
pub struct Masquerade {
    /// The address, when it is set by hand (`masquerade_address`).
    pub address: Option<MasqueradeAddress>,
    /// A file that says which public port leads to which passive port.
    pub mapping_file: Option<PathBuf>,
    /// What is told when a name has several IPv4 addresses.
    pub multiple: Multiple,
    /// Clients from here are told the control connection's own address.
    pub internal_cidrs: Vec<IpNet>,
    /// How long an address that is not known yet is nothing unusual; 1 ms to 7 days.
    pub grace: Duration,
    /// What a gateway is then that has never known one.
    pub after_grace: AfterGrace,
}

/// What a gateway is that has never known its address when `masquerade.grace` has passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AfterGrace {
    /// Not ready, until it knows one.
    Unready,
    /// Ready, with EPSV alone.
    Serve,
}

/// What is told when a name has several IPv4 addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Multiple {
    /// One of them, the same as long as it is among them.
    First,
    /// 0.0.0.0: many clients take it as "where the control connection goes".
    Zero,
}

/// The cluster around this process.
#[derive(Debug, Clone)]
pub struct Kubernetes {
    /// Whether this process runs in a pod, the address of which is of no use to clients outside.
    pub in_cluster: bool,
    /// The Service of type LoadBalancer whose address is told; a name of RFC 1123.
    pub service: Option<String>,
    /// Its namespace; none: the pod's own, or the kubeconfig's.
    pub namespace: Option<String>,
    /// This pod's name.
    pub pod_name: Option<String>,
    /// This pod's UID, so that its Events are shown with it.
    pub pod_uid: Option<String>,
    /// How to reach an API server from outside of a pod.
    pub kubeconfig: Option<PathBuf>,
}

/// The public address that is told to clients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MasqueradeAddress {
    /// A fixed address; never 0.0.0.0, broadcast or multicast.
    Ipv4(Ipv4Addr),
    /// A name to resolve, again and again, to an IPv4 address.
    Dns(String),
}

/// Passive data connections.
#[derive(Debug, Clone)]
pub struct Passive {
    /// Ports to listen on: all of `passive.ports`, or this replica's slice; never a port of [`Config::listen`] or
    /// [`Admin::listen`].
    pub ports: RangeInclusive<u16>,
    /// How long a client may take to connect to its passive port; 1 ms to 7 days.
    pub accept_timeout: Duration,
}

/// Active data connections.
#[derive(Debug, Clone)]
pub struct Active {
    /// Whether PORT and EPRT are taken.
    pub enabled: bool,
    /// How long the client may take to accept; 1 ms to 7 days.
    pub connect_timeout: Duration,
}

/// FTPS (RFC 4217).
#[derive(Debug, Clone)]
pub struct Tls {
    /// Where the certificate comes from.
    pub source: CertificateSource,
    /// What must be protected.
    pub required: TlsRequired,
    /// Addresses on which TLS begins with the first byte; may be empty.
    pub implicit_listen: Vec<SocketAddr>,
    /// The oldest version that is spoken.
    pub min_version: TlsVersion,
    /// Whose client certificates are asked for; none: clients show none.
    pub clients: Option<ClientCertificates>,
    /// Whether data connections must resume the TLS session of their control connection.
    pub session_reuse: SessionReuse,
    /// Time for one handshake; 1 ms to 7 days.
    pub handshake_timeout: Duration,
    /// An upload whose data end without close_notify is interrupted (RFC 8446, section 6.1).
    pub require_close_notify: bool,
}

/// Where the server's certificate comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CertificateSource {
    /// PEM files.
    Files {
        /// The chain, the server's own certificate first.
        cert: PathBuf,
        /// The key of that certificate.
        key: PathBuf,
    },
    /// Made at start, for trials.
    SelfSigned,
}

/// Client certificates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientCertificates {
    /// PEM file with the authorities that sign them.
    pub authorities: PathBuf,
    /// Whether a client without one is refused.
    pub required: bool,
}

/// What clients must protect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TlsRequired {
    /// Nothing: FTPS is offered.
    None,
    /// The control connection, and with it the password.
    Control,
    /// Data connections, too.
    All,
}

/// Versions of TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TlsVersion {
    /// TLS 1.2 and later.
    Tls12,
    /// TLS 1.3 only.
    Tls13,
}

/// What is asked of data connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionReuse {
    /// A new session will do.
    Off,
    /// They must resume the session of their control connection.
    Required,
}

/// Limits on control connections.
#[derive(Debug, Clone)]
pub struct Sessions {
    /// Sessions in all; at least 1.
    pub max: usize,
    /// Sessions from one client network (IPv4 address or IPv6 /64); at least 1.
    pub max_per_ip: usize,
    /// Sessions from one network that have not logged in; at least 1.
    pub max_unauthenticated_per_ip: usize,
    /// A session without command or transfer ends after this; 1 ms to 7 days.
    pub idle_timeout: Duration,
    /// A client has to be logged in after this; 1 ms to 7 days.
    pub login_timeout: Duration,
}

impl Sessions {
    /// The share of `max` sessions that one network may hold without a login, at least 1: a fifth, so that four addresses
    /// that never log in leave a place for somebody else.
    pub fn unauthenticated_share(max: usize) -> usize {
        (max / 5).max(1)
    }
}

/// Which kind of store holds the objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Provider {
    /// The built-in store, for trials and tests.
    Embedded,
    /// Amazon S3, or a store that speaks its protocol.
    S3,
    /// Tencent Cloud Object Storage.
    Cos,
}

/// How a request names the bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Addressing {
    /// `https://bucket.host/key`
    Virtual,
    /// `https://host/bucket/key`
    Path,
    /// `https://host/key`: the host is the bucket's own domain.
    Custom,
}

/// Which of the two S3 operations lists keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListVersion {
    /// ListObjects, with a marker.
    V1,
    /// ListObjectsV2, with a continuation token.
    V2,
}

/// The object store.
#[derive(Debug, Clone)]
pub struct Storage {
    /// Which kind of store.
    pub provider: Provider,
    /// The bucket's name; for [`Provider::Cos`] `name-APPID`.
    pub bucket: String,
    /// Put before every key: empty, or ends with `/`; no leading `/`, no `..`.
    pub prefix: String,
    /// Region to sign requests for.
    pub region: String,
    /// URL of the store, without bucket and without trailing `/`; none: the SDK's own choice,
    /// or for the built-in store a free loopback port.
    pub endpoint: Option<String>,
    /// How a request names the bucket.
    pub addressing: Addressing,
    /// How listings are asked for.
    pub list_version: ListVersion,
    /// Send and expect the SDK's checksums only where an operation demands them; stores other
    /// than Amazon's often refuse more.
    pub checksums_when_required: bool,
    /// Fixed credentials; none: [`Storage::credential_source`] has them.
    pub credentials: Option<StaticCredentials>,
    /// Where credentials come from that are not set here.
    pub credential_source: CredentialSource,
    /// Where the built-in store keeps its objects.
    pub data_dir: PathBuf,
    /// Time to connect to the store; 1 ms to 7 days.
    pub connect_timeout: Duration,
    /// Time without progress after which an attempt of a request is given up; 1 ms to 7 days.
    pub request_timeout: Duration,
    /// What happens when a request fails.
    pub retry: Retry,
    /// Whether requests carry a `traceparent`.
    pub send_trace_context: bool,
    /// Whether uploads are compared with what the store has.
    pub integrity: Integrity,
    /// Whether bodies are hashed for the signature.
    pub sign_payload: SignPayload,
    /// Longest key the store takes, in bytes of UTF-8, [`Storage::prefix`] included.
    pub max_key_bytes: usize,
    /// Sizes that the store takes for a part (the last of an upload may be smaller).
    pub part_bytes: RangeInclusive<u64>,
}

/// What happens when a request fails in a way that may pass.
#[derive(Debug, Clone)]
pub struct Retry {
    /// Attempts per request, the first included; 1 to 100.
    pub max_attempts: u32,
    /// Longest pause between two attempts; 1 ms to 7 days.
    pub max_backoff: Duration,
    /// Time for all attempts, without the time in which bodies move; 1 ms to 7 days.
    pub time_limit: Duration,
}

/// Whether uploads are compared with what the store has before 226.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Integrity {
    /// By the best that the store offers.
    Auto,
    /// Not at all.
    Off,
}

/// Whether request bodies are hashed for the signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignPayload {
    /// Only where nothing else protects and proves them.
    Auto,
    /// All.
    Always,
    /// None.
    Never,
}

/// Which stale multipart uploads are aborted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sweep {
    /// Those that this program began.
    Own,
    /// All below the prefix.
    All,
    /// None.
    Off,
}

/// Who hands out credentials for the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CredentialSource {
    /// Nobody: they are set, or the built-in store makes its own.
    Static,
    /// AWS's chain: environment, profile, web identity, container, instance role.
    Aws,
    /// Tencent's security token service, for the identity of this pod.
    Tke(TkeIdentity),
    /// The metadata service of this CVM, for the role that is bound to it.
    Cvm(CvmRole),
}

/// What TKE put into this pod's environment, and where it is exchanged for credentials.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TkeIdentity {
    /// Region that the token service is asked for.
    pub region: String,
    /// The cluster's OIDC provider in CAM.
    pub provider_id: String,
    /// The role to assume.
    pub role_arn: String,
    /// File with the pod's token; replaced by the kubelet before the token expires.
    pub token_file: PathBuf,
    /// How the session is named in CAM's audit log; 2 to 128 bytes of `[A-Za-z0-9_=,.@-]`.
    pub session_name: String,
    /// URL of the token service, without a slash at the end; https, or loopback.
    pub sts_endpoint: String,
}

/// The role of this CVM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CvmRole {
    /// The role's name; none: the metadata service knows it.
    pub name: Option<String>,
    /// URL of the metadata service, without a slash at the end.
    pub metadata_endpoint: String,
}

/// A fixed key pair.
#[derive(Clone)]
pub struct StaticCredentials {
    /// Tencent calls it SecretId.
    pub access_key_id: String,
    /// Tencent calls it SecretKey.
    pub secret_access_key: SecretString,
    /// Comes with temporary credentials only.
    pub session_token: Option<SecretString>,
}

/// Client to store.
#[derive(Debug, Clone)]
pub struct Upload {
    /// Largest file that a client may store, in bytes; at least 1, at most what the store takes.
    pub max_file_size: u64,
    /// Size of the first parts, in bytes, within [`Storage::part_bytes`].
    pub min_part_size: u64,
    /// Parts under way at a time, per upload; 1 to 64.
    pub concurrency: usize,
    /// Memory for the parts of all uploads, in bytes; at least two parts.
    pub memory_budget: u64,
    /// Nobody set that: it follows the container's memory limit.
    pub follows_memory_limit: bool,
    /// A client that sends nothing for this long has stalled; 1 ms to 7 days.
    pub stall_timeout: Duration,
    /// What becomes of an upload that breaks off after its first byte.
    pub on_interrupt: OnInterrupt,
    /// Whether a file may replace an older one.
    pub overwrite: bool,
    /// Storage class of new objects, if it isn't the bucket's own.
    pub storage_class: Option<String>,
    /// Server-side encryption of new objects, if it isn't the bucket's own.
    pub server_side_encryption: Option<String>,
    /// Key for server-side encryption.
    pub kms_key_id: Option<String>,
    /// Whether new objects name the trace of their upload in their metadata.
    pub trace_metadata: bool,
    /// Whether new objects name their user and client in their metadata.
    pub provenance: bool,
    /// When an unfinished multipart upload is given up for dead; 1 ms to 7 days.
    pub stale_after: Duration,
    /// Which of those are aborted.
    pub sweep: Sweep,
}

/// What becomes of an upload that breaks off after its first byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnInterrupt {
    /// What arrived becomes one whole object.
    Keep,
    /// Nothing is stored, and an older object stays.
    Discard,
}

/// The end of the process.
#[derive(Debug, Clone)]
pub struct Drain {
    /// How long transfers may go on after SIGTERM; 1 ms to 7 days.
    pub deadline: Duration,
    /// A session that has rested for so long ends then; 1 ms to 7 days.
    pub idle: Duration,
}

/// Store to client.
#[derive(Debug, Clone)]
pub struct Download {
    /// Requests under way at a time, per download; 1 to 64.
    pub concurrency: usize,
    /// Bytes per request; 64 KiB to 1 GiB.
    pub chunk_size: u64,
    /// The most that one download holds of chunks whose turn has not come, in bytes.
    pub read_ahead: u64,
    /// The same for all downloads together, in bytes.
    pub memory_budget: u64,
    /// Nobody set that: it follows the container's memory limit.
    pub follows_memory_limit: bool,
    /// A client that takes nothing for this long has stalled; 1 ms to 7 days.
    pub stall_timeout: Duration,
}

/// Somebody who may log in.
#[derive(Debug, Clone)]
pub struct User {
    /// Login name, 1 to 128 bytes without control characters.
    pub name: String,
    /// What the password is checked against; none: somebody else has checked it ([`HttpAuth`]).
    pub password_hash: Option<PasswordHash>,
    /// What the user sees as `/`: absolute, no `.`, `..`, `//` or trailing `/` (but `/` itself).
    pub home: String,
    /// What the user may do.
    pub permissions: Permissions,
    /// Bucket of the user's own; none: [`Storage::bucket`].
    pub bucket: Option<String>,
    /// Where that bucket is; none: where [`Storage`] says.
    pub site: Option<Site>,
    /// Credentials of the user's own; none: the gateway's.
    pub credentials: Option<StaticCredentials>,
    /// Networks that the user may come from; empty: any.
    pub allow_from: Vec<IpNet>,
    /// Sessions at a time; at least 1. None: no limit but [`Sessions`].
    pub max_sessions: Option<usize>,
    /// Largest file in bytes; [`Upload::max_file_size`] holds besides.
    pub max_file_size: Option<u64>,
    /// What `TYPE A` does to the user's files; none: as [`Config::ascii`] says.
    pub ascii: Option<Ascii>,
    /// What the names of the user's clients are in that are not UTF-8; none: as [`Config::charset`] says.
    pub charset: Option<Charset>,
    /// Logins on a connection without TLS are refused.
    pub require_tls: bool,
    /// Whether the user's uploads must end with close_notify; none: as [`Tls::require_close_notify`] says.
    pub require_close_notify: Option<bool>,
    /// Common name that the client's certificate must have.
    pub client_cert_cn: Option<String>,
}

impl User {
    /// Somebody with all rights and no conditions or places of the own.
    pub fn unconditional(name: &str, home: &str, password_hash: Option<PasswordHash>) -> Self {
        User {
            name: name.to_owned(),
            password_hash,
            home: home.to_owned(),
            permissions: Permissions::ALL,
            bucket: None,
            site: None,
            credentials: None,
            allow_from: Vec::new(),
            max_sessions: None,
            max_file_size: None,
            ascii: None,
            charset: None,
            require_tls: false,
            require_close_notify: None,
            client_cert_cn: None,
        }
    }
}

/// A place of the same kind as [`Storage`], in another region or at another endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Site {
    /// Region to sign requests for.
    pub region: String,
    /// URL without bucket and without trailing `/`; none: the SDK's own choice.
    pub endpoint: Option<String>,
    /// How a request names the bucket.
    pub addressing: Addressing,
    /// As [`Storage::checksums_when_required`].
    pub checksums_when_required: bool,
}

/// What a user may do; never nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Permissions {
    /// Download.
    pub read: bool,
    /// Store new files, make directories, set times.
    pub write: bool,
    /// Delete files and directories.
    pub delete: bool,
    /// List directories.
    pub list: bool,
    /// Rename files and directories.
    pub rename: bool,
    /// Replace or continue a file that is there.
    pub overwrite: bool,
}

impl Permissions {
    /// Everything: `RW`.
    pub const ALL: Self = Self {
        read: true,
        write: true,
        delete: true,
        list: true,
        rename: true,
        overwrite: true,
    };
}

/// Users in a file that is read again when it changes.
#[derive(Debug, Clone)]
pub struct UsersFile {
    /// Where it lies.
    pub path: PathBuf,
    /// What it held; at least one.
    pub users: Vec<User>,
    /// Of its content when it was read.
    pub digest: crate::reload::Digest,
}

/// How logins are checked, besides the users' own password hashes.
#[derive(Debug, Clone)]
pub struct Auth {
    /// The endpoint that is asked for users that are not configured.
    pub http: Option<HttpAuth>,
    /// The guard against guessing.
    pub lockout: Lockout,
}

/// An HTTP endpoint that checks passwords and tells what a user may do.
#[derive(Debug, Clone)]
pub struct HttpAuth {
    /// `https://...`, or `http://` to a loopback address or where that was allowed explicitly.
    pub url: String,
    /// Goes into the Authorization header as a bearer token.
    pub token: Option<SecretString>,
    /// PEM file with the only certificate authorities to trust; none: the system's.
    pub ca_file: Option<PathBuf>,
    /// Time for a whole request; 1 ms to 7 days.
    pub timeout: Duration,
    /// How long a success holds; none: each login asks.
    pub cache: Option<Duration>,
}

/// The guard against guessing.
#[derive(Debug, Clone)]
pub struct Lockout {
    /// Failed logins after which an address is locked out; 0: never.
    pub per_address: u32,
    /// Failed logins for one user after which an address is locked out for that user; 0: never.
    pub per_user: u32,
    /// Failures are forgotten when none has come for this time; 1 ms to 7 days.
    pub window: Duration,
    /// How long a lockout holds; 1 ms to 7 days.
    pub duration: Duration,
    /// Pause before the first failure is answered; doubles with each further one. 1 ms to 7 days.
    pub delay: Duration,
    /// Longest pause; at least [`Lockout::delay`].
    pub max_delay: Duration,
}

/// The HTTP probes, metrics and the status page.
#[derive(Debug, Clone)]
pub struct Admin {
    /// Address of the HTTP server; none: it is off.
    pub listen: Option<SocketAddr>,
    /// Whether there is a status page.
    pub status: bool,
    /// What it asks for; at least 16 letters.
    pub token: Option<SecretString>,
    /// What an outage of the store means to `/readyz`.
    pub store_outage: StoreOutage,
}

/// What an outage of a store that has answered before means to `/readyz`. One that has never answered is always a reason not
/// to be ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreOutage {
    /// A note: the outage is everybody's, and clients are better answered than refused.
    Note,
    /// After a minute the gateway is not ready.
    NotReady,
}

/// Log output.
#[derive(Debug, Clone)]
pub struct Log {
    /// Form of a line.
    pub format: LogFormat,
    /// A filter that `tracing_subscriber::EnvFilter` takes, such as `info` or `cosgate=debug`.
    pub level: String,
}

/// Form of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object per line.
    Json,
    /// For people.
    Text,
}

impl fmt::Debug for StaticCredentials {
    // The key id authenticates nobody by itself, but it names an account: it stays out of logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StaticCredentials").finish_non_exhaustive()
    }
}

impl fmt::Display for CredentialSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Static => "static",
            Self::Aws => "aws",
            Self::Tke(_) => "tke",
            Self::Cvm(_) => "cvm",
        })
    }
}

impl fmt::Display for MasqueradeAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ipv4(address) => address.fmt(f),
            Self::Dns(name) => f.write_str(name),
        }
    }
}

impl fmt::Display for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Embedded => "embedded",
            Self::S3 => "s3",
            Self::Cos => "cos",
        })
    }
}

impl fmt::Display for Addressing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Virtual => "virtual",
            Self::Path => "path",
            Self::Custom => "custom",
        })
    }
}

impl fmt::Display for ListVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V1 => "v1",
            Self::V2 => "v2",
        })
    }
}

impl fmt::Display for LogFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Json => "json",
            Self::Text => "text",
        })
    }
}
