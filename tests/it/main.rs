//! Scenarios over real sockets: a gateway in this process, its embedded store, and FTP on the wire.

mod support;

mod configuration;
mod copies;
mod directories;
mod downloads;
mod hostile;
mod integrity;
mod interruptions;
mod masquerade;
mod sessions;
mod store_failures;
mod transfers;
