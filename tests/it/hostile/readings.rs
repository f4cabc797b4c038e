//! The program under attack, and what it holds before and after.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpStream;

use crate::configuration::Program;
use crate::support::http::metric;
use crate::support::readings::{Readings, Slack};
use crate::support::{Ftp, Relay, eventually_within, pattern, users};

/// Left of an attack, at most.
const SLACK: Slack = Slack {
    // in the program that holds the embedded store both ends of a connection to it are counted; all attacks are by many more
    idle: 24.0,
    // the allocator keeps some for each thread, and the debug build's stacks are large
    kib: 24.0 * 1024.0,
    // times within the limits of the scenarios end, and the memory of what has ended goes back to the kernel
    within: Duration::from_secs(60),
};

/// The program, with the readings from before the attack. Users are `u` and `v`, with `secret` as their password.
pub struct Attacked {
    pub program: Program,
    admin: SocketAddr,
    before: Readings,
}

impl Attacked {
    /// With these settings, `KEY__NAME` without the prefix.
    pub async fn start(settings: &[(&str, &str)]) -> Self {
        Self::start_by(&[], settings).await
    }

    /// As `prefix` starts it: a program and its arguments.
    pub async fn start_by(prefix: &[&str], settings: &[(&str, &str)]) -> Self {
        let mut attacked = Self::begin(prefix, settings).await;
        // what everybody uses is there from the first use on: threads, connections to the store, what the allocator keeps
        let bytes = pattern(8 << 20);
        for user in ["u", "v"] {
            let mut ftp = attacked.login_from(200, user).await;
            assert_eq!(ftp.store("STOR warm", &bytes).await.code, 226);
            assert_eq!(ftp.fetch("RETR warm").await.1.code, 226);
            ftp.listing("MLSD").await;
            assert_eq!(ftp.command("QUIT").await.code, 221);
        }
        attacked.settle().await;
        attacked
    }

    /// With a store that takes nothing.
    pub async fn with_store(settings: &[(&str, &str)]) -> Self {
        let mut attacked = Self::begin(&[], settings).await;
        let mut ftp = attacked.login().await;
        assert_eq!(ftp.command("SIZE warm").await.code, 550);
        assert_eq!(ftp.command("QUIT").await.code, 221);
        attacked.settle().await;
        attacked
    }

    async fn begin(prefix: &[&str], settings: &[(&str, &str)]) -> Self {
        let list = users(&["name: u, home: /u", "name: v, home: /v"]);
        let own = [("ADMIN__LISTEN", "127.0.0.1:0"), ("USERS", &list)];
        let settings = own.iter().chain(settings);
        let settings: Vec<(String, &str)> = settings
            .map(|(key, value)| (format!("COSGATE_{key}"), *value))
            .collect();
        let settings: Vec<(&str, &str)> = settings
            .iter()
            .map(|(key, value)| (key.as_str(), *value))
            .collect();
        let program = Program::start_by(prefix, &settings);
        let admin = program.admin.expect("it is on");
        Attacked {
            program,
            admin,
            before: Readings::of(admin).await,
        }
    }

    async fn settle(&mut self) {
        let is_idle = async || {
            let now = Readings::of(self.admin).await;
            now.sessions == 0.0 && now.upload_memory + now.download_memory == 0.0
        };
        eventually_within(SLACK.within, "it is idle", is_idle).await;
        self.before = Readings::of(self.admin).await;
    }

    /// Where clients connect.
    pub fn address(&self) -> SocketAddr {
        self.program.address
    }

    /// The admin port.
    pub fn admin(&self) -> SocketAddr {
        self.admin
    }

    /// A connection to the control port on which nothing was read or written.
    pub async fn socket(&self) -> TcpStream {
        TcpStream::connect(self.address())
            .await
            .expect("it listens")
    }

    /// The same to the admin port.
    pub async fn admin_socket(&self) -> TcpStream {
        TcpStream::connect(self.admin).await.expect("it listens")
    }

    /// A client that has logged in as `u`.
    pub async fn login(&self) -> Ftp {
        self.login_from(1, "u").await
    }

    /// A client with the address 127.0.0.`last` that has logged in.
    pub async fn login_from(&self, last: u8, user: &str) -> Ftp {
        let mut ftp = Ftp::connect_through(&Relay::plain(last), self.address()).await;
        ftp.login(user, "secret").await;
        ftp
    }

    /// The readings now.
    pub async fn now(&self) -> Readings {
        Readings::of(self.admin).await
    }

    /// Resident memory beyond that of before, in KiB.
    pub async fn grown_kib(&self) -> f64 {
        self.now().await.resident_kib - self.before.resident_kib
    }

    /// The value of a metric with its labels.
    pub async fn metric(&self, name: &str) -> f64 {
        metric(self.admin, name).await
    }

    /// A client from an address that attacks nothing logs in, stores and fetches.
    pub async fn serves_others(&self) {
        let mut ftp = self.login_from(200, "v").await;
        assert_eq!(ftp.store("STOR f", b"served").await.code, 226);
        assert_eq!(ftp.command("SIZE f").await.text, "213 6\r\n");
        assert_eq!(ftp.command("QUIT").await.code, 221);
    }

    /// Waits until everything is as it was before, and checks that clients are served.
    pub async fn recovers(&self) {
        self.serves_others().await;
        self.recovers_without_store().await;
    }

    /// The same where there is nothing to be served with.
    pub async fn recovers_without_store(&self) {
        self.before.are_all_again(self.admin, SLACK).await;
    }
}
