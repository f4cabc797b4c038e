//! The FTP side: an edge that faces the network, and libunftp as the engine behind it.
//!
//! ```text
//! client ──control──> session: codec, command table, limits ──one command at a time──> engine: libunftp
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
//! | [`listener`], [`frontend`] | accept loops and limits; what all sessions share |
//! | [`session`] | one control connection: its state, its loop, and a file per group of commands |
//! | [`codec`], [`command`], [`reply`], [`listformat`], [`glob`] | bytes to lines, lines to commands, outcomes to text; patterns of names |
//! | `ascii` | line ends of `TYPE A` |
//! | [`encoding`] | which encoding names are in, for clients from before RFC 2640 |
//! | [`passive_ports`] | the listeners of the passive ports |
//! | [`transfer`], [`data_connection`] | commit XOR interruption; the client's data connection in the storage's hands |
//! | [`kernel_queues`] | how much of a transfer the kernel may hold |
//! | [`bandwidth`] | limits of bytes per second, for gateway, user and session |
//! | [`engine`] | libunftp, its storage, and one handler for each kind of transfer |
//! | [`registry`], [`metrics`] | the open sessions, for the status page; what is counted of them |
//! | [`failed`] | the table from store errors to reply, log level and outcome |
//! | [`connections`], [`access`] | how many control connections there may be, and from which addresses |
//! | [`own`] | the ports that active mode never connects to |

pub mod access;
mod ascii;
pub mod bandwidth;
pub mod codec;
pub mod command;
pub mod connections;
pub mod data_connection;
pub mod encoding;
pub mod engine;
pub mod failed;
pub mod frontend;
pub mod glob;
pub mod kernel_queues;
pub mod listener;
pub mod listformat;
pub mod metrics;
pub mod own;
pub mod passive_ports;
pub mod registry;
pub mod reply;
pub mod session;
pub mod tls;
pub mod transfer;
