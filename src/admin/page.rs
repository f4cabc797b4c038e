//! The status page as HTML: one page without any other file, and the same without JavaScript.
//!
//! Names of users and files come from strangers. maud escapes whatever is not written in this file; a script could not run
//! either, since the page's own policy ([`policy`]) names the one that may by its hash. Names are isolated (`bdi`), so that
//! letters that turn the direction of writing turn nothing else.
//!
//! The script asks for [`content`] every two seconds and puts the parts that have changed in their places.

use std::sync::LazyLock;
use std::time::SystemTime;

use maud::{DOCTYPE, Markup, PreEscaped, html};
use sha2::{Digest as _, Sha256};

use crate::admin::probe::Verdict;
use crate::admin::snapshot::{Budget, SessionRow, SinkRow, Snapshot, TransferRow};
use crate::certificates::{ENDS_SOON, Validity};
use crate::cluster::lockouts::Replicas;
use crate::events::OutboxState;
use crate::failures::Failure;

mod text;

use text::{ago, bytes, clock, moment, rate, shortened, span};

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// The `Content-Security-Policy`: nothing but this page's own style and script, and what the script asks this port.
pub fn policy() -> &'static str {
    static POLICY: LazyLock<String> = LazyLock::new(|| {
        let hash = |text: &str| {
            let digest = Sha256::digest(text.as_bytes());
            format!(
                "'sha256-{}'",
                base64_simd::STANDARD.encode_to_string(digest)
            )
        };
        format!(
            "default-src 'none'; style-src {}; script-src {}; connect-src 'self'; img-src data:; base-uri 'none'; \
             form-action 'none'; frame-ancestors 'none'",
            hash(STYLE),
            hash(SCRIPT)
        )
    });
    &POLICY
}

/// The whole page.
pub fn page(snapshot: &Snapshot) -> String {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { "cosgate status" }
                // browsers ask for /favicon.ico otherwise
                link rel="icon" href="data:,";
                style { (PreEscaped(STYLE)) }
                noscript { meta http-equiv="refresh" content="5"; }
            }
            body {
                header {
                    h1 { "cosgate" span.version { (env!("CARGO_PKG_VERSION")) } }
                    p #live role="status" { noscript { "reloads every 5 s" } }
                }
                main #content { (content(snapshot)) }
                footer {
                    p {
                        "Read only. Also here: " a href="readyz" { "/readyz" } ", " a href="livez" { "/livez" } ", "
                        a href="metrics" { "/metrics" } "."
                    }
                }
                script { (PreEscaped(SCRIPT)) }
            }
        }
    };
    page.into_string()
}

/// The changing content: the parts, each with an id of its own.
pub fn content(snapshot: &Snapshot) -> Markup {
    html! {
        (overview(snapshot))
        (tiles(snapshot))
        (transfers(snapshot))
        (sessions(snapshot))
        (failures(snapshot))
    }
}

fn overview(snapshot: &Snapshot) -> Markup {
    let readiness = &snapshot.readiness;
    let (class, word) = if snapshot.is_draining {
        ("warn", "Stopping: no new sessions, running transfers go on")
    } else if !readiness.is_ready() {
        ("bad", "Not ready: clients should not be sent here")
    } else if !readiness.notes.is_empty() {
        ("warn", "Ready, with remarks")
    } else {
        ("good", "Ready")
    };
    html! {
        section #overview aria-label="State" {
            p.state.(class) { (word) }
            p.quiet {
                "Up for " (span(snapshot.uptime)) ". As of "
                time datetime=(moment(snapshot.at)) { (clock(snapshot.at)) } "."
            }
            @if !readiness.reasons.is_empty() || !readiness.notes.is_empty() {
                ul.reasons {
                    @for reason in &readiness.reasons { li.bad { (shortened(reason)) } }
                    @for note in &readiness.notes { li.warn { (shortened(note)) } }
                }
            }
        }
    }
}

fn tiles(snapshot: &Snapshot) -> Markup {
    let store = match &snapshot.store {
        Verdict::Reachable => ("Reachable", None),
        Verdict::Doubtful(trouble) => ("In doubt", Some(trouble)),
        Verdict::Unreachable(trouble) | Verdict::NeverReached(trouble) => {
            ("Not reachable", Some(trouble))
        }
    };
    html! {
        section #figures aria-label="Figures" {
            dl.tiles {
                (tile("Store", html! { (store.0) }, html! { @if let Some(trouble) = store.1 { (shortened(trouble)) } }))
                (tile(
                    "Masquerade address",
                    html! { (snapshot.masquerade.address) },
                    html! {
                        @if !snapshot.masquerade.is_known { span.warn { "PASV is refused: " (shortened(&snapshot.masquerade.origin)) } }
                        @else { (snapshot.masquerade.origin) }
                        @for remark in &snapshot.masquerade.remarks { br; (shortened(remark)) }
                    },
                ))
                (tile(
                    "Passive ports",
                    html! { (snapshot.passive_ports) " bound" },
                    html! {
                        (snapshot.passive_waiting) " data connections expected"
                        @if snapshot.passive_strays > 0 { ", " (snapshot.passive_strays) " came that nobody asked for" }
                    },
                ))
                @if let Some(handover) = snapshot.handover {
                    (tile(
                        "Handover",
                        html! { (handover.open) " relayed" },
                        html! {
                            "of " (handover.limit) " to other replicas, " (handover.received) " taken from them so far"
                            @if handover.refused > 0 { ", " (handover.refused) " refused" }
                        },
                    ))
                }
                @if let Some(replicas) = &snapshot.lockouts { (lockouts(replicas)) }
                (budget("Upload memory", snapshot.upload_memory))
                (budget("Download memory", snapshot.download_memory))
                (certificate(snapshot.certificate, snapshot.at))
                @for row in &snapshot.sinks { (sink(row)) }
                @if let Some(state) = &snapshot.outbox { (outbox(state)) }
            }
        }
    }
}

fn tile(name: &str, value: Markup, detail: Markup) -> Markup {
    html! { div { dt { (name) } dd { span.value { (value) } span.detail { (detail) } } } }
}

fn lockouts(replicas: &Replicas) -> Markup {
    let value = html! { "Shared with " (replicas.current) };
    let silent: Vec<String> = replicas.silent.iter().map(u16::to_string).collect();
    let detail = html! {
        (replicas.gone) " other replicas are not running"
        @if !silent.is_empty() {
            br;
            span.warn {
                "silent: " (shortened(&silent.join(", "))) "; meanwhile failed logins at other replicas count for addresses, not for users"
            }
        }
    };
    tile("Lockouts", value, detail)
}

fn budget(name: &str, budget: Budget) -> Markup {
    let detail = html! {
        "of " (bytes(budget.limit))
        progress max=(budget.limit) value=(budget.used) aria-label={ (name) " in use" } {}
    };
    tile(name, html! { (bytes(budget.used)) }, detail)
}

fn certificate(certificate: Option<Validity>, now: SystemTime) -> Markup {
    let Some(validity) = certificate else {
        return tile("Certificate", html! { "None" }, html! { "FTPS is off" });
    };
    let left = validity.left(now);
    let days = left.as_secs() / 86_400;
    let value = match validity.fault(now) {
        Some(_) => html! { span.bad { "Not valid" } },
        None if left < ENDS_SOON => html! { span.warn { (days) " days left" } },
        None => html! { (days) " days left" },
    };
    let until = validity.until;
    let detail = html! { "valid until " time datetime=(moment(until)) { (clock(until)) } };
    tile("Certificate", value, detail)
}

fn sink(row: &SinkRow) -> Markup {
    let detail = html! {
        (row.accepted) " taken"
        @if let Some(oldest) = row.oldest { ", the oldest waits for " (span(oldest)) }
        @if row.lost > 0 { ", " span.bad { (row.lost) " lost" } }
        @if let Some(failure) = &row.failure { br; span.warn { (shortened(failure)) } }
    };
    let title = format!("Events for {}", row.name);
    tile(&title, html! { (row.backlog) " waiting" }, detail)
}

fn outbox(state: &OutboxState) -> Markup {
    let detail = html! {
        "in the bucket at the last look, of all replicas"
        @if let Some(oldest) = state.oldest { ", the oldest for " (span(oldest)) }
        @if let Some(failure) = &state.failure { br; span.warn { (shortened(failure)) } }
    };
    tile("Outbox", html! { (state.entries) " events" }, detail)
}

fn transfers(snapshot: &Snapshot) -> Markup {
    let head = [
        "Session", "User", "Client", "File", "Progress", "Rate", "Time",
    ];
    html! {
        section #transfers {
            h2 { "Running transfers " span.count { (snapshot.transfer_count) } }
            @if snapshot.transfers.is_empty() { p.quiet { "None at the moment." } }
            @else { (table(&head, html! { @for row in &snapshot.transfers { (transfer(row)) } })) }
            (more(snapshot.transfer_count, snapshot.transfers.len()))
        }
    }
}

fn transfer(row: &TransferRow) -> Markup {
    let progress = html! {
        @if !row.is_connected { "waits for the data connection" }
        @else if let Some(expected) = row.expected {
            progress max=(expected) value=(row.bytes.min(expected)) aria-label="Progress" {}
            span.beside { (bytes(row.bytes)) " of " (bytes(expected)) }
        }
        @else { (bytes(row.bytes)) }
    };
    html! {
        tr role="row" {
            (cell("Session", html! { (row.session) }))
            (cell("User", name(&row.user)))
            (cell("Client", html! { (row.client) }))
            (wide("File", html! { code { (row.verb) } " " (name(&row.path)) }))
            (wide("Progress", progress))
            (cell("Rate", html! { @if row.is_connected { (rate(row.rate)) } }))
            (cell("Time", html! { (span(row.for_time)) }))
        }
    }
}

fn sessions(snapshot: &Snapshot) -> Markup {
    let head = [
        "Session",
        "User",
        "Client",
        "Connection",
        "State",
        "Idle",
        "Since",
    ];
    html! {
        section #sessions {
            h2 { "Sessions " span.count { (snapshot.session_count) " of " (snapshot.session_limit) } }
            @if snapshot.sessions.is_empty() { p.quiet { "Nobody is connected." } }
            @else { (table(&head, html! { @for row in &snapshot.sessions { (session(row, snapshot)) } })) }
            (more(snapshot.session_count, snapshot.sessions.len()))
        }
    }
}

fn session(row: &SessionRow, snapshot: &Snapshot) -> Markup {
    // no client can do better where there is no FTPS
    let could_be_secured = snapshot.certificate.is_some();
    let user = html! {
        @if row.user.is_empty() { span.quiet { "not logged in" } } @else { (name(&row.user)) }
    };
    let state = html! {
        @if row.verb.is_empty() { "connected" }
        @else if row.is_running { "busy with " code { (row.verb) } }
        @else { "idle after " code { (row.verb) } }
    };
    html! {
        tr role="row" {
            (cell("Session", html! { (row.id) }))
            (cell("User", user))
            (cell("Client", html! { (row.client) }))
            (cell("Connection", html! { @if row.is_secured { "TLS" } @else { span.warn[could_be_secured] { "plain" } } }))
            (cell("State", state))
            (cell("Idle", html! { @if row.is_running { "–" } @else { (span(row.for_time)) } }))
            (cell("Since", html! { time datetime=(moment(row.since)) { (ago(row.since, snapshot.at)) } }))
        }
    }
}

fn failures(snapshot: &Snapshot) -> Markup {
    let head = ["When", "User", "Client", "What", "Reply", "Why"];
    html! {
        section #failures {
            h2 { "Recent failures " span.count { (snapshot.failures.len()) } }
            @if snapshot.failures.is_empty() { p.quiet { "None since the start." } }
            @else { (table(&head, html! { @for row in &snapshot.failures { (failure(row, snapshot.at)) } })) }
        }
    }
}

fn failure(row: &Failure, now: SystemTime) -> Markup {
    let when = html! {
        time datetime=(moment(row.at)) title=(clock(row.at)) { (ago(row.at, now)) }
        @if row.times > 1 { " " span.count { "×" (row.times) } }
    };
    let user = html! {
        @if row.user.is_empty() { span.quiet { "not logged in" } } @else { (name(&row.user)) }
    };
    let what = match row.path.as_str() {
        "" => cell("What", html! { code { (row.verb) } }),
        path => wide("What", html! { code { (row.verb) } " " (name(path)) }),
    };
    html! {
        tr role="row" {
            (cell("When", when))
            (cell("User", user))
            (cell("Client", html! { (row.client) }))
            (what)
            (cell("Reply", html! { (row.code) }))
            (wide("Why", html! { (row.cause) }))
        }
    }
}

/// Narrow windows show each row as a card, without the look of a table; the roles keep the sense of one.
fn table(head: &[&str], rows: Markup) -> Markup {
    html! {
        table role="table" {
            thead role="rowgroup" {
                tr role="row" { @for name in head { th scope="col" role="columnheader" { (name) } } }
            }
            tbody role="rowgroup" { (rows) }
        }
    }
}

fn cell(column: &str, value: Markup) -> Markup {
    html! { td role="cell" data-column=(column) { div { (value) } } }
}

/// A cell that takes the whole width of a card.
fn wide(column: &str, value: Markup) -> Markup {
    html! { td.wide role="cell" data-column=(column) { div { (value) } } }
}

fn name(text: &str) -> Markup {
    html! { bdi.name { (shortened(text)) } }
}

fn more(all: usize, shown: usize) -> Markup {
    html! { @if all > shown { p.quiet { "and " (all - shown) " more" } } }
}

#[cfg(test)]
mod tests;
