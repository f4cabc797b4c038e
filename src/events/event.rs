//! An event, and its form on the wire: CloudEvents 1.0, structured content mode in JSON.
//!
//! Specification: <https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/spec.md>, and for `traceparent` the extension for
//! distributed tracing. The JSON is written with serde: the SDK for CloudEvents would bring more crates than this file has lines.

use std::borrow::Cow;
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use time::format_description::well_known::Rfc3339;

use crate::config::EventType;
use crate::store::{Interruption, ObjectChecksum, ObjectFacts};
use crate::utc::utc;

/// One event, made at the commit.
#[derive(Debug, Clone)]
pub struct Event {
    /// A ULID, the same in every repetition: consumers drop repetitions by it.
    pub id: String,
    /// The kind of event.
    pub event_type: EventType,
    /// When, by the gateway's clock.
    pub time: SystemTime,
    /// The bucket.
    pub bucket: String,
    /// The object's key; of a directory the prefix, with the slash at its end.
    pub key: String,
    /// Known facts about it.
    pub data: EventData,
    /// The span that the event belongs to, as a W3C `traceparent`.
    pub traceparent: Option<String>,
}

/// Known facts about an event. A field that is not known is left out of the JSON.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub struct EventData {
    /// Bytes of the object.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// The object's ETag, without quotes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub etag: Option<String>,
    /// The checksum that was compared with the store's before the client's 226.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checksum: Option<ObjectChecksum>,
    /// The media type that the object was stored with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
    /// The FTP user.
    pub user: String,
    /// The client's address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client: Option<IpAddr>,
    /// The FTP command.
    pub verb: Cow<'static, str>,
    /// Bytes that the client sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub received: Option<u64>,
    /// Bytes of an older object that REST or APPE kept before them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resumed_at: Option<u64>,
    /// Requests that the object's bytes came in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parts: Option<u64>,
    /// Time from the command to its reply.
    #[serde(
        rename = "duration_seconds",
        serialize_with = "seconds",
        deserialize_with = "from_seconds",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub duration: Option<Duration>,
    /// `complete`, or `kept` for what an interrupted upload left.
    pub outcome: Cow<'static, str>,
    /// Why an upload was interrupted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<Cow<'static, str>>,
    /// The number of the session in the gateway's log.
    pub session: u64,
    /// The key that the object had before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub previous: Option<String>,
    /// The bucket of that key, if it was another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous_bucket: Option<String>,
    /// Objects of a directory that was renamed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
    /// `false` if the gateway died before it knew that the change was made, and another object has taken the place since.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub confirmed: Option<bool>,
}

impl EventData {
    /// Adds what is known of the object.
    pub fn describe(&mut self, facts: ObjectFacts) {
        self.size = Some(facts.size);
        self.etag = facts.etag;
        self.checksum = facts.checksum;
        self.content_type = facts.content_type;
        self.parts = (facts.parts > 0).then_some(facts.parts);
    }
}

/// An event as it lies in the outbox.
#[derive(Serialize, Deserialize)]
struct Entry<'a> {
    id: Cow<'a, str>,
    #[serde(rename = "type")]
    event_type: Cow<'a, str>,
    /// Milliseconds since 1970.
    time: u64,
    bucket: Cow<'a, str>,
    key: Cow<'a, str>,
    data: Cow<'a, EventData>,
    traceparent: Option<Cow<'a, str>>,
    /// Makes each version of the entry another one.
    writes: u32,
}

fn seconds<S: serde::Serializer>(duration: &Option<Duration>, to: S) -> Result<S::Ok, S::Error> {
    let seconds = duration.unwrap_or_default().as_secs_f64();
    to.serialize_f64((seconds * 1000.0).round() / 1000.0)
}

fn from_seconds<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<Duration>, D::Error> {
    let seconds = f64::deserialize(from)?;
    Ok(Duration::try_from_secs_f64(seconds).ok())
}

/// A new ULID (<https://github.com/ulid/spec>); none if the system has no random numbers.
pub fn new_id(time: SystemTime) -> Option<String> {
    let mut random = [0; 16];
    getrandom::fill(&mut random[6..]).ok()?;
    let millis = time
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |since| since.as_millis());
    Some(
        ulid::Ulid::from_parts(
            u64::try_from(millis).unwrap_or(u64::MAX),
            u128::from_be_bytes(random),
        )
        .to_string(),
    )
}

impl Event {
    /// The event of an upload that was interrupted and is kept.
    pub(super) fn ended(mut self, ending: Option<Interruption>) -> Self {
        if let Some(reason) = ending {
            self.event_type = EventType::Kept;
            self.data.outcome = "kept".into();
            self.data.reason = Some(reason.kind().into());
        }
        self
    }

    /// Makes it an event about a directory: keys become prefixes.
    pub fn name_directory(&mut self) {
        self.key.push('/');
        if let Some(previous) = &mut self.data.previous {
            previous.push('/');
        }
    }

    /// The event as it lies in the outbox; `writes` is how often it was written there before.
    pub(super) fn to_entry(&self, writes: u32) -> Vec<u8> {
        let millis = self
            .time
            .duration_since(SystemTime::UNIX_EPOCH)
            .map_or(0, |since| since.as_millis());
        let entry = Entry {
            id: Cow::Borrowed(&self.id),
            event_type: self.event_type.word().into(),
            time: u64::try_from(millis).unwrap_or(u64::MAX),
            bucket: Cow::Borrowed(&self.bucket),
            key: Cow::Borrowed(&self.key),
            data: Cow::Borrowed(&self.data),
            traceparent: self.traceparent.as_deref().map(Cow::Borrowed),
            writes,
        };
        json!(entry).to_string().into_bytes()
    }

    /// The event of an entry.
    pub(super) fn from_entry(body: &[u8]) -> Result<Self, String> {
        let entry: Entry<'_> = serde_json::from_slice(body).map_err(|error| error.to_string())?;
        let event_type = entry.event_type.parse();
        Ok(Event {
            id: entry.id.into_owned(),
            event_type: event_type.map_err(|_| format!("no type {}", entry.event_type))?,
            time: SystemTime::UNIX_EPOCH
                .checked_add(Duration::from_millis(entry.time))
                .ok_or("a time beyond all calendars")?,
            bucket: entry.bucket.into_owned(),
            key: entry.key.into_owned(),
            data: entry.data.into_owned(),
            traceparent: entry.traceparent.map(Cow::into_owned),
        })
    }

    /// The event in JSON; `source` is `events.source`.
    pub fn to_json(&self, source: &str) -> Value {
        let mut data = json!(self.data);
        if let Some(data) = data.as_object_mut() {
            data.insert("bucket".to_owned(), json!(self.bucket));
            data.insert("key".to_owned(), json!(self.key));
        }
        let time = utc(self.time);
        let mut event = json!({
            "specversion": "1.0",
            "id": self.id,
            "source": source,
            "type": format!("cosgate.object.{}", self.event_type.word()),
            "subject": format!("{}/{}", self.bucket, self.key),
            "time": time.format(&Rfc3339).unwrap_or_default(),
            "datacontenttype": "application/json",
            "data": data,
        });
        if let (Some(parent), Some(event)) = (&self.traceparent, event.as_object_mut()) {
            event.insert("traceparent".to_owned(), json!(parent));
        }
        event
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// An event about `key`.
    pub(in crate::events) fn sample(key: &str) -> Event {
        let time = SystemTime::UNIX_EPOCH + Duration::from_millis(1_800_000_000_123);
        Event {
            id: new_id(time).expect("random numbers"),
            event_type: EventType::Stored,
            time,
            bucket: "files".to_owned(),
            key: key.to_owned(),
            data: EventData {
                size: Some(3),
                checksum: Some(ObjectChecksum {
                    algorithm: "CRC64NVME".into(),
                    value: "0123456789abcdef".to_owned(),
                }),
                user: "camera-7".to_owned(),
                client: Some("192.0.2.9".parse().expect("an address")),
                verb: "STOR".into(),
                received: Some(3),
                duration: Some(Duration::from_micros(12_345)),
                outcome: "complete".into(),
                session: 7,
                ..EventData::default()
            },
            traceparent: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned()),
        }
    }

    #[test]
    fn an_event_has_the_attributes_of_cloudevents_and_leaves_out_what_is_not_known() {
        let event = sample("in/a.jpg");
        let json = event.to_json("/cosgate/test");
        assert_eq!(
            json,
            json!({
                "specversion": "1.0",
                "id": event.id,
                "source": "/cosgate/test",
                "type": "cosgate.object.stored",
                "subject": "files/in/a.jpg",
                "time": "2027-01-15T08:00:00.123Z",
                "datacontenttype": "application/json",
                "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
                "data": {
                    "bucket": "files",
                    "key": "in/a.jpg",
                    "size": 3,
                    "checksum": {"algorithm": "CRC64NVME", "value": "0123456789abcdef"},
                    "user": "camera-7",
                    "client": "192.0.2.9",
                    "verb": "STOR",
                    "received": 3,
                    "duration_seconds": 0.012,
                    "outcome": "complete",
                    "session": 7,
                },
            })
        );
    }

    #[test]
    fn an_entry_of_the_outbox_is_the_event_again_and_each_version_is_another_one() {
        let event = sample("in/\u{1}ä.jpg");
        let again = Event::from_entry(&event.to_entry(0)).expect("an entry");
        let (before, after) = (event.to_json("/x"), again.to_json("/x"));
        assert_eq!(before, after);
        assert_ne!(event.to_entry(0), event.to_entry(1));
        for bad in ["", "{}", "[]", "null"] {
            assert!(Event::from_entry(bad.as_bytes()).is_err(), "{bad}");
        }
        let kept = event.ended(Some(Interruption::Abort));
        let kept = Event::from_entry(&kept.to_entry(2)).expect("an entry");
        assert_eq!(kept.event_type, EventType::Kept);
        assert_eq!(kept.data.reason.as_deref(), Some("abort"));
    }

    #[test]
    fn ids_are_ulids_in_the_order_of_time_and_never_the_same() {
        let early = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        let (first, second) = (new_id(early), new_id(early));
        let later = new_id(early + Duration::from_millis(1));
        assert_ne!(first, second);
        assert!(first < later && second < later, "{first:?} {later:?}");
        assert_eq!(first.expect("random numbers").len(), 26);
    }
}
