//! `proftpd.conf` of ProFTPD: `Directive value`, and blocks in angle brackets. [proftpd.org/docs/directives]
//!
//! The content of `<Global>` and `<IfModule>` holds for the server; other blocks are about parts of it, and are passed over
//! with their lines.

use super::found::{Certificate, Found};
use super::lines::{Line, Lines, contents, directive};
use super::values::{absolute, greeting, ip, masquerade, number, port, switch};
use crate::config::printable;
use crate::import::error::Mistake;

/// Lines with keys of this server.
pub(super) fn known(text: &str) -> usize {
    contents(text)
        .filter(|(number, content)| {
            content.starts_with('<') || KNOWN.contains(&directive(*number, content).key.as_str())
        })
        .count()
}

pub(super) fn read(text: &str, mistakes: &mut Vec<Mistake>) -> Found {
    let mut found = Found {
        program: "ProFTPD",
        permissions: "RW",
        ..Found::default()
    };
    let lines = of_the_server(text, mistakes, &mut found);
    let mut lines = Lines::new(lines, mistakes);
    network(&mut lines, &mut found);
    tls(&mut lines, &mut found);
    users(&mut lines, &mut found);
    found.leave_out(&lines);
    found
}

/// The lines that hold for the server as a whole.
fn of_the_server(text: &str, mistakes: &mut Vec<Mistake>, found: &mut Found) -> Vec<Line> {
    let mut lines = Vec::new();
    let mut open: Vec<&str> = Vec::new();
    // how many of them are about a part
    let mut inside = 0;
    let is_part = |block: &str| {
        !["global", "ifmodule", "ifdefine"].contains(&block.to_ascii_lowercase().as_str())
    };
    for (number, content) in contents(text) {
        if let Some(block) = content.strip_prefix("</") {
            let block = block.trim_end_matches('>').trim();
            match open.pop() {
                Some(last) if last.eq_ignore_ascii_case(block) => {
                    inside -= usize::from(is_part(last));
                }
                _ => mistakes.push(Mistake {
                    line: Some(number),
                    key: printable(content),
                    advice: "this ends a block that has not begun; correct it or remove it"
                        .to_owned(),
                }),
            }
        } else if let Some(block) = content.strip_prefix('<') {
            let name = block.split([' ', '\t', '>']).next().unwrap_or(block);
            if is_part(name) && inside == 0 {
                found.warn(format!(
                    "the block {} in line {number} is about a part of the server; nothing of it was taken",
                    printable(content)
                ));
            }
            inside += usize::from(is_part(name));
            open.push(name);
        } else if inside == 0 {
            lines.push(directive(number, content));
        }
    }
    if let Some(block) = open.last() {
        mistakes.push(Mistake {
            line: None,
            key: format!("<{}>", printable(block)),
            advice: "this block does not end; close it".to_owned(),
        });
    }
    lines
}

fn network(lines: &mut Lines<'_>, found: &mut Found) {
    found.port = lines.get("port", port).unwrap_or(21);
    let v6 = lines.get("useipv6", switch).unwrap_or(true);
    let own = lines.get("defaultaddress", |text| {
        text.split_whitespace()
            .map(ip)
            .collect::<Result<Vec<_>, _>>()
    });
    found.addresses = match own {
        Some(own) => own,
        None if v6 => vec!["0.0.0.0".to_owned(), "::".to_owned()],
        None => vec!["0.0.0.0".to_owned()],
    };
    found.passive_ports = lines
        .get("passiveports", super::values::two_ports)
        .map(|ports| ("PassivePorts", ports));
    found.masquerade_address = lines.get("masqueradeaddress", masquerade);
    let ident = lines.get("serverident", |text| {
        let (is_on, words) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
        Ok((switch(is_on)?, greeting(words.trim())?))
    });
    if let Some((true, words)) = ident
        && !words.is_empty()
    {
        found.set("greeting", words);
    }
    let seconds = |text: &str| number(text.split_whitespace().next().unwrap_or(text));
    let idle = lines.get("timeoutidle", seconds).unwrap_or(600);
    found.set_seconds("sessions.idle_timeout", Some(idle));
    let login = lines.get("timeoutlogin", seconds);
    found.set_seconds("sessions.login_timeout", login);
    let stall = lines.get("timeoutstalled", seconds);
    found.set_seconds("upload.stall_timeout", stall);
    found.set_seconds("download.stall_timeout", stall);
    // `none` is no limit; a text for who is refused may follow
    let limit = |text: &str| match text.split_whitespace().next() {
        Some("none") | None => Ok(0),
        Some(count) => number(count),
    };
    let instances = lines.get("maxinstances", limit).filter(|most| *most > 0);
    let clients = lines.get("maxclients", limit).filter(|most| *most > 0);
    let most = [instances, clients].into_iter().flatten().min();
    found.set_count("sessions.max", most);
    let per_host = lines.get("maxclientsperhost", limit);
    found.set_count("sessions.max_per_ip", per_host);
}

fn tls(lines: &mut Lines<'_>, found: &mut Found) {
    let is_on = lines.get("tlsengine", switch).unwrap_or(false);
    let [rsa, ec] =
        ["tlsrsacertificatefile", "tlseccertificatefile"].map(|key| lines.get(key, absolute));
    let [rsa_key, ec_key] =
        ["tlsrsacertificatekeyfile", "tlseccertificatekeyfile"].map(|key| lines.get(key, absolute));
    let required = lines.get("tlsrequired", |text| {
        match text.to_ascii_lowercase().as_str() {
            "off" => Ok("none"),
            "ctrl" | "control" | "auth" | "auth+data" => Ok("control"),
            "on" | "ctrl+data" | "data" => Ok("all"),
            _ => Err("write on, off, ctrl, auth or data".to_owned()),
        }
    });
    let options = lines.get("tlsoptions", |text| Ok(text.to_ascii_lowercase()));
    let has = |option: &str| {
        options
            .as_deref()
            .is_some_and(|all| all.split_whitespace().any(|it| it == option))
    };
    if !is_on {
        return;
    }
    found.is_implicit = has("useimplicitssl");
    let pair = match (rsa, ec) {
        (Some(chain), _) => Some((rsa_key.unwrap_or_else(|| chain.clone()), chain)),
        (None, Some(chain)) => Some((ec_key.unwrap_or_else(|| chain.clone()), chain)),
        (None, None) => None,
    };
    let Some((key, chain)) = pair else {
        let warning = "TLSEngine on without a certificate's file: set tls.cert and tls.key";
        return found.warn(warning);
    };
    found.certificate = Some(Certificate {
        chain,
        key,
        required: required.unwrap_or("none"),
    });
    if !has("nosessionreuserequired") {
        found.remark("Data connections had to resume the TLS session there (TLSOptions); tls.session_reuse: required does the same.");
    }
}

fn users(lines: &mut Lines<'_>, found: &mut Found) {
    match lines.get("allowoverwrite", switch) {
        Some(true) => {}
        // off is its default
        Some(false) | None => found.set("upload.overwrite", "false"),
    }
    let root = lines.get("defaultroot", |text| Ok(text.to_owned()));
    match root.as_deref() {
        None => found.warn("DefaultRoot is not set: users could leave their home there; here nobody can"),
        Some("~") => {}
        Some(root) => found.warn(format!(
            "DefaultRoot {}: here users see their own home alone; set users[].home to another prefix where that is wanted",
            printable(root)
        )),
    }
    if let Some(file) = lines.get("authuserfile", absolute) {
        found.remark(format!(
            "AuthUserFile {file} has the users: give it with --users."
        ));
    }
    if let Some(files) = lines.get("include", |text| Ok(printable(text))) {
        found.warn(format!(
            "Include {files}: these files were not read; import each that matters"
        ));
    }
}

const KNOWN: &[&str] = &[
    "allowoverwrite",
    "authorder",
    "authuserfile",
    "defaultaddress",
    "defaultroot",
    "defaultserver",
    "deferwelcome",
    "denyfilter",
    "displaychdir",
    "displaylogin",
    "group",
    "include",
    "listoptions",
    "masqueradeaddress",
    "maxclients",
    "maxclientsperhost",
    "maxinstances",
    "maxloginattempts",
    "passiveports",
    "port",
    "requirevalidshell",
    "serverident",
    "servername",
    "servertype",
    "showsymlinks",
    "systemlog",
    "timeoutidle",
    "timeoutlogin",
    "timeoutnotransfer",
    "timeoutstalled",
    "tlsengine",
    "tlsrequired",
    "tlsrsacertificatefile",
    "tlsrsacertificatekeyfile",
    "transferlog",
    "umask",
    "useipv6",
    "user",
];
