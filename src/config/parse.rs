//! Text to value, for each kind of value.
//!
//! An error is the rest of the sentence `key = value (from origin): `; it says what is allowed
//! and how to mend it, and does not repeat the value.

use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::time::Duration;

use bytesize::ByteSize;
use tracing_subscriber::filter::{EnvFilter, LevelFilter};

use super::{
    Integrity, LogFormat, OnInterrupt, Provider, SessionReuse, SignPayload, Sweep, TlsRequired,
    TlsVersion,
};

/// What a parser returns.
pub(crate) type Parsed<T> = Result<T, String>;

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

/// What clients must protect.
pub(super) fn tls_required(text: &str) -> Parsed<TlsRequired> {
    match text {
        "none" => Ok(TlsRequired::None),
        "control" => Ok(TlsRequired::Control),
        "all" => Ok(TlsRequired::All),
        _ => Err("write none, control (the password is protected) or all (files, too)".into()),
    }
}

/// The oldest version of TLS.
pub(super) fn tls_version(text: &str) -> Parsed<TlsVersion> {
    match text {
        "1.2" => Ok(TlsVersion::Tls12),
        "1.3" => Ok(TlsVersion::Tls13),
        _ => Err("write 1.2 or 1.3; older versions are broken (RFC 8996)".into()),
    }
}

/// What is asked of data connections.
pub(super) fn session_reuse(text: &str) -> Parsed<SessionReuse> {
    match text {
        // YAML 1.1 writers turn `off` into `false`.
        "off" | "false" => Ok(SessionReuse::Off),
        "required" => Ok(SessionReuse::Required),
        _ => Err("write off or required".into()),
    }
}

/// Whether a client certificate is required.
pub(super) fn client_auth(text: &str) -> Parsed<bool> {
    match text {
        "required" => Ok(true),
        "optional" => Ok(false),
        _ => Err("write required or optional".into()),
    }
}

/// An address to listen on, or `off`.
pub(super) fn admin_address(text: &str) -> Parsed<Option<SocketAddr>> {
    match text {
        // YAML 1.1 writers turn `off` into `false`.
        "off" | "false" => Ok(None),
        address => socket_address(address)
            .map(Some)
            .map_err(|advice| advice + "; or off"),
    }
}

/// `on` or `off`.
pub(super) fn on_off(text: &str) -> Parsed<bool> {
    match text {
        // YAML 1.1 writers turn `on` and `off` into `true` and `false`.
        "on" | "true" => Ok(true),
        "off" | "false" => Ok(false),
        _ => Err("write on or off".into()),
    }
}

/// A token that can't be guessed, and that fits into a header and a browser's password field.
pub(super) fn admin_token(text: &str) -> Parsed<String> {
    if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        Err(
            "a token has no spaces, line breaks or letters beyond ASCII; copy it again without"
                .into(),
        )
    } else if !TOKEN_BYTES.contains(&text.len()) {
        let (min, max) = (TOKEN_BYTES.start(), TOKEN_BYTES.end());
        Err(format!(
            "a token has {min} to {max} letters; `openssl rand -hex 16` makes one"
        ))
    } else {
        Ok(text.to_string())
    }
}

/// One line for the 220 reply.
pub(crate) fn greeting(text: &str) -> Parsed<String> {
    if text.chars().any(char::is_control) {
        // A line break would end the reply, and what follows would be read as the next one.
        Err("the greeting is one line; remove line breaks and other control characters".into())
    } else if text.len() > MAX_GREETING_BYTES {
        Err(format!(
            "the greeting has {} bytes; shorten it to {MAX_GREETING_BYTES}",
            text.len()
        ))
    } else {
        Ok(text.to_string())
    }
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

/// Which kind of store.
pub(super) fn provider(text: &str) -> Parsed<Provider> {
    match text {
        "embedded" => Ok(Provider::Embedded),
        "s3" => Ok(Provider::S3),
        "cos" => Ok(Provider::Cos),
        _ => Err("write embedded (built in, for trials), \
                  s3 (Amazon S3 and compatible) or cos (Tencent COS)"
            .into()),
    }
}

/// Form of a log line.
pub(super) fn log_format(text: &str) -> Parsed<LogFormat> {
    match text {
        "json" => Ok(LogFormat::Json),
        "text" => Ok(LogFormat::Text),
        _ => Err("write json or text".into()),
    }
}

/// What becomes of an interrupted upload.
pub(super) fn on_interrupt(text: &str) -> Parsed<OnInterrupt> {
    match text {
        "keep" => Ok(OnInterrupt::Keep),
        "discard" => Ok(OnInterrupt::Discard),
        _ => Err("write keep or discard".into()),
    }
}

/// Yes or no.
pub(super) fn switch(text: &str) -> Parsed<bool> {
    match text {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err("write true or false".into()),
    }
}

/// Whether uploads are compared with what the store has.
pub(super) fn integrity(text: &str) -> Parsed<Integrity> {
    match text {
        "auto" => Ok(Integrity::Auto),
        "off" => Ok(Integrity::Off),
        _ => Err("write auto or off".into()),
    }
}

/// Whether bodies are hashed for the signature.
pub(super) fn sign_payload(text: &str) -> Parsed<SignPayload> {
    match text {
        "auto" => Ok(SignPayload::Auto),
        "always" => Ok(SignPayload::Always),
        "never" => Ok(SignPayload::Never),
        _ => Err("write auto, always or never".into()),
    }
}

/// Which stale multipart uploads are aborted.
pub(super) fn sweep(text: &str) -> Parsed<Sweep> {
    match text {
        "own" => Ok(Sweep::Own),
        "all" => Ok(Sweep::All),
        "off" => Ok(Sweep::Off),
        _ => Err("write own, all or off".into()),
    }
}

/// The name of a storage class.
pub(super) fn storage_class(text: &str) -> Parsed<String> {
    let sound = text
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'));
    if sound {
        Ok(text.to_owned())
    } else {
        Err("write a name such as STANDARD_IA".into())
    }
}

/// The algorithm of server-side encryption.
pub(super) fn encryption(text: &str) -> Parsed<String> {
    match text {
        "AES256" | "aws:kms" | "cos/kms" => Ok(text.to_owned()),
        _ => Err("write AES256, aws:kms or cos/kms".into()),
    }
}

/// The name of a key, which goes into a header.
pub(super) fn kms_key(text: &str) -> Parsed<String> {
    if text.bytes().all(|byte| byte.is_ascii_graphic()) {
        Ok(text.to_owned())
    } else {
        Err("write the key's id or ARN".into())
    }
}

/// A filter that `EnvFilter` takes.
pub(super) fn log_level(text: &str) -> Parsed<String> {
    const WANTED: &str =
        "write error, warn, info, debug, trace or off, also per module as in info,cosgate=debug";
    let words: Vec<&str> = text.split(',').map(str::trim).collect();
    // EnvFilter takes the slip `inof` for the name of a module, and then logs nothing at all.
    let is_level = |word: &str| !word.is_empty() && word.parse::<LevelFilter>().is_ok();
    let is_directive = |word: &str| word.contains(['=', '[', ']', '{', '}']);
    // EnvFilter does not expect the spaces that people put after commas.
    let filter = words.join(",");
    if words
        .iter()
        .all(|word| is_level(word) || is_directive(word))
        && EnvFilter::try_new(&filter).is_ok()
    {
        Ok(filter)
    } else {
        Err(format!("this is no log filter; {WANTED}"))
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
/// Nobody guesses 16 letters by trying; the end is far below what a header may have.
const TOKEN_BYTES: RangeInclusive<usize> = 16..=256;

/// Some clients read replies into small fixed buffers.
const MAX_GREETING_BYTES: usize = 200;

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
        assert_eq!(admin_address("off"), Ok(None));
        assert!(advice(admin_address("on")).ends_with("or off"));
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
    fn a_greeting_is_one_short_line() {
        assert!(greeting("Willkommen – 欢迎").is_ok());
        assert!(greeting("a\r\n230 in").is_err());
        assert!(greeting(&"x".repeat(201)).is_err());
    }

    #[test]
    fn a_log_filter_with_a_slip_is_refused() {
        for text in [
            "info",
            "DEBUG",
            "off",
            "info,cosgate=debug",
            "cosgate::store=trace",
            "warn, cosgate[upload]=debug",
        ] {
            assert!(log_level(text).is_ok(), "{text}");
        }
        for text in ["inof", "cosgate=loud", "", "info,", "info,cosgate", "[["] {
            assert!(log_level(text).is_err(), "{text}");
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
}
