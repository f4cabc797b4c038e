//! The XML of a store's listing to lines of a directory.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aws_sdk_s3::config::{HttpClient, RuntimeComponents};
use aws_sdk_s3::primitives::SdkBody;
use aws_smithy_runtime_api::client::http::{
    HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::runtime::Runtime;

use super::input::choice;
use crate::config::HASH_FOR_TESTS as HASH;
use crate::escape::unescape;
use crate::ftp::listformat::{Facts, Format};
use crate::store::{Entry, Home, Store, StoreError, VirtualPath};

/// The pages that are asked for at most: the answer is the same again and again.
const PAGES: usize = 3;

/// The first byte chooses the operation and the directory, the rest is what the store answers.
///
/// - A listing ends, and an answer without its last tag is an error.
/// - Each entry is one line of a listing, and its name leads back to a key in the directory.
pub fn listing(input: &[u8]) {
    let (choice, answer) = choice(input);
    thread_local! {
        static BENCHES: [Bench; 2] = ["v1", "v2"].map(Bench::new);
    }
    let home = Home::new("", &VirtualPath::root(), 1024);
    let path = ["/", "/d"][choice / 2 % 2];
    let path = VirtualPath::resolve(&VirtualPath::root(), path).expect("a path");
    let result = BENCHES.with(|benches| benches[choice % 2].list(&home, &path, answer));
    match result {
        Ok(entries) => {
            let is_closed = answer.trim_ascii_end().ends_with(b">");
            assert!(is_closed, "a cut answer is taken for a listing");
            entries.iter().for_each(|entry| shows(&home, &path, entry));
        }
        Err(StoreError::NotFound) => assert!(!path.is_root(), "the bucket always exists"),
        Err(_) => {}
    }
}

/// A store without a network, and the runtime for it.
struct Bench {
    runtime: Runtime,
    store: Store,
    answer: Answer,
}

impl Bench {
    fn new(list_version: &str) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = { runtime }.enable_all().build().expect("a runtime");
        let users = format!("[{{name: u, password_hash: '{HASH}'}}]");
        let env = [
            ("STORAGE__PROVIDER", "s3"),
            ("STORAGE__ENDPOINT", "http://127.0.0.1:9"),
            ("STORAGE__BUCKET", "bucket"),
            ("STORAGE__ACCESS_KEY_ID", "key"),
            ("STORAGE__SECRET_ACCESS_KEY", "secret"),
            ("STORAGE__RETRY__MAX_ATTEMPTS", "1"),
            ("STORAGE__LIST_VERSION", list_version),
            ("USERS", &users),
        ];
        let env = env.map(|(key, value)| (format!("COSGATE_{key}"), value.to_owned()));
        let config = crate::config::load_from(None, env).expect("valid").config;
        let store = Store::new(&config.storage, &config.upload, &config.download, 10);
        let store = runtime.block_on(store).expect("a store");
        let answer = Answer::default();
        Bench {
            runtime,
            store: store.answered_by(answer.clone()),
            answer,
        }
    }

    /// The entries of a few pages.
    fn list(
        &self,
        home: &Home,
        path: &VirtualPath,
        answer: &[u8],
    ) -> Result<Vec<Entry>, StoreError> {
        *self.answer.0.lock() = Bytes::copy_from_slice(answer);
        self.runtime.block_on(async {
            let mut listing = self.store.list(home.directory(path)?);
            let mut entries = Vec::new();
            for _ in 0..PAGES {
                match listing.next_page().await? {
                    Some(page) => entries.extend(page),
                    None => return Ok(entries),
                }
            }
            panic!("the same page again and again");
        })
    }
}

/// The answer to each request.
#[derive(Debug, Clone, Default)]
struct Answer(Arc<Mutex<Bytes>>);

impl HttpConnector for Answer {
    fn call(&self, _: HttpRequest) -> HttpConnectorFuture {
        let body = SdkBody::from(self.0.lock().clone());
        let status = 200.try_into().expect("a status");
        HttpConnectorFuture::ready(Ok(HttpResponse::new(status, body)))
    }
}

impl HttpClient for Answer {
    fn http_connector(
        &self,
        _: &HttpConnectorSettings,
        _: &RuntimeComponents,
    ) -> SharedHttpConnector {
        SharedHttpConnector::new(self.clone())
    }
}

/// The time at which lists are made: any will do, as long as entries may be older and newer.
const NOW: Duration = Duration::from_secs(1_800_000_000);

fn shows(home: &Home, directory: &VirtualPath, entry: &Entry) {
    assert!(!entry.name.contains('/') && !entry.name.chars().any(char::is_control));
    let now = SystemTime::UNIX_EPOCH + NOW;
    for format in [Format::Long, Format::Names, Format::Facts(Facts::ALL)] {
        let mut line = String::new();
        format.line(entry, "", now, &mut line);
        assert_eq!(line.matches(['\r', '\n']).count(), 2, "{line:?}");
        assert!(line.ends_with(&format!("{}\r\n", entry.name)), "{line:?}");
    }
    let path = VirtualPath::resolve(directory, &entry.name).expect("no control character");
    assert_eq!(path.name(), entry.name);
    if let Ok(key) = home.key(&path) {
        let below = home.directory(directory).expect("it was listed");
        let below = key.as_str().strip_prefix(below.as_str());
        assert_eq!(below, Some(&*unescape(&entry.name)));
    }
}
