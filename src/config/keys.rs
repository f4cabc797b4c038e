//! The table of keys: the one place that says which keys exist, what each means and what holds
//! when it is not set. Everything else about names is derived from it.

use std::fmt::Write as _;

/// One key of the configuration.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    /// Path in YAML; `users[].name` is a key of each entry of `users`.
    pub path: &'static str,
    /// What its text is made of.
    pub kind: Kind,
    /// What holds when the key is not set.
    pub default: Fallback,
    /// One sentence: meaning, unit, range.
    pub doc: &'static str,
}

/// What the text of a key is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Text with rules of its own.
    Text,
    /// Text that is never shown and may come from a file of its own.
    Secret,
    /// Texts; one text with commas in between, or a YAML list.
    List,
    /// A YAML list of sections, the keys of which are in the table with `[]`.
    Sections,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// A number of bytes with a unit, such as `8MiB`; never 0.
    Size,
    /// A time with its unit, such as `30s`; never 0.
    Duration,
    /// A whole number, from the first to the second.
    Count(u64, u64),
}

/// What holds when a key is not set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fallback {
    /// This text, as if somebody had written it.
    Text(&'static str),
    /// Worked out at start; the words say how.
    Derived(&'static str),
    /// Nothing.
    Unset,
}

impl Key {
    /// Whether the value must never be shown.
    pub fn is_secret(&self) -> bool {
        self.kind == Kind::Secret
    }

    /// The environment variable of this key; none for the keys of list entries.
    pub fn variable(&self) -> Option<String> {
        (!self.path.contains("[]")).then(|| variable(self.path))
    }

    /// The variable that names a file with the value; secrets have one.
    pub fn file_variable(&self) -> Option<String> {
        self.variable()
            .filter(|_| self.is_secret())
            .map(|name| name + FILE_SUFFIX)
    }

    /// The default as text, where it is one.
    pub fn default_text(&self) -> Option<&'static str> {
        match self.default {
            Fallback::Text(text) => Some(text),
            Fallback::Derived(_) | Fallback::Unset => None,
        }
    }
}

/// All keys, in the order in which they are documented and printed.
pub fn table() -> &'static [Key] {
    TABLE
}

/// The rows of the guide's table: key, environment variable, default, meaning.
pub fn markdown_rows() -> String {
    let mut rows = String::new();
    for key in TABLE {
        let variable = match (key.variable(), key.file_variable()) {
            (Some(name), Some(file)) => format!("`{name}`, `{file}`"),
            (Some(name), None) => format!("`{name}`"),
            (None, _) => String::new(),
        };
        let default = match key.default {
            Fallback::Text(text) => format!("`{text}`"),
            Fallback::Derived(words) => words.to_string(),
            Fallback::Unset => String::new(),
        };
        let allowed = match key.kind {
            Kind::Choice(words) => format!(" One of `{}`.", words.join("`, `")),
            Kind::Count(min, max) => format!(" {min} to {max}."),
            _ => String::new(),
        };
        // Writing to a String cannot fail.
        let _ = writeln!(
            rows,
            "| `{}` | {variable} | {default} | {}{allowed} |",
            key.path, key.doc
        );
    }
    rows
}

/// What stands at a path of the configuration.
pub(super) enum Place {
    Key(&'static Key),
    Section,
    Unknown,
}

/// What stands at `path`, which may carry indices: `users[3].name`.
pub(super) fn place(path: &str) -> Place {
    let path = without_indices(path);
    if let Some(key) = find(&path) {
        return Place::Key(key);
    }
    let is_section = path.is_empty() || {
        let inside = format!("{path}.");
        TABLE.iter().any(|key| key.path.starts_with(&inside))
    };
    if is_section {
        Place::Section
    } else {
        Place::Unknown
    }
}

/// The row of `path`, without indices.
pub(super) fn find(path: &str) -> Option<&'static Key> {
    TABLE.iter().find(|key| key.path == path)
}

/// The row of `path`, which may carry indices.
pub(super) fn find_indexed(path: &str) -> Option<&'static Key> {
    find(&without_indices(path))
}

/// `COSGATE_UPLOAD__MIN_PART_SIZE` for `upload.min_part_size`.
pub(crate) fn variable(path: &str) -> String {
    PREFIX.to_string() + &path.replace('.', "__").to_uppercase()
}

/// The key that was probably meant by the unknown YAML path `path`.
pub(super) fn similar_path(path: &str) -> Option<String> {
    let path = without_indices(path);
    let last = path.rsplit('.').next().unwrap_or(&path);
    // A key at the wrong level is the commonest slip; no count of edits finds it.
    let mut elsewhere = TABLE
        .iter()
        .map(|key| key.path)
        .filter(|known| *known == last || known.ends_with(&format!(".{last}")))
        .filter(|known| !known.contains("[]"));
    if let (Some(only), None) = (elsewhere.next(), elsewhere.next()) {
        return Some(only.to_string());
    }
    let sections = TABLE
        .iter()
        .filter_map(|key| Some(key.path.split_once('.')?.0));
    closest(
        &path,
        TABLE
            .iter()
            .map(|key| key.path)
            .chain(sections)
            .map(str::to_string),
    )
}

/// The variable that was probably meant by the unknown variable `name`.
pub(super) fn similar_variable(name: &str) -> Option<String> {
    let own = TABLE.iter().filter_map(Key::variable);
    let files = TABLE.iter().filter_map(Key::file_variable);
    // Without the section's name, no count of edits finds it.
    let last = name.strip_prefix(PREFIX).unwrap_or(name).to_lowercase();
    if let Some(path) = similar_path(&last).filter(|path| path.ends_with(&format!(".{last}"))) {
        return Some(variable(&path));
    }
    let special = std::iter::once(CONFIG_VARIABLE.to_string());
    closest(name, own.chain(files).chain(special))
}

/// The candidate with the fewest edits from `name`, if it is close enough to be meant.
fn closest(name: &str, candidates: impl Iterator<Item = String>) -> Option<String> {
    // Far longer than any key, and the count of edits takes time by the square.
    if name.len() > 100 {
        return None;
    }
    let folded = name.to_lowercase();
    let own = folded.strip_prefix("cosgate_").unwrap_or(&folded);
    // One slip in four letters still reads as the word that was meant.
    let bound = (own.chars().count() / 4).clamp(1, 4);
    candidates
        .map(|known| (strsim::osa_distance(&folded, &known.to_lowercase()), known))
        .filter(|(edits, _)| *edits <= bound)
        .min()
        .map(|(_, known)| known)
}

/// `users[].name` for `users[3].name`.
fn without_indices(path: &str) -> String {
    let mut plain = String::with_capacity(path.len());
    let mut inside = false;
    for c in path.chars() {
        inside = inside && c != ']';
        if !inside {
            plain.push(c);
        }
        inside = inside || c == '[';
    }
    plain
}

/// What the names of all variables begin with.
pub(super) const PREFIX: &str = "COSGATE_";
/// Names the YAML file; a variable, but no key.
pub(super) const CONFIG_VARIABLE: &str = "COSGATE_CONFIG";
/// Makes the variable of a secret the name of a file.
pub(super) const FILE_SUFFIX: &str = "_FILE";

const fn key(path: &'static str, kind: Kind, default: Fallback, doc: &'static str) -> Key {
    Key {
        path,
        kind,
        default,
        doc,
    }
}

use Fallback::{Derived, Text as Is, Unset};
use Kind::{Choice, Count, Duration, List, Secret, Sections, Size, Text};

#[rustfmt::skip]
const TABLE: &[Key] = &[
    key("listen", List, Is("0.0.0.0:2121"),
        "Addresses and ports of the FTP control port; several with commas or as a list, IPv6 as `[::]:2121` (in YAML in quotes)."),
    key("greeting", Text, Is("cosgate ready"),
        "Text of the 220 greeting, one line of at most 200 bytes."),
    key("masquerade_address", Text, Unset,
        "IPv4 address or DNS name that clients are told to connect to for data (PASV); set it behind NAT or a load balancer."),
    key("masquerade.mapping_file", Text, Unset,
        "File that says which public port leads to which passive port (and optionally the public address), such as a pod annotation mounted by the downward API; read again when it changes."),
    key("masquerade.multiple", Choice(&["first", "zero"]), Is("first"),
        "What is told when a name has several IPv4 addresses: `first` keeps to one of them, `zero` tells 0.0.0.0, which many clients take as the control connection's address."),
    key("masquerade.internal_cidrs", List, Unset,
        "Networks of clients inside, such as `10.0.0.0/8`: they are told the address that their control connection reached (in a cluster the pod's), and the bound ports."),
    key("masquerade.grace", Duration, Is("60s"),
        "How long an address that is not known yet is nothing unusual, since balancers take time; then the log warns, and `masquerade.after_grace` decides."),
    key("masquerade.after_grace", Choice(&["unready", "serve"]), Is("unready"),
        "What a gateway is then that has never known its address: `unready` still, or ready to `serve` by EPSV alone."),
    key("passive.ports", Text, Is("30000-30015"),
        "Ports for passive data connections, one port or a range `FROM-TO`, 1 to 65535; every one must be reachable for clients."),
    key("passive.accept_timeout", Duration, Is("10s"),
        "How long a client may take to connect to its passive port; then the transfer is answered with 425."),
    key("active.enabled", Choice(&["true", "false"]), Is("false"),
        "Whether clients may ask for active mode (PORT, EPRT), as old devices do; connections go to the client's own address only, to ports from 1024 on."),
    key("active.connect_timeout", Duration, Is("10s"),
        "How long a client may take to accept an active data connection; then the transfer is answered with 425."),
    key("tls.cert", Text, Unset,
        "PEM file with the certificate chain, the server's own first; with `tls.key` it turns FTPS on. Read again when it changes."),
    key("tls.key", Text, Unset,
        "PEM file with the private key of the first certificate in `tls.cert`."),
    key("tls.self_signed", Choice(&["true", "false"]), Is("false"),
        "FTPS with a certificate that is made at each start, for trials: clients can't verify it."),
    key("tls.required", Choice(&["none", "control", "all"]), Is("none"),
        "What clients must protect: nothing, the control connection (before USER), or data connections, too."),
    key("tls.implicit_listen", List, Unset,
        "Addresses and ports on which TLS begins with the first byte (implicit FTPS, usually port 990)."),
    key("tls.min_version", Choice(&["1.2", "1.3"]), Is("1.2"),
        "The oldest version of TLS that is spoken."),
    key("tls.client_ca", Text, Unset,
        "PEM file with the authorities of client certificates; clients are then asked for one."),
    key("tls.client_auth", Choice(&["required", "optional"]), Is("required"),
        "With `tls.client_ca`: whether a client without a certificate is refused."),
    key("tls.session_reuse", Choice(&["off", "required"]), Is("off"),
        "`required` takes a data connection only if it resumes the TLS session of its control connection, which proves that it is the same client's."),
    key("tls.handshake_timeout", Duration, Is("10s"),
        "Time for one TLS handshake."),
    key("tls.require_close_notify", Choice(&["true", "false"]), Is("true"),
        "Whether an upload over TLS must end with close_notify. `false` is for clients that never send it: then a file that was cut on its way, also by an attacker, is stored as if it were whole, with 226."),
    key("passive.slice_size", Count(1, 65_535), Unset,
        "Ports per replica, when several replicas share `passive.ports` behind one address: replica n binds only the n-th slice, counted from 0."),
    key("passive.ordinal", Count(0, 65_534), Derived("from the end of `kubernetes.pod_name`, `cosgate-2`"),
        "The replica's number; with the downward API from the label `apps.kubernetes.io/pod-index`."),
    key("kubernetes.service", Text, Unset,
        "Service of type LoadBalancer whose address clients are told; it is watched, so changes reach open sessions."),
    key("kubernetes.namespace", Text, Derived("the pod's own, or the kubeconfig's"),
        "Namespace of that Service."),
    key("kubernetes.pod_name", Text, Unset,
        "This pod's name, from the downward API (`metadata.name`); with a watched Service, Events say why it is not ready."),
    key("kubernetes.pod_uid", Text, Unset,
        "This pod's UID, from the downward API (`metadata.uid`), so that `kubectl describe pod` shows those Events."),
    key("kubernetes.in_cluster", Choice(&["auto", "true", "false"]), Is("auto"),
        "Whether this is a pod, whose own address must not be told to clients; `auto`: yes if KUBERNETES_SERVICE_HOST is set."),
    key("kubernetes.kubeconfig", Text, Unset,
        "Path of a kubeconfig, to watch the Service from outside of the cluster; not needed in a pod."),
    key("sessions.max", Count(1, 1_000_000), Is("1000"),
        "Control connections in all; one more is answered with 421. Fewer where the limit of file descriptors is too low for so many."),
    key("sessions.max_per_ip", Count(1, 1_000_000), Is("250"),
        "Control connections from one client address (IPv6: from one /64 network)."),
    key("sessions.max_unauthenticated_per_ip", Count(1, 1_000_000), Derived("a fifth of `sessions.max`, at most 100"),
        "Those of them that have not logged in yet; one more is answered with 421."),
    key("sessions.idle_timeout", Duration, Is("10m"),
        "A session without a command or a transfer is closed after this time."),
    key("sessions.login_timeout", Duration, Is("60s"),
        "A client that has not logged in is disconnected after this time."),
    key("storage.provider", Choice(&["embedded", "s3", "cos"]), Is("embedded"),
        "The kind of store: built in (for trials), Amazon S3 and compatible stores, Tencent COS."),
    key("storage.bucket", Text, Derived("embedded: `cosgate`; else required"),
        "The bucket; for `cos` in the form `name-APPID`, such as `files-1250000000`."),
    key("storage.prefix", Text, Unset,
        "Path inside the bucket under which everything is kept, such as `ftp/`."),
    key("storage.region", Text, Derived("`us-east-1`; cos: required unless the endpoint tells it"),
        "The bucket's region, such as `ap-guangzhou`."),
    key("storage.endpoint", Text, Derived("cos: `https://cos.<region>.myqcloud.com`; s3: Amazon's; embedded: a free loopback port"),
        "URL of the store without the bucket; with `embedded` a loopback URL such as `http://127.0.0.1:9000`, so that other S3 tools can look in."),
    key("storage.addressing", Choice(&["auto", "virtual", "path", "custom"]), Is("auto"),
        "How requests name the bucket: in the host name, in the path, or not at all where `storage.endpoint` is the bucket's own domain (`custom`); `auto` knows COS and Amazon (virtual) and takes path for other endpoints."),
    key("storage.list_version", Choice(&["v1", "v2"]), Derived("`v2`; cos: `v1`"),
        "The S3 operation that lists keys: ListObjects (`v1`, the one that Tencent documents) or ListObjectsV2."),
    key("storage.credentials", Choice(&["auto", "static", "aws", "tke", "cvm"]), Is("auto"),
        "Where the keys come from: set below (`static`), AWS's chain of environment, profile, web identity, container and instance role (`aws`), Tencent's pod identity (`tke`) or instance role (`cvm`); `auto` takes keys that are set, else with `cos` a pod identity or `storage.cvm_role`, with `s3` AWS's chain."),
    key("storage.access_key_id", Secret, Unset,
        "Access key (Tencent: SecretId)."),
    key("storage.secret_access_key", Secret, Unset,
        "Secret key (Tencent: SecretKey); goes with `storage.access_key_id`."),
    key("storage.session_token", Secret, Unset,
        "Session token of temporary credentials, which are not renewed."),
    key("storage.cvm_role", Text, Derived("asked of the metadata service"),
        "The CAM role that is bound to this CVM (`cvm`)."),
    key("storage.sts_endpoint", Text, Derived("`https://sts.tencentcloudapi.com`"),
        "URL of Tencent's security token service (`tke`), for private clouds; plain http on loopback only."),
    key("storage.metadata_endpoint", Text, Derived("`http://metadata.tencentyun.com`"),
        "URL of the CVM's metadata service (`cvm`)."),
    key("storage.data_dir", Text, Is("./cosgate-data"),
        "Directory in which the built-in store keeps its objects (`embedded` only)."),
    key("storage.connect_timeout", Duration, Is("5s"),
        "Time to connect to the store."),
    key("storage.request_timeout", Duration, Is("30s"),
        "Time in which no byte moves after which one attempt of a request to the store is given up."),
    key("storage.retry.max_attempts", Count(1, 100), Is("4"),
        "Attempts per request to the store, the first included."),
    key("storage.retry.max_backoff", Duration, Is("5s"),
        "Longest pause between two attempts; pauses are random and double from 200 ms on."),
    key("storage.retry.time_limit", Duration, Is("2m"),
        "Time for all attempts of a request. Time in which a body moves doesn't count; copies within the store get a second per MiB on top."),
    key("storage.send_trace_context", Choice(&["true", "false"]), Is("false"),
        "Whether requests to the store carry the W3C `traceparent` of their span."),
    key("storage.integrity", Choice(&["auto", "off"]), Is("auto"),
        "Compare length and checksum with the store's before 226; `auto` takes the best that the store offers."),
    key("storage.sign_payload", Choice(&["auto", "always", "never"]), Is("auto"),
        "Hash bodies for the request signature; `auto` leaves it out with `s3` over HTTPS or to the loopback, and with `embedded`, where a checksum proves the body."),
    key("ascii", Choice(&["convert", "as_is"]), Is("convert"),
        "What `TYPE A` does: `convert` line ends (CR LF on the wire, LF in the store), or leave files `as_is`. Without a TYPE files are never changed."),
    key("charset", Text, Is("utf-8"),
        "What names, user names and passwords are in that are not UTF-8, and what clients get that don't say `OPTS UTF8 ON`, such as `gbk`; keys in the store are UTF-8."),
    key("listing.times", Choice(&["store", "metadata"]), Is("store"),
        "Which times MLSD and LIST give: the store's own, or those that clients set with `MFMT`, which `FEAT` then announces, at the price of a HEAD for each file of a directory that has changed. `rclone sync` that keeps times needs `metadata`."),
    key("upload.max_file_size", Size, Is("200GiB"),
        "Largest file a client may store; up to 5 TiB with `s3` and `embedded`, 48.82 TiB with `cos`."),
    key("upload.min_part_size", Size, Is("8MiB"),
        "Size of the first parts of an upload; 5 MiB to 5 GiB, with `cos` from 1 MiB."),
    key("upload.concurrency", Count(1, 64), Is("4"),
        "Parts sent at a time, per upload."),
    key("upload.memory_budget", Size, Derived("a quarter of the container's memory limit, also as that changes, at least 64 MiB; 256 MiB without a limit"),
        "Memory for the parts of all uploads together; at least two parts."),
    key("upload.stall_timeout", Duration, Is("2m"),
        "An upload whose client sends nothing for this time is given up."),
    key("upload.on_interrupt", Choice(&["keep", "discard"]), Is("keep"),
        "What becomes of an upload that breaks off after its first byte: `keep` stores what arrived as one object, `discard` drops it."),
    key("upload.overwrite", Choice(&["true", "false"]), Is("true"),
        "Whether a file may replace an older one of the same name; otherwise 550."),
    key("upload.storage_class", Text, Unset,
        "Storage class of new objects, such as `STANDARD_IA`; the bucket's own if not set."),
    key("upload.server_side_encryption", Choice(&["AES256", "aws:kms", "cos/kms"]), Unset,
        "Server-side encryption of new objects; the bucket's own if not set."),
    key("upload.kms_key_id", Text, Unset,
        "Key for server-side encryption with a key management service."),
    key("upload.trace_metadata", Choice(&["true", "false"]), Is("false"),
        "Whether a new object's metadata `trace-id` names the trace of its upload."),
    key("upload.provenance", Choice(&["true", "false"]), Is("false"),
        "Whether a new object's metadata `cosgate-user` and `cosgate-client` name who stored it."),
    key("upload.stale_after", Duration, Is("24h"),
        "A multipart upload that a dead gateway left behind is aborted when nothing has arrived for this time."),
    key("upload.sweep", Choice(&["own", "all", "off"]), Is("own"),
        "Which stale multipart uploads below `storage.prefix` are aborted: cosgate's own, all, or none."),
    key("download.concurrency", Count(1, 64), Is("4"),
        "Requests to the store at a time, per download."),
    key("download.chunk_size", Size, Is("8MiB"),
        "Bytes per request of a download, 64 KiB to 1 GiB; a file up to this size is one request."),
    key("download.read_ahead", Size, Is("32MiB"),
        "The most that one download reads ahead of its client; less than one chunk switches reading ahead off."),
    key("download.memory_budget", Size, Derived("as `upload.memory_budget`, which comes on top"),
        "Memory for what all downloads together hold and read ahead; a download that gets none still runs, one small range after another."),
    key("download.stall_timeout", Duration, Is("2m"),
        "A download whose client takes nothing for this time is given up."),
    key("drain.deadline", Duration, Is("10m"),
        "How long sessions and their transfers may go on after SIGTERM; then `upload.on_interrupt` decides."),
    key("drain.idle", Duration, Is("5s"),
        "A session that has rested for this time ends after SIGTERM; one that stores file after file goes on until `drain.deadline`."),
    key("users", Sections, Derived("none; embedded: a demo user is made at start"),
        "Who may log in; in the environment as JSON or YAML list."),
    key("users[].name", Text, Unset,
        "Login name, 1 to 128 bytes; required."),
    key("users[].password_hash", Secret, Unset,
        "The password's hash: argon2id as `cosgate hash-password` prints it, bcrypt (`$2b$`) or SHA-512 crypt (`$6$`); required."),
    key("users[].home", Text, Is("/"),
        "Path below `storage.prefix` that the user sees as `/`."),
    key("users[].permissions", List, Is("RW"),
        "`R`, `W`, `RW`, or any of `read`, `write`, `delete`, `list`, `rename`, `overwrite`, with commas or as a list."),
    key("users[].delete", Choice(&["true", "false"]), Is("true"),
        "`false` takes deleting, renaming and overwriting away, whatever `permissions` says."),
    key("users[].bucket", Text, Unset,
        "Bucket of the user's own; `storage.bucket` if not set."),
    key("users[].region", Text, Derived("as the endpoint tells; else `storage.region`"),
        "Region of the user's bucket; with `cos` it implies the endpoint."),
    key("users[].endpoint", Text, Derived("`storage.endpoint`; cos: as `users[].region` tells"),
        "URL of the user's store, of the same kind as `storage`; another one than `storage.endpoint` takes the user's own keys, except in another region of COS or Amazon over https."),
    key("users[].access_key_id", Secret, Unset,
        "Access key of the user's own; the gateway's credentials if not set."),
    key("users[].secret_access_key", Secret, Unset,
        "Secret key; goes with `users[].access_key_id`."),
    key("users[].session_token", Secret, Unset,
        "Session token of the user's temporary credentials."),
    key("users[].allow_from", List, Unset,
        "Networks and addresses that the user may log in from, such as `10.0.0.0/8`; any if not set."),
    key("users[].max_sessions", Count(1, 1_000_000), Unset,
        "Sessions of the user at a time; one more login is answered with 421."),
    key("users[].max_file_size", Size, Unset,
        "Largest file the user may store; `upload.max_file_size` holds besides."),
    key("users[].ascii", Choice(&["convert", "as_is"]), Derived("`ascii`"),
        "What `TYPE A` does to the user's files."),
    key("users[].charset", Text, Derived("`charset`"),
        "The same for the user's clients, from the login on."),
    key("users[].require_tls", Choice(&["true", "false"]), Is("false"),
        "Whether the user is refused on a connection without TLS."),
    key("users[].require_close_notify", Choice(&["true", "false"]), Derived("`tls.require_close_notify`"),
        "Whether the user's uploads over TLS must end with close_notify, with the same risk if not."),
    key("users[].client_cert_cn", Text, Unset,
        "Common name that the client's certificate must have, 1 to 64 characters."),
    key("users_file", Text, Unset,
        "YAML or JSON file with more users, a list or `users:` with one; read again when it changes, without ending a session."),
    key("auth.http.url", Text, Unset,
        "URL that is asked, by POST with JSON, about users that are not configured here."),
    key("auth.http.token", Secret, Unset,
        "Bearer token for the Authorization header of these requests."),
    key("auth.http.ca_file", Text, Unset,
        "PEM file with the only certificate authorities that `auth.http.url` may be signed by; the system's if not set."),
    key("auth.http.timeout", Duration, Is("5s"),
        "Time for a whole request to `auth.http.url`; without an answer the login is refused."),
    key("auth.http.cache", Text, Is("30s"),
        "How long a success is good for further logins with the same password from the same address, or `off`; failures are never kept."),
    key("auth.http.allow_plain", Choice(&["true", "false"]), Is("false"),
        "Whether `auth.http.url` may be http:// to another machine, which sends passwords in the clear."),
    key("auth.lockout.per_address", Count(0, 1_000_000), Is("30"),
        "Failed logins after which an address (IPv6: a /64 network) is locked out; 0: never."),
    key("auth.lockout.per_user", Count(0, 1_000_000), Is("5"),
        "Failed logins for one user from one address after which that address is locked out for that user; 0: never."),
    key("auth.lockout.window", Duration, Is("15m"),
        "Failed logins are forgotten when none has come for this time."),
    key("auth.lockout.duration", Duration, Is("15m"),
        "How long a lockout holds."),
    key("auth.lockout.delay", Duration, Is("1s"),
        "Pause before the first failed login is answered; it doubles with each further one."),
    key("auth.lockout.max_delay", Duration, Is("10s"),
        "Longest of these pauses."),
    key("reload.interval", Duration, Is("5s"),
        "How often files are looked at that may change at run time, such as `users_file`."),
    key("events.sinks", Sections, Unset,
        "Who is told of files that were stored, kept, renamed and deleted, as CloudEvents; in the environment as JSON or YAML list."),
    key("events.sinks[].name", Text, Unset,
        "What logs and metrics call the sink, 1 to 40 letters, digits, `-` and `_`; required."),
    key("events.sinks[].url", Text, Unset,
        "`https://...`: each event is a POST, and any 2xx takes it. `tls://host:4222`: NATS, a stream of JetStream takes it. `http://` and `nats://` to this machine; required."),
    key("events.sinks[].token", Secret, Unset,
        "Bearer token for the Authorization header, or NATS's token."),
    key("events.sinks[].ca_file", Text, Unset,
        "PEM file with the only certificate authorities that the sink may be signed by; the system's if not set."),
    key("events.sinks[].allow_plain", Choice(&["true", "false"]), Is("false"),
        "Whether `http://` and `nats://` may lead to another machine, which sends names of files and users in the clear."),
    key("events.sinks[].subject", Text, Is("cosgate.object"),
        "Where NATS gets the events: this, a dot, and `stored`, `kept`, `renamed` or `deleted`."),
    key("events.sinks[].types", List, Is("stored, kept, renamed, deleted"),
        "The events that the sink gets, with commas or as a list."),
    key("events.sinks[].keys", List, Unset,
        "Patterns of `*` (also across `/`) and `?`, one of which the object's key must fit; all keys if not set."),
    key("events.source", Text, Derived("in a pod with POD_NAMESPACE `/cosgate/<namespace>/<release>`, else `/cosgate/<host name>`"),
        "The attribute `source` of the events, a URI reference."),
    key("events.queue", Count(1, 1_000_000), Is("10000"),
        "Events that wait for each sink; more are lost and counted. They take some hundred bytes each."),
    key("events.timeout", Duration, Is("10s"),
        "Time for one attempt to bring an event to a sink."),
    key("events.give_up_after", Duration, Is("1h"),
        "How long an event is offered again to a sink that refuses it (4xx other than 408, 425 and 429); one that can't be reached is tried for as long as the process lives."),
    key("events.flush_timeout", Duration, Is("10s"),
        "How long the end of the process waits for events that no sink has taken yet."),
    key("admin.listen", Text, Is("127.0.0.1:8080"),
        "Address and port of the HTTP probes `/livez` and `/readyz`, of `/metrics` and the status page, or `off`."),
    key("admin.status", Choice(&["on", "off"]), Is("on"),
        "Whether `/` on the admin port is the status page; where other machines can reach the port it stays off without `admin.token`."),
    key("admin.token", Secret, Unset,
        "Token that the status page asks for, 16 to 256 letters, as Bearer token or as the password of HTTP Basic."),
    key("admin.store_outage", Choice(&["note", "not_ready"]), Is("note"),
        "What an outage of the store is to `/readyz`: a `note`, since it is the same for all gateways and clients get 451 with the reason, or after a minute `not_ready`. A store that has never answered is always a reason not to be ready."),
    key("log.format", Choice(&["json", "text"]), Derived("`text` on a terminal, else `json`"),
        "Form of a log line."),
    key("log.level", Text, Is("info"),
        "Log filter: `error`, `warn`, `info`, `debug`, `trace` or `off`, also per module, such as `info,cosgate=debug`; a change in the file takes effect at once."),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_has_a_name_of_its_own_and_a_sentence() {
        for (i, key) in TABLE.iter().enumerate() {
            assert!(
                TABLE[..i].iter().all(|other| other.path != key.path),
                "{}",
                key.path
            );
            assert!(
                key.doc.ends_with('.') && !key.doc.contains('|'),
                "{}",
                key.path
            );
        }
    }

    #[test]
    fn no_variable_of_a_key_looks_like_the_file_variable_of_another() {
        let names: Vec<String> = TABLE.iter().filter_map(Key::variable).collect();
        for key in TABLE {
            assert!(
                key.file_variable()
                    .is_none_or(|file| !names.contains(&file))
            );
        }
    }

    #[test]
    fn the_variable_follows_from_the_path() {
        assert_eq!(
            variable("upload.min_part_size"),
            "COSGATE_UPLOAD__MIN_PART_SIZE"
        );
    }

    #[test]
    fn paths_with_indices_find_their_row() {
        assert!(matches!(place("users[12].name"), Place::Key(key) if key.path == "users[].name"));
        assert!(matches!(place("users[0]"), Place::Section));
        assert!(matches!(place("users[0].nam"), Place::Unknown));
        assert!(matches!(place("upload"), Place::Section));
        assert!(matches!(place("uplo"), Place::Unknown));
    }

    #[test]
    fn slips_lead_to_the_key_that_was_meant() {
        for (slip, meant) in [
            ("listne", Some("listen")),
            ("uplod", Some("upload")),
            ("upload.min_partsize", Some("upload.min_part_size")),
            ("min_part_size", Some("upload.min_part_size")),
            ("users[0].nmae", Some("users[].name")),
            ("tea.pot", None),
        ] {
            assert_eq!(similar_path(slip).as_deref(), meant, "{slip}");
        }
        for (slip, meant) in [
            (
                "COSGATE_UPLOAD_MIN_PART_SIZE",
                Some("COSGATE_UPLOAD__MIN_PART_SIZE"),
            ),
            ("COSGATE_Log__Level", Some("COSGATE_LOG__LEVEL")),
            (
                "COSGATE_ACCESS_KEY_ID",
                Some("COSGATE_STORAGE__ACCESS_KEY_ID"),
            ),
            ("COSGATE_CONFG", Some("COSGATE_CONFIG")),
            ("COSGATE_TEAPOT", None),
        ] {
            assert_eq!(similar_variable(slip).as_deref(), meant, "{slip}");
        }
    }

    #[test]
    fn the_readme_rows_have_four_columns_and_show_no_row_twice() {
        let rows = markdown_rows();
        assert_eq!(rows.lines().count(), TABLE.len());
        assert!(rows.lines().all(|row| row.matches('|').count() == 5));
        assert!(rows.contains("| `upload.concurrency` | `COSGATE_UPLOAD__CONCURRENCY` | `4` |"));
    }
}
