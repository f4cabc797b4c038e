//! The `storage` section, and what each kind of store needs.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use strum::{EnumString, VariantNames};

use crate::config::keys::row::*;
use crate::config::parse::{self, Parsed};
use crate::config::reader::Reader;

pub(super) mod credentials;
pub(super) mod location;
pub(super) mod provider;

use credentials::{CredentialSource, StaticCredentials};
use location::{Addressing, ListVersion};
use provider::Provider;

/// The rows of the table.
#[rustfmt::skip]
pub(in crate::config) const KEYS: &[Key] = &[
    key("storage.provider", Choice(Provider::VARIANTS), Is("embedded"),
        "The kind of store: embedded (for trials), Amazon S3 and compatible stores, Tencent COS."),
    key("storage.bucket", Text, Derived("embedded: `cosgate`; else required"),
        "The bucket; for `cos` in the form `name-APPID`, such as `files-1250000000`."),
    key("storage.prefix", Text, Unset,
        "Path inside the bucket under which everything is kept, such as `ftp/`."),
    key("storage.data_dir", Text, Is("./cosgate-data"),
        "Directory in which the embedded store keeps its objects (`embedded` only)."),
];

/// The rows of how requests are made.
#[rustfmt::skip]
pub(in crate::config) const REQUESTS: &[Key] = &[
    key("storage.connect_timeout", Time, Is("5s"),
        "Time to connect to the store."),
    key("storage.request_timeout", Time, Is("30s"),
        "Time in which no byte moves after which one attempt of a request to the store is given up."),
    key("storage.retry.max_attempts", Count(1, 100), Is("4"),
        "Attempts per request to the store, the first included."),
    key("storage.retry.max_backoff", Time, Is("5s"),
        "Longest pause between two attempts; pauses are random and double from 200 ms on."),
    key("storage.retry.time_limit", Time, Is("2m"),
        "Time for all attempts of a request. Time in which a body moves doesn't count; copies within the store get a second per MiB on top."),
    key("storage.send_trace_context", Choice(SWITCH), Is("false"),
        "Whether requests to the store carry the W3C `traceparent` of their span."),
    key("storage.integrity", Choice(Integrity::VARIANTS), Is("auto"),
        "Compare length and checksum with the store's before 226; `auto` takes the best that the store offers."),
    key("storage.sign_payload", Choice(SignPayload::VARIANTS), Is("auto"),
        "Hash bodies for the request signature; `auto` leaves it out with `s3` over HTTPS or to the loopback, and with `embedded`, where a checksum proves the body."),
];

/// The object store.
#[derive(Debug, Clone)]
pub struct Storage {
    /// Which kind of store.
    pub provider: Provider,
    /// The bucket's name; for [`Provider::Cos`] `name-APPID`.
    pub bucket: String,
    /// Put before every key: empty, or ends with `/`; no leading `/`, no `..`.
    pub prefix: String,
    /// The directory name that no client can use: the first component of [`Events::outbox`](super::Events::outbox).
    pub reserved_name: String,
    /// Region to sign requests for.
    pub region: String,
    /// URL of the store, without bucket and without trailing `/`; none: the SDK's own choice,
    /// or for the embedded store a free loopback port.
    pub endpoint: Option<String>,
    /// The place of the bucket's name in a request.
    pub addressing: Addressing,
    /// The operation that lists objects.
    pub list_version: ListVersion,
    /// Send and expect the SDK's checksums only where an operation demands them; stores other
    /// than Amazon's often refuse more.
    pub checksums_when_required: bool,
    /// Fixed credentials; none: [`Storage::credential_source`] has them.
    pub credentials: Option<StaticCredentials>,
    /// Where credentials come from that are not set here.
    pub credential_source: CredentialSource,
    /// Where the embedded store keeps its objects.
    pub data_dir: PathBuf,
    /// Time to connect to the store; 1 ms to 7 days.
    pub connect_timeout: Duration,
    /// Time without progress after which an attempt of a request is given up; 1 ms to 7 days.
    pub request_timeout: Duration,
    /// The retries when a request fails.
    pub retry: Retry,
    /// True if requests carry a `traceparent`.
    pub send_trace_context: bool,
    /// True if uploads are compared with what the store has.
    pub integrity: Integrity,
    /// True if bodies are hashed for the signature.
    pub sign_payload: SignPayload,
    /// Longest key the store takes, in bytes of UTF-8, [`Storage::prefix`] included.
    pub max_key_bytes: usize,
    /// Sizes that the store takes for a part (the last of an upload may be smaller).
    pub part_bytes: RangeInclusive<u64>,
}

/// The retries when a request fails in a way that may pass.
#[derive(Debug, Clone)]
pub struct Retry {
    /// Attempts per request, the first included; 1 to 100.
    pub max_attempts: u32,
    /// Longest pause between two attempts; 1 ms to 7 days.
    pub max_backoff: Duration,
    /// Time for all attempts, without the time in which bodies move; 1 ms to 7 days.
    pub time_limit: Duration,
}

/// True if uploads are compared with what the store has before 226.
#[derive(Debug, Clone, Copy, PartialEq, Eq, EnumString, VariantNames)]
#[strum(serialize_all = "snake_case")]
pub enum Integrity {
    /// By the best that the store offers.
    Auto,
    /// Not at all.
    // YAML 1.1 writers turn `off` into `false`.
    #[strum(to_string = "off", serialize = "false")]
    Off,
}

/// True if request bodies are hashed for the signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq, EnumString, VariantNames)]
#[strum(serialize_all = "snake_case")]
pub enum SignPayload {
    /// Only where nothing else protects and proves them.
    Auto,
    /// All.
    Always,
    /// None.
    Never,
}

/// The limits of a store.
pub(super) struct Limits {
    /// The store's name in messages.
    pub store: &'static str,
    pub object_bytes: u64,
    /// `object_bytes` as the vendor writes it.
    pub object_text: &'static str,
    pub part_bytes: RangeInclusive<u64>,
    pub key_bytes: usize,
}

impl Limits {
    pub fn of(provider: Provider) -> Self {
        match provider {
            // Tencent's own 48.82 TB is 10,000 parts of 5 GB, which is true for powers of 1024
            // only; so its MB, GB and TB are MiB, GiB and TiB. [Tencent docs 436/14518, 436/7750]
            Provider::Cos => Self {
                store: "Tencent COS",
                object_bytes: TIB * 4882 / 100,
                object_text: "48.82 TiB",
                part_bytes: MIB..=5 * GIB,
                key_bytes: 850,
            },
            // Amazon's limits; the embedded store keeps them, so that trials find what breaks them.
            Provider::S3 | Provider::Embedded => Self {
                store: "S3",
                object_bytes: 5 * TIB,
                object_text: "5 TiB",
                part_bytes: 5 * MIB..=5 * GIB,
                key_bytes: 1024,
            },
        }
    }
}

/// Reads the section.
pub(super) fn resolve(read: &mut Reader, reserved_name: &str) -> Storage {
    let provider = read.value("storage.provider", |text| {
        let advice =
            "write embedded (for trials), s3 (Amazon S3 and compatible) or cos (Tencent COS)";
        parse::choice_or(text, advice)
    });
    // What depends on the provider is not judged when the provider itself is unknown.
    let known = read.is_valid("storage.provider").then_some(provider);
    let endpoint = location::endpoint(read, known);
    let region = location::region(read, known, endpoint.as_ref());
    let addressing = location::addressing(read, known, endpoint.as_ref());
    let limits = Limits::of(provider);
    let url = endpoint.as_ref().map(|endpoint| endpoint.url.clone());
    let url = url.or_else(|| location::cos_url(read, known, &region));
    let credentials = credentials::pair(read);
    Storage {
        provider,
        bucket: bucket(read, known),
        prefix: prefix(read, limits.key_bytes, reserved_name),
        reserved_name: reserved_name.to_owned(),
        addressing,
        list_version: location::list_version(read, known),
        checksums_when_required: location::checksums_when_required(provider, endpoint.as_ref()),
        credential_source: credentials::source(read, known, credentials.is_some(), &region),
        region,
        endpoint: url,
        credentials,
        data_dir: data_dir(read, known),
        send_trace_context: read.switch("storage.send_trace_context"),
        connect_timeout: read.duration("storage.connect_timeout"),
        request_timeout: read.duration("storage.request_timeout"),
        retry: Retry {
            max_attempts: u32::try_from(read.count("storage.retry.max_attempts"))
                .unwrap_or(u32::MAX),
            max_backoff: read.duration("storage.retry.max_backoff"),
            time_limit: read.duration("storage.retry.time_limit"),
        },
        integrity: read.choice("storage.integrity"),
        sign_payload: read.choice("storage.sign_payload"),
        max_key_bytes: limits.key_bytes,
        part_bytes: limits.part_bytes,
    }
}

fn bucket(read: &mut Reader, provider: Option<Provider>) -> String {
    const KEY: &str = "storage.bucket";
    let given = read.optional(KEY, |text| bucket_name(text, provider));
    match (given, provider) {
        (Some(name), _) => name,
        (None, Some(Provider::Embedded)) if read.is_valid(KEY) => {
            read.record_effective(KEY, EMBEDDED_BUCKET);
            EMBEDDED_BUCKET.to_string()
        }
        (None, Some(Provider::S3)) => read.require(KEY, "the bucket's name, such as files"),
        (None, Some(Provider::Cos)) => read.require(
            KEY,
            "the bucket's name with the APPID, such as files-1250000000",
        ),
        (None, Some(Provider::Embedded) | None) => String::new(),
    }
}

fn prefix(read: &mut Reader, max_key_bytes: usize, reserved_name: &str) -> String {
    let parsed = read.optional("storage.prefix", |text| {
        let segments = parse::segments(text)?;
        if segments.iter().any(|part| part.eq_ignore_ascii_case(reserved_name)) {
            return Err(format!(
                "{reserved_name} is reserved by events.outbox, so no client could use this prefix; choose another one for either"
            ));
        }
        let prefix: String = segments
            .iter()
            .map(|part| format!("{part}/"))
            .collect();
        if prefix.len() < max_key_bytes {
            Ok(prefix)
        } else {
            Err(format!(
                "the store takes keys of {max_key_bytes} bytes, and this leaves none \
                 for names; shorten it"
            ))
        }
    });
    if let Some(prefix) = &parsed {
        read.record_effective("storage.prefix", prefix);
    }
    parsed.unwrap_or_default()
}

fn data_dir(read: &mut Reader, provider: Option<Provider>) -> PathBuf {
    const KEY: &str = "storage.data_dir";
    let data_dir = read.value(KEY, parse::path);
    if matches!(provider, Some(Provider::S3 | Provider::Cos)) && read.is_set(KEY) {
        read.warn(
            KEY,
            "only the embedded store (storage.provider: embedded) uses it; remove it",
        );
    }
    data_dir
}

/// A bucket, by the rules of its store; none: the store is not known.
pub(crate) fn bucket_name(text: &str, provider: Option<Provider>) -> Parsed<String> {
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

fn is_appid(text: &str) -> bool {
    text.len() >= 5 && text.bytes().all(|b| b.is_ascii_digit())
}

const EMBEDDED_BUCKET: &str = "cosgate";

const MIB: u64 = 1 << 20;

const GIB: u64 = 1 << 30;

const TIB: u64 = 1 << 40;

#[cfg(test)]
mod tests {
    use super::*;

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
            assert_eq!(
                bucket_name(text, Some(provider)).is_ok(),
                is_right,
                "{text}"
            );
        }
    }
}
