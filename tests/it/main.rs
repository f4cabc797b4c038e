//! Scenarios over real sockets: a gateway in this process, its embedded store, and FTP on the wire.

mod support;

mod active;
mod auth_http;
mod commands;
mod configuration;
mod copies;
mod credentials;
mod directories;
mod doctor;
mod downloads;
mod events;
mod faults;
mod guessing;
mod health;
mod histories;
mod hostile;
mod import;
mod integrity;
mod interruptions;
mod listings;
mod masquerade;
mod protection;
mod races;
mod readiness;
mod restart;
mod retries;
mod sessions;
mod status;
mod store_failures;
mod telemetry;
mod transfers;
mod user_stores;
mod users;
mod users_file;
mod verified_downloads;
