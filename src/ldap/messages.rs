//! LDAP's messages (RFC 4511): those that are sent, and what is read of the answers.
//!
//! Invariant: an answer is parsed only after its elements were found to fit into each other, no deeper than any answer nests. The
//! parser itself has no bound: it would use up the stack.

use bytes::BytesMut;
use ldap3::asn1::{
    ASNTag, Boolean, Enumerated, Integer, Null, OctetString, PL, Sequence, StructureTag, Tag,
    TagClass, parse_tag, write,
};
use secrecy::{ExposeSecret, SecretString};

/// The longest answer that is read, and the most that is read of one connection: no attribute is asked for, so an answer has some
/// hundred bytes.
pub(super) const MAX_ANSWERS: usize = 64 * 1024;

/// A search reference in an answer with controls is four levels deep.
const MAX_DEPTH: usize = 16;

/// A request that is answered.
pub(super) enum Request<'a> {
    /// A simple bind.
    Bind {
        /// A distinguished name, or another one that the directory takes.
        name: &'a str,
        /// Never empty.
        password: &'a SecretString,
    },
    /// A search for names of entries.
    Search(&'a Search<'a>),
    /// The wish to speak TLS from now on.
    StartTls,
}

/// A search for names of entries; no attribute is asked for, and aliases are not followed.
pub(super) struct Search<'a> {
    /// Where it begins.
    pub base: &'a str,
    /// Only `base` itself is looked at.
    pub is_of_base_alone: bool,
    /// In the notation of RFC 4515.
    pub filter: &'a str,
    /// Entries that are answered at most.
    pub most: u8,
}

/// One message of the directory.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// The name of an entry that was found.
    Entry(String),
    /// A part of the tree that is elsewhere.
    Reference,
    /// The end of the answer to a request of this kind.
    Result(Kind, Outcome),
    /// Nothing that matters here.
    Other,
}

/// The kind of request that a result belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Bind,
    Search,
    Extended,
}

/// The result of a request (RFC 4511, section 4.1.9).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// The result code; 0 is success.
    pub code: u32,
    /// The directory's own words, without control characters.
    pub text: String,
}

/// An answer that is none of LDAP, or longer or deeper than any.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Malformed;

impl Request<'_> {
    pub(super) fn kind(&self) -> Kind {
        match self {
            Request::Bind { .. } => Kind::Bind,
            Request::Search(_) => Kind::Search,
            Request::StartTls => Kind::Extended,
        }
    }

    /// The message with the number `id`; none if the filter is none.
    pub(super) fn encode(&self, id: i32) -> Option<BytesMut> {
        let request = match self {
            Request::Bind { name, password } => operation(
                0,
                vec![
                    integer(VERSION),
                    text(name),
                    Tag::OctetString(OctetString {
                        id: 0,
                        class: TagClass::Context,
                        inner: password.expose_secret().as_bytes().to_vec(),
                    }),
                ],
            ),
            Request::Search(search) => operation(3, search.encode()?),
            Request::StartTls => operation(
                23,
                vec![Tag::OctetString(OctetString {
                    id: 0,
                    class: TagClass::Context,
                    inner: START_TLS.into(),
                })],
            ),
        };
        Some(message(id, request))
    }
}

impl Search<'_> {
    fn encode(&self) -> Option<Vec<Tag>> {
        let enumerated = |inner| {
            Tag::Enumerated(Enumerated {
                inner,
                ..Enumerated::default()
            })
        };
        let whole_subtree = 2;
        let never_deref_aliases = 0;
        Some(vec![
            text(self.base),
            enumerated(if self.is_of_base_alone {
                0
            } else {
                whole_subtree
            }),
            enumerated(never_deref_aliases),
            integer(self.most.into()),
            // the connection's own time limit is for all requests together
            integer(0),
            Tag::Boolean(Boolean {
                inner: true,
                ..Boolean::default()
            }),
            ldap3::parse_filter(self.filter).ok()?,
            Tag::Sequence(Sequence {
                inner: vec![text(NO_ATTRIBUTES)],
                ..Sequence::default()
            }),
        ])
    }
}

/// The goodbye, which is not answered (RFC 4511, section 4.3).
pub(super) fn unbind(id: i32) -> BytesMut {
    let unbind = Tag::Null(Null {
        id: 2,
        class: TagClass::Application,
        inner: (),
    });
    message(id, unbind)
}

fn message(id: i32, operation: Tag) -> BytesMut {
    let message = Tag::Sequence(Sequence {
        inner: vec![integer(id.into()), operation],
        ..Sequence::default()
    });
    let mut bytes = BytesMut::new();
    write::encode_into(&mut bytes, message.into_structure()).expect("memory takes all bytes");
    bytes
}

fn operation(id: u64, inner: Vec<Tag>) -> Tag {
    Tag::Sequence(Sequence {
        id,
        class: TagClass::Application,
        inner,
    })
}

fn integer(inner: i64) -> Tag {
    Tag::Integer(Integer {
        inner,
        ..Integer::default()
    })
}

fn text(text: &str) -> Tag {
    Tag::OctetString(OctetString {
        inner: text.into(),
        ..OctetString::default()
    })
}

/// The length of the message that begins with `bytes`; none as long as that can't be known.
pub(super) fn length(bytes: &[u8]) -> Result<Option<usize>, Malformed> {
    match Header::read(bytes)? {
        None => Ok(None),
        Some(header) if header.is_constructed && header.end <= MAX_ANSWERS => Ok(Some(header.end)),
        Some(_) => Err(Malformed),
    }
}

/// The number of a whole message, and what it says.
pub(super) fn decode(message: &[u8]) -> Result<(i32, Answer), Malformed> {
    if !is_sound(message) {
        return Err(Malformed);
    }
    let (_, message) = parse_tag(message).map_err(|_| Malformed)?;
    let mut parts = elements(message)?.into_iter();
    let id = number(parts.next().ok_or(Malformed)?)?;
    let id = i32::try_from(id).map_err(|_| Malformed)?;
    let operation = parts.next().ok_or(Malformed)?;
    if operation.class != TagClass::Application {
        return Err(Malformed);
    }
    let answer = match operation.id {
        4 => {
            let name = elements(operation)?.into_iter().next().ok_or(Malformed)?;
            let name = name.expect_primitive().ok_or(Malformed)?;
            Answer::Entry(String::from_utf8(name).map_err(|_| Malformed)?)
        }
        19 => Answer::Reference,
        1 => Answer::Result(Kind::Bind, Outcome::decode(operation)?),
        5 => Answer::Result(Kind::Search, Outcome::decode(operation)?),
        24 => Answer::Result(Kind::Extended, Outcome::decode(operation)?),
        _ => Answer::Other,
    };
    Ok((id, answer))
}

impl Outcome {
    fn decode(operation: StructureTag) -> Result<Self, Malformed> {
        let mut parts = elements(operation)?.into_iter();
        let code = number(parts.next().ok_or(Malformed)?)?;
        let _matched_name = parts.next().ok_or(Malformed)?;
        let text = parts.next().ok_or(Malformed)?;
        let text = text.expect_primitive().ok_or(Malformed)?;
        let text = String::from_utf8_lossy(&text);
        let printable = text.chars().filter(|c| !c.is_control());
        Ok(Outcome {
            code,
            text: printable.take(MAX_TEXT).collect(),
        })
    }
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = match self.code {
            0 => "success",
            1 => "operationsError",
            2 => "protocolError",
            3 => "timeLimitExceeded",
            4 => "sizeLimitExceeded",
            8 => "strongerAuthRequired",
            10 => "referral, which is not followed",
            11 => "adminLimitExceeded",
            13 => "confidentialityRequired",
            19 => "constraintViolation",
            32 => "noSuchObject",
            34 => "invalidDNSyntax",
            48 => "inappropriateAuthentication",
            49 => "invalidCredentials",
            50 => "insufficientAccessRights",
            51 => "busy",
            52 => "unavailable",
            53 => "unwillingToPerform",
            80 => "other",
            _ => "see RFC 4511, appendix A",
        };
        write!(f, "result code {} ({name})", self.code)?;
        match self.text.as_str() {
            "" => Ok(()),
            text => write!(f, ", \"{text}\""),
        }
    }
}

fn elements(tag: StructureTag) -> Result<Vec<StructureTag>, Malformed> {
    tag.expect_constructed().ok_or(Malformed)
}

/// An INTEGER or ENUMERATED that is not negative.
fn number(tag: StructureTag) -> Result<u32, Malformed> {
    match tag.payload {
        PL::P(bytes) if (1..=4).contains(&bytes.len()) && bytes[0] < 0x80 => Ok(bytes
            .iter()
            .fold(0, |all, byte| all << 8 | u32::from(*byte))),
        _ => Err(Malformed),
    }
}

/// The beginning of an element: one byte of tag, as all of LDAP's have, and the length in its definite form (RFC 4511,
/// section 5.1).
struct Header {
    is_constructed: bool,
    /// Where the content begins.
    content: usize,
    /// Where the element ends.
    end: usize,
}

impl Header {
    fn read(bytes: &[u8]) -> Result<Option<Self>, Malformed> {
        let [tag, length, rest @ ..] = bytes else {
            return Ok(None);
        };
        if tag & 0x1f == 0x1f {
            return Err(Malformed);
        }
        let (digits, length) = match *length {
            short @ 0..=0x7f => (0, usize::from(short)),
            long @ 0x81..=0x84 => {
                let digits = usize::from(long - 0x80);
                let Some(length) = rest.get(..digits) else {
                    return Ok(None);
                };
                let length = length
                    .iter()
                    .fold(0, |all, byte| all << 8 | u64::from(*byte));
                (digits, usize::try_from(length).map_err(|_| Malformed)?)
            }
            _ => return Err(Malformed),
        };
        let content = 2 + digits;
        Ok(Some(Header {
            is_constructed: tag & 0x20 != 0,
            content,
            end: content.checked_add(length).ok_or(Malformed)?,
        }))
    }
}

/// True if the elements of `message` lie within each other, with no more levels than any answer has.
fn is_sound(message: &[u8]) -> bool {
    let mut at = 0;
    let mut ends = vec![message.len()];
    while let Some(end) = ends.last().copied() {
        if at == end {
            ends.pop();
            continue;
        }
        let Ok(Some(header)) = Header::read(&message[at..end]) else {
            return false;
        };
        if header.end > end - at || header.is_constructed && ends.len() == MAX_DEPTH {
            return false;
        }
        if header.is_constructed {
            ends.push(at + header.end);
            at += header.content;
        } else {
            at += header.end;
        }
    }
    true
}

/// LDAP's version 3 (RFC 4511, section 4.2).
const VERSION: i64 = 3;

/// The name of the extended operation (RFC 4511, section 4.14.1).
const START_TLS: &str = "1.3.6.1.4.1.1466.20037";

/// Asks for no attribute (RFC 4511, section 4.5.1.8).
const NO_ATTRIBUTES: &str = "1.1";

/// Letters of a directory's own words that are kept.
const MAX_TEXT: usize = 200;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn result(kind: u8, code: u8, text: &str) -> Vec<u8> {
        let text_length = u8::try_from(text.len()).expect("short");
        let mut bytes = vec![
            0x30,
            12 + text_length,
            2,
            1,
            7,
            0x60 + kind,
            7 + text_length,
        ];
        bytes.extend([0x0a, 1, code, 4, 0, 4, text_length]);
        bytes.extend(text.as_bytes());
        bytes
    }

    #[test]
    fn a_bind_is_written_as_the_rfc_says() {
        let password = SecretString::from("secret");
        let bind = Request::Bind {
            name: "cn=a",
            password: &password,
        };
        let written = bind.encode(1).expect("it has no filter");
        let expected = b"\x30\x16\x02\x01\x01\x60\x11\x02\x01\x03\x04\x04cn=a\x80\x06secret";
        assert_eq!(&written[..], expected);
        assert_eq!(&unbind(2)[..], b"\x30\x05\x02\x01\x02\x42\x00");
        let start_tls = Request::StartTls.encode(1).expect("it has no filter");
        assert_eq!(&start_tls[..9], b"\x30\x1d\x02\x01\x01\x77\x18\x80\x16");
    }

    #[test]
    fn a_result_is_read_and_what_it_says_is_printable() {
        let bytes = result(1, 49, "data\n52e\0");
        assert_eq!(length(&bytes), Ok(Some(bytes.len())));
        let (id, answer) = decode(&bytes).expect("a result");
        let Answer::Result(Kind::Bind, outcome) = answer else {
            panic!("{answer:?}");
        };
        assert_eq!(
            (id, outcome.code, outcome.text.as_str()),
            (7, 49, "data52e")
        );
        assert_eq!(
            outcome.to_string(),
            "result code 49 (invalidCredentials), \"data52e\""
        );
    }

    #[test]
    fn an_answer_that_is_too_long_or_too_deep_is_refused_before_it_is_parsed() {
        assert_eq!(
            length(&[0x30, 0x84, 0x7f, 0xff, 0xff, 0xff]),
            Err(Malformed)
        );
        assert_eq!(
            length(&[0x30, 0x80]),
            Err(Malformed),
            "an indefinite length"
        );
        assert_eq!(length(b"HTTP/1.1 400"), Err(Malformed));
        assert_eq!(length(&[0x30, 0x82, 1]), Ok(None));
        // as many levels as fit, each with a length of four bytes
        let mut deep = Vec::new();
        for level in (0..MAX_ANSWERS / 6).rev() {
            let length = u32::try_from(level * 6).expect("short");
            deep.extend([0x30, 0x84]);
            deep.extend(length.to_be_bytes());
        }
        assert!(matches!(length(&deep), Ok(Some(_))));
        assert_eq!(decode(&deep), Err(Malformed));
    }

    #[test]
    fn a_filter_that_is_none_is_not_sent() {
        let search = Search {
            base: "dc=x",
            is_of_base_alone: false,
            filter: "(uid=a",
            most: 2,
        };
        assert!(Request::Search(&search).encode(1).is_none());
    }

    proptest! {
        #[test]
        fn no_bytes_of_a_directory_do_harm(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            if let Ok(Some(length)) = length(&bytes) {
                prop_assert!(length <= MAX_ANSWERS);
            }
            let _ = decode(&bytes);
        }

        #[test]
        fn no_change_to_a_good_answer_does_harm(at in 0_usize..20, byte: u8, code: u8) {
            let mut bytes = result(1, code & 0x7f, "words");
            let at = at % bytes.len();
            bytes[at] = byte;
            if let Ok((_, Answer::Result(Kind::Bind, outcome))) = decode(&bytes) {
                prop_assert!(outcome.text.len() <= MAX_TEXT * 4);
            }
        }
    }
}
