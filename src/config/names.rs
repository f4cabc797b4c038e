//! Names of hosts, buckets and regions.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::parse::Parsed;
use super::{MasqueradeAddress, Provider};

/// What clients connect to: an IPv4 address or a DNS name.
pub(crate) fn masquerade_address(text: &str) -> Parsed<MasqueradeAddress> {
    const WANTED: &str = "write the IPv4 address or DNS name that clients use";
    if text.contains("//") {
        return Err(format!("this is a URL; {WANTED}, without scheme and path"));
    }
    if text.trim_matches(['[', ']']).parse::<Ipv6Addr>().is_ok() {
        return Err(format!(
            "PASV replies carry IPv4 only (IPv6 clients use EPSV, which needs no address); {WANTED}"
        ));
    }
    if let Some((host, port)) = text.rsplit_once(':')
        && port.parse::<u16>().is_ok()
    {
        return Err(format!(
            "the port does not belong here (see passive.ports); write {host}"
        ));
    }
    if let Ok(address) = text.parse::<Ipv4Addr>() {
        return if address.is_unspecified() || address.is_broadcast() || address.is_multicast() {
            Err(format!("no client can connect to this address; {WANTED}"))
        } else {
            Ok(MasqueradeAddress::Ipv4(address))
        };
    }
    if is_dns_name(text) {
        Ok(MasqueradeAddress::Dns(
            text.trim_end_matches('.').to_ascii_lowercase(),
        ))
    } else {
        Err(format!(
            "this is neither an IPv4 address nor a DNS name; {WANTED}"
        ))
    }
}

/// Host name rules of RFC 1123, section 2.1; a name whose last label is a number would be taken
/// for an address.
fn is_dns_name(text: &str) -> bool {
    let name = text.strip_suffix('.').unwrap_or(text);
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    let last = name.rsplit('.').next().unwrap_or_default();
    name.len() <= 253 && name.split('.').all(is_label) && !last.bytes().all(|b| b.is_ascii_digit())
}

/// A bucket, by the rules of its store; none: the store is not known.
pub(crate) fn bucket(text: &str, provider: Option<Provider>) -> Parsed<String> {
    let is_plain = |text: &str| {
        let ends = |b: Option<&u8>| b.is_some_and(u8::is_ascii_alphanumeric);
        let bytes = text.as_bytes();
        ends(bytes.first())
            && ends(bytes.last())
            && bytes
                .iter()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-.".contains(b))
    };
    let is_right = match provider {
        Some(Provider::Cos) => {
            let parts = text.rsplit_once('-');
            return match parts {
                Some((name, appid)) if is_plain(name) && !name.contains('.') && is_appid(appid) => {
                    Ok(text.to_string())
                }
                _ => Err(
                    "a bucket of COS has the form name-APPID; write it as the console shows it, \
                     such as files-1250000000"
                        .into(),
                ),
            };
        }
        Some(Provider::Embedded) => {
            (3..=63).contains(&text.len()) && is_plain(text) && !text.contains("..")
        }
        // Other stores, and Amazon's oldest buckets, have capitals and underscores.
        Some(Provider::S3) | None => {
            text.len() <= 255
                && text
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b))
                && !text.bytes().all(|b| b == b'.')
        }
    };
    if is_right {
        Ok(text.to_string())
    } else {
        Err(
            "a bucket's name has 3 to 63 lower-case letters, digits, dots and hyphens; \
             write the name alone, without URL or path (storage.prefix takes the path)"
                .into(),
        )
    }
}

/// A region, of whatever vendor.
pub(crate) fn region(text: &str) -> Parsed<String> {
    let is_name = text.len() <= 64
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b));
    if is_name {
        Ok(text.to_string())
    } else {
        Err("a region is a short name; write one such as ap-guangzhou or us-east-1".into())
    }
}

fn is_appid(text: &str) -> bool {
    text.len() >= 5 && text.bytes().all(|b| b.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn advice<T>(parsed: Parsed<T>) -> String {
        parsed.err().expect("this is to be refused")
    }

    #[test]
    fn a_masquerade_address_is_an_ipv4_address_or_a_dns_name() {
        assert_eq!(
            masquerade_address("203.0.113.7"),
            Ok(MasqueradeAddress::Ipv4([203, 0, 113, 7].into()))
        );
        assert_eq!(
            masquerade_address("FTP.example.com."),
            Ok(MasqueradeAddress::Dns("ftp.example.com".into()))
        );
        for (text, words) in [
            ("2001:db8::1", "EPSV"),
            ("[::1]", "EPSV"),
            ("203.0.113.7:21", "write 203.0.113.7"),
            ("ftp.example.com:2121", "write ftp.example.com"),
            ("ftp://ftp.example.com", "URL"),
            ("0.0.0.0", "no client"),
            ("255.255.255.255", "no client"),
            ("224.0.0.1", "no client"),
            ("300.1.1.1", "neither"),
            ("1.2.3", "neither"),
            ("a_b.example", "neither"),
            ("-a.example", "neither"),
            ("ftp..example", "neither"),
            ("ftp example", "neither"),
        ] {
            assert!(advice(masquerade_address(text)).contains(words), "{text}");
        }
    }

    #[test]
    fn a_bucket_follows_the_rules_of_its_store() {
        use Provider::{Cos, Embedded, S3};
        for (text, provider, is_right) in [
            ("files", Embedded, true),
            ("fi", Embedded, false),
            ("Files", Embedded, false),
            ("..", Embedded, false),
            ("a..b", Embedded, false),
            ("My_Files", S3, true),
            ("a/b", S3, false),
            ("..", S3, false),
            ("https://files", S3, false),
            ("files-1250000000", Cos, true),
            ("my-files-1250000000", Cos, true),
            ("files", Cos, false),
            ("Files-1250000000", Cos, false),
            ("-1250000000", Cos, false),
            ("files-125000000x", Cos, false),
        ] {
            assert_eq!(bucket(text, Some(provider)).is_ok(), is_right, "{text}");
        }
    }

    #[test]
    fn a_region_is_a_short_name() {
        assert!(region("ap-guangzhou").is_ok());
        for text in ["ap guangzhou", "https://x", "a.b", &"x".repeat(65)] {
            assert!(region(text).is_err(), "{text}");
        }
    }
}
