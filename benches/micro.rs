//! The small things that every transfer does over and over: planning parts, checksums, lines of the control connection
//! and of listings. `cargo bench --bench micro`.
//!
//! The checksums are there to reason about integrity: an algorithm that makes 1 GiB/s costs a second per GiB of one core,
//! on top of the 0.3 s or so that the kernel needs to move it through two sockets.

use std::hint::black_box;
use std::time::{Duration, SystemTime};

use cosgate::ftp::codec::{Control, Line};
use cosgate::ftp::command::Command;
use cosgate::ftp::listformat::{Facts, Format};
use cosgate::ftp::reply::Reply;
use cosgate::net::Stream;
use cosgate::store::parts::{MAX_PARTS, PartPlan};
use cosgate::store::{Entry, EntryKind};
use crc_fast::CrcAlgorithm;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use md5::Md5;
use sha2::{Digest, Sha256};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};

const MIB: usize = 1024 * 1024;

criterion_group!(benches, plan, checksums, commands, lines, listings);
criterion_main!(benches);

/// All 10,000 parts of the largest upload.
fn plan(criterion: &mut Criterion) {
    let accepted = 5 << 20..=5 << 30;
    let plan = PartPlan::new(8 << 20, 200 << 30, &accepted).expect("the defaults fit");
    let mut group = criterion.benchmark_group("plan");
    group.throughput(Throughput::Elements(MAX_PARTS));
    group.bench_function("10,000 parts", |bencher| {
        bencher.iter(|| {
            (0..MAX_PARTS).fold(0, |received, part| {
                received + plan.next_bytes(black_box(part), received)
            })
        });
    });
    group.finish();
}

/// One MiB, which stays in the cache as a part that was just received doesn't: the upper bound of each algorithm.
fn checksums(criterion: &mut Criterion) {
    let bytes: Vec<u8> = (0..MIB).map(|at| (at * 131 % 251) as u8).collect();
    let mut group = criterion.benchmark_group("checksum of 1 MiB");
    group.throughput(Throughput::Bytes(MIB as u64));
    for (name, algorithm) in [
        ("CRC-32", CrcAlgorithm::Crc32IsoHdlc),
        ("CRC-32C", CrcAlgorithm::Crc32Iscsi),
        ("CRC-64/NVME", CrcAlgorithm::Crc64Nvme),
        ("CRC-64/XZ", CrcAlgorithm::Crc64Xz),
    ] {
        group.bench_function(name, |bencher| {
            bencher.iter(|| crc_fast::checksum(algorithm, black_box(&bytes)));
        });
    }
    group.bench_function("MD5", |bencher| {
        bencher.iter(|| Md5::digest(black_box(&bytes)));
    });
    group.bench_function("SHA-256", |bencher| {
        bencher.iter(|| Sha256::digest(black_box(&bytes)));
    });
    // what taking a copy would cost
    let mut copy = vec![0; MIB];
    group.bench_function("memcpy", |bencher| {
        bencher.iter(|| copy.copy_from_slice(black_box(&bytes)));
    });
    group.finish();
}

/// From a line to a command, and from a reply to its bytes.
fn commands(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("command");
    for line in [
        "PASV",
        "STOR dir/a file with spaces.dat",
        "LIST -la dir",
        "XYZZY",
    ] {
        let verb = line.split(' ').next().unwrap_or_default();
        group.bench_function(verb, |bencher| {
            bencher.iter(|| Command::parse(black_box(line)));
        });
    }
    let reply = Reply::new(226, "Stored 4096 bytes");
    group.bench_function("reply", |bencher| {
        bencher.iter(|| black_box(&reply).to_string());
    });
    group.finish();
}

/// Pipelined lines through a real socket: codec and kernel together.
fn lines(criterion: &mut Criterion) {
    const LINES: u64 = 1000;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let (mut client, mut control) = runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let client = TcpStream::connect(address).await.expect("connects");
        let (server, _) = listener.accept().await.expect("accepts");
        (client, Control::new(Stream::Plain(server)))
    });
    let sent = "STOR dir/file-000001.dat\r\n".repeat(LINES as usize);
    let mut group = criterion.benchmark_group("codec");
    group.throughput(Throughput::Elements(LINES));
    group.bench_function("lines", |bencher| {
        bencher.iter(|| {
            runtime.block_on(async {
                client
                    .write_all(sent.as_bytes())
                    .await
                    .expect("fits the socket's buffer");
                for _ in 0..LINES {
                    let line = control.next().await.expect("reads");
                    assert!(matches!(line, Line::Text(_)));
                }
            });
        });
    });
    group.finish();
}

/// One page of a store's listing as LIST and MLSD.
fn listings(criterion: &mut Criterion) {
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_780_000_000);
    let entries: Vec<Entry> = (0..1000)
        .map(|number| Entry {
            name: format!("file-{number:06}.dat"),
            kind: EntryKind::File,
            size: number * 4096,
            modified: Some(now - Duration::from_secs(number * 3600)),
        })
        .collect();
    let mut group = criterion.benchmark_group("listing of 1,000");
    group.throughput(Throughput::Elements(1000));
    for (name, format) in [
        ("LIST", Format::Long),
        ("MLSD", Format::Facts(Facts::ALL)),
        ("NLST", Format::Names),
    ] {
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let mut text = String::new();
                for entry in &entries {
                    format.line(entry, "", now, &mut text);
                }
                text
            });
        });
    }
    group.finish();
}
