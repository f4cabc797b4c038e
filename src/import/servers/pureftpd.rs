//! `pure-ftpd.conf` of Pure-FTPd: `Directive value`. [pure-ftpd(8)]

use super::found::{Certificate, Found};
use super::lines::{Lines, contents, directive};
use super::values::{absolute, ip, masquerade, number, port, switch};
use crate::import::error::Mistake;

/// Lines with keys of this server.
pub(super) fn known(text: &str) -> usize {
    contents(text)
        .map(|(number, content)| directive(number, content).key)
        .filter(|key| KNOWN.contains(&key.as_str()))
        .count()
}

pub(super) fn read(text: &str, mistakes: &mut Vec<Mistake>) -> Found {
    let lines = contents(text).map(|(number, content)| directive(number, content));
    let mut lines = Lines::new(lines.collect(), mistakes);
    let mut found = Found {
        program: "Pure-FTPd",
        permissions: "RW",
        ..Found::default()
    };
    network(&mut lines, &mut found);
    tls(&mut lines, &mut found);
    users(&mut lines, &mut found);
    found.leave_out(&lines);
    found
}

fn network(lines: &mut Lines<'_>, found: &mut Found) {
    // `address,port`, each of which may be missing
    let bind = lines.get("bind", |text| {
        let (address, number) = text.rsplit_once(',').unwrap_or((text, ""));
        let address = match address.trim() {
            "" => None,
            address => Some(ip(address)?),
        };
        let number = match number.trim() {
            "" => 21,
            number => port(number)?,
        };
        Ok((address, number))
    });
    let only_v4 = lines.get("ipv4only", switch).unwrap_or(false);
    let only_v6 = lines.get("ipv6only", switch).unwrap_or(false);
    let (address, number_of_port) = bind.unwrap_or((None, 21));
    found.port = number_of_port;
    found.addresses = match address {
        Some(address) => vec![address],
        None if only_v4 => vec!["0.0.0.0".to_owned()],
        None if only_v6 => vec!["::".to_owned()],
        None => vec!["0.0.0.0".to_owned(), "::".to_owned()],
    };
    found.passive_ports = lines
        .get("passiveportrange", super::values::two_ports)
        .map(|ports| ("PassivePortRange", ports));
    found.masquerade_address = lines.get("forcepassiveip", masquerade);
    let minutes = lines.get("maxidletime", number).unwrap_or(15);
    found.set_seconds("sessions.idle_timeout", minutes.checked_mul(60));
    let most = lines.get("maxclientsnumber", number);
    found.set_count("sessions.max", most);
    let per_ip = lines.get("maxclientsperip", number);
    found.set_count("sessions.max_per_ip", per_ip);
}

fn tls(lines: &mut Lines<'_>, found: &mut Found) {
    let mode = lines.get("tls", number).unwrap_or(0);
    let both = lines.get("certfile", absolute);
    let pair = lines.get("certfileandkey", |text| {
        let mut paths = text.split_whitespace().map(|path| path.trim_matches('"'));
        match (paths.next(), paths.next(), paths.next()) {
            (Some(chain), Some(key), None) => Ok((absolute(chain)?, absolute(key)?)),
            _ => Err("write two paths, of the certificate and of its key".to_owned()),
        }
    });
    let required = match mode {
        0 => return,
        1 => "none",
        2 => "control",
        _ => "all",
    };
    match pair.or_else(|| both.map(|both| (both.clone(), both))) {
        Some((chain, key)) => {
            found.certificate = Some(Certificate {
                chain,
                key,
                required,
            });
        }
        None => found.warn(format!(
            "TLS {mode} without CertFile: set tls.cert and tls.key, and tls.required: {required}"
        )),
    }
}

fn users(lines: &mut Lines<'_>, found: &mut Found) {
    if lines.get("keepallfiles", switch) == Some(true) {
        found.permissions = "read, list, write";
        found.remark("KeepAllFiles: users may store new files and read; they may not replace, rename or delete any.");
    } else if lines.get("norename", switch) == Some(true) {
        found.permissions = "read, list, write, overwrite, delete";
    }
    if lines.get("noanonymous", switch) != Some(true) {
        found.warn(
            "NoAnonymous is not set: not carried over; here a user named anonymous, without a password_hash, is that",
        );
    }
    if lines.get("chrooteveryone", switch) != Some(true) {
        found
            .warn("ChrootEveryone is not set: users could leave their home there; here nobody can");
    }
    if let Some(file) = lines.get("puredb", absolute) {
        found.remark(format!(
            "PureDB {file} is made from a text file, pureftpd.passwd: give that with --users."
        ));
    }
}

const KNOWN: &[&str] = &[
    "allowuserfxp",
    "altlog",
    "anonymouscantupload",
    "anonymousonly",
    "antiwarez",
    "autorename",
    "bind",
    "brokenclientscompatibility",
    "certfile",
    "certfileandkey",
    "chrooteveryone",
    "createhomedir",
    "customerproof",
    "displaydotfiles",
    "dontresolve",
    "forcepassiveip",
    "ipv4only",
    "ipv6only",
    "keepallfiles",
    "limitrecursion",
    "maxclientsnumber",
    "maxclientsperip",
    "maxdiskusage",
    "maxidletime",
    "maxload",
    "minuid",
    "noanonymous",
    "norename",
    "pamauthentication",
    "passiveportrange",
    "puredb",
    "syslogfacility",
    "tlsciphersuite",
    "unixauthentication",
];
