//! The embedded store with the gateway's own client, for tests of what no command of a client reaches.

use std::net::SocketAddr;

use secrecy::ExposeSecret;

use crate::store::Store;
use crate::store::embedded::{EmbeddedStore, Options};

/// A store in `data`, to be stopped at the end of the test.
pub(crate) async fn store(data: &tempfile::TempDir) -> (EmbeddedStore, Store) {
    let options = Options {
        data_dir: data.path().to_owned(),
        bucket: "cosgate".to_owned(),
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        credentials: None,
    };
    let embedded = EmbeddedStore::start(options).await.expect("a store");
    let secret = embedded.secret_access_key().expose_secret();
    let env = [
        ("ENDPOINT", embedded.endpoint()),
        ("ACCESS_KEY_ID", embedded.access_key_id().to_owned()),
        ("SECRET_ACCESS_KEY", secret.to_owned()),
    ];
    let env = env.map(|(key, value)| (format!("COSGATE_STORAGE__{key}"), value));
    let config = crate::config::load_from(None, env).expect("valid").config;
    let store = Store::new(
        &config.storage,
        &config.upload,
        &config.download,
        config.sessions.max,
    )
    .await;
    (embedded, store.expect("a store"))
}
