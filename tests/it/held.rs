//! Uploads that break off and are held: nothing is visible, and any gateway goes on with what the store has.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use aws_sdk_s3::types::{ChecksumAlgorithm, ChecksumType};
use cosgate::app::Gateway;
use cosgate::store::parts::{is_marked, marked};
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::faults::Fault;
use crate::support::gateway::{BUCKET, start};
use crate::support::http::get;
use crate::support::proxy::Proxy;
use crate::support::tls::Authority;
use crate::support::{Ftp, Reply, TestGateway, TestStore, eventually, login, pattern, users};

const MIB: usize = 1024 * 1024;

/// The size of each part but the last.
pub fn part() -> usize {
    marked(5 * MIB as u64) as usize
}

const SETTINGS: [&str; 3] = [
    "UPLOAD__ON_INTERRUPT=hold",
    "UPLOAD__MIN_PART_SIZE=5MiB",
    "UPLOAD__STALL_TIMEOUT=2s",
];

/// Several gateways over one bucket.
pub struct Replicas {
    gateways: Vec<Gateway>,
    pub store: TestStore,
    proxy: Proxy,
    settings: Vec<String>,
    next: AtomicUsize,
}

impl Replicas {
    pub async fn start(count: usize, more: &[&str]) -> Self {
        let (store, proxy, mut settings) = TestStore::behind_proxy().await;
        let own = SETTINGS.iter().chain(more);
        settings.extend(own.map(|setting| (*setting).to_owned()));
        let mut replicas = Replicas {
            gateways: Vec::new(),
            store,
            proxy,
            settings,
            next: AtomicUsize::new(0),
        };
        for _ in 0..count {
            replicas.add().await;
        }
        replicas
    }

    async fn add(&mut self) {
        let settings: Vec<&str> = self.settings.iter().map(String::as_str).collect();
        self.gateways.push(start(&settings).await);
    }

    /// A session at one replica after the other.
    pub async fn login(&self) -> Ftp {
        let next = self.next.fetch_add(1, Ordering::SeqCst) % self.gateways.len();
        let mut ftp = Ftp::connect(self.gateways[next].addresses()[0]).await;
        ftp.login("demo", "secret").await;
        ftp
    }
}

/// Begins a transfer and sends `bytes`, which the gateway has when this returns.
async fn begin(ftp: &mut Ftp, command: &str, bytes: &[u8]) -> TcpStream {
    let mut data = ftp.data().await;
    let opening = ftp.command(command).await;
    assert_eq!(opening.code, 150, "{opening:?}");
    data.write_all(bytes).await.expect("taken");
    let arrived = format!("{} bytes", bytes.len());
    while !bytes.is_empty() && !ftp.command("STAT").await.text.contains(&arrived) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    data
}

/// The same, and then the client aborts; the transfer's own reply.
pub async fn cut(ftp: &mut Ftp, command: &str, bytes: &[u8]) -> Reply {
    let _data = begin(ftp, command, bytes).await;
    let reply = ftp.command("ABOR").await;
    assert_eq!(ftp.reply().await.code, 226);
    reply
}

/// The number in the reply to SIZE.
pub async fn size(ftp: &mut Ftp, name: &str) -> Option<usize> {
    let reply = ftp.command(format!("SIZE {name}")).await;
    let number = reply.text.split_whitespace().last();
    (reply.code == 213).then(|| number.expect("a word").parse().expect("a number"))
}

/// Goes on where the upload ended, as clients do; the reply.
pub async fn go_on(ftp: &mut Ftp, name: &str, whole: &[u8]) -> Reply {
    let held = size(ftp, name).await.expect("something is held");
    assert_eq!(ftp.command(format!("REST {held}")).await.code, 350);
    ftp.store(format!("STOR {name}"), &whole[held..]).await
}

#[tokio::test]
async fn however_an_upload_breaks_off_it_goes_on_with_what_the_store_has() {
    let gateway = TestGateway::with(&SETTINGS).await;
    let bytes = pattern(3 * part() + 1000);
    for how in ["abort", "reset", "control lost", "stall"] {
        let mut ftp = gateway.login().await;
        let data = begin(&mut ftp, "STOR f", &bytes[..2 * part() + 3 * MIB]).await;
        match how {
            "abort" => {
                let reply = ftp.command("ABOR").await;
                assert_eq!(reply.code, 426);
                let held = format!("{} bytes are held", 2 * part());
                assert!(reply.text.contains(&held), "{reply:?}");
            }
            "reset" => {
                SockRef::from(&data)
                    .set_linger(Some(Duration::ZERO))
                    .expect("a TCP socket");
                drop(data);
                assert_eq!(ftp.reply().await.code, 426);
            }
            "control lost" => {
                drop(ftp);
                let mut data = data;
                let _ = data.read_u8().await;
            }
            _ => assert_eq!(ftp.reply().await.code, 426),
        }
        let mut ftp = gateway.login().await;
        assert_eq!(ftp.listing("NLST").await, "", "{how}");
        assert_eq!(gateway.object("f").await, None, "{how}");
        assert_eq!(ftp.command("MDTM f").await.code, 550);
        assert_eq!(size(&mut ftp, "f").await, Some(2 * part()), "{how}");
        let reply = go_on(&mut ftp, "f", &bytes).await;
        assert_eq!(reply.code, 226, "{how}: {reply:?}");
        assert!(gateway.object("f").await.as_ref() == Some(&bytes), "{how}");
        assert_eq!(size(&mut ftp, "f").await, Some(bytes.len()), "{how}");
        assert_eq!(gateway.unfinished().await, 0, "{how}");
        assert_eq!(ftp.command("DELE f").await.code, 250);
    }
}

#[tokio::test]
async fn a_gateway_that_stops_leaves_what_arrived_to_the_next_one() {
    let mut replicas = Replicas::start(1, &["DRAIN__DEADLINE=500ms"]).await;
    let bytes = pattern(2 * part() + 5);
    let mut ftp = replicas.login().await;
    let _data = begin(&mut ftp, "STOR f", &bytes[..part() + MIB]).await;
    let stopping = replicas.gateways.remove(0);
    let (_, ()) = tokio::join!(
        tokio::time::timeout(Duration::from_secs(60), stopping.stop()),
        replicas.add()
    );
    let mut ftp = replicas.login().await;
    assert_eq!(size(&mut ftp, "f").await, Some(part()));
    assert_eq!(go_on(&mut ftp, "f", &bytes).await.code, 226);
    assert!(replicas.store.object("f").await == Some(bytes));
}

/// True if the store lists a part of the only unfinished upload.
async fn has_part(store: &TestStore) -> bool {
    let uploads = store.s3().list_multipart_uploads().bucket(BUCKET);
    let uploads = uploads.send().await.expect("a listing");
    let [upload] = uploads.uploads() else {
        return false;
    };
    let parts = store.s3().list_parts().bucket(BUCKET);
    let parts = parts.key(upload.key().expect("a key"));
    let parts = parts.upload_id(upload.upload_id().expect("an id"));
    !parts.send().await.expect("a listing").parts().is_empty()
}

/// Leaves an upload as a gateway does that is killed: these parts of `bytes` have arrived, in whatever order.
async fn crash(store: &TestStore, key: &str, bytes: &[u8], numbers: &[usize]) {
    let s3 = store.s3();
    let begun = s3.create_multipart_upload().bucket(BUCKET).key(key);
    let begun = begun
        .checksum_algorithm(ChecksumAlgorithm::Crc64Nvme)
        .checksum_type(ChecksumType::FullObject);
    let id = begun.send().await.expect("begun").upload_id.expect("an id");
    for number in numbers {
        let body = bytes[(number - 1) * part()..][..part()].to_vec();
        let sent = s3.upload_part().bucket(BUCKET).key(key).upload_id(&id);
        let sent = sent.part_number(*number as i32).body(body.into());
        let sent = sent.checksum_algorithm(ChecksumAlgorithm::Crc64Nvme);
        sent.send().await.expect("stored");
    }
}

#[tokio::test]
async fn after_a_crash_only_parts_in_a_row_count_and_later_ones_belong_to_nobody() {
    assert!(is_marked(part() as u64));
    let gateway = TestGateway::with(&SETTINGS).await;
    let old = pattern(6 * part());
    crash(&gateway, "f", &old, &[1, 2, 4, 5]).await;
    let mut ftp = gateway.login().await;
    assert_eq!(size(&mut ftp, "f").await, Some(2 * part()));
    // the file has grown another end since
    let mut new = old.clone();
    for byte in &mut new[2 * part()..] {
        *byte ^= 0xff;
    }
    assert_eq!(ftp.command(format!("REST {}", 2 * part())).await.code, 350);
    let reply = cut(&mut ftp, "STOR f", &new[2 * part()..3 * part() + 10]).await;
    assert_eq!(reply.code, 426, "{reply:?}");
    assert_eq!(
        size(&mut ftp, "f").await,
        Some(3 * part()),
        "parts 4 and 5 are of the older file"
    );
    assert_eq!(go_on(&mut ftp, "f", &new).await.code, 226);
    assert!(gateway.object("f").await == Some(new));
    assert_eq!(gateway.unfinished().await, 0);
}

#[tokio::test]
async fn of_two_sessions_that_go_on_with_one_upload_the_second_gets_450() {
    let gateway = TestGateway::with(&SETTINGS[..2]).await;
    let bytes = pattern(3 * part());
    let mut first = gateway.login().await;
    assert_eq!(
        cut(&mut first, "STOR f", &bytes[..part() + 5]).await.code,
        426
    );
    let mut second = gateway.login().await;
    for ftp in [&mut first, &mut second] {
        assert_eq!(size(ftp, "f").await, Some(part()));
    }
    assert_eq!(first.command(format!("REST {}", part())).await.code, 350);
    let mut data = begin(&mut first, "STOR f", &bytes[part()..2 * part()]).await;
    for command in ["STOR f", "APPE f"] {
        if command == "STOR f" {
            second.command(format!("REST {}", part())).await;
        }
        let reply = second.store(command, &bytes[part()..]).await;
        assert_eq!(reply.code, 450, "{command}: {reply:?}");
        assert!(size(&mut second, "f").await.is_some());
    }
    data.write_all(&bytes[2 * part()..]).await.expect("taken");
    drop(data);
    assert_eq!(first.reply().await.code, 226);
    assert!(gateway.object("f").await == Some(bytes));
    // and whoever has asked for it before gets no other file in its place
    assert_eq!(second.store("APPE f", b"rest").await.code, 450);
}

#[tokio::test]
async fn a_new_upload_a_delete_and_time_end_what_is_held() {
    let settings = ["UPLOAD__STALE_AFTER=3s"];
    let gateway = TestGateway::with(&[&SETTINGS[..2], &settings].concat()).await;
    let bytes = pattern(2 * part());
    let mut ftp = gateway.login().await;
    for new in [&b"small"[..], &bytes] {
        assert_eq!(
            cut(&mut ftp, "STOR f", &bytes[..part() + 5]).await.code,
            426
        );
        assert_eq!(gateway.unfinished().await, 1);
        // as long as the new one has brought nothing, what is held stays
        assert_eq!(cut(&mut ftp, "STOR f", b"").await.code, 426);
        assert_eq!(size(&mut ftp, "f").await, Some(part()));
        assert_eq!(ftp.store("STOR f", new).await.code, 226);
        assert_eq!(gateway.unfinished().await, 0);
        assert!(gateway.object("f").await.as_deref() == Some(new));
        assert_eq!(ftp.command("DELE f").await.code, 250);
    }
    // of a name without a file, and of one with a file
    for old in [None, Some(b"old".to_vec())] {
        if let Some(old) = &old {
            gateway.put_object("f", old.clone()).await;
        }
        assert_eq!(
            cut(&mut ftp, "STOR f", &bytes[..part() + 5]).await.code,
            426
        );
        assert_eq!(ftp.command("DELE f").await.code, 250);
        assert_eq!(gateway.unfinished().await, 0);
        assert_eq!(gateway.object("f").await, None);
        assert_eq!(ftp.command("DELE f").await.code, 550);
    }
    assert_eq!(
        cut(&mut ftp, "STOR f", &bytes[..part() + 5]).await.code,
        426
    );
    eventually("nobody goes on with it", || async {
        gateway.unfinished().await == 0
    })
    .await;
    assert_eq!(size(&mut ftp, "f").await, None);
}

#[tokio::test]
async fn an_older_file_stays_and_size_reports_what_is_held_to_those_who_may_write() {
    let users = users(&["name: demo", "name: reader, permissions: [read, list]"]);
    let users = format!("USERS={users}");
    let gateway = TestGateway::with(&[&SETTINGS[..2], &[users.as_str()]].concat()).await;
    let bytes = pattern(part() + 2000);
    gateway.put_object("f", b"the old file".to_vec()).await;
    let mut ftp = login(&gateway, "demo").await;
    assert_eq!(
        cut(&mut ftp, "STOR f", &bytes[..part() + 5]).await.code,
        426
    );
    let listed = ftp.listing("MLSD").await;
    assert!(listed.contains("size=12;"), "{listed}");
    let mut reader = login(&gateway, "reader").await;
    assert_eq!(size(&mut reader, "f").await, Some(12));
    assert_eq!(reader.fetch("RETR f").await.0, b"the old file");
    // no session gets one length from SIZE and another one from RETR
    assert_eq!(ftp.fetch("RETR f").await.0, b"the old file");
    assert_eq!(size(&mut ftp, "f").await, Some(part()));
    let (_, reply) = ftp.fetch("RETR f").await;
    assert_eq!(reply.code, 451, "{reply:?}");
    // only where it ends
    for offset in [1, 12, part() - 1, part() + 1] {
        assert_eq!(ftp.command(format!("REST {offset}")).await.code, 350);
        let reply = ftp.store("STOR f", b"x").await;
        assert_eq!(reply.code, 554, "{offset}: {reply:?}");
    }
    // who doesn't ask means the file that is there; a store's times have whole seconds
    tokio::time::sleep(Duration::from_millis(1100)).await;
    let mut appending = login(&gateway, "demo").await;
    assert_eq!(appending.store("APPE f", b"; more").await.code, 226);
    assert_eq!(
        gateway.object("f").await.as_deref(),
        Some(&b"the old file; more"[..])
    );
    // what is there now was stored after that upload had begun, as by a client that has sent all of its file again
    assert_eq!(size(&mut ftp, "f").await, Some(18));
    assert_eq!(ftp.fetch("RETR f").await.0, b"the old file; more");
    assert_eq!(ftp.store("STOR f", &bytes).await.code, 226);
    assert!(gateway.object("f").await == Some(bytes));
    assert_eq!(gateway.unfinished().await, 0);
}

#[tokio::test]
async fn an_upload_that_continues_a_file_is_not_held() {
    let gateway = TestGateway::with(&SETTINGS[..2]).await;
    let old = pattern(part() + 6 * MIB);
    gateway.put_object("f", old.clone()).await;
    let mut ftp = gateway.login().await;
    let more = pattern(2 * part() + 5);
    let reply = cut(&mut ftp, "APPE f", &more).await;
    assert!(reply.text.contains("nothing was stored"), "{reply:?}");
    assert_eq!(size(&mut ftp, "f").await, Some(old.len()));
    assert_eq!(gateway.unfinished().await, 0);
    assert_eq!(ftp.store("APPE f", &more).await.code, 226);
    assert!(gateway.object("f").await == Some([old, more].concat()));
}

#[tokio::test]
async fn an_upload_whose_tls_ends_without_a_goodbye_is_held() {
    let authority = Authority::new();
    let gateway = TestGateway::with_tls(&authority, &SETTINGS).await;
    let bytes = pattern(part() + 3000);
    let client = authority.client();
    let mut ftp = gateway.connect().await.secure(&client).await.expect("TLS");
    ftp.login("demo", &gateway.password).await;
    ftp.protect(&client).await;
    let data = ftp.data().await;
    assert_eq!(ftp.command("STOR f").await.code, 150);
    let mut data = ftp.wrap(data).await.expect("TLS");
    data.write_all(&bytes[..part() + 5]).await.expect("taken");
    data.flush().await.expect("sent");
    drop(data.into_tcp());
    let reply = ftp.reply().await;
    assert_eq!(reply.code, 426, "{reply:?}");
    assert!(reply.text.contains("are held"), "{reply:?}");
    assert_eq!(gateway.object("f").await, None);
    assert_eq!(go_on(&mut ftp, "f", &bytes).await.code, 226);
    assert!(gateway.object("f").await == Some(bytes));
}

#[tokio::test]
async fn a_store_that_lists_no_checksums_of_parts_is_asked_for_the_object() {
    let replicas = Replicas::start(2, &[]).await;
    let without = Fault::edit(|answer| {
        let mut text = String::from_utf8_lossy(&answer.body).into_owned();
        for name in ["ChecksumAlgorithm", "ChecksumType", "ChecksumCRC64NVME"] {
            while let Some((before, rest)) = text.split_once(&format!("<{name}>")) {
                let (_, after) = rest.split_once(&format!("</{name}>")).expect("its end");
                text = format!("{before}{after}");
            }
        }
        answer.body = text.into_bytes();
    });
    // each of them knows by then that the store has checksums
    for _ in 0..2 {
        let mut ftp = replicas.login().await;
        assert_eq!(ftp.store("STOR small", b"x").await.code, 226);
    }
    replicas.proxy.fault("ListParts", without).always();
    let bytes = pattern(3 * part() + 9);
    for _ in 0..2 {
        let mut ftp = replicas.login().await;
        assert_eq!(
            cut(&mut ftp, "STOR f", &bytes[..2 * part() + 5]).await.code,
            426
        );
        let mut ftp = replicas.login().await;
        replicas.proxy.take_operations();
        assert_eq!(go_on(&mut ftp, "f", &bytes).await.code, 226);
        // the object's ETag is that of its parts
        let operations = replicas.proxy.take_operations();
        let last = &operations[operations.len() - 2..];
        assert_eq!(last, ["CompleteMultipartUpload f", "HeadObject f"]);
        assert!(replicas.store.object("f").await.as_ref() == Some(&bytes));
        // and the other way round
        replicas.next.fetch_add(1, Ordering::SeqCst);
    }
}

#[tokio::test]
async fn a_part_that_was_damaged_at_the_store_is_found_out_before_226() {
    let (gateway, proxy) = TestGateway::behind_proxy(&SETTINGS).await;
    let bytes = pattern(2 * part() + 9);
    let mut ftp = gateway.login().await;
    assert_eq!(
        cut(&mut ftp, "STOR f", &bytes[..part() + 5]).await.code,
        426
    );
    // the store lists another checksum than that of what it has
    let other = Fault::edit(|answer| {
        let text = String::from_utf8_lossy(&answer.body);
        let (before, rest) = text.split_once("<ChecksumCRC64NVME>").expect("a checksum");
        let (_, after) = rest.split_once('<').expect("its end");
        answer.body = format!("{before}<ChecksumCRC64NVME>AAAAAAAAAAA=<{after}").into_bytes();
    });
    proxy.fault("ListParts", other).always();
    let reply = go_on(&mut ftp, "f", &bytes).await;
    assert!(matches!(reply.code, 451 | 550), "{reply:?}");
    assert_eq!(gateway.object("f").await, None);
}

#[tokio::test]
async fn an_outage_of_the_store_costs_a_client_no_more_than_a_part() {
    let settings = ["STORAGE__RETRY__MAX_ATTEMPTS=1"];
    let (gateway, proxy) = TestGateway::behind_proxy(&[&SETTINGS[..2], &settings].concat()).await;
    let bytes = pattern(3 * part() + 9);
    let mut ftp = gateway.login().await;
    let mut data = begin(&mut ftp, "STOR f", &bytes[..part() + 5]).await;
    eventually("the first part is there", || has_part(&gateway)).await;
    proxy
        .fault("UploadPart", Fault::refuse(503, "SlowDown"))
        .always();
    // it may end before all of that is taken
    let _ = data.write_all(&bytes[part() + 5..]).await;
    drop(data);
    assert_eq!(ftp.reply().await.code, 451);
    proxy.clear_faults();
    assert_eq!(gateway.object("f").await, None);
    assert_eq!(size(&mut ftp, "f").await, Some(part()));
    assert_eq!(go_on(&mut ftp, "f", &bytes).await.code, 226);
    assert!(gateway.object("f").await == Some(bytes));
}

#[tokio::test]
async fn size_is_never_the_whole_length_of_a_file_that_is_not_stored() {
    let gateway = TestGateway::with(&SETTINGS[..2]).await;
    let bytes = pattern(3 * part());
    let mut ftp = gateway.login().await;
    // it may be all, or not
    assert_eq!(
        cut(&mut ftp, "STOR f", &bytes[..2 * part()]).await.code,
        426
    );
    assert_eq!(size(&mut ftp, "f").await, Some(part()));
    assert_eq!(ftp.command(format!("REST {}", part())).await.code, 350);
    assert_eq!(cut(&mut ftp, "STOR f", &bytes[part()..]).await.code, 426);
    assert_eq!(size(&mut ftp, "f").await, Some(2 * part()));
    // a session that brings nothing takes nothing
    assert_eq!(ftp.command(format!("REST {}", 2 * part())).await.code, 350);
    assert_eq!(cut(&mut ftp, "STOR f", b"").await.code, 426);
    assert_eq!(size(&mut ftp, "f").await, Some(2 * part()));
    assert_eq!(go_on(&mut ftp, "f", &bytes).await.code, 226);
    assert!(gateway.object("f").await == Some(bytes));
}

#[tokio::test]
async fn what_becomes_of_held_uploads_is_counted() {
    let settings = ["ADMIN__LISTEN=127.0.0.1:0"];
    let gateway = TestGateway::with(&[&SETTINGS[..2], &settings].concat()).await;
    let bytes = pattern(2 * part());
    let mut ftp = gateway.login().await;
    assert_eq!(
        cut(&mut ftp, "STOR f", &bytes[..part() + 5]).await.code,
        426
    );
    assert_eq!(go_on(&mut ftp, "f", &bytes).await.code, 226);
    assert_eq!(
        cut(&mut ftp, "STOR g", &bytes[..part() + 5]).await.code,
        426
    );
    assert_eq!(ftp.command("DELE g").await.code, 250);
    let admin = gateway.gateway.admin_address().expect("it listens");
    let metrics = get(admin, "/metrics", &[]).await.body;
    for (outcome, count) in [("held", 2), ("continued", 1), ("discarded", 1)] {
        let line = format!("cosgate_held_uploads_total{{outcome=\"{outcome}\"}} {count}\n");
        assert!(metrics.contains(&line), "{line}{metrics}");
    }
    let line = "cosgate_transfers_total{command=\"STOR\",outcome=\"held\"} 2\n";
    assert!(metrics.contains(line), "{metrics}");
}

#[tokio::test]
async fn text_is_not_held_since_a_client_counts_other_bytes() {
    let gateway = TestGateway::with(&SETTINGS[..2]).await;
    let bytes = pattern(2 * part());
    let mut ftp = gateway.login().await;
    assert_eq!(ftp.command("TYPE A").await.code, 200);
    let reply = cut(&mut ftp, "STOR f", &bytes).await;
    assert!(reply.text.contains("nothing was stored"), "{reply:?}");
    assert_eq!(gateway.unfinished().await, 0);
}
