//! From what the file says to keys of cosgate, with the reasons for each difference.

use secrecy::SecretString;

use super::error::ImportError;
use super::options::Options;
use super::source::{Account, Authority, Location, Source};
use crate::config::Endpoint;
use crate::config::cos_endpoint_of;
use crate::config::may_share_credentials;
use crate::config::parse::size_text;
use crate::config::printable;
use crate::store::parts::PartPlan;

/// Hashes a password as `cosgate hash-password` does.
pub type Hasher<'a> =
    &'a dyn Fn(&SecretString) -> Result<SecretString, Box<dyn std::error::Error + Send + Sync>>;

/// The settings to write, before it has a form.
pub(super) struct Plan {
    /// Whose configuration it was.
    pub program: &'static str,
    /// In the order of the table of keys; keys of one section stand together.
    pub settings: Vec<Setting>,
    pub users: Vec<User>,
    /// Access key and secret key of the store, where the file has them.
    pub keys: Option<(SecretString, SecretString)>,
    /// The notes that belong to no key.
    pub notes: Vec<String>,
    pub warnings: Vec<String>,
}

/// One key; no secret.
#[derive(Debug)]
pub(super) struct Setting {
    pub path: &'static str,
    pub value: String,
    pub comments: Vec<String>,
}

/// One user; whole it is a secret.
pub(super) struct User {
    pub name: String,
    pub password_hash: SecretString,
    /// Prefix in the bucket.
    pub home: String,
    pub permissions: &'static str,
    /// False takes deleting, renaming and overwriting away.
    pub delete: bool,
    /// Keys of the user's own, where they differ from the store's: name and value.
    pub own: Vec<(&'static str, SecretString)>,
}

/// Makes the plan. There is at least one account.
pub(super) fn make(source: Source, hash: Hasher<'_>) -> Result<Plan, ImportError> {
    let Source {
        accounts,
        options,
        mut notes,
        remarks,
    } = source;
    let warnings = notes.clone();
    notes.extend(remarks);
    let Some(first) = accounts.first() else {
        return Err(ImportError::Mistakes(Vec::new()));
    };
    let mut plan = Plan {
        program: "COS FTP Server",
        settings: Vec::new(),
        users: Vec::new(),
        keys: Some((
            first.store.access_key_id.clone(),
            first.store.secret_access_key.clone(),
        )),
        notes,
        warnings,
    };
    network(&mut plan, &options);
    storage(&mut plan, first);
    upload(&mut plan, &options);
    log(&mut plan, &options);
    for account in &accounts {
        let user = user(&mut plan, account, first, hash)?;
        plan.users.push(user);
    }
    Ok(plan)
}

impl Plan {
    pub fn set(&mut self, path: &'static str, value: impl Into<String>, comments: &[String]) {
        self.settings.push(Setting {
            path,
            value: value.into(),
            comments: comments.to_vec(),
        });
    }

    pub fn note(&mut self, note: impl Into<String>) {
        self.notes.push(note.into());
    }

    /// A note that is to be seen even by who does not read the result.
    pub fn warn(&mut self, note: String) -> String {
        self.warnings.push(note.clone());
        note
    }
}

fn network(plan: &mut Plan, options: &Options) {
    let listen = options.listen_port.unwrap_or(2121);
    plan.set("listen", format!("0.0.0.0:{listen}"), &[]);
    if let Some(address) = &options.masquerade_address {
        plan.set("masquerade_address", address, &[]);
    }
    let admin = if listen == ADMIN_PORT {
        ADMIN_PORT + 1
    } else {
        ADMIN_PORT
    };
    let (ports, comments) = passive_ports(
        plan,
        "passive_port",
        options.passive_ports.unwrap_or((60000, 65535)),
        options.passive_ports.is_some(),
        &[listen, admin],
    );
    plan.set("passive.ports", ports, &comments);
    if let Some(connections) = options.max_connections {
        let comment = format!(
            "max_connection_num = {connections} counted control and data connections; this counts control connections"
        );
        plan.set(
            "sessions.max",
            connections.min(1_000_000).to_string(),
            &[comment],
        );
    }
    if admin != ADMIN_PORT {
        let comment = "its usual port, 8080, is the control port here".to_owned();
        plan.settings.push(Setting {
            path: "admin.listen",
            value: format!("127.0.0.1:{admin}"),
            comments: vec![comment],
        });
    }
}

/// The ports as they were, if a balancer can publish them and nothing else has them; else a range that fits.
pub(super) fn passive_ports(
    plan: &mut Plan,
    key: &str,
    (from, to): (u16, u16),
    is_set: bool,
    others: &[u16],
) -> (String, Vec<String>) {
    let range = from..=to;
    let is_taken = others.iter().any(|port| range.contains(port));
    if to - from < MOST_PORTS && !is_taken {
        let comments = match to >= 32768 && from <= 60999 {
            true => vec!["these lie among the ports that Linux gives to outgoing connections (net.ipv4.ip_local_port_range): reserve them, or choose ports below 32768".to_owned()],
            false => Vec::new(),
        };
        return (format!("{from}-{to}"), comments);
    }
    let proposal = [30000_u16, 31000, 29000]
        .into_iter()
        .map(|from| from..=from + 47)
        .find(|range| !others.iter().any(|port| range.contains(port)));
    let proposal = proposal.unwrap_or(28000..=28047);
    let was = match is_set {
        true => format!("{key} was {from},{to}"),
        false => format!("{key} was not set, which meant {from},{to}"),
    };
    let reason = match is_taken {
        true => "which holds another port of the gateway",
        false => {
            "which no Service or load balancer can publish, and of which Linux gives 32768 to 60999 to outgoing connections"
        }
    };
    let note = format!(
        "{was}, {reason}; here are 48 ports, one per transfer at a time: open them in firewalls and security groups",
    );
    let note = plan.warn(note);
    (
        format!("{}-{}", proposal.start(), proposal.end()),
        vec![note],
    )
}

fn storage(plan: &mut Plan, first: &Account) {
    plan.set("storage.provider", "cos", &[]);
    plan.set("storage.bucket", &first.store.location.bucket, &[]);
    if let Some(region) = &first.store.location.region {
        plan.set("storage.region", region, &[]);
    }
    if let Some(endpoint) = &first.store.location.endpoint {
        let comments = match endpoint.starts_with("http://") {
            true => vec![plan.warn(
                "cos_protocol = http: files travel unencrypted to the store; https:// protects them".to_owned(),
            )],
            false => Vec::new(),
        };
        plan.set("storage.endpoint", endpoint, &comments);
    }
    plan.note("The keys of the store stand with the secrets. Better: none at all, with storage.credentials: tke or cvm.");
}

fn upload(plan: &mut Plan, options: &Options) {
    let max = options.max_file_bytes.unwrap_or(200 << 30);
    let limit = max.min(MOST_FILE);
    let mut comments = vec!["parts grow with a file, so a large limit costs small files nothing; over it the client gets 552 and nothing is kept".to_owned()];
    if limit < max {
        let note = format!("single_file_max_size was {max}; COS takes objects up to 48.82 TiB");
        comments.push(plan.warn(note));
    }
    plan.set("upload.max_file_size", exact_size(limit), &comments);
    let min = options
        .min_part_bytes
        .unwrap_or(DEFAULT_PART)
        .clamp(1 << 20, 5 << 30);
    if let Some(given) = options.min_part_bytes {
        let mut comments = Vec::new();
        if given != min {
            comments.push(plan.warn(format!(
                "min_part_size was {given}; COS takes parts of 1 MiB to 5 GiB"
            )));
        }
        plan.set("upload.min_part_size", exact_size(min), &comments);
    }
    if let Some(threads) = options.upload_threads {
        let comment = format!(
            "upload_thread_num = {threads} was for the whole process; this is per upload, and upload.memory_budget bounds them all"
        );
        plan.set(
            "upload.concurrency",
            threads.clamp(1, 64).to_string(),
            &[comment],
        );
    }
    // An upload of the limit's size has to fit, whatever memory this or another machine has.
    if let Ok(parts) = PartPlan::new(min, limit, &((1 << 20)..=(5 << 30))) {
        let least = (parts.largest() + parts.smallest()).max(2 * min);
        if least > LEAST_BUDGET {
            let budget = least.next_multiple_of(64 << 20);
            let note = format!(
                "the parts of a file of {} need this much; the container's memory must be larger",
                size_text(limit)
            );
            let note = plan.warn(note);
            plan.set("upload.memory_budget", exact_size(budget), &[note]);
        }
    }
}

fn log(plan: &mut Plan, options: &Options) {
    if let Some(level) = options.log_level {
        plan.set("log.level", level, &[]);
    }
    for (key, value) in &options.without_counterpart {
        let reason = match key.as_str() {
            "max_list_file" => "listings are complete, whatever their length",
            "config_check_enable" => {
                "the configuration is always checked, and upload.memory_budget bounds the memory"
            }
            _ => "logs go to standard output, where the platform collects and rotates them",
        };
        plan.note(format!("{key} = {value} has no counterpart: {reason}."));
    }
}

fn user(
    plan: &mut Plan,
    account: &Account,
    first: &Account,
    hash: Hasher<'_>,
) -> Result<User, ImportError> {
    let name = printable(&account.user);
    let section = &account.section;
    let permissions = match account.authority {
        Authority::Read => "R",
        Authority::Write => "W",
        Authority::Both => "RW",
    };
    // who only reads has nothing that could be taken away
    let delete = account.delete_enable || account.authority == Authority::Read;
    plan.note(format!(
        "[{section}]: user {name}, authority {permissions}, bucket {}.",
        account.store.location.bucket
    ));
    if account.authority == Authority::Write {
        plan.note(format!(
            "{name} may upload, and neither download nor list; grant `list` if its client needs it."
        ));
    }
    if !delete {
        let list = match account.authority {
            Authority::Both => "[read, list, write, overwrite]",
            Authority::Read | Authority::Write => "[write, overwrite]",
        };
        let note = format!(
            "delete_enable = false: {name} may neither delete nor rename nor replace a file (`delete: false`); COS FTP Server \
             refused DELE and RMD only. To let it replace files, write permissions: {list} in the place of permissions and delete."
        );
        let note = plan.warn(note);
        plan.note(note);
    }
    if let Some(home) = &account.home_dir {
        plan.note(format!("home_dir = {} named {name}'s account only: its files are at the bucket's root, so its home is /.", printable(home)));
    }
    let password_hash = hash(&account.password).map_err(ImportError::Hash)?;
    Ok(User {
        name: account.user.clone(),
        password_hash,
        home: "/".to_owned(),
        permissions,
        delete,
        own: own(account, first),
    })
}

/// An account's own settings.
fn own(account: &Account, first: &Account) -> Vec<(&'static str, SecretString)> {
    use secrecy::ExposeSecret as _;
    let mut own: Vec<(&'static str, SecretString)> = Vec::new();
    let location = &account.store.location;
    if location.bucket != first.store.location.bucket {
        own.push(("bucket", location.bucket.clone().into()));
    }
    if (&location.region, &location.endpoint)
        != (&first.store.location.region, &first.store.location.endpoint)
    {
        let region = location
            .region
            .as_ref()
            .map(|region| ("region", region.clone().into()));
        let url = location.endpoint.clone();
        // without its own, the first account's endpoint would hold
        let url = url.or_else(|| location.region.as_deref().map(cos_endpoint_of));
        own.extend(region);
        own.extend(url.map(|url| ("endpoint", url.into())));
    }
    let is_same =
        |one: &SecretString, other: &SecretString| one.expose_secret() == other.expose_secret();
    let url = |location: &Location| {
        let url = location.endpoint.clone();
        let region = || location.region.as_deref().map(cos_endpoint_of);
        Endpoint::parse(&url.or_else(region)?).ok()
    };
    // a configuration does not send the first account's keys just anywhere
    let may_share = may_share_credentials(
        url(&first.store.location).as_ref(),
        url(&account.store.location).as_ref(),
    );
    if !may_share
        || !is_same(&account.store.access_key_id, &first.store.access_key_id)
        || !is_same(
            &account.store.secret_access_key,
            &first.store.secret_access_key,
        )
    {
        own.push(("access_key_id", account.store.access_key_id.clone()));
        own.push(("secret_access_key", account.store.secret_access_key.clone()));
    }
    own
}

/// `200GiB` where that is exact, else bytes.
fn exact_size(bytes: u64) -> String {
    for (unit, shift) in [("TiB", 40), ("GiB", 30), ("MiB", 20)] {
        if bytes.is_multiple_of(1 << shift) {
            return format!("{}{unit}", bytes >> shift);
        }
    }
    bytes.to_string()
}

/// Cosgate's own.
pub(super) const ADMIN_PORT: u16 = 8080;
/// `upload.min_part_size`, unless it is set.
const DEFAULT_PART: u64 = 8 << 20;

/// Load balancers take 50 listeners by default (Tencent's CLB, AWS's NLB), one of which is the control port.
const MOST_PORTS: u16 = 49;

/// The limits of COS. [Tencent docs 436/14518]
const MOST_FILE: u64 = (1 << 40) * 4882 / 100;

/// The least that `upload.memory_budget` is by itself.
const LEAST_BUDGET: u64 = 64 << 20;
