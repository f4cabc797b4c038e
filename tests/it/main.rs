//! Scenarios over real sockets: a gateway in this process, its embedded store, and FTP on the wire.

mod support;

mod active;
mod configuration;
mod copies;
mod directories;
mod downloads;
mod hostile;
mod integrity;
mod interruptions;
mod protection;
mod sessions;
mod store_failures;
mod telemetry;
mod transfers;
