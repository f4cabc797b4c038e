//! From what another FTP server's file says to keys of cosgate.

use super::passwd::{self, Entry};
use super::plan::{ADMIN_PORT, Plan, Setting, User, passive_ports};
use super::servers::{Certificate, Found};
use crate::config::printable;

/// Makes the plan of another server's file and of its users, if they were given.
pub(super) fn make(found: Found, users: Option<Vec<Entry>>) -> Plan {
    let program = found.program;
    let mut plan = Plan {
        program,
        settings: Vec::new(),
        users: Vec::new(),
        keys: None,
        notes: found.remarks,
        warnings: found.warnings.clone(),
    };
    plan.notes.extend(found.warnings);
    let sockets = |port: u16| {
        let sockets = found
            .addresses
            .iter()
            .map(|address| match address.contains(':') {
                true => format!("[{address}]:{port}"),
                false => format!("{address}:{port}"),
            });
        sockets.collect::<Vec<_>>().join(", ")
    };
    let mut others = vec![found.port];
    if found.is_implicit && found.certificate.is_some() {
        plan.set("tls.implicit_listen", sockets(found.port), &[]);
        let explicit = free(EXPLICIT_PORT, &others);
        others.push(explicit);
        let comment =
            "implicit TLS was all that there was; this port is for AUTH TLS besides".to_owned();
        plan.set("listen", sockets(explicit), &[comment]);
    } else {
        let comments = match found.port < 1024 {
            true => vec!["ports below 1024 take the right to bind them: CAP_NET_BIND_SERVICE, or a Service or balancer with this port before 2121".to_owned()],
            false => Vec::new(),
        };
        plan.set("listen", sockets(found.port), &comments);
    }
    let admin = free(ADMIN_PORT, &others);
    others.push(admin);
    if admin != ADMIN_PORT {
        let comment = "its usual port, 8080, is the control port here".to_owned();
        plan.set("admin.listen", format!("127.0.0.1:{admin}"), &[comment]);
    }
    if let Some(address) = found.masquerade_address {
        plan.set("masquerade_address", address, &[]);
    }
    if let Some((key, ports)) = found.passive_ports {
        let (ports, comments) = passive_ports(&mut plan, key, ports, true, &others);
        plan.set("passive.ports", ports, &comments);
    } else {
        // any port
        let key = "the range of passive ports";
        let (ports, comments) = passive_ports(&mut plan, key, (1024, 65535), false, &others);
        plan.set("passive.ports", ports, &comments);
    }
    if let Some(certificate) = found.certificate {
        tls(&mut plan, certificate);
    }
    plan.settings.extend(found.settings);
    let note = plan.warn(format!("{program}'s file names no store: this is the embedded one, for a trial. Set provider: cos or s3, bucket and region; keys stay in the environment"));
    plan.set("storage.provider", "embedded", &[note]);
    match users {
        Some(users) => add_users(&mut plan, users, found.permissions, found.home.as_deref()),
        None => {
            let note = plan.warn(format!(
                "{program}'s users are not in its file. With --users FILE, in the form of /etc/shadow, passwd or htpasswd, they are carried over with their passwords; permissions were {}",
                found.permissions
            ));
            plan.note(note);
        }
    }
    // keys of one section stand together
    plan.settings.sort_by_key(|setting: &Setting| {
        let section = setting.path.split_once('.').map(|(section, _)| section);
        SECTIONS.iter().position(|it| Some(*it) == section)
    });
    plan
}

fn tls(plan: &mut Plan, certificate: Certificate) {
    let comment =
        "the gateway must be able to read the files; they are read again when they change"
            .to_owned();
    plan.set("tls.cert", certificate.chain, &[comment]);
    plan.set("tls.key", certificate.key, &[]);
    plan.set("tls.required", certificate.required, &[]);
}

fn add_users(
    plan: &mut Plan,
    entries: Vec<Entry>,
    permissions: &'static str,
    common: Option<&str>,
) {
    // a directory for all of them stands over their own, as in vsftpd
    let directory = |entry: &Entry| match common {
        Some(common) => Some(passwd::plain(&common.replace("$USER", &entry.name))),
        None => entry.home.clone(),
    };
    let directories: Vec<Option<String>> = entries.iter().map(directory).collect();
    let base = match common {
        // one directory for all, where they meet
        Some(common) if !common.contains("$USER") => passwd::plain(common),
        _ => passwd::base(directories.iter().flatten().map(String::as_str)),
    };
    for (entry, directory) in entries.into_iter().zip(directories) {
        let home = match &directory {
            Some(directory) if *directory == base => "/".to_owned(),
            Some(directory) => directory[base.len()..].to_owned(),
            None => format!("/{}", entry.name),
        };
        let was = directory.unwrap_or_else(|| "not in the file of users".to_owned());
        plan.note(format!(
            "user {}: home {}, which was {}.",
            printable(&entry.name),
            printable(&home),
            printable(&was)
        ));
        plan.users.push(User {
            name: entry.name,
            password_hash: entry.hash,
            home,
            permissions,
            delete: true,
            own: Vec::new(),
        });
    }
    if !plan.users.is_empty() && !base.is_empty() {
        plan.note(format!(
            "What lay in {} goes to the bucket's root: users find their files again then.",
            printable(&base)
        ));
    }
}

/// `port`, or the next one that nothing else has.
fn free(port: u16, others: &[u16]) -> u16 {
    match others.contains(&port) {
        true => free(port + 1, others),
        false => port,
    }
}

/// Cosgate's own, next to an implicit port.
const EXPLICIT_PORT: u16 = 2121;

/// In the order in which they are written.
const SECTIONS: [&str; 8] = [
    "passive", "active", "tls", "sessions", "storage", "upload", "download", "admin",
];
