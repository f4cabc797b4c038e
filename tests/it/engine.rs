//! The storage backend in libunftp's own server: it is an ordinary backend, which needs nothing of the edge.

use std::sync::Arc;

use cosgate::auth::user::HomeDefaults;
use cosgate::auth::{Tree, User};
use cosgate::charset::Charset;
use cosgate::config::{Config, load_from};
use cosgate::ftp::engine::backend::Backend;
use cosgate::ftp::session::state::{Client, Session};
use cosgate::store::Store;
use libunftp::ServerBuilder;
use secrecy::SecretString;
use tokio::net::TcpListener;

use crate::support::{Ftp, TestStore, pattern};

const MIB: usize = 1024 * 1024;

/// A backend for the first configured user.
async fn backend(config: &Config) -> Backend {
    let store = Store::new(
        &config.storage,
        &config.upload,
        &config.download,
        config.sessions.max,
    );
    let defaults = HomeDefaults {
        prefix: String::new(),
        max_key_bytes: 1024,
        takes_backslash: true,
        reserved: Default::default(),
        max_file_size: config.upload.max_file_size,
        names: config.upload.objects.names.clone(),
        ascii: config.ascii,
        charset: Charset::UTF_8,
        require_close_notify: true,
    };
    let nowhere = ([127, 0, 0, 1], 0).into();
    let client = Client {
        address: nowhere,
        destination: None,
    };
    let session = Session::new(1, client, nowhere, SecretString::from("unused"));
    let user = Arc::new(User::new(&config.users[0], &defaults));
    session.log_in(Arc::clone(&user));
    let store = store.await.expect("a store");
    Backend::new(
        Arc::new(session),
        Tree::new(user, |_| store.clone()),
        Default::default(),
    )
}

/// Serves one control connection with libunftp alone.
async fn connect(backend: &Backend) -> Ftp {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
    let address = listener.local_addr().expect("bound");
    let storage = backend.clone();
    let server = ServerBuilder::new(Box::new(move || storage.clone()))
        .build()
        .expect("a server");
    tokio::spawn(async move {
        let (socket, _) = listener.accept().await.expect("accepts");
        server.service(socket).await
    });
    let mut ftp = Ftp::connect(address).await;
    ftp.login("anybody", "x").await;
    assert_eq!(ftp.command("TYPE I").await.code, 200);
    ftp
}

#[tokio::test]
async fn libunftps_own_server_stores_fetches_resumes_and_lists_with_this_backend() {
    let (store, proxy, own) = TestStore::behind_proxy().await;
    let env = own.iter().map(|setting| {
        let (key, value) = setting.split_once('=').expect("KEY=value");
        (format!("COSGATE_{key}"), value.to_owned())
    });
    let more = [("COSGATE_UPLOAD__MIN_PART_SIZE", "5MiB")];
    let more = more.map(|(key, value)| (key.to_owned(), value.to_owned()));
    let config = load_from(None, env.chain(more)).expect("valid").config;
    let backend = backend(&config).await;
    let mut ftp = connect(&backend).await;

    // several parts, and several chunks
    let bytes = pattern(17 * MIB);
    assert_eq!(ftp.store("STOR large", &bytes[..9 * MIB]).await.code, 226);
    ftp.command(&format!("REST {}", 9 * MIB)).await;
    assert_eq!(ftp.store("STOR large", &bytes[9 * MIB..]).await.code, 226);
    assert!(store.object("large").await.as_deref() == Some(&bytes[..]));
    let (fetched, reply) = ftp.fetch("RETR large").await;
    assert_eq!((reply.code, fetched == bytes), (226, true));
    ftp.command(&format!("REST {}", 16 * MIB)).await;
    let (tail, reply) = ftp.fetch("RETR large").await;
    assert_eq!((reply.code, tail == bytes[16 * MIB..]), (226, true));

    assert_eq!(ftp.command("MKD d").await.code, 257);
    assert_eq!(ftp.store("STOR d/small", b"small").await.code, 226);
    let listing = ftp.listing("LIST").await;
    assert!(
        listing.contains("large") && listing.contains(" d\r\n"),
        "{listing}"
    );
    assert_eq!(ftp.listing("NLST d").await.trim(), "small");
    assert_eq!(ftp.command("SIZE d/small").await.text, "213 5\r\n");
    assert_eq!(ftp.command("RNFR d/small").await.code, 350);
    assert_eq!(ftp.command("RNTO d/other").await.code, 250);
    assert_eq!(ftp.command("DELE d/other").await.code, 250);
    assert_eq!(ftp.command("RMD d").await.code, 250);
    // libunftp says 150 before it asks the storage
    let _data = ftp.data().await;
    assert_eq!(ftp.command("RETR missing").await.code, 150);
    assert_eq!(ftp.reply().await.code, 550);
    assert_eq!(store.keys().await, ["large"]);
    drop(proxy);
    store.stop().await;
}
