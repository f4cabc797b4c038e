//! OpenLDAP's server, with a small tree, on ports of its own.

use std::io::{BufRead, BufReader};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::gateway::free_ports;
use super::tls::Authority;

/// The server. It ends when this is dropped.
pub struct Slapd {
    pub authority: Authority,
    directory: TempDir,
    port: u16,
    running: Option<(Child, JoinHandle<()>)>,
    log: Arc<Mutex<String>>,
}

/// Entries: `alice` is in `admins`, `bob` in `staff`, `carol` in no group, and two have the mail address `twin@example.com`.
const TREE: &str = "\
dn: dc=example,dc=com
objectClass: dcObject
objectClass: organization
o: Example

dn: ou=people,dc=example,dc=com
objectClass: organizationalUnit

dn: ou=groups,dc=example,dc=com
objectClass: organizationalUnit

dn: cn=ftp service,dc=example,dc=com
objectClass: applicationProcess
objectClass: simpleSecurityObject
userPassword: service

dn: uid=alice,ou=people,dc=example,dc=com
objectClass: inetOrgPerson
cn: Alice
sn: A
mail: alice@example.com
userPassword: secret
memberOf: cn=admins,ou=groups,dc=example,dc=com

dn: uid=bob,ou=people,dc=example,dc=com
objectClass: inetOrgPerson
cn: Bob
sn: B
mail: twin@example.com
userPassword: b0b
memberOf: cn=staff,ou=groups,dc=example,dc=com

dn: uid=carol,ou=people,dc=example,dc=com
objectClass: inetOrgPerson
cn: Carol
sn: C
mail: twin@example.com
userPassword: secret

dn: uid=we(ird)*\\, \\#name\\\\,ou=people,dc=example,dc=com
objectClass: inetOrgPerson
cn: Weird
sn: W
userPassword: secret

dn: cn=admins,ou=groups,dc=example,dc=com
objectClass: groupOfNames
member: uid=alice,ou=people,dc=example,dc=com

dn: cn=staff,ou=groups,dc=example,dc=com
objectClass: groupOfNames
member: uid=bob,ou=people,dc=example,dc=com

dn: cn=posix,ou=groups,dc=example,dc=com
objectClass: posixGroup
gidNumber: 1000
memberUid: carol
";

/// The program where Debian has it, which is not in every user's PATH.
fn command() -> Command {
    let mut command = Command::new("slapd");
    let path = std::env::var("PATH").unwrap_or_default();
    command.env("PATH", format!("{path}:/usr/sbin"));
    command
}

const ROOT: &str = "cn=root,dc=example,dc=com";

impl Slapd {
    pub async fn start() -> Self {
        Self::with(true, "").await
    }

    /// With TLS or without, and more lines of `slapd.conf`.
    pub async fn with(has_tls: bool, more: &str) -> Self {
        let authority = Authority::new();
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().display();
        let tls = match has_tls {
            true => format!(
                "TLSCertificateFile {}\nTLSCertificateKeyFile {}\n",
                authority.file("tls.crt").display(),
                authority.file("tls.key").display()
            ),
            false => String::new(),
        };
        // a bind without a password is a success here, as RFC 4513 has it
        let configuration = format!(
            "include /etc/ldap/schema/core.schema\n\
             include /etc/ldap/schema/cosine.schema\n\
             include /etc/ldap/schema/inetorgperson.schema\n\
             include /etc/ldap/schema/nis.schema\n\
             modulepath /usr/lib/ldap\n\
             moduleload back_mdb\n\
             moduleload memberof\n\
             allow bind_anon_cred bind_anon_dn\n\
             {tls}{more}\n\
             database mdb\n\
             suffix dc=example,dc=com\n\
             directory {path}\n\
             rootdn {ROOT}\n\
             rootpw root\n\
             overlay memberof\n\
             access to attrs=userPassword by anonymous auth by * none\n\
             access to * by users read by * none\n"
        );
        let file = |name: &str, content: &str| {
            std::fs::write(directory.path().join(name), content).expect("written");
        };
        file("slapd.conf", &configuration);
        file("tree.ldif", TREE);
        let mut slapd = Slapd {
            authority,
            port: free_ports(2),
            directory,
            running: None,
            log: Arc::default(),
        };
        // the program is its own tool, if that is its first argument
        let mut add = command();
        add.args(["-T", "add", "-f"]).arg(slapd.file("slapd.conf"));
        add.arg("-l").arg(slapd.file("tree.ldif"));
        let added = add
            .output()
            .expect("slapd is installed (Debian's package slapd)");
        assert!(added.status.success(), "{added:?}");
        slapd.run().await;
        slapd
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Starts the server, again after [`Slapd::kill`] with what it had.
    pub async fn run(&mut self) {
        let addresses = format!("{}/ {}/", self.plain(), self.tls());
        let mut child = command()
            .arg("-f")
            .arg(self.file("slapd.conf"))
            // in the foreground, with a line for each request and result
            .args(["-d", "256", "-h", &addresses])
            .stderr(Stdio::piped())
            .spawn()
            .expect("it starts");
        let lines = BufReader::new(child.stderr.take().expect("piped")).lines();
        let log = Arc::clone(&self.log);
        let reader = std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                *log.lock().expect("not poisoned") += &(line + "\n");
            }
        });
        self.running = Some((child, reader));
        let deadline = Instant::now() + Duration::from_secs(60);
        let listens = |port| TcpStream::connect(("127.0.0.1", port)).is_ok();
        while !(listens(self.port) && listens(self.port + 1)) {
            assert!(Instant::now() < deadline, "{}", self.log());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        if let Some((mut child, reader)) = self.running.take() {
            let _ = child.kill();
            let _ = child.wait();
            let _ = reader.join();
        }
    }

    /// Where StartTLS is offered.
    pub fn plain(&self) -> String {
        format!("ldap://127.0.0.1:{}", self.port)
    }

    /// Where TLS is spoken from the first byte.
    pub fn tls(&self) -> String {
        format!("ldaps://127.0.0.1:{}", self.port + 1)
    }

    pub fn log(&self) -> String {
        self.log.lock().expect("not poisoned").clone()
    }

    /// Binds and searches so far. Their lines come a little after the answers.
    pub async fn requests(&self) -> usize {
        let mut before = usize::MAX;
        loop {
            let log = self.log();
            let is_request =
                |line: &&str| line.contains(" BIND dn=") || line.contains(" SRCH base=");
            // a bind has a second line with the mechanism when it has succeeded
            let count = log
                .lines()
                .filter(is_request)
                .filter(|line| !line.contains("mech="))
                .count();
            if count == before {
                return count;
            }
            before = count;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// A connection past the gateway.
    pub async fn client(&self) -> ldap3::Ldap {
        let url = self.plain();
        let connecting = ldap3::LdapConnAsync::new(&url);
        let (connection, client) = connecting.await.expect("it listens");
        ldap3::drive!(connection);
        client
    }

    /// Gives `user` another password.
    pub async fn set_password(&self, user: &str, password: &'static str) {
        let mut ldap = self.client().await;
        let bound = ldap.simple_bind(ROOT, "root").await.expect("an answer");
        bound.success().expect("the root may");
        let change = ldap3::Mod::Replace("userPassword", [password].into());
        let dn = format!("uid={user},ou=people,dc=example,dc=com");
        let changed = ldap.modify(&dn, vec![change]).await.expect("an answer");
        changed.success().expect("changed");
    }
}

impl Drop for Slapd {
    fn drop(&mut self) {
        self.kill();
    }
}
