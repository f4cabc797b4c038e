//! All keys, and what must hold between them.

use std::io::IsTerminal as _;
use std::net::SocketAddr;
use std::ops::RangeInclusive;

use secrecy::SecretString;

use super::error::ConfigError;
use super::parse::{self, size_text};
use super::print::Loaded;
use super::reader::Reader;
use super::sources::Sources;
use super::storage::{self, Limits};
use super::{
    Active, Admin, Config, Download, Drain, Log, LogFormat, MemoryLimit, Sessions, StoreOutage,
    Upload, auth, cluster, events, files, memory, passive, tls, users,
};

/// Turns what the sources say into a configuration, or reports all that is wrong.
pub(super) fn resolve(sources: Sources) -> Result<Loaded, ConfigError> {
    let in_pod = sources.in_pod;
    let mut read = Reader::new(sources);
    let config = config(&mut read, in_pod);
    let (warnings, settings) = read.finish()?;
    Ok(Loaded {
        config,
        warnings,
        settings,
    })
}

/// Of use only if the reader has found no problem: then no default stands for a refused value.
fn config(read: &mut Reader, in_pod: bool) -> Config {
    let listen = listen(read);
    let admin = admin(read);
    let kubernetes = cluster::kubernetes(read, in_pod);
    let (passive, range) = passive::resolve(read, &listen, kubernetes.pod_name.as_deref());
    admin_conflicts(read, &admin, &listen, &range);
    let tls = tls::resolve(read);
    if let Some(tls) = &tls {
        implicit_conflicts(read, &tls.implicit_listen, &listen, &range, &admin);
    }
    let storage = storage::resolve(read);
    let auth = auth::resolve(read);
    let (users, users_file) = users::resolve(read, &storage, auth.http.is_some());
    tls::check_users(read, tls.as_ref(), &users);
    Config {
        greeting: read.value("greeting", parse::greeting),
        masquerade: cluster::masquerade(read),
        sessions: sessions(read),
        ascii: read.value("ascii", files::ascii),
        charset: read.value("charset", files::charset),
        listing_times: read.value("listing.times", files::times),
        upload: upload(read, &Limits::of(storage.provider)),
        download: download(read),
        drain: Drain {
            deadline: read.duration("drain.deadline"),
            idle: read.duration("drain.idle"),
        },
        users,
        users_file,
        auth,
        reload_interval: read.duration("reload.interval"),
        log: log(read),
        events: events::resolve(read),
        active: Active {
            enabled: read.value("active.enabled", parse::switch),
            connect_timeout: read.duration("active.connect_timeout"),
        },
        listen,
        passive,
        tls,
        kubernetes,
        storage,
        admin,
    }
}

fn admin(read: &mut Reader) -> Admin {
    let admin = Admin {
        listen: read.value("admin.listen", parse::admin_address),
        status: read.value("admin.status", parse::on_off),
        token: read
            .optional("admin.token", parse::admin_token)
            .map(SecretString::from),
        store_outage: read.value("admin.store_outage", |text| match text {
            "note" => Ok(StoreOutage::Note),
            "not_ready" => Ok(StoreOutage::NotReady),
            _ => Err("write note or not_ready".into()),
        }),
    };
    let is_open = admin.listen.is_some_and(|at| !at.ip().is_loopback());
    if is_open && admin.status && admin.token.is_none() && read.is_set("admin.status") {
        read.warn(
            "admin.status",
            "the page shows names of users and files, and admin.listen can be reached from other machines: it stays off \
             until admin.token is set",
        );
    }
    admin
}

fn listen(read: &mut Reader) -> Vec<SocketAddr> {
    let listen = read.list("listen", parse::socket_address);
    for (i, address) in listen.iter().enumerate() {
        if let Some(other) = listen[..i].iter().find(|other| overlap(**other, *address)) {
            let advice = if other == address {
                format!("{address} stands here twice; remove one")
            } else {
                format!("{other} and {address} are the same port of the same machine; remove one")
            };
            read.refuse("listen", advice);
        }
    }
    listen
}

/// Whether only one of the two can be bound. Port 0 is a new port each time.
fn overlap(one: SocketAddr, other: SocketAddr) -> bool {
    one.port() == other.port()
        && one.port() != 0
        && one.is_ipv4() == other.is_ipv4()
        && (one.ip() == other.ip() || one.ip().is_unspecified() || other.ip().is_unspecified())
}

fn admin_conflicts(
    read: &mut Reader,
    admin: &Admin,
    listen: &[SocketAddr],
    passive: &RangeInclusive<u16>,
) {
    let Some(address) = admin.listen else { return };
    if listen.iter().any(|other| overlap(*other, address)) {
        read.refuse(
            "admin.listen",
            "this is the control port (listen); choose another port, or off",
        );
    }
    if passive.contains(&address.port()) {
        read.refuse(
            "admin.listen",
            "this port is one of passive.ports; choose another port, or off",
        );
    }
}

fn implicit_conflicts(
    read: &mut Reader,
    implicit: &[SocketAddr],
    listen: &[SocketAddr],
    passive: &RangeInclusive<u16>,
    admin: &Admin,
) {
    const KEY: &str = "tls.implicit_listen";
    for (i, address) in implicit.iter().enumerate() {
        let taken = if implicit[..i].iter().any(|other| overlap(*other, *address)) {
            "stands here twice; remove one"
        } else if listen.iter().any(|other| overlap(*other, *address)) {
            "is the control port (listen); choose another port, such as 990 or 2990"
        } else if passive.contains(&address.port()) {
            "is one of passive.ports; choose another port"
        } else if admin.listen.is_some_and(|other| overlap(other, *address)) {
            "is the admin port (admin.listen); choose another port"
        } else {
            continue;
        };
        read.refuse(KEY, format!("{address} {taken}"));
    }
}

/// Addresses that nearly anybody has at hand.
const FEW_ADDRESSES: usize = 4;

/// The default of `sessions.max_unauthenticated_per_ip` where `sessions.max` is large.
const MOST_UNAUTHENTICATED: usize = 100;

fn sessions(read: &mut Reader) -> Sessions {
    const WITHOUT_LOGIN: &str = "sessions.max_unauthenticated_per_ip";
    let max = as_usize(read.count("sessions.max"));
    let max_unauthenticated_per_ip = match read.optional_count(WITHOUT_LOGIN) {
        Some(count) => as_usize(count),
        None => {
            let share = Sessions::unauthenticated_share(max).min(MOST_UNAUTHENTICATED);
            read.settle(WITHOUT_LOGIN, &share.to_string());
            share
        }
    };
    let sessions = Sessions {
        max,
        max_per_ip: as_usize(read.count("sessions.max_per_ip")),
        max_unauthenticated_per_ip,
        idle_timeout: read.duration("sessions.idle_timeout"),
        login_timeout: read.duration("sessions.login_timeout"),
    };
    let silent = sessions.max_unauthenticated_per_ip.min(sessions.max_per_ip);
    if silent.saturating_mul(FEW_ADDRESSES) >= sessions.max && sessions.max > FEW_ADDRESSES {
        let words = format!(
            "{FEW_ADDRESSES} addresses that connect and never log in can hold all of sessions.max = {} for \
             sessions.login_timeout; set it to {} or less",
            sessions.max,
            (sessions.max - 1) / FEW_ADDRESSES
        );
        read.warn(WITHOUT_LOGIN, &words);
    }
    sessions
}

fn upload(read: &mut Reader, limits: &Limits) -> Upload {
    let max_file_size = read.size("upload.max_file_size");
    if max_file_size > limits.object_bytes && read.is_sound("storage.provider") {
        let advice = format!(
            "{} takes objects up to {}; set at most that",
            limits.store, limits.object_text
        );
        read.refuse("upload.max_file_size", advice);
    }
    let min_part_size = read.size("upload.min_part_size");
    if !limits.part_bytes.contains(&min_part_size) && read.is_sound("storage.provider") {
        let (min, max) = (
            size_text(*limits.part_bytes.start()),
            size_text(*limits.part_bytes.end()),
        );
        let advice =
            format!("the store accepts parts of {min} to {max}; set a value in that range");
        read.refuse("upload.min_part_size", advice);
    }
    Upload {
        max_file_size,
        min_part_size,
        concurrency: as_usize(read.count("upload.concurrency")),
        memory_budget: memory_budget(read, min_part_size),
        follows_memory_limit: !read.is_set("upload.memory_budget"),
        stall_timeout: read.duration("upload.stall_timeout"),
        overwrite: read.value("upload.overwrite", parse::switch),
        storage_class: read.optional("upload.storage_class", parse::storage_class),
        server_side_encryption: read.optional("upload.server_side_encryption", parse::encryption),
        kms_key_id: read.optional("upload.kms_key_id", parse::kms_key),
        trace_metadata: read.value("upload.trace_metadata", parse::switch),
        provenance: read.value("upload.provenance", parse::switch),
        stale_after: read.duration("upload.stale_after"),
        sweep: read.value("upload.sweep", parse::sweep),
        on_interrupt: read.value("upload.on_interrupt", parse::on_interrupt),
    }
}

/// One part that is being filled while another is sent is the least that makes progress.
fn memory_budget(read: &mut Reader, min_part_size: u64) -> u64 {
    let budget = budget(read, "upload.memory_budget");
    let least = min_part_size.saturating_mul(2);
    if budget < least
        && read.is_sound("upload.min_part_size")
        && read.is_sound("upload.memory_budget")
    {
        let advice = format!(
            "an upload needs room for two parts of upload.min_part_size, {} in all; \
             raise the budget (and the container's memory), or lower upload.min_part_size",
            size_text(least)
        );
        read.refuse("upload.memory_budget", advice);
    }
    budget
}

fn download(read: &mut Reader) -> Download {
    let chunk_size = read.size("download.chunk_size");
    if !CHUNK_BYTES.contains(&chunk_size) {
        let (min, max) = (
            size_text(*CHUNK_BYTES.start()),
            size_text(*CHUNK_BYTES.end()),
        );
        let advice = format!("chunks have {min} to {max}; set a value in that range");
        read.refuse("download.chunk_size", advice);
    }
    Download {
        concurrency: as_usize(read.count("download.concurrency")),
        chunk_size,
        read_ahead: read.size("download.read_ahead"),
        memory_budget: budget(read, "download.memory_budget"),
        follows_memory_limit: !read.is_set("download.memory_budget"),
        stall_timeout: read.duration("download.stall_timeout"),
    }
}

/// What is configured, or a part of the memory there is.
fn budget(read: &mut Reader, key: &'static str) -> u64 {
    read.optional(key, parse::size).unwrap_or_else(|| {
        let budget = memory::default_budget(MemoryLimit::default().read());
        if read.is_sound(key) {
            read.settle(key, &size_text(budget));
        }
        budget
    })
}

fn log(read: &mut Reader) -> Log {
    let format = read
        .optional("log.format", parse::log_format)
        .unwrap_or_else(|| {
            let is_terminal = std::io::stdout().is_terminal();
            let format = if is_terminal {
                LogFormat::Text
            } else {
                LogFormat::Json
            };
            if read.is_sound("log.format") {
                read.settle("log.format", &format.to_string());
            }
            format
        });
    Log {
        format,
        level: read.value("log.level", parse::log_level),
    }
}

/// Counts are bounded by the table, far below what any usize holds.
fn as_usize(count: u64) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}

/// What a chunk may have: under the lower end requests cost more than they bring, and a chunk must fit into memory.
const CHUNK_BYTES: RangeInclusive<u64> = 64 << 10..=1 << 30;
