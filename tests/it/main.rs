//! Scenarios over real sockets: a gateway in this process, its embedded store, and FTP on the wire.

mod support;

mod configuration;
mod copies;
mod credentials;
mod directories;
mod downloads;
mod hostile;
mod import;
mod integrity;
mod interruptions;
mod sessions;
mod store_failures;
mod transfers;
