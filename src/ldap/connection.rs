//! One connection to a directory: one request after the other.

use bytes::BytesMut;
use secrecy::{ExposeSecret, SecretString};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::fault::Fault;
use super::messages::{self, Answer, Kind, MAX_ANSWERS, Outcome, Request, Search};

/// Any way bytes go: TCP, or TLS over it.
pub(super) trait Wire: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Wire for T {}

/// A connection. Dropping it ends it.
pub struct Connection {
    wire: Box<dyn Wire>,
    /// What was read and not looked at yet.
    read: BytesMut,
    /// All that was read.
    total: usize,
    /// The number of the last request.
    last: i32,
}

/// The entries that a search finds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// None.
    None,
    /// This one alone.
    One(String),
    /// More than one.
    Several,
    /// There is no entry where the search begins, or none that may be seen.
    NoBase,
}

impl Connection {
    pub(super) fn new(wire: impl Wire + 'static) -> Self {
        Connection {
            wire: Box::new(wire),
            read: BytesMut::new(),
            total: 0,
            last: 0,
        }
    }

    pub(super) fn into_wire(self) -> Box<dyn Wire> {
        self.wire
    }

    /// Asks for TLS; after this the handshake begins.
    pub(super) async fn start_tls(&mut self) -> Result<(), Fault> {
        let (_, outcome) = self.ask(&Request::StartTls).await?;
        match outcome.code {
            SUCCESS => Ok(()),
            _ => Err(Fault::StartTls(outcome)),
        }
    }

    /// Logs in as `name`, whoever was logged in before. Success is code 0. An empty password is refused here (code 49): the directory
    /// would call it a success.
    pub async fn bind(&mut self, name: &str, password: &SecretString) -> Result<Outcome, Fault> {
        if password.expose_secret().is_empty() || name.is_empty() {
            return Ok(Outcome {
                code: INVALID_CREDENTIALS,
                text: "the name or the password is empty".to_owned(),
            });
        }
        Ok(self.ask(&Request::Bind { name, password }).await?.1)
    }

    /// The entry below `base` that `filter` fits.
    pub async fn find(&mut self, base: &str, filter: &str) -> Result<Found, Fault> {
        let search = Search {
            base,
            is_of_base_alone: false,
            filter,
            most: 2,
        };
        self.search(&search).await
    }

    /// The entry `dn`, if `filter` fits it.
    pub async fn examine(&mut self, dn: &str, filter: &str) -> Result<Found, Fault> {
        let search = Search {
            base: dn,
            is_of_base_alone: true,
            filter,
            most: 1,
        };
        self.search(&search).await
    }

    async fn search(&mut self, search: &Search<'_>) -> Result<Found, Fault> {
        let (mut entries, outcome) = self.ask(&Request::Search(search)).await?;
        match (outcome.code, entries.len()) {
            (SIZE_LIMIT_EXCEEDED, _) | (SUCCESS, 2..) => Ok(Found::Several),
            (SUCCESS, 0) => Ok(Found::None),
            // the name of the root, as which nobody can log in
            (SUCCESS, 1) if entries[0].is_empty() => Err(Fault::Malformed),
            (SUCCESS, 1) => Ok(Found::One(entries.remove(0))),
            (NO_SUCH_OBJECT, _) => Ok(Found::NoBase),
            _ => Err(Fault::Refused("the search", outcome)),
        }
    }

    /// Says goodbye.
    pub async fn close(mut self) {
        // the directory does without it, too
        let _ = self.wire.write_all(&messages::unbind(self.last + 1)).await;
        let _ = self.wire.shutdown().await;
    }

    /// The result of a request, and the entries that came before it.
    async fn ask(&mut self, request: &Request<'_>) -> Result<(Vec<String>, Outcome), Fault> {
        self.last += 1;
        let Some(message) = request.encode(self.last) else {
            let filter = match request {
                Request::Search(search) => search.filter,
                Request::Bind { .. } | Request::StartTls => "",
            };
            return Err(Fault::Filter(filter.to_owned()));
        };
        self.wire.write_all(&message).await.map_err(Fault::Broken)?;
        self.wire.flush().await.map_err(Fault::Broken)?;
        let mut entries = Vec::new();
        loop {
            match self.answer().await? {
                (id, Answer::Result(kind, outcome)) if id == self.last => {
                    return match kind == request.kind() {
                        true => Ok((entries, outcome)),
                        false => Err(Fault::Malformed),
                    };
                }
                (id, Answer::Entry(name)) if id == self.last => entries.push(name),
                (id, Answer::Reference | Answer::Other) if id == self.last => {}
                // the notice that the directory is about to close (RFC 4511, section 4.4.1)
                (0, Answer::Result(Kind::Extended, _)) => return Err(Fault::Closed),
                _ => return Err(Fault::Malformed),
            }
        }
    }

    /// The next message.
    async fn answer(&mut self) -> Result<(i32, Answer), Fault> {
        loop {
            match messages::length(&self.read)? {
                Some(length) if length <= self.read.len() => {
                    let message = self.read.split_to(length);
                    return Ok(messages::decode(&message)?);
                }
                _ => {}
            }
            match self.wire.read_buf(&mut self.read).await {
                Ok(0) => return Err(Fault::Closed),
                Ok(count) => self.total += count,
                Err(error) => return Err(Fault::Broken(error)),
            }
            if self.total > MAX_ANSWERS {
                return Err(Fault::Malformed);
            }
        }
    }
}

/// The result code of a request that was done (RFC 4511, appendix A).
const SUCCESS: u32 = 0;
const SIZE_LIMIT_EXCEEDED: u32 = 4;
const NO_SUCH_OBJECT: u32 = 32;
const INVALID_CREDENTIALS: u32 = 49;

#[cfg(test)]
mod tests {
    use tokio::io::DuplexStream;

    use super::*;

    fn connection() -> (Connection, DuplexStream) {
        let (near, far) = tokio::io::duplex(1 << 20);
        (Connection::new(near), far)
    }

    /// A search that this is the answer to.
    async fn searched(answer: &[u8]) -> Result<Found, Fault> {
        let (mut connection, mut far) = connection();
        far.write_all(answer).await.expect("it fits");
        far.shutdown().await.expect("closed");
        connection.find("dc=x", "(a=b)").await
    }

    const DONE: &[u8] = b"\x30\x0c\x02\x01\x01\x65\x07\x0a\x01\x00\x04\x00\x04\x00";
    const ENTRY: &[u8] = b"\x30\x0b\x02\x01\x01\x64\x06\x04\x02a=\x30\x00";
    const REFERENCE: &[u8] = b"\x30\x09\x02\x01\x01\x73\x04\x04\x02ab";

    #[tokio::test]
    async fn exactly_one_entry_is_one_and_references_are_none() {
        let found = async |parts: &[&[u8]]| searched(&parts.concat()).await.expect("an answer");
        assert_eq!(found(&[DONE]).await, Found::None);
        assert_eq!(found(&[REFERENCE, DONE]).await, Found::None);
        let one = Found::One("a=".to_owned());
        assert_eq!(found(&[ENTRY, REFERENCE, DONE]).await, one);
        assert_eq!(found(&[ENTRY, ENTRY, DONE]).await, Found::Several);
    }

    #[tokio::test]
    async fn an_answer_that_is_none_is_a_fault() {
        let other_id = b"\x30\x0c\x02\x01\x02\x65\x07\x0a\x01\x00\x04\x00\x04\x00";
        let of_bind = b"\x30\x0c\x02\x01\x01\x61\x07\x0a\x01\x00\x04\x00\x04\x00";
        let root = b"\x30\x09\x02\x01\x01\x64\x04\x04\x00\x30\x00";
        for bad in [
            &b"HTTP/1.1 400 Bad Request\r\n\r\n"[..],
            other_id,
            of_bind,
            &[&root[..], DONE].concat(),
        ] {
            let fault = searched(bad).await.expect_err("no answer");
            assert!(matches!(fault, Fault::Malformed), "{fault:?}");
        }
        let fault = searched(ENTRY).await.expect_err("the end is missing");
        assert!(matches!(fault, Fault::Closed), "{fault:?}");
        // many small entries are bounded as one long answer is
        let fault = searched(&ENTRY.repeat(MAX_ANSWERS)).await;
        assert!(matches!(fault, Err(Fault::Malformed)), "{fault:?}");
    }

    #[tokio::test]
    async fn an_empty_password_is_refused_before_it_is_sent() {
        let (mut connection, mut far) = connection();
        let empty = SecretString::from("");
        let outcome = connection
            .bind("cn=a", &empty)
            .await
            .expect("answered here");
        assert_eq!(outcome.code, INVALID_CREDENTIALS);
        drop(connection);
        let mut sent = Vec::new();
        far.read_to_end(&mut sent).await.expect("the end");
        assert!(sent.is_empty());
    }
}
