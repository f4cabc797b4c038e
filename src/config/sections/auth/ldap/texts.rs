//! The texts of `auth.ldap.*`: the URL, and templates of names, filters and homes.

use secrecy::SecretString;

use super::keys::{ALLOW_PLAIN, BASE, FILTER, SERVICE_DN, SERVICE_PASSWORD, STARTTLS};
use crate::config::endpoint::split_port;
use crate::config::parse::{self, Parsed};
use crate::ldap::template::{self, DN, GROUP, USER};
use crate::ldap::{Place, Security};

/// A URL that a password may be sent to.
pub(super) fn place(text: &str, starttls: bool, allow_plain: bool) -> Parsed<Place> {
    const WANTED: &str =
        "write ldaps://dc1.example.com, or ldap:// with StartTLS; a port may follow";
    let lower = text.to_ascii_lowercase();
    let (is_tls, authority) = match (
        lower.strip_prefix("ldaps://"),
        lower.strip_prefix("ldap://"),
    ) {
        (Some(rest), _) => (true, rest),
        (_, Some(rest)) => (false, rest),
        (None, None) => return Err(format!("the scheme is ldaps or ldap; {WANTED}")),
    };
    let authority = authority.strip_suffix('/').unwrap_or(authority);
    if authority.contains('@') {
        return Err(format!(
            "the URL carries a login; remove it and set {SERVICE_DN} and {SERVICE_PASSWORD}"
        ));
    }
    if authority.contains(['/', '?', '#']) {
        return Err(format!(
            "only host and port are in the URL, the rest has keys of its own ({BASE}, {FILTER}); {WANTED}"
        ));
    }
    let (host, port) =
        split_port(authority).ok_or_else(|| format!("host or port are wrong; {WANTED}"))?;
    let ip = host.parse::<std::net::IpAddr>();
    let is_local = ip.is_ok_and(|ip| ip.is_loopback()) || host == "localhost";
    let security = match (is_tls, starttls) {
        (true, _) => Security::Tls,
        (false, true) => Security::StartTls,
        (false, false) if is_local || allow_plain => Security::Off,
        (false, false) => {
            return Err(format!(
                "passwords would travel unencrypted; write ldaps://, or remove {STARTTLS}, or set {ALLOW_PLAIN} to true if the \
                 network is trusted"
            ));
        }
    };
    Ok(Place {
        port: port.unwrap_or(if is_tls { 636 } else { 389 }),
        host,
        security,
    })
}

pub(super) fn bind_template(text: &str) -> Parsed<String> {
    const WANTED: &str =
        "write a name such as uid={user},ou=people,dc=example,dc=com or {user}@corp.example.com";
    if !only_placeholders(text, &[USER]) {
        Err(format!(
            "{USER}, once or more, is what is filled in; {WANTED}"
        ))
    } else if text == USER {
        Err(format!(
            "a user could bind with a name of any kind; {WANTED}"
        ))
    } else if is_type_of_name(text) {
        Err(format!("{USER} stands for a value, behind a =; {WANTED}"))
    } else {
        name(text)
    }
}

/// True if a name of an entry has the placeholder where the type of an attribute belongs.
fn is_type_of_name(text: &str) -> bool {
    let mut parts = text.split([',', '+']);
    parts.any(|part| {
        part.split_once('=')
            .is_some_and(|(kind, _)| kind.contains(USER))
    })
}

pub(super) fn user_filter(text: &str) -> Parsed<String> {
    if only_placeholders(text, &[USER]) && template::is_filter(text) {
        Ok(text.to_owned())
    } else {
        Err(format!(
            "this is no filter with {USER} in it (RFC 4515); write one such as (uid={USER}) or \
             (&(objectClass=user)(sAMAccountName={USER}))"
        ))
    }
}

pub(super) fn group_filter(text: &str) -> Parsed<String> {
    if only_placeholders(text, &[USER, DN, GROUP]) && template::is_filter(text) {
        Ok(text.to_owned())
    } else {
        Err(format!(
            "this is no filter with {DN}, {USER} or {GROUP} in it (RFC 4515); write one such as (member={DN}), (memberUid={USER}) \
             or (memberOf={GROUP})"
        ))
    }
}

/// A home, with or without `{user}`.
pub(super) fn home(text: &str) -> Parsed<String> {
    if !text.contains(['{', '}']) || only_placeholders(text, &[USER]) {
        Ok(format!("/{}", parse::segments(text)?.join("/")))
    } else {
        Err(format!("only {USER} is filled in; correct the braces"))
    }
}

/// True if at least one of `placeholders` is in `text`, and no other.
fn only_placeholders(text: &str, placeholders: &[&str]) -> bool {
    let rest = placeholders
        .iter()
        .fold(text.to_owned(), |rest, one| rest.replace(one, ""));
    rest.len() < text.len() && !rest.contains(['{', '}'])
}

/// A name of an entry, or another one to bind with.
pub(super) fn name(text: &str) -> Parsed<String> {
    if text.is_empty() || text.len() > MAX_NAME_BYTES || text.chars().any(char::is_control) {
        Err(format!(
            "a name has 1 to {MAX_NAME_BYTES} bytes, none of them a control character; write one such as \
             cn=ftp,ou=services,dc=example,dc=com"
        ))
    } else {
        Ok(text.to_owned())
    }
}

pub(super) fn password(text: &str) -> Parsed<SecretString> {
    match text {
        "" => Err("an empty password logs nobody in (RFC 4513, section 5.1.2); set one".into()),
        text => Ok(text.into()),
    }
}

/// Longer than names of deep trees are.
const MAX_NAME_BYTES: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_sent_over_tls_or_to_this_machine_only() {
        let found = |text| place(text, true, false).expect(text);
        let one = found("ldaps://DC1.example.com");
        assert_eq!((one.host.as_str(), one.port), ("dc1.example.com", 636));
        assert_eq!(one.security, Security::Tls);
        let one = found("ldap://[2001:db8::1]:3268/");
        assert_eq!((one.host.as_str(), one.port), ("2001:db8::1", 3268));
        assert_eq!(one.security, Security::StartTls);
        for text in ["ldap://127.0.0.1", "ldap://localhost:3389", "ldap://[::1]"] {
            let local = place(text, false, false).expect(text);
            assert_eq!(local.security, Security::Off);
        }
        let refused = place("ldap://dc1.example.com", false, false).expect_err("in the clear");
        assert!(refused.contains("auth.ldap.allow_plain"), "{refused}");
        assert!(place("ldap://dc1.example.com", false, true).is_ok());
        for text in [
            "",
            "dc1.example.com",
            "https://dc1.example.com",
            "ldaps://",
            "ldaps://a:0x1",
            "ldaps://a/dc=example",
            "ldaps://a?uid",
            "ldaps://cn=a@b",
            "ldap://a b",
        ] {
            assert!(place(text, true, true).is_err(), "{text}");
        }
    }

    #[test]
    fn names_and_filters_have_the_placeholder_and_no_other() {
        for good in ["uid={user},dc=x", "{user}@corp.example.com", r"CORP\{user}"] {
            assert!(bind_template(good).is_ok(), "{good}");
        }
        for bad in [
            "uid=alice,dc=x",
            "{user}",
            "{user}=alice,dc=x",
            "uid=alice+{user}=b,dc=x",
            "uid={user},ou={dn}",
            "uid={user",
            "{usr}",
        ] {
            assert!(bind_template(bad).is_err(), "{bad}");
        }
        assert!(user_filter("(uid={user})").is_ok());
        for bad in [
            "(uid=alice)",
            "({user}=x)",
            "uid={user}=(",
            "(uid={user}",
            "(a={user})(b={group})",
        ] {
            assert!(user_filter(bad).is_err(), "{bad}");
        }
        for good in ["(member={dn})", "(memberUid={user})", "(memberOf={group})"] {
            assert!(group_filter(good).is_ok(), "{good}");
        }
        assert!(group_filter("(objectClass=group)").is_err());
    }

    #[test]
    fn a_home_is_absolute_and_has_no_other_placeholder() {
        assert_eq!(home("{user}").as_deref(), Ok("/{user}"));
        assert_eq!(home("/a//{user}/in/").as_deref(), Ok("/a/{user}/in"));
        assert_eq!(home("/").as_deref(), Ok("/"));
        for bad in ["/{dn}", "/{user", "/../{user}"] {
            assert!(home(bad).is_err(), "{bad}");
        }
    }
}
