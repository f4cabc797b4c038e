//! `vsftpd.conf` of vsftpd: `key=value`, nothing else. [vsftpd.conf(5)]

use super::found::{Certificate, Found};
use super::lines::{Line, Lines, contents};
use super::values::{absolute, greeting, ip, masquerade, number, port, switch};
use crate::import::error::Mistake;

/// Lines with keys of this server.
pub(super) fn known(text: &str) -> usize {
    contents(text)
        .filter_map(|(_, line)| line.split_once('='))
        .filter(|(key, _)| KNOWN.contains(key))
        .count()
}

pub(super) fn read(text: &str, mistakes: &mut Vec<Mistake>) -> Found {
    let mut lines = Vec::new();
    for (number, content) in contents(text) {
        match content.split_once('=') {
            Some((key, value)) => lines.push(Line {
                key: key.trim().to_ascii_lowercase(),
                shown: key.trim().to_owned(),
                value: value.trim().to_owned(),
                number,
            }),
            // not repeated: it may be half of anything
            None => mistakes.push(Mistake {
                line: Some(number),
                key: "line".to_owned(),
                advice: "this is not key=value; correct it or remove it".to_owned(),
            }),
        }
    }
    let mut lines = Lines::new(lines, mistakes);
    let mut found = Found {
        program: "vsftpd",
        ..Found::default()
    };
    network(&mut lines, &mut found);
    tls(&mut lines, &mut found);
    users(&mut lines, &mut found);
    found.leave_out(&lines);
    found
}

fn network(lines: &mut Lines<'_>, found: &mut Found) {
    let v4 = lines.get("listen", switch).unwrap_or(false);
    let v6 = lines.get("listen_ipv6", switch).unwrap_or(false);
    let own: Vec<String> = ["listen_address", "listen_address6"]
        .into_iter()
        .filter_map(|key| lines.get(key, ip))
        .collect();
    found.addresses = match (own.is_empty(), v6) {
        (false, _) => own,
        // a socket for :: takes IPv4, too, there
        (true, true) => vec!["0.0.0.0".to_owned(), "::".to_owned()],
        (true, false) => vec!["0.0.0.0".to_owned()],
    };
    if !v4 && !v6 {
        found.remark("vsftpd was started by inetd; cosgate listens by itself.");
    }
    found.port = lines.get("listen_port", port).unwrap_or(21);
    if let Some(text) = lines.get("ftpd_banner", greeting) {
        found.set("greeting", text);
    }
    // 0 is any port
    let any_or = |text: &str| {
        text.parse::<u16>()
            .map_err(|_| "write a port up to 65535".to_owned())
    };
    let from = lines.get("pasv_min_port", any_or).filter(|port| *port > 0);
    let to = lines.get("pasv_max_port", any_or).filter(|port| *port > 0);
    if from.is_some() || to.is_some() {
        let (from, to) = (from.unwrap_or(1024), to.unwrap_or(u16::MAX));
        found.passive_ports = Some(("pasv_min_port, pasv_max_port", (from, to.max(from))));
    }
    found.masquerade_address = lines.get("pasv_address", masquerade);
    let _ = lines.get("pasv_addr_resolve", switch);
    if lines.get("pasv_enable", switch) == Some(false) {
        found.warn("pasv_enable=NO: cosgate always offers passive mode");
    }
    let from_20 = lines.get("connect_from_port_20", switch) == Some(true);
    match lines.get("port_enable", switch) {
        Some(false) => {}
        None if !from_20 => found.remark(
            "Active mode (PORT) was on by default there; active.enabled: true allows it here.",
        ),
        _ => found.set("active.enabled", "true"),
    }
    if from_20 {
        found.remark("connect_from_port_20: active data connections come from any port here.");
    }
    let idle = lines.get("idle_session_timeout", number);
    found.set_seconds("sessions.idle_timeout", Some(idle.unwrap_or(300)));
    let accept = lines.get("accept_timeout", number);
    found.set_seconds("passive.accept_timeout", accept);
    let connect = lines.get("connect_timeout", number);
    found.set_seconds("active.connect_timeout", connect);
    let stall = lines.get("data_connection_timeout", number);
    found.set_seconds("upload.stall_timeout", stall);
    found.set_seconds("download.stall_timeout", stall);
    let most = lines.get("max_clients", number);
    found.set_count("sessions.max", most);
    let per_ip = lines.get("max_per_ip", number);
    found.set_count("sessions.max_per_ip", per_ip);
    let converts = ["ascii_upload_enable", "ascii_download_enable"]
        .map(|key| lines.get(key, switch).unwrap_or(false));
    if converts == [false, false] {
        found.set("ascii", "as_is");
    }
}

fn tls(lines: &mut Lines<'_>, found: &mut Found) {
    let is_on = lines.get("ssl_enable", switch).unwrap_or(false);
    let chain = lines.get("rsa_cert_file", absolute);
    let key = lines.get("rsa_private_key_file", absolute);
    let login = lines.get("force_local_logins_ssl", switch).unwrap_or(true);
    let data = lines.get("force_local_data_ssl", switch).unwrap_or(true);
    let reuse = lines.get("require_ssl_reuse", switch);
    found.is_implicit = lines.get("implicit_ssl", switch).unwrap_or(false) && is_on;
    let chain = match (is_on, chain) {
        (false, _) => return,
        (true, Some(chain)) => chain,
        (true, None) => {
            found.warn("ssl_enable=YES without rsa_cert_file: set tls.cert and tls.key");
            return;
        }
    };
    found.certificate = Some(Certificate {
        key: key.unwrap_or_else(|| chain.clone()),
        chain,
        required: match (login, data) {
            (_, true) => "all",
            (true, false) => "control",
            (false, false) => "none",
        },
    });
    match reuse {
        Some(true) => found.set("tls.session_reuse", "required"),
        Some(false) => {}
        None => found.remark(
            "require_ssl_reuse was on by default there; tls.session_reuse: required does the same.",
        ),
    }
}

fn users(lines: &mut Lines<'_>, found: &mut Found) {
    let may_write = lines.get("write_enable", switch).unwrap_or(false);
    found.permissions = if may_write { "RW" } else { "R" };
    if lines.get("anonymous_enable", switch) == Some(true) {
        found.warn(
            "anonymous_enable=YES: not carried over; here a user named anonymous, without a password_hash, is that",
        );
    }
    let _ = lines.get("local_enable", switch);
    let token = lines.get("user_sub_token", |text| Ok(text.to_owned()));
    found.home = lines.get("local_root", absolute).map(|home| match token {
        Some(token) => home.replace(&token, "$USER"),
        None => home,
    });
    let is_caged = lines.get("chroot_local_user", switch).unwrap_or(false);
    let _ = lines.get("allow_writeable_chroot", switch);
    if !is_caged {
        found.warn(
            "chroot_local_user is not set: users could leave their home there; here nobody can",
        );
    }
    if let Some(directory) = lines.get("user_config_dir", absolute) {
        found.warn(format!(
            "user_config_dir={directory}: the files in it, one per user, were not read"
        ));
    }
}

const KNOWN: &[&str] = &[
    "accept_timeout",
    "allow_writeable_chroot",
    "anon_mkdir_write_enable",
    "anon_root",
    "anon_upload_enable",
    "anonymous_enable",
    "ascii_download_enable",
    "ascii_upload_enable",
    "async_abor_enable",
    "chroot_list_enable",
    "chroot_list_file",
    "chroot_local_user",
    "connect_from_port_20",
    "connect_timeout",
    "data_connection_timeout",
    "dirmessage_enable",
    "force_local_data_ssl",
    "force_local_logins_ssl",
    "ftpd_banner",
    "guest_enable",
    "guest_username",
    "idle_session_timeout",
    "implicit_ssl",
    "listen",
    "listen_address",
    "listen_ipv6",
    "listen_port",
    "local_enable",
    "local_root",
    "local_umask",
    "max_clients",
    "max_per_ip",
    "pam_service_name",
    "pasv_address",
    "pasv_enable",
    "pasv_max_port",
    "pasv_min_port",
    "port_enable",
    "require_ssl_reuse",
    "rsa_cert_file",
    "rsa_private_key_file",
    "secure_chroot_dir",
    "ssl_enable",
    "user_config_dir",
    "user_sub_token",
    "userlist_enable",
    "write_enable",
    "xferlog_enable",
];
