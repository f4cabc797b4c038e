//! Clients that a program on the internet meets: floods, slow ones, those that lie and those that never end.
//!
//! The gateway under attack is a process of its own, of which [`Attacked`] takes the readings before and after: sessions, reservations,
//! buffer memory, tasks, descriptors and resident memory are as before once they have gone. Limits and waits that need no readings have
//! scenarios in `connections`, `sessions`, `guessing`, `waits`, `status`, `protection`, `proxy_protocol` and `active`.

mod admin;
mod commands;
mod connections;
mod data;
mod descriptors;
mod listings;
mod logs;
mod names;
mod proxies;
mod readings;
mod tls;

use readings::Attacked;
