//! The commands that set or list options of the session: TYPE, FEAT and OPTS (RFC 959, 2389), and the encoding of its names.

use std::time::Duration;

use tracing::warn;

use crate::config::{Ascii, Times};
use crate::ftp::command::TransferType;
use crate::ftp::listformat::Facts;
use crate::ftp::reply::Reply;
use crate::ftp::session::edge::{Edge, Step};
use crate::store::{Algorithm, VirtualPath};
use crate::telemetry::LineLimit;

/// One line in a while names a client that needs a charset, or another one.
static NOT_READ: LineLimit = LineLimit::per(Duration::from_secs(60));

impl Edge {
    /// `TYPE`
    pub(super) async fn set_type(&mut self, kind: TransferType) -> Step {
        self.ascii = kind == TransferType::Ascii;
        let text = match (kind, self.session.user()) {
            (TransferType::Image, _) => "Type is image",
            (TransferType::Ascii, None) => "Type is ASCII",
            (TransferType::Ascii, Some(_)) if self.converts() => {
                "Type is ASCII, line ends are converted"
            }
            (TransferType::Ascii, Some(_)) => "Type is ASCII, files are sent unchanged",
        };
        self.say(200, text).await
    }

    /// True if files are converted.
    pub(super) fn converts(&self) -> bool {
        let user = self.session.user();
        self.ascii && user.is_some_and(|user| user.ascii == Ascii::Convert)
    }

    /// The refusal of SIZE and REST: a size in the store is none on the wire, and neither is a place in the file. Proftpd
    /// refuses both too.
    pub(super) async fn no_ascii(&mut self, verb: &'static str, code: u16) -> Step {
        // the place is of no use any more
        self.restart = 0;
        self.send(Reply::new(
            code,
            format!("{verb} is not possible in TYPE A, send TYPE I first"),
        ))
        .await
    }

    /// `FEAT` (RFC 2389): what there is beyond RFC 959, one per line.
    pub(super) fn features(&self) -> Reply {
        let (mut auth, mut protection) = ("", "");
        if self.frontend.tls.is_some() {
            (auth, protection) = ("AUTH TLS\n", "PBSZ\nPROT\n");
        }
        let eprt = if self.frontend.active.enabled {
            "EPRT\n"
        } else {
            ""
        };
        let facts = self.facts.features();
        // a client that may set times compares those of the next listing with them, and copies again what differs
        let mfmt = match self.frontend.listing_times {
            Times::Store => "",
            Times::Metadata => "MFMT\n",
        };
        let text = format!(
            "Features\n{auth}{eprt}EPSV\nMDTM\n{mfmt}MLST {facts}\nPASV\n{protection}REST STREAM\nSIZE\nTVFS\nUTF8\nEnd"
        );
        Reply::new(211, text)
    }

    /// `OPTS` (RFC 2389).
    pub(super) async fn option(&mut self, option: &str) -> Step {
        let (name, value) = option.split_once(' ').unwrap_or((option, ""));
        let reply = match (name, value) {
            ("UTF8", value) => self.announce_utf8(value != "OFF"),
            // RFC 3659, section 7.9: the reply has the facts that were chosen, and nothing behind OPTS if there are none
            ("MLST", names) => {
                self.facts = Facts::chosen(names);
                let text = format!("MLST OPTS {}", self.facts);
                Reply::new(200, text.trim_end().to_owned())
            }
            ("HASH", name) => match (self.dependable_algorithm(), name) {
                (Some(only), "") => Reply::new(200, only.to_string()),
                (Some(only), name) if Algorithm::named(name) == Some(only) => {
                    Reply::new(200, only.to_string())
                }
                (Some(only), _) => {
                    Reply::new(504, format!("The store has only {only} of every file"))
                }
                (None, _) => Reply::new(504, "There is no hash of every file"),
            },
            _ => Reply::new(501, "Unknown option"),
        };
        self.send(reply).await
    }

    /// That of the store of the user's home.
    fn dependable_algorithm(&self) -> Option<Algorithm> {
        self.store_of(&VirtualPath::root()).dependable_algorithm()
    }

    /// A line that isn't UTF-8 as text, or the reply that refuses it. Whoever runs the gateway learns what the client of a
    /// user needs; strangers write nothing to the log.
    pub(super) fn legacy(&mut self, line: &[u8]) -> Result<String, Reply> {
        let text = self.encoding.legacy(line);
        match (&text, self.session.user()) {
            (Ok(_), _) => self.control.encode_in(self.encoding.outgoing()),
            (Err(_), Some(user)) => {
                if let Some(left_out) = NOT_READ.pass() {
                    let (id, user, client) = (self.session.id, &user.name, self.session.peer);
                    warn!(session = id, user, %client, left_out, "a line was refused since it is not in UTF-8; set `charset` to what the client's names are in");
                }
            }
            (Err(_), None) => {}
        }
        text
    }

    /// `OPTS UTF8`, which clients send before or after they log in.
    pub(super) fn announce_utf8(&mut self, is_utf8: bool) -> Reply {
        let is_possible = self.encoding.announce(is_utf8);
        let charset = self.encoding.outgoing();
        self.control.encode_in(charset);
        match is_possible {
            true => Reply::new(200, format!("Names are in {charset}")),
            false => Reply::new(504, "Names are always UTF-8"),
        }
    }
}
