//! A gateway in this process, on ports of its own.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU16, Ordering};

use aws_sdk_s3::Client;
use aws_sdk_s3::config::{BehaviorVersion, Config, Credentials, Region};
use aws_sdk_s3::types::EncodingType;
use cosgate::app::{Gateway, StartError};
use cosgate::config::load_from;
use cosgate::ftp::listener::ListenError;
use cosgate::store::embedded::{EmbeddedStore, Options};
use secrecy::{ExposeSecret, SecretString};
use tempfile::TempDir;

use super::Ftp;
use super::proxy::Proxy;
use super::tls::Authority;

/// Passive ports per gateway.
pub const PASSIVE_PORTS: u16 = 4;

/// Below the kernel's ephemeral range, where nothing else of a test run is.
static NEXT_PORT: AtomicU16 = AtomicU16::new(20_000);

/// A running gateway and its store.
pub struct TestGateway {
    pub gateway: Gateway,
    pub password: String,
    store: TestStore,
}

/// The store, seen past the gateway.
pub struct TestStore {
    s3: Client,
    /// A store that is not the gateway's own.
    outside: Option<EmbeddedStore>,
    _data: TempDir,
}

impl std::ops::Deref for TestGateway {
    type Target = TestStore;

    fn deref(&self) -> &TestStore {
        &self.store
    }
}

/// The bucket in the configuration.
pub const BUCKET: &str = "cosgate";

impl TestGateway {
    /// The default configuration on free ports.
    pub async fn start() -> Self {
        Self::with(&[]).await
    }

    /// The same with some keys set, as `KEY__NAME=value` without the prefix.
    pub async fn with(settings: &[&str]) -> Self {
        let data = tempfile::tempdir().expect("a temporary directory");
        let directory = format!("STORAGE__DATA_DIR={}", data.path().display());
        let gateway = start(&[&[directory.as_str()], settings].concat()).await;
        let embedded = gateway.embedded().expect("the default store");
        let s3 = client(
            &embedded.endpoint(),
            embedded.access_key_id(),
            embedded.secret_access_key(),
        );
        let password = gateway
            .demo_password()
            .map_or_else(String::new, |password| password.expose_secret().to_owned());
        TestGateway {
            gateway,
            password,
            store: TestStore {
                s3,
                outside: None,
                _data: data,
            },
        }
    }

    /// The same with FTPS, by the pair of `authority`.
    pub async fn with_tls(authority: &Authority, settings: &[&str]) -> Self {
        let settings = authority.settings(settings);
        let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
        Self::with(&settings).await
    }

    /// A gateway whose store stands behind `proxy`, as a store on the network does. The user is `demo` with `secret`.
    pub async fn behind_proxy(settings: &[&str]) -> (Self, Proxy) {
        let (store, proxy, own) = TestStore::behind_proxy().await;
        let settings: Vec<&str> = own
            .iter()
            .map(String::as_str)
            .chain(settings.iter().copied())
            .collect();
        let gateway = start(&settings).await;
        (
            TestGateway {
                gateway,
                password: "secret".to_owned(),
                store,
            },
            proxy,
        )
    }

    /// Where clients connect.
    pub fn address(&self) -> SocketAddr {
        self.gateway.addresses()[0]
    }

    /// A client that has logged in as `demo`.
    pub async fn login(&self) -> Ftp {
        let mut ftp = self.connect().await;
        ftp.login("demo", &self.password).await;
        ftp
    }

    /// A client that has read the greeting.
    pub async fn connect(&self) -> Ftp {
        Ftp::connect(self.address()).await
    }

    /// The gateway, and the store that outlives it.
    pub fn into_parts(self) -> (Gateway, TestStore) {
        (self.gateway, self.store)
    }

    /// Ends the gateway and what belongs to it.
    pub async fn stop(self) {
        self.gateway.stop().await;
        self.store.stop().await;
    }
}

impl TestStore {
    /// A store of its own behind `proxy`, and the settings with which a gateway uses it. The user is `demo` with `secret`.
    pub async fn behind_proxy() -> (Self, Proxy, Vec<String>) {
        let data = tempfile::tempdir().expect("a temporary directory");
        let options = Options {
            data_dir: data.path().to_owned(),
            bucket: BUCKET.to_owned(),
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            credentials: None,
        };
        let store = EmbeddedStore::start(options).await.expect("a store");
        let proxy = Proxy::start(
            store
                .endpoint()
                .trim_start_matches("http://")
                .parse()
                .expect("an address"),
        )
        .await;
        let (own, s3) = settings(
            &proxy,
            &store.endpoint(),
            store.access_key_id(),
            store.secret_access_key(),
        );
        let store = TestStore {
            s3,
            outside: Some(store),
            _data: data,
        };
        (store, proxy, own)
    }

    /// As [`Self::behind_proxy`], of a store that runs already, such as SeaweedFS, on an address `http://IP:PORT`. It has
    /// the bucket.
    pub async fn elsewhere_behind_proxy(
        endpoint: &str,
        access_key_id: &str,
        secret: &str,
    ) -> (Self, Proxy, Vec<String>) {
        let address = endpoint.trim_start_matches("http://").parse();
        let proxy = Proxy::start(address.expect("an address")).await;
        let secret = SecretString::from(secret);
        let (own, s3) = settings(&proxy, endpoint, access_key_id, &secret);
        let store = TestStore {
            s3,
            outside: None,
            _data: tempfile::tempdir().expect("a temporary directory"),
        };
        (store, proxy, own)
    }

    /// The store's keys, to look for where they must not be.
    pub fn keys_of_outside(&self) -> [String; 2] {
        let store = self.outside.as_ref().expect("a store of its own");
        let secret = store.secret_access_key().expose_secret();
        [store.access_key_id().to_owned(), secret.to_owned()]
    }

    /// An object's own metadata.
    pub async fn metadata(&self, key: &str, name: &str) -> Option<String> {
        let head = self.s3.head_object().bucket(BUCKET).key(key).send().await;
        let metadata = head.expect("it is there").metadata?;
        metadata.get(name).cloned()
    }

    /// An object's tags.
    pub async fn tags(&self, key: &str) -> BTreeMap<String, String> {
        let asked = self.s3.get_object_tagging().bucket(BUCKET).key(key);
        let tags = asked.send().await.expect("an answer").tag_set;
        tags.into_iter().map(|tag| (tag.key, tag.value)).collect()
    }

    /// Access key and secret key of a store that no gateway owns.
    pub fn keys_of_its_own(&self) -> (&str, &str) {
        let store = self.outside.as_ref().expect("a store of its own");
        (
            store.access_key_id(),
            store.secret_access_key().expose_secret(),
        )
    }

    /// Ends a store that no gateway owns.
    pub async fn stop(self) {
        if let Some(store) = self.outside {
            store.stop().await;
        }
    }

    /// The bytes of an object, read past the gateway.
    pub async fn object(&self, key: &str) -> Option<Vec<u8>> {
        self.object_in(BUCKET, key).await
    }

    /// A second bucket.
    pub async fn create_bucket(&self, bucket: &str) {
        let created = self.s3.create_bucket().bucket(bucket).send().await;
        created.expect("created");
    }

    /// As [`Self::object`], in another bucket.
    pub async fn object_in(&self, bucket: &str, key: &str) -> Option<Vec<u8>> {
        let answer = self
            .s3
            .get_object()
            .bucket(bucket)
            .key(key)
            .send()
            .await
            .ok()?;
        Some(answer.body.collect().await.expect("a whole body").to_vec())
    }

    /// Stores an object past the gateway.
    pub async fn put_object(&self, key: &str, bytes: Vec<u8>) {
        self.s3
            .put_object()
            .bucket(BUCKET)
            .key(key)
            .body(bytes.into())
            .send()
            .await
            .expect("stored");
    }

    /// The client that looks past the gateway, for what has no shorthand here.
    pub fn s3(&self) -> &Client {
        &self.s3
    }

    /// All keys of the bucket.
    pub async fn keys(&self) -> Vec<String> {
        let page = self
            .s3
            .list_objects_v2()
            .bucket(BUCKET)
            .send()
            .await
            .expect("a listing");
        page.contents()
            .iter()
            .filter_map(|object| object.key.clone())
            .collect()
    }

    /// Begins a multipart upload past the gateway, with one part of `bytes` bytes, and leaves it.
    pub async fn begin_multipart(&self, key: &str, bytes: usize) {
        self.begin_multipart_in(BUCKET, key, bytes).await;
    }

    /// As [`Self::begin_multipart`], in another bucket.
    pub async fn begin_multipart_in(&self, bucket: &str, key: &str, bytes: usize) {
        let begun = self
            .s3
            .create_multipart_upload()
            .bucket(bucket)
            .key(key)
            .send()
            .await
            .expect("begun");
        let part = self.s3.upload_part().bucket(bucket).key(key).part_number(1);
        let part = part
            .upload_id(begun.upload_id.expect("an id"))
            .body(vec![0; bytes].into());
        part.send().await.expect("stored");
    }

    /// Keys of the unfinished multipart uploads.
    pub async fn unfinished_keys(&self) -> Vec<String> {
        let page = self
            .s3
            .list_multipart_uploads()
            .bucket(BUCKET)
            .send()
            .await
            .expect("a listing");
        page.uploads()
            .iter()
            .filter_map(|upload| upload.key.clone())
            .collect()
    }

    /// Begins a multipart upload whose key XML can't carry, so that nobody reads the answer.
    pub async fn begin_multipart_unread(&self, key: &str) {
        let begin = self.s3.create_multipart_upload().bucket(BUCKET).key(key);
        let _ = begin.send().await;
    }

    /// Keys of the unfinished multipart uploads in URL encoding, whatever they are.
    pub async fn unfinished_keys_encoded(&self) -> Vec<String> {
        let list = self.s3.list_multipart_uploads().bucket(BUCKET);
        let page = list.encoding_type(EncodingType::Url).send().await;
        let uploads = page.expect("a listing").uploads.unwrap_or_default();
        uploads
            .into_iter()
            .filter_map(|upload| upload.key)
            .collect()
    }

    /// Unfinished multipart uploads.
    pub async fn unfinished(&self) -> usize {
        self.unfinished_in(BUCKET).await
    }

    /// As [`Self::unfinished`], in another bucket.
    pub async fn unfinished_in(&self, bucket: &str) -> usize {
        self.s3
            .list_multipart_uploads()
            .bucket(bucket)
            .send()
            .await
            .expect("a listing")
            .uploads()
            .len()
    }
}

/// The first of `count` ports that no other scenario has.
pub fn free_ports(count: u16) -> u16 {
    loop {
        let first = NEXT_PORT.fetch_add(count, Ordering::Relaxed);
        let is_free = |port| std::net::TcpListener::bind(("0.0.0.0", port)).is_ok();
        if (first..first + count).all(is_free) {
            return first;
        }
    }
}

/// Starts a gateway on the next free ports.
pub async fn start(settings: &[&str]) -> Gateway {
    match try_start(settings).await {
        Ok(gateway) => gateway,
        Err(error) => panic!("the gateway does not start: {error:?}"),
    }
}

/// The same, where it may refuse to.
pub async fn try_start(settings: &[&str]) -> Result<Gateway, StartError> {
    for _ in 0..200 {
        let port = NEXT_PORT.fetch_add(PASSIVE_PORTS, Ordering::Relaxed);
        let own = [
            "LISTEN=127.0.0.1:0".to_owned(),
            "ADMIN__LISTEN=off".to_owned(),
            // most scenarios end with sessions that are open
            "DRAIN__IDLE=1ms".to_owned(),
            format!("PASSIVE__PORTS={port}-{}", port + PASSIVE_PORTS - 1),
        ];
        let env = own
            .iter()
            .map(String::as_str)
            .chain(settings.iter().copied())
            .map(|setting| {
                let (key, value) = setting.split_once('=').expect("KEY=value");
                (format!("COSGATE_{key}"), value.to_owned())
            });
        let env: std::collections::HashMap<String, String> = env.collect();
        let loaded = load_from(None, env).expect("a good configuration");
        match Gateway::start(loaded.config).await {
            // another program has one of these ports
            Err(StartError::Listen(ListenError::Passive(_))) => {}
            started => return started,
        }
    }
    panic!("no free passive ports");
}

/// A hash of `password` that costs next to nothing to check.
pub fn cheap_hash(password: &str) -> String {
    use argon2::password_hash::{PasswordHasher, SaltString};
    let cheap = argon2::Params::new(8, 1, 1, None).expect("the least that argon2 takes");
    let argon2 = argon2::Argon2::new(Default::default(), Default::default(), cheap);
    let salt = SaltString::from_b64("c2FsdHNhbHQ").expect("base64");
    let hash = argon2.hash_password(password.as_bytes(), &salt);
    hash.expect("hashes").to_string()
}

/// A list of users for `USERS` or a users file, each `name: a, home: /x`; the password of all is `secret`.
pub fn users(entries: &[&str]) -> String {
    let hash = cheap_hash("secret");
    let entries: Vec<String> = entries
        .iter()
        .map(|entry| format!("{{{entry}, password_hash: '{hash}'}}"))
        .collect();
    format!("[{}]", entries.join(", "))
}

/// The settings that make a gateway use the store at `endpoint` through `proxy`, and a client that looks past both.
fn settings(
    proxy: &Proxy,
    endpoint: &str,
    access_key_id: &str,
    secret: &SecretString,
) -> (Vec<String>, Client) {
    let hash = cosgate::auth::hash_password(&SecretString::from("secret")).expect("hashes");
    let own = [
        "STORAGE__PROVIDER=s3".to_owned(),
        // its requests would be among those that a scenario counts
        "UPLOAD__SWEEP=off".to_owned(),
        format!("STORAGE__BUCKET={BUCKET}"),
        format!("STORAGE__ENDPOINT=http://{}", proxy.address()),
        format!("STORAGE__ACCESS_KEY_ID={access_key_id}"),
        format!("STORAGE__SECRET_ACCESS_KEY={}", secret.expose_secret()),
        format!(
            "USERS=[{{name: demo, password_hash: '{}'}}]",
            hash.expose_secret()
        ),
    ];
    (own.to_vec(), client(endpoint, access_key_id, secret))
}

fn client(endpoint: &str, access_key_id: &str, secret: &SecretString) -> Client {
    let config = Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .endpoint_url(endpoint)
        .region(Region::new("us-east-1"))
        .force_path_style(true)
        .credentials_provider(Credentials::new(
            access_key_id,
            secret.expose_secret(),
            None,
            None,
            "test",
        ));
    Client::from_conf(config.build())
}
