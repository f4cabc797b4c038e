//! suppaftp, the FTP client of the Rust ecosystem, in the clear and with TLS: each of its commands that changes or reads
//! files, against a gateway.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::time::Duration;

use suppaftp::list::{File, ListParser};
use suppaftp::types::FileType;
use suppaftp::{FtpStream, ImplFtpStream, Mode, RustlsConnector, RustlsFtpStream, TlsStream};

use crate::support::tls::Authority;
use crate::support::{TestGateway, pattern};

/// Large enough for an upload in parts.
const LARGE: usize = 9 * 1024 * 1024 + 11;

/// Runs a client that blocks beside the gateway.
async fn beside(work: impl FnOnce() + Send + 'static) {
    tokio::task::spawn_blocking(work).await.expect("it ends");
}

fn clear(address: SocketAddr, password: &str) -> FtpStream {
    let mut ftp = FtpStream::connect(address).expect("connects");
    ftp.login("demo", password).expect("logs in");
    ftp.transfer_type(FileType::Binary).expect("TYPE I");
    ftp
}

fn get<T: TlsStream>(ftp: &mut ImplFtpStream<T>, name: &str, from: usize) -> Vec<u8> {
    ftp.resume_transfer(from).expect("an offset");
    let mut download = ftp.retr_as_stream(name).expect("RETR");
    let mut got = Vec::new();
    download.read_to_end(&mut got).expect("reads");
    download.finish().expect("226");
    got
}

fn names(lines: &[String], read: fn(&str) -> File) -> Vec<(String, usize, bool)> {
    let files = lines.iter().map(|line| read(line));
    let mut names: Vec<_> = files
        .map(|file| (file.name().to_owned(), file.size(), file.is_directory()))
        .filter(|(name, ..)| !matches!(name.as_str(), "." | ".." | "/"))
        .collect();
    names.sort();
    names
}

/// What a program does with its files.
fn everything<T: TlsStream>(ftp: &mut ImplFtpStream<T>) {
    let large = pattern(LARGE);
    let features = ftp.feat().expect("FEAT");
    for feature in ["REST", "MLST", "SIZE", "MDTM", "UTF8"] {
        assert!(features.contains_key(feature), "{feature}: {features:?}");
    }
    ftp.opts("UTF8", Some("ON")).expect("OPTS");
    ftp.noop().expect("NOOP");
    ftp.mkdir("dir").expect("MKD");
    ftp.cwd("dir").expect("CWD");
    assert_eq!(ftp.pwd().expect("PWD"), "/dir");

    let sent = ftp.put_file("small ü", &mut &b"small"[..]).expect("STOR");
    assert_eq!(sent, 5);
    ftp.append_file("small ü", &mut &b" and more"[..])
        .expect("APPE");
    assert_eq!(get(ftp, "small ü", 0), b"small and more");
    assert_eq!(get(ftp, "small ü", 10), b"more");
    let mut upload = ftp.put_with_stream("large").expect("STOR");
    upload.write_all(&large).expect("sends");
    upload.finish().expect("226");
    assert_eq!(ftp.size("large").expect("SIZE"), LARGE);
    assert!(get(ftp, "large", 0) == large);
    assert!(get(ftp, "large", LARGE - 100) == large[LARGE - 100..]);
    // continued, as after a connection that was cut
    ftp.put_file("cut", &mut &large[..6_000_000])
        .expect("the beginning");
    ftp.resume_transfer(6_000_000).expect("an offset");
    ftp.put_file("cut", &mut &large[6_000_000..])
        .expect("the rest");
    assert!(get(ftp, "cut", 0) == large);
    ftp.mdtm("cut").expect("MDTM");

    let expected = [("cut", LARGE), ("large", LARGE), ("small ü", 14)];
    let expected = expected.map(|(name, size)| (name.to_owned(), size, false));
    let posix = |line: &str| ListParser::parse_posix(line).expect(line);
    let mlsx = |line: &str| ListParser::parse_mlsd(line).expect(line);
    assert_eq!(names(&ftp.list(None).expect("LIST"), posix), expected);
    assert_eq!(names(&ftp.mlsd(None).expect("MLSD"), mlsx), expected);
    let mut plain = ftp.nlst(None).expect("NLST");
    plain.sort();
    assert_eq!(plain, expected.clone().map(|(name, ..)| name));
    let one = ftp.mlst(Some("large")).expect("MLST");
    let one = ListParser::parse_mlst(one.trim()).expect("facts");
    assert_eq!(one.size(), LARGE);

    let mut download = ftp.retr_as_stream("large").expect("RETR");
    download.read_exact(&mut [0; 1000]).expect("reads");
    ftp.abort(download).expect("ABOR");
    assert_eq!(get(ftp, "small ü", 0), b"small and more", "after ABOR");

    ftp.rename("large", "../moved").expect("RNFR and RNTO");
    assert!(ftp.size("large").is_err());
    ftp.cdup().expect("CDUP");
    assert!(get(ftp, "moved", 0) == large);
    assert!(ftp.rmdir("dir").is_err(), "it has files");
    for name in ["dir/cut", "dir/small ü", "moved"] {
        ftp.rm(name).expect("DELE");
    }
    ftp.rmdir("dir").expect("RMD");
    assert_eq!(ftp.nlst(None).expect("NLST"), Vec::<String>::new());
    ftp.quit().expect("QUIT");
}

#[tokio::test(flavor = "multi_thread")]
async fn all_that_suppaftp_does_works_in_the_clear() {
    let gateway = TestGateway::with(&["ACTIVE__ENABLED=true"]).await;
    let (address, password) = (gateway.address(), gateway.password.clone());
    beside(move || {
        for mode in [Mode::Passive, Mode::ExtendedPassive, Mode::Active] {
            let mut ftp = clear(address, &password);
            ftp.set_mode(mode);
            everything(&mut ftp);
        }
    })
    .await;
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn all_that_suppaftp_does_works_with_tls_1_3_and_1_2() {
    let authority = Authority::new();
    let gateway = TestGateway::with_tls(&authority, &["TLS__REQUIRED=all"]).await;
    let (address, password) = (gateway.address(), gateway.password.clone());
    for client in [authority.client(), authority.client_12()] {
        let password = password.clone();
        beside(move || {
            let connector = RustlsConnector::from(client.config());
            let ftp = RustlsFtpStream::connect_timeout(address, Duration::from_secs(10));
            let ftp = ftp.expect("connects").into_secure(connector, "127.0.0.1");
            let mut ftp = ftp.expect("AUTH TLS, PBSZ and PROT");
            ftp.login("demo", &password).expect("logs in");
            ftp.transfer_type(FileType::Binary).expect("TYPE I");
            everything(&mut ftp);
        })
        .await;
    }
    gateway.stop().await;
}
