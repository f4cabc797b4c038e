//! Events: whether each sink can be reached, and whether an entry can be written to the outbox, read, listed and deleted, where no
//! client gets to.

use super::examination::Examination;
use super::random_name;
use super::report::Verdict;
use crate::chain::Chain;
use crate::config::{Config, Delivery};
use crate::events;
use crate::ftp_client::printable;
use crate::store::examine::Right;
use crate::store::key::Reserved;
use crate::store::{Home, NameError, Store, VirtualPath};

/// Examines the sinks; nothing is published.
pub(super) async fn sinks(examination: &mut Examination, config: &Config) {
    for sink in &config.events.sinks {
        let asked = async {
            let verdict = match events::probe(sink, config.events.timeout).await {
                Ok(finding) => Verdict::ok(finding),
                Err(reason) => Verdict::failed(
                    printable(&reason),
                    "correct events.sinks, start the sink, or for NATS make the stream; transfers go on, and their events wait",
                ),
            };
            (Some(()), verdict)
        };
        let name = format!("sink {}", sink.name);
        examination.step(&name, asked).await;
    }
}

/// Examines the outbox of the gateway's own store.
pub(super) async fn outbox(examination: &mut Examination, config: &Config, store: &Store) {
    let events = &config.events;
    if events.delivery == Delivery::Memory || events.sinks.is_empty() {
        return;
    }
    let prefix = format!("{}{}", config.storage.prefix, events.outbox);
    let key = store.entry_key(&prefix, &random_name());
    let tried = async {
        for right in [Right::Put, Right::List, Right::Head, Right::Get] {
            if let Err(error) = store.examine(right, &key).await {
                let (s3, cos) = right.actions();
                let verdict = Verdict::failed(
                    format!(
                        "{right:?} below {prefix}: {}",
                        printable(&Chain(&error).to_string())
                    ),
                    format!(
                        "allow {s3} (COS: {cos}) below events.outbox, too: without it uploads get 451"
                    ),
                );
                return (None, verdict);
            }
        }
        let verdict = match is_hidden(config, &prefix) {
            true => Verdict::ok(format!(
                "an entry can be written below {prefix}, read and listed; no path of a client leads there"
            )),
            false => Verdict::failed(
                format!("a client's path leads to {prefix}"),
                "report this: no path may",
            ),
        };
        (Some(()), verdict)
    };
    examination.step("outbox", tried).await;
    let removed = async {
        match store.examine(Right::Delete, &key).await {
            Ok(()) => Verdict::ok("the entry is deleted again"),
            Err(error) => Verdict::failed(
                printable(&Chain(&error).to_string()),
                "allow s3:DeleteObject (COS: name/cos:DeleteObject) below events.outbox: entries that stay are sent again and again",
            ),
        }
    };
    examination.tidy_up("outbox, delete", removed).await;
}

/// True if a home above the outbox has no key for it.
fn is_hidden(config: &Config, prefix: &str) -> bool {
    let storage = &config.storage;
    let reserved = Reserved::new(&storage.reserved_name);
    let home = Home::new("", &VirtualPath::root(), storage.max_key_bytes).reserving(reserved);
    let path = VirtualPath::resolve(&VirtualPath::root(), prefix);
    path.is_ok_and(|path| {
        home.key(&path)
            .is_err_and(|error| error == NameError::Reserved)
            && home
                .directory(&path)
                .is_err_and(|error| error == NameError::Reserved)
    })
}
