//! Text to value, for each kind of value.
//!
//! An error is the rest of the sentence `key = value (from origin): `; it says what is allowed
//! and how to fix it, and does not repeat the value.

use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use bytesize::ByteSize;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use strum::VariantNames;

/// The result of a parser.
pub(crate) type Parsed<T> = Result<T, String>;

/// One of the words of `T`.
pub(super) fn choice<T: FromStr + VariantNames>(text: &str) -> Parsed<T> {
    choice_or(text, &format!("write {}", listed(T::VARIANTS)))
}

/// One of the words of `T`; `advice` says more about them than [`choice`] does.
pub(super) fn choice_or<T: FromStr>(text: &str, advice: &str) -> Parsed<T> {
    text.parse().map_err(|_| advice.to_owned())
}

/// One of `words`, for values that are passed on as they are.
pub(super) fn word(text: &str, words: &[&str]) -> Parsed<String> {
    if words.contains(&text) {
        Ok(text.to_owned())
    } else {
        Err(format!("write {}", listed(words)))
    }
}

/// Yes or no.
pub(super) fn switch(text: &str) -> Parsed<bool> {
    choice_or(text, "write true or false")
}

/// `a, b or c`.
fn listed(words: &[&str]) -> String {
    match words {
        [rest @ .., last] if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        _ => words.concat(),
    }
}

/// A number of bytes: `200GiB`, `8 MiB`, `5GB`, `1048576`. Never 0.
pub(super) fn size(text: &str) -> Parsed<u64> {
    match text.trim().parse::<ByteSize>() {
        Ok(ByteSize(0)) => Err("0 leaves no room for anything; write a size such as 8MiB".into()),
        Ok(ByteSize(bytes)) => Ok(bytes),
        Err(_) => {
            Err("this is no size; write one such as 8MiB, 200GiB, 5GB or 1048576 (bytes)".into())
        }
    }
}

/// A time with its unit: `30s`, `2m`, `1h 30m`. Never 0.
pub(super) fn duration(text: &str) -> Parsed<Duration> {
    let text = text.trim();
    if text.bytes().all(|b| b.is_ascii_digit())
        && !text.is_empty()
        && !text.trim_matches('0').is_empty()
    {
        return Err(format!(
            "the unit is missing; write {text}s for seconds or {text}m for minutes"
        ));
    }
    match humantime::parse_duration(text) {
        Ok(time) if (MIN_DURATION..=MAX_DURATION).contains(&time) => Ok(time),
        Ok(_) => Err("times are from 1ms to 7days; write one in that range, such as 30s".into()),
        Err(_) => Err("this is no time; write one such as 500ms, 30s, 2m or 1h 30m".into()),
    }
}

/// A whole number from `min` to `max`.
pub(crate) fn count(text: &str, min: u64, max: u64) -> Parsed<u64> {
    match text.trim().parse::<u64>() {
        Ok(number) if (min..=max).contains(&number) => Ok(number),
        _ => Err(format!("write a whole number from {min} to {max}")),
    }
}

/// An address to listen on.
pub(super) fn socket_address(text: &str) -> Parsed<SocketAddr> {
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    let port = text.strip_prefix(':').unwrap_or(text);
    Err(if let Ok(port) = port.parse::<u16>() {
        format!("the address is missing; write 0.0.0.0:{port}, or [::]:{port} for IPv6")
    } else if let Ok(ip) = text.trim_matches(['[', ']']).parse::<IpAddr>() {
        format!("the port is missing; write {}", SocketAddr::new(ip, 2121))
    } else {
        "write an IP address and a port, such as 0.0.0.0:2121 or [::]:2121".to_string()
    })
}

/// A port, or a range `FROM-TO`.
pub(super) fn ports(text: &str) -> Parsed<RangeInclusive<u16>> {
    let (from, to) = text.split_once('-').unwrap_or((text, text));
    let (Ok(from), Ok(to)) = (from.trim().parse::<u16>(), to.trim().parse::<u16>()) else {
        return Err(
            "ports are from 1 to 65535; write one port or a range such as 30000-30015".into(),
        );
    };
    if from == 0 {
        Err("port 0 is no port; write one port or a range such as 30000-30015".into())
    } else if from > to {
        Err(format!(
            "the range is the wrong way round; write {to}-{from}"
        ))
    } else {
        Ok(from..=to)
    }
}

/// A network such as `10.0.0.0/8`, or an address alone. One of IPv4 in IPv6 form (`::ffff:10.0.0.0/104`) is that of IPv4, since that
/// is the form in which addresses are compared.
pub(super) fn network(text: &str) -> Parsed<IpNet> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(address.to_canonical().into());
    }
    match text.parse::<IpNet>() {
        // as it stands there, 10.1.2.3/8 means one address or sixteen million
        Ok(network) if network.trunc() != network => Err(format!(
            "bits are set behind the prefix; write {}",
            network.trunc()
        )),
        Ok(IpNet::V6(network)) => Ok(canonical(network)),
        Ok(network) => Ok(network),
        Err(_) => Err("this is no network; write one such as 10.0.0.0/8 or fd00::/8".into()),
    }
}

fn canonical(network: Ipv6Net) -> IpNet {
    // the part of the IPv6 address before the IPv4 one
    const MAPPED_BITS: u8 = 96;
    let ipv4 = network.addr().to_ipv4_mapped();
    let prefix = network.prefix_len().checked_sub(MAPPED_BITS);
    match ipv4.zip(prefix) {
        Some((address, prefix)) => Ipv4Net::new_assert(address, prefix).into(),
        None => network.into(),
    }
}

/// A path in the file system; nothing need be there.
pub(super) fn path(text: &str) -> Parsed<PathBuf> {
    if text.contains('\0') {
        Err("a path has no NUL; remove it".into())
    } else {
        Ok(PathBuf::from(text))
    }
}

/// As [`path`], of a file.
pub(super) fn file(text: &str) -> Parsed<PathBuf> {
    if text.contains('\0') || text.ends_with('/') {
        Err("this is no path of a file; write one such as /etc/podinfo/mapping".into())
    } else {
        Ok(PathBuf::from(text))
    }
}

/// The segments of a path inside the bucket, with `.` and empty ones left out.
pub(super) fn segments(text: &str) -> Parsed<Vec<&str>> {
    if text.chars().any(char::is_control) {
        return Err("a path has no control characters; remove them".into());
    }
    let segments: Vec<&str> = text
        .split('/')
        .filter(|part| !part.is_empty() && *part != ".")
        .collect();
    if segments.contains(&"..") {
        return Err("a path has no ..; write the path that is meant".into());
    }
    Ok(segments)
}

/// A part of a key pair, as it goes into request headers.
pub(crate) fn credential(text: &str) -> Parsed<String> {
    if text.chars().any(|c| c.is_whitespace() || c.is_control()) {
        // A stray line break is the usual slip; the store would only say "wrong signature".
        Err("it contains a space or a line break; copy it again without".into())
    } else {
        Ok(text.to_string())
    }
}

/// `8 MiB`, as people write it.
pub(crate) fn size_text(bytes: u64) -> String {
    ByteSize(bytes).to_string().replace(".0 ", " ")
}

// Timers count milliseconds; and a bound of more than a week bounds nothing.
const MIN_DURATION: Duration = Duration::from_millis(1);
const MAX_DURATION: Duration = Duration::from_secs(7 * 24 * 60 * 60);

#[cfg(test)]
mod tests {
    use super::*;

    fn advice<T>(parsed: Parsed<T>) -> String {
        parsed.err().expect("this is to be refused")
    }

    #[test]
    fn sizes_are_read_as_people_write_them() {
        for (text, bytes) in [
            ("200GiB", 200 << 30),
            ("8 MiB", 8 << 20),
            ("5GB", 5_000_000_000),
            ("1048576", 1 << 20),
            ("1.5gib", 3 << 29),
            (" 10 kB ", 10_000),
        ] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for text in [
            "0",
            "0MiB",
            "",
            "MiB",
            "-1",
            "8 elephants",
            "1_000",
            "0x10",
            "NaN",
        ] {
            assert!(size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn durations_need_a_unit_and_a_length() {
        for (text, ms) in [
            ("30s", 30_000),
            ("2m", 120_000),
            ("1h 30m", 5_400_000),
            ("500ms", 500),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_millis(ms)), "{text}");
        }
        assert!(advice(duration("30")).contains("30s"));
        for text in [
            "0",
            "0s",
            "00",
            "1ns",
            "8days",
            "",
            "s",
            "-1s",
            "1 elephant",
            "99999999999999999999s",
        ] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn an_address_without_its_other_half_is_refused_with_the_whole_one() {
        assert!(socket_address("[::]:2121").is_ok());
        assert!(advice(socket_address("2121")).contains("0.0.0.0:2121"));
        assert!(advice(socket_address(":21")).contains("[::]:21"));
        assert!(advice(socket_address("10.0.0.1")).contains("10.0.0.1:2121"));
        assert!(advice(socket_address("::1")).contains("[::1]:2121"));
        assert!(socket_address("localhost:2121").is_err());
    }

    #[test]
    fn ports_are_one_or_a_range_the_right_way_round() {
        assert_eq!(ports("30000-30015"), Ok(30000..=30015));
        assert_eq!(ports("30000 - 30015"), Ok(30000..=30015));
        assert_eq!(ports("65535"), Ok(65535..=65535));
        assert!(advice(ports("9-7")).contains("7-9"));
        for text in ["0", "0-5", "65536", "1-65536", "", "-", "a", "1-2-3", "-5"] {
            assert!(ports(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_path_loses_what_says_nothing_and_never_climbs() {
        assert_eq!(segments("/a//b/./c/"), Ok(vec!["a", "b", "c"]));
        assert_eq!(segments("/"), Ok(vec![]));
        assert!(segments("a/../b").is_err());
        assert!(segments("a\nb").is_err());
        assert_eq!(segments("..a"), Ok(vec!["..a"]));
    }

    #[test]
    fn sizes_are_shown_as_people_write_them() {
        assert_eq!(size_text(5 << 30), "5 GiB");
        assert_eq!(size_text(3 << 29), "1.5 GiB");
    }

    #[test]
    fn a_network_says_what_it_means() {
        for text in [
            "10.0.0.0/8",
            "192.0.2.1",
            "2001:db8::/32",
            "::1",
            "0.0.0.0/0",
        ] {
            assert!(network(text).is_ok(), "{text}");
        }
        let advice = network("10.1.2.3/8").expect_err("one address or a network?");
        assert!(advice.contains("10.0.0.0/8"), "{advice}");
        for (mapped, plain) in [
            ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
            ("::ffff:0.0.0.0/96", "0.0.0.0/0"),
            ("::ffff:192.0.2.1", "192.0.2.1/32"),
        ] {
            assert_eq!(
                network(mapped).map(|net| net.to_string()).as_deref(),
                Ok(plain)
            );
        }
        for text in [
            "",
            "10.0.0.0/33",
            "10.0.0",
            "localhost",
            "10.0.0.0-10.0.0.9",
        ] {
            assert!(network(text).is_err(), "{text}");
        }
    }
}
