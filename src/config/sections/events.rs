//! The `events` section: the consumers of events about files that were stored, renamed and deleted.

use std::collections::HashSet;
use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;
use strum::{EnumString, IntoStaticStr, VariantNames};
use wildmatch::WildMatch;

use super::auth::ca_file;
use crate::config::error::{REDACTED, printable};
use crate::config::keys::row::*;
use crate::config::parse::{self, Parsed};
use crate::config::reader::{Reader, Refused};

/// The rows of the table.
#[rustfmt::skip]
pub(in crate::config) const KEYS: &[Key] = &[
    key("events.sinks", Sections, Unset,
        "Consumers that get events about files that were stored, kept, renamed and deleted, as CloudEvents; in the environment as JSON or YAML list."),
    key("events.sinks[].name", Text, Unset,
        "What logs and metrics call the sink, 1 to 40 letters, digits, `-` and `_`; required."),
    key("events.sinks[].url", Text, Unset,
        "`https://...`: each event is a POST, and any 2xx takes it. `tls://host:4222`: NATS, a stream of JetStream takes it. `http://` and `nats://` to this machine; required."),
    key("events.sinks[].token", Secret, Unset,
        "Bearer token for the Authorization header, or NATS's token."),
    key("events.sinks[].ca_file", Text, Unset,
        "PEM file with the only certificate authorities that the sink may be signed by; the system's if not set."),
    key("events.sinks[].allow_plain", Choice(SWITCH), Is("false"),
        "Whether `http://` and `nats://` may lead to another machine, which sends names of files and users in the clear."),
    key("events.sinks[].subject", Text, Is("cosgate.object"),
        "Where NATS gets the events: this, a dot, and `stored`, `kept`, `renamed` or `deleted`."),
    key("events.sinks[].types", List, Is("stored, kept, renamed, deleted"),
        "The events that the sink gets, with commas or as a list."),
    key("events.sinks[].keys", List, Unset,
        "Patterns of `*` (also across `/`) and `?`, one of which the object's key must fit; all keys if not set."),
    key("events.source", Text, Derived("in a pod with POD_NAMESPACE `/cosgate/<namespace>/<release>`, else `/cosgate/<host name>`"),
        "The attribute `source` of the events, a URI reference."),
    key("events.delivery", Choice(Delivery::VARIANTS), Is("memory"),
        "`durable`: each event is written to the bucket before what it is about is done, and stays there until all sinks have taken it; a file whose event can't be written is refused with 451. `memory`: events that wait are lost with the process."),
    key("events.outbox", Text, Is(".cosgate/outbox/"),
        "Where durable events wait, below `storage.prefix`, in each bucket that has users. No client can use a directory with the name of its first part, at any depth, whatever `events.delivery` is."),
    key("events.replay_after", Time, Is("60s"),
        "How long a durable event stays as it is until a replica takes it for a dead one's, asks the store what came of the file, and sends or drops it."),
    key("events.queue", Count(1, 1_000_000), Is("10000"),
        "Events that wait for each sink; more are lost and counted, or with `events.delivery: durable` left in the outbox. They take some hundred bytes each."),
    key("events.timeout", Time, Is("10s"),
        "Time for one attempt to bring an event to a sink."),
    key("events.give_up_after", Time, Is("1h"),
        "How long an event is offered again to a sink that refuses it (4xx other than 408, 425 and 429); one that can't be reached is tried for as long as the process lives."),
    key("events.flush_timeout", Time, Is("10s"),
        "How long the end of the process waits for events that no sink has taken yet."),
];

/// Events about committed objects.
#[derive(Debug, Clone)]
pub struct Events {
    /// The consumers; no name occurs twice.
    pub sinks: Vec<EventSink>,
    /// The attribute `source` of each event, a URI reference.
    pub source: String,
    /// The events that survive a crash.
    pub delivery: Delivery,
    /// Where events wait for their sinks, below the prefix of the store: components with `/` after each, the first of which
    /// begins with a dot.
    pub outbox: String,
    /// The time that an event waits there before any replica takes care of it; 1 s to 7 days.
    pub replay_after: Duration,
    /// Events that wait for each sink; 1 to 1,000,000.
    pub queue: usize,
    /// Time for one attempt, connecting included; 1 ms to 7 days.
    pub timeout: Duration,
    /// The time for which an event is offered to a sink that refuses it; 1 ms to 7 days.
    pub give_up_after: Duration,
    /// The time for which the end of the process waits for the backlog; 1 ms to 7 days.
    pub flush_timeout: Duration,
}

/// The fate of events that no sink has taken yet when the process dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, EnumString, VariantNames)]
#[strum(serialize_all = "snake_case")]
pub enum Delivery {
    /// They are lost.
    Memory,
    /// They lie in the bucket, and any replica sends them.
    Durable,
}

/// Somebody who gets events.
#[derive(Debug, Clone)]
pub struct EventSink {
    /// The name in logs and metrics; 1 to 40 letters, digits, `-` and `_`.
    pub name: String,
    /// `https://` or `http://`; `tls://` or `nats://` for NATS.
    pub url: String,
    /// Bearer token, or NATS's own.
    pub token: Option<SecretString>,
    /// PEM file with the only certificate authorities to trust; none: the system's.
    pub ca_file: Option<PathBuf>,
    /// Where NATS gets them: this, a dot, and the word of the type.
    pub subject: String,
    /// The kinds of events that it gets.
    pub types: Vec<EventType>,
    /// Patterns, one of which a key must fit; none: all keys.
    pub keys: Vec<WildMatch>,
}

/// The kind of change of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EnumString, IntoStaticStr, VariantNames)]
#[strum(serialize_all = "snake_case")]
pub enum EventType {
    /// A client's file is whole in the store.
    Stored,
    /// An interrupted upload was kept as an object (`upload.on_interrupt: keep`).
    Kept,
    /// An object, or a directory with all that is in it, has another name.
    Renamed,
    /// A file was deleted.
    Deleted,
}

impl EventType {
    /// The word of the configuration, and the end of the CloudEvents type.
    pub fn word(self) -> &'static str {
        self.into()
    }
}

impl EventSink {
    /// True if it takes events by NATS, and not by HTTP.
    pub fn is_nats(&self) -> bool {
        self.url.starts_with("nats://") || self.url.starts_with("tls://")
    }

    /// True if it wants an event of this kind about `key`.
    pub fn takes(&self, event_type: EventType, key: &str) -> bool {
        self.types.contains(&event_type)
            && (self.keys.is_empty() || self.keys.iter().any(|pattern| pattern.matches(key)))
    }
}

/// The lines of one sink of events.
pub(in crate::config) fn sink_lines(list: &str, index: usize, sink: &EventSink) -> Vec<String> {
    let types: Vec<&str> = sink.types.iter().map(|kind| kind.word()).collect();
    let mut keys = vec![
        ("name", printable(&sink.name)),
        ("url", printable(&sink.url)),
        ("types", types.join(", ")),
    ];
    if sink.is_nats() {
        keys.push(("subject", printable(&sink.subject)));
    }
    if sink.token.is_some() {
        keys.push(("token", REDACTED.to_string()));
    }
    if let Some(file) = &sink.ca_file {
        keys.push(("ca_file", printable(&file.display().to_string())));
    }
    if !sink.keys.is_empty() {
        let patterns: Vec<String> = sink
            .keys
            .iter()
            .map(|one| printable(&one.to_string()))
            .collect();
        keys.push(("keys", patterns.join(", ")));
    }
    keys.into_iter()
        .map(|(key, value)| format!("{list}[{index}].{key} = {value}"))
        .collect()
}

/// Reads the section, all but the outbox.
pub(super) fn resolve(read: &mut Reader, outbox: String) -> Events {
    let source = read.optional("events.source", source);
    let derived = || match (
        read.platform_env("POD_NAMESPACE"),
        read.platform_env("HOSTNAME"),
    ) {
        (Some(namespace), Some(host)) => format!("/cosgate/{namespace}/{}", release(&host)),
        (None, Some(host)) => format!("/cosgate/{host}"),
        (_, None) => "/cosgate".to_owned(),
    };
    let source = source.unwrap_or_else(derived);
    if read.is_valid("events.source") {
        read.record_effective("events.source", &source);
    }
    Events {
        sinks: sinks(read),
        source,
        delivery: read.choice("events.delivery"),
        outbox,
        replay_after: read.value("events.replay_after", replay_after),
        queue: read.number("events.queue"),
        timeout: read.duration("events.timeout"),
        give_up_after: read.duration("events.give_up_after"),
        flush_timeout: read.duration("events.flush_timeout"),
    }
}

/// Reads the outbox, whose name the store needs, too.
pub(super) fn resolve_outbox(read: &mut Reader) -> String {
    read.value("events.outbox", outbox)
}

/// The first component of an outbox.
pub(super) fn reserved_name(outbox: &str) -> &str {
    outbox.split('/').next().unwrap_or_default()
}

/// The name of the StatefulSet in the name of its pod: all replicas are one source.
fn release(pod: &str) -> &str {
    match pod.rsplit_once('-') {
        Some((name, ordinal)) if ordinal.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => pod,
    }
}

/// Reads the list; entries with a problem are left out.
fn sinks(read: &mut Reader) -> Vec<EventSink> {
    let mut names = HashSet::new();
    let mut sinks = Vec::new();
    for index in 0..read.sections(SINKS) {
        let Ok(sink) = sink(read, index) else {
            continue;
        };
        if !names.insert(sink.name.clone()) {
            let advice = "another sink has this name already; rename or remove one";
            read.refuse_entry(SINKS, index, "name", Some(&sink.name), advice);
        }
        sinks.push(sink);
    }
    sinks
}

fn sink(read: &mut Reader, index: usize) -> Result<EventSink, Refused> {
    // every key is read, so that one run finds everything that is wrong
    let name = read.entry(SINKS, index, "name", name);
    let allow_plain = read.entry_optional(SINKS, index, "allow_plain", parse::switch);
    let plain = matches!(allow_plain, Ok(Some(true)));
    let url = read.entry(SINKS, index, "url", |text| url(text, plain));
    let token = read.entry_optional(SINKS, index, "token", token);
    let ca_file = read.entry_optional(SINKS, index, "ca_file", ca_file);
    let subject = read.entry_optional(SINKS, index, "subject", subject);
    let types = read.entry_list(SINKS, index, "types", parse::choice);
    let keys = read.entry_list(SINKS, index, "keys", pattern);
    allow_plain?;
    Ok(EventSink {
        name: name.ok_or(Refused)?,
        url: url.ok_or(Refused)?,
        token: token?.map(SecretString::from),
        ca_file: ca_file?,
        subject: subject?.unwrap_or_default(),
        types: types?,
        keys: keys?,
    })
}

fn name(text: &str) -> Parsed<String> {
    let is_good = (1..=40).contains(&text.len())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
    if is_good {
        Ok(text.to_owned())
    } else {
        Err("a name is 1 to 40 letters, digits, - and _, since metrics carry it".into())
    }
}

/// A URL of one of the schemes that are spoken; in the clear only to this machine, unless that is allowed.
fn url(text: &str, allow_plain: bool) -> Parsed<String> {
    const WANTED: &str =
        "write one such as https://events.example.com/hook or tls://nats.example.com:4222";
    let uri: hyper::Uri = text
        .parse()
        .map_err(|_| format!("this is no URL; {WANTED}"))?;
    let (Some(scheme), Some(host)) = (uri.scheme_str(), uri.host()) else {
        return Err(format!("scheme or host are missing; {WANTED}"));
    };
    if uri
        .authority()
        .is_some_and(|authority| authority.as_str().contains('@'))
    {
        return Err("the URL carries a login; remove it and set the sink's token".into());
    }
    let is_plain = match scheme {
        "https" | "tls" => false,
        "http" | "nats" => true,
        _ => {
            return Err(format!(
                "only https, http, tls and nats are spoken; {WANTED}"
            ));
        }
    };
    let host = host.trim_matches(['[', ']']);
    let is_here = host == "localhost"
        || host
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback());
    if is_plain && !is_here && !allow_plain {
        let secure = if scheme == "http" { "https" } else { "tls" };
        return Err(format!(
            "names of files and users would travel unencrypted to another machine; write {secure}://, or set allow_plain: true"
        ));
    }
    Ok(text.to_owned())
}

fn token(text: &str) -> Parsed<String> {
    if text.len() <= 4096 && text.bytes().all(|byte| byte.is_ascii_graphic()) {
        Ok(text.to_owned())
    } else {
        Err("a token has up to 4096 printable ASCII characters without spaces; correct it".into())
    }
}

/// A subject of NATS that can be published to (<https://docs.nats.io/nats-concepts/subjects>).
fn subject(text: &str) -> Parsed<String> {
    let is_good = text.len() <= 200
        && text.split('.').all(|token| {
            !token.is_empty()
                && token
                    .bytes()
                    .all(|byte| byte.is_ascii_graphic() && !b"*>$".contains(&byte))
        });
    if is_good {
        Ok(text.to_owned())
    } else {
        Err("this is no subject; write words with dots in between, such as files.ftp, without * and >".into())
    }
}

fn pattern(text: &str) -> Parsed<WildMatch> {
    if text.len() <= 1024 && !text.chars().any(char::is_control) {
        Ok(WildMatch::new(text))
    } else {
        Err("a pattern is a key with * and ?, of at most 1024 bytes; shorten it".into())
    }
}

/// Its first component begins with a dot: no client can use a directory of that name, anywhere, and there should be none.
fn outbox(text: &str) -> Parsed<String> {
    const ADVICE: &str = "write a prefix such as .cosgate/outbox/, of up to 200 letters, digits, - _ . and /, which begins with a \
                          dot and ends with a slash";
    let is_component = |component: &str| {
        !matches!(component, "" | "." | "..")
            && component
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
    };
    let components = text.strip_suffix('/').unwrap_or_default();
    let is_good =
        text.len() <= 200 && text.starts_with('.') && components.split('/').all(is_component);
    if is_good {
        Ok(text.to_owned())
    } else {
        Err(ADVICE.into())
    }
}

/// Less would take uploads for dead ones that are being committed.
const MIN_REPLAY_AFTER: Duration = Duration::from_secs(1);

fn replay_after(text: &str) -> Parsed<Duration> {
    let time = parse::duration(text)?;
    if time < MIN_REPLAY_AFTER {
        return Err(
            "write 1s or more: an event that was written a moment ago is still being sent".into(),
        );
    }
    Ok(time)
}

/// A URI reference without spaces (CloudEvents, attribute `source`).
fn source(text: &str) -> Parsed<String> {
    if text.len() <= 256 && text.bytes().all(|byte| byte.is_ascii_graphic()) {
        Ok(text.to_owned())
    } else {
        Err("write a URI such as /cosgate/shop or https://ftp.example.com, at most 256 ASCII characters without spaces".into())
    }
}

const SINKS: &str = "events.sinks";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_travel_over_tls_or_to_this_machine_only() {
        for good in [
            "https://events.example.com/hook?tenant=1",
            "tls://nats.example.com:4222",
            "http://127.0.0.1:9000/",
            "nats://localhost:4222",
            "nats://[::1]:4222",
        ] {
            assert_eq!(url(good, false).as_deref(), Ok(good));
        }
        for (plain, advice) in [
            ("http://events.example.com/", "https://"),
            ("nats://10.0.0.9:4222", "tls://"),
        ] {
            let refused = url(plain, false).expect_err(plain);
            assert!(
                refused.contains(advice) && refused.contains("allow_plain"),
                "{refused}"
            );
            assert!(url(plain, true).is_ok());
        }
        for bad in [
            "",
            "events",
            "kafka://broker:9092",
            "https://user:word@host/",
            "https://ho st/",
            "/hook",
        ] {
            assert!(url(bad, true).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_outbox_is_a_prefix_that_begins_with_a_dot() {
        for good in [".cosgate/outbox/", ".x/", ".events/a-b/c_d/"] {
            assert_eq!(outbox(good).as_deref(), Ok(good));
        }
        for bad in [
            "", "/", ".", "./", "../", ".a", "outbox/", ".a//b/", ".a/../b/", "/.a/", ".a b/",
            ".é/",
        ] {
            assert!(outbox(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_sink_takes_what_its_filters_let_through() {
        let sink = |types: &[EventType], keys: &[&str]| EventSink {
            name: "a".to_owned(),
            url: "https://example.com/".to_owned(),
            token: None,
            ca_file: None,
            subject: String::new(),
            types: types.to_vec(),
            keys: keys.iter().map(|key| WildMatch::new(key)).collect(),
        };
        let all = sink(
            &[
                EventType::Stored,
                EventType::Kept,
                EventType::Renamed,
                EventType::Deleted,
            ],
            &[],
        );
        assert!(all.takes(EventType::Deleted, "a/b"));
        let images = sink(&[EventType::Stored], &["cameras/*.jpg", "scans/??/*"]);
        for (key, wanted) in [
            ("cameras/7/1.jpg", true),
            ("scans/de/x", true),
            ("scans/deu/x", false),
            ("cameras/7/1.jpg.tmp", false),
        ] {
            assert_eq!(images.takes(EventType::Stored, key), wanted, "{key}");
        }
        assert!(!images.takes(EventType::Kept, "cameras/7/1.jpg"));
    }

    #[test]
    fn replicas_of_one_release_are_one_source() {
        for (pod, name) in [
            ("cosgate-2", "cosgate"),
            ("my-ftp-10", "my-ftp"),
            ("laptop", "laptop"),
            ("a-b", "a-b"),
        ] {
            assert_eq!(release(pod), name);
        }
    }

    #[test]
    fn a_subject_can_be_published_to() {
        assert!(subject("files.ftp").is_ok());
        for bad in ["", "a..b", "a.*", "a.>", "$SYS.x", "a b"] {
            assert!(subject(bad).is_err(), "{bad}");
        }
    }
}
