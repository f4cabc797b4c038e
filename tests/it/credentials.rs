//! Temporary credentials: the store takes nothing but a valid session token, and these expire within seconds.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use secrecy::ExposeSecret;
use tokio::io::AsyncWriteExt as _;

use crate::configuration::Program;
use crate::support::cloud::{self, Cloud};
use crate::support::cos::CosDouble;
use crate::support::{Ftp, eventually, pattern};

pub const MIB: usize = 1024 * 1024;
pub const PASSWORD: &str = "ftp-password-73c1";
pub const WRONG_PASSWORD: &str = "wrong-password-5e20";

/// A cloud, a store that takes only what it issues, and the variables of a gateway between them.
pub struct Scene {
    pub cloud: Cloud,
    cos: CosDouble,
    env: Vec<(String, String)>,
    pub token_file: std::path::PathBuf,
    _directory: tempfile::TempDir,
}

impl Scene {
    pub async fn new(lifetime: Duration) -> Self {
        let (cloud, cos) = (Cloud::start(lifetime).await, CosDouble::start().await);
        *cos.state.guard.lock().expect("no panic") = Some(Arc::clone(&cloud.issuer));
        let directory = tempfile::tempdir().expect("a temporary directory");
        let token_file = directory.path().join("token");
        let hash = cosgate::auth::hash_password(&PASSWORD.to_owned().into()).expect("hashes");
        let users = format!("[{{name: u, password_hash: '{}'}}]", hash.expose_secret());
        let env = [
            ("COSGATE_STORAGE__PROVIDER", "cos".to_owned()),
            ("COSGATE_STORAGE__BUCKET", "files-1250000000".to_owned()),
            ("COSGATE_STORAGE__REGION", "ap-guangzhou".to_owned()),
            (
                "COSGATE_STORAGE__ENDPOINT",
                format!("http://{}", cos.address),
            ),
            ("COSGATE_UPLOAD__MIN_PART_SIZE", "1MiB".to_owned()),
            ("COSGATE_UPLOAD__SWEEP", "off".to_owned()),
            ("COSGATE_USERS", users),
            ("HOSTNAME", "gw-0".to_owned()),
        ];
        let env = env.map(|(name, value)| (name.to_owned(), value)).to_vec();
        let scene = Scene {
            cloud,
            cos,
            env,
            token_file,
            _directory: directory,
        };
        scene.rotate("eyJhbGci.eyJwb2Qi.first-web-identity");
        scene
    }

    /// The kubelet's work: a new token, whole, in the place of the old one, which is good no more.
    fn rotate(&self, token: &str) {
        let next = self.token_file.with_extension("next");
        std::fs::write(&next, token).expect("writes");
        std::fs::rename(next, &self.token_file).expect("renames");
        *self.cloud.issuer.identity.lock().expect("no panic") = token.to_owned();
    }

    pub fn set(&mut self, name: &str, value: impl Into<String>) {
        self.env.push((name.to_owned(), value.into()));
    }

    pub fn with_tke(&mut self) {
        self.set("COSGATE_STORAGE__STS_ENDPOINT", self.cloud.url());
        self.set("TKE_REGION", "ap-shanghai");
        self.set("TKE_PROVIDER_ID", cloud::PROVIDER_ID);
        self.set("TKE_ROLE_ARN", cloud::ROLE_ARN);
        self.set("TKE_WEB_IDENTITY_TOKEN_FILE", text(&self.token_file));
    }

    pub fn env(&self) -> Vec<(&str, &str)> {
        self.env
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect()
    }

    pub fn start(&self) -> Program {
        Program::start(&self.env())
    }

    #[track_caller]
    fn nothing_went_wrong(&self) {
        let issuer = &self.cloud.issuer;
        assert_eq!(
            *issuer.complaints.lock().expect("no panic"),
            Vec::<String>::new()
        );
        assert_eq!(
            issuer.refused.load(Ordering::SeqCst),
            0,
            "the store refused credentials"
        );
    }
}

pub fn text(path: &Path) -> String {
    path.to_str().expect("UTF-8").to_owned()
}

pub async fn login(program: &Program) -> Ftp {
    let mut ftp = Ftp::connect(program.address).await;
    ftp.login("u", PASSWORD).await;
    ftp
}

/// An upload over a slow line: a MiB at a time, two a second.
async fn store_slowly(mut ftp: Ftp, name: String, bytes: Vec<u8>) {
    let mut data = ftp.data().await;
    assert_eq!(ftp.command(&format!("STOR {name}")).await.code, 150);
    let mut pace = tokio::time::interval(Duration::from_millis(500));
    for chunk in bytes.chunks(MIB) {
        pace.tick().await;
        data.write_all(chunk).await.expect("the gateway takes it");
    }
    drop(data);
    let reply = ftp.reply().await;
    assert_eq!(reply.code, 226, "{name}: {reply:?}");
}

/// Uploads and downloads for longer than credentials last, `rotate` in the middle; all succeed.
async fn transfers_outlive_credentials(scene: &Scene, program: &Program) {
    let begin = tokio::time::Instant::now();
    let bytes = pattern(26 * MIB);
    let mut uploads = tokio::task::JoinSet::new();
    for nth in 0..3 {
        let ftp = login(program).await;
        uploads.spawn(store_slowly(ftp, format!("slow-{nth}"), bytes.clone()));
    }
    let mut ftp = login(program).await;
    let small = pattern(3 * MIB);
    assert_eq!(ftp.store("STOR small", &small).await.code, 226);
    let mut renewals = 0;
    while !uploads.is_empty() {
        assert!(ftp.fetch("RETR small").await.0 == small);
        if scene.cloud.issuer.issued() > renewals {
            renewals = scene.cloud.issuer.issued();
            scene.rotate(&format!("eyJhbGci.eyJwb2Qi.web-identity-{renewals}"));
        }
        while let Some(upload) = uploads.try_join_next() {
            upload.expect("a whole upload");
        }
    }
    let objects = scene.cos.state.objects.lock().expect("not poisoned");
    assert_eq!(
        objects.values().filter(|object| **object == bytes).count(),
        3
    );
    scene.nothing_went_wrong();
    let issued = scene.cloud.issuer.issued();
    // what lasts 6 s is renewed after 3.75 s at the earliest, whoever asks: a quarter before the end, whole seconds
    let most = begin.elapsed().as_millis() / 3_700 + 1;
    assert!(issued >= 3, "renewed {issued} times only");
    assert!(
        issued as u128 <= most,
        "{issued} times for all transfers, at most {most}"
    );
}

const LIFETIME: Duration = Duration::from_secs(6);

#[tokio::test(flavor = "multi_thread")]
async fn a_pods_identity_is_renewed_in_the_middle_of_transfers_with_a_token_that_rotates() {
    let mut scene = Scene::new(LIFETIME).await;
    scene.with_tke();
    scene.cloud.issuer.throttle.store(1, Ordering::SeqCst);
    let program = scene.start();
    transfers_outlive_credentials(&scene, &program).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_role_of_a_cvm_is_renewed_in_the_middle_of_transfers() {
    let mut scene = Scene::new(LIFETIME).await;
    scene.set("COSGATE_STORAGE__CREDENTIALS", "cvm");
    scene.set("COSGATE_STORAGE__METADATA_ENDPOINT", scene.cloud.url());
    let program = scene.start();
    transfers_outlive_credentials(&scene, &program).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn awss_chain_takes_a_web_identity_and_the_endpoint_of_a_container() {
    let mut web = Scene::new(Duration::from_secs(3600)).await;
    web.set("AWS_ENDPOINT_URL_STS", web.cloud.url());
    web.set("AWS_WEB_IDENTITY_TOKEN_FILE", text(&web.token_file));
    web.set("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/cosgate");
    web.set("AWS_ROLE_SESSION_NAME", "gw-0");
    let mut container = Scene::new(Duration::from_secs(3600)).await;
    let url = format!("{}/container", container.cloud.url());
    container.set("AWS_CONTAINER_CREDENTIALS_FULL_URI", url);
    container.set("AWS_CONTAINER_AUTHORIZATION_TOKEN", cloud::CONTAINER_TOKEN);
    let mut keys = Scene::new(Duration::from_secs(3600)).await;
    keys.set("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE");
    keys.set("AWS_SECRET_ACCESS_KEY", "secret");
    *keys.cos.state.guard.lock().expect("no panic") = None;
    for (mut scene, issued) in [(web, 1), (container, 1), (keys, 0)] {
        scene.set("COSGATE_STORAGE__CREDENTIALS", "aws");
        let program = scene.start();
        let mut ftp = login(&program).await;
        let bytes = pattern(3 * MIB);
        let reply = ftp.store("STOR f", &bytes).await;
        assert_eq!(reply.code, 226, "{reply:?}\n{}", program.output());
        assert!(ftp.fetch("RETR f").await.0 == bytes);
        scene.nothing_went_wrong();
        assert_eq!(scene.cloud.issuer.issued(), issued);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_waits_for_no_credentials_and_their_return_is_noticed() {
    let mut scene = Scene::new(Duration::from_secs(3600)).await;
    scene.with_tke();
    // the pod's token is not the one that is taken
    *scene.cloud.issuer.identity.lock().expect("no panic") = "another".to_owned();
    let program = scene.start();
    let mut ftp = login(&program).await;
    let reply = ftp.store("STOR f", b"hello").await;
    assert!(matches!(reply.code, 451 | 550), "{reply:?}");
    assert!(
        !reply.text.contains("WebIdentity"),
        "clients need not know: {reply:?}"
    );
    let said = || async {
        let output = program.output();
        output.contains("InvalidParameter.WebIdentityTokenError")
            && output.contains("OIDC provider")
    };
    eventually("the log tells the reason and the remedy", said).await;
    scene.rotate("eyJhbGci.eyJwb2Qi.second-web-identity");
    assert_eq!(ftp.store("STOR f", b"hello").await.code, 226);
}

/// Every level and every target that can be asked for.
pub const LOUDEST: &str = "trace,aws_config=trace,aws_credential_types=trace,aws_runtime=trace,aws_sdk_s3=trace,\
    aws_sdk_sts=trace,aws_sigv4=trace,aws_smithy_http_client=trace,aws_smithy_runtime=trace,\
    aws_smithy_runtime_api=trace,aws_smithy_http=trace,hyper=trace,hyper_util=trace,h2=trace,libunftp=trace,s3s=trace,cosgate=trace";

#[tokio::test]
async fn credentials_that_the_store_drops_before_their_time_are_renewed_without_a_failure() {
    let mut scene = Scene::new(Duration::from_secs(3600)).await;
    scene.with_tke();
    let program = scene.start();
    let mut ftp = login(&program).await;
    assert_eq!(ftp.store("STOR before", b"bytes").await.code, 226);
    assert_eq!(scene.cloud.issuer.issued(), 1);
    scene.cloud.issuer.revoke();
    for name in ["one", "two", "three"] {
        let reply = ftp.store(&format!("STOR {name}"), b"bytes").await;
        assert_eq!(reply.code, 226, "{reply:?}");
    }
    assert_eq!(scene.cloud.issuer.issued(), 2, "asked once, and for all");
    assert_eq!(scene.cloud.issuer.refused.load(Ordering::SeqCst), 1);
}
