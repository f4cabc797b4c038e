//! The FTP side: an edge that faces the network, and libunftp as the engine behind it.
//!
//! ```text
//! client ──control──> edge: codec, command table, limits ──one command at a time──> engine: libunftp
//!    │                  │                                   (loopback pair)           │ dispatch, session state
//!    └────data──────> passive pool ──> DataConnectionOffer in the session's request ─────────────┐   ▼
//!                                                                                 └─> backend ──> store
//! ```
//!
//! libunftp parses nothing that a stranger wrote and moves no byte of a file: the edge composes each line that it gets,
//! and the storage backend reads and writes the client's own data connection.
//!
//! | module | owns |
//! |---|---|
//! | [`listener`] | accept loops, limits, what all sessions share |
//! | [`edge`] | one control connection: order of commands, timers, replies |
//! | `login`, `passive_commands`, `file_commands`, `lists`, [`facts`], [`protection`] | the edge's commands: USER and PASS; PASV and EPSV; on names; listings; MFMT and HASH; AUTH, PROT and PORT |
//! | [`exchange`], `arrival`, `during_transfer` | one data transfer from the edge's side; the wait for its data connection; what a client may say meanwhile |
//! | [`codec`], [`command`], [`reply`], [`listformat`], [`glob`] | bytes to lines, lines to commands, outcomes to text; patterns of names |
//! | `ascii` | line ends of `TYPE A` |
//! | [`encoding`] | which encoding names are in, for clients from before RFC 2640 |
//! | [`passive`] | the passive ports |
//! | [`transfer`] | commit XOR interruption; the client's data connection in the storage's hands |
//! | [`session`] | where edge and backend meet |
//! | [`engine`] | libunftp, its storage, and one handler for each kind of transfer |
//! | [`roster`], [`failures`], `diagnosis` | who is connected, what went wrong and why, for the status page |
//! | `trace` | the span of a command |
//! | [`connections`] | how many control connections there may be |
//! | [`own`] | the ports that active mode never connects to |
//! | [`net`] | sockets |

mod arrival;
mod ascii;
pub mod codec;
pub mod command;
mod commits;
pub mod connections;
mod diagnosis;
mod during_transfer;
pub mod edge;
pub mod encoding;
pub mod engine;
pub mod exchange;
pub mod facts;
pub mod failures;
mod file_commands;
pub mod glob;
pub mod listener;
pub mod listformat;
mod lists;
mod login;
pub mod net;
pub mod own;
pub mod passive;
mod passive_commands;
pub mod protection;
pub mod reply;
pub mod roster;
pub mod session;
pub mod tls;
mod trace;
pub mod transfer;
