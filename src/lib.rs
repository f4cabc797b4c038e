//! cosgate: an FTP and FTPS gateway in front of object storage, Tencent COS and any S3-compatible store.
//!
//! ```text
//! TCP accept (ftp::listener) ── limits, keepalive, drain ──> one session (ftp::edge)
//!      │  AUTH, PROT: ftp::protection, ftp::tls    USER, PASS: ftp::auth    PASV: ftp::passive, masquerade
//!      └─> engine: libunftp over a loopback pair, one command at a time (ftp::engine)
//!              └─> storage backend (ftp::backend) ── the client's data connection comes in the session's order
//!                      └─> store: upload, download, listing, copy ──> aws-sdk-s3 ──> COS, S3, or the embedded store
//! ```
//!
//! Invariants, each with a test:
//!
//! 1. 226 is sent only after the store acknowledged the whole object.
//! 2. An upload ends in exactly one of: stored, or not stored with its multipart upload aborted.
//! 3. An existing object is not touched before the first byte of its replacement has arrived and the new object is
//!    complete.
//! 4. Memory for part buffers never exceeds the budget; a full budget slows clients down by TCP backpressure.
//! 5. A path never leaves the user's home.
//! 6. Nothing is ever logged that authenticates: passwords, keys, tokens.
//! 7. Every number that bounds something is configurable, or a named constant with its reason.
//!
//! Types of the SDK stay in [`store`], libunftp's in [`ftp`]; `store` never imports `ftp`. [`app`] alone knows every module.

pub mod admin;
pub mod app;
pub mod certificates;
pub mod cli;
pub mod config;
pub mod ftp;
pub mod masquerade;
pub mod metrics;
pub mod reload;
pub mod store;
pub mod telemetry;
