//! Logins that an LDAP directory decides: OpenLDAP's server, well and dead, and servers that are none.

mod accounts;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::configuration::Program;
use crate::support::slapd::Slapd;
use crate::support::tls::Authority;
use crate::support::{Ftp, Reply, TestGateway, eventually, try_login, users};

pub const BIND: &str = "AUTH__LDAP__BIND=uid={user},ou=people,dc=example,dc=com";

pub const SERVICE: [&str; 4] = [
    "AUTH__LDAP__SERVICE_DN=cn=ftp service,dc=example,dc=com",
    "AUTH__LDAP__SERVICE_PASSWORD=service",
    "AUTH__LDAP__BASE=ou=people,dc=example,dc=com",
    "AUTH__LDAP__FILTER=(&(objectClass=inetOrgPerson)(uid={user}))",
];

pub const GROUPS: &str = "AUTH__LDAP__GROUPS=[\
    {dn: 'cn=admins,ou=groups,dc=example,dc=com', home: /}, \
    {dn: 'cn=staff,ou=groups,dc=example,dc=com', permissions: R, home: '/staff/{user}'}]";

/// Settings of a gateway that asks `url` and trusts `authority`.
pub fn asking(url: &str, authority: &Authority, more: &[&str]) -> Vec<String> {
    let own = [
        format!("AUTH__LDAP__URL={url}"),
        format!("AUTH__LDAP__CA_FILE={}", authority.file("ca.crt").display()),
        "AUTH__LOCKOUT__DELAY=10ms".to_owned(),
        "AUTH__LOCKOUT__MAX_DELAY=10ms".to_owned(),
    ];
    let more = more.iter().map(|setting| (*setting).to_owned());
    own.into_iter().chain(more).collect()
}

async fn gateway(url: &str, authority: &Authority, more: &[&str]) -> TestGateway {
    let settings = asking(url, authority, more);
    let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
    TestGateway::with(&settings).await
}

/// Why the last login failed, as the status page has it.
fn cause(gateway: &TestGateway) -> String {
    let failures = gateway.gateway.users().failed_logins();
    failures.last().expect("a failed login").cause.clone()
}

fn cannot_be_checked(reply: &Reply) -> bool {
    reply.code == 421 && reply.text.contains("can't be checked")
}

#[tokio::test]
#[ignore = "needs slapd"]
async fn a_user_binds_with_the_name_that_follows_from_the_login_name() {
    let slapd = Slapd::start().await;
    let list = format!("USERS={}", users(&["name: local"]));
    let gateway = gateway(&slapd.tls(), &slapd.authority, &[BIND, &list]).await;
    let mut ftp = gateway.connect().await;
    ftp.login("alice", "secret").await;
    assert_eq!(ftp.store("STOR f", b"hello").await.code, 226);
    assert_eq!(
        gateway.object("alice/f").await.as_deref(),
        Some(&b"hello"[..])
    );
    // a directory distinguishes no cases: it is the same user, with the same home
    let mut again = gateway.connect().await;
    again.login("ALICE", "secret").await;
    assert_eq!(again.fetch("RETR f").await.0, b"hello");

    let wrong = try_login(&gateway, "alice", "wrong").await;
    assert_eq!(wrong.code, 530);
    assert!(
        cause(&gateway).contains("invalidCredentials"),
        "{}",
        cause(&gateway)
    );
    assert_eq!(try_login(&gateway, "nobody", "secret").await, wrong);
    let requests = slapd.requests().await;
    assert_eq!(try_login(&gateway, "local", "secret").await.code, 230);
    assert_eq!(try_login(&gateway, "local", "wrong").await, wrong);
    assert_eq!(
        slapd.requests().await,
        requests,
        "who is configured here is nobody else's business"
    );
}

#[tokio::test]
#[ignore = "needs slapd"]
async fn a_service_account_finds_the_entry_and_the_first_group_says_what_is_granted() {
    let slapd = Slapd::start().await;
    for filter in [
        "AUTH__LDAP__GROUP_FILTER=(member={dn})",
        "AUTH__LDAP__GROUP_FILTER=(memberOf={group})",
    ] {
        let more = [&SERVICE[..], &[GROUPS, filter]].concat();
        let gateway = gateway(&slapd.plain(), &slapd.authority, &more).await;
        let mut alice = gateway.connect().await;
        alice.login("alice", "secret").await;
        for path in ["staff/bob/f", "f"] {
            gateway.put_object(path, b"old".to_vec()).await;
            assert_eq!(alice.store(format!("STOR {path}"), b"new").await.code, 226);
        }
        let mut bob = gateway.connect().await;
        bob.login("bob", "b0b").await;
        assert_eq!(bob.fetch("RETR f").await.0, b"new");
        assert_eq!(bob.store("STOR g", b"x").await.code, 550, "R is all");

        let refused = try_login(&gateway, "carol", "secret").await;
        assert_eq!(refused.code, 530, "{filter}");
        assert!(cause(&gateway).contains("in none of auth.ldap.groups"));
        for (user, password) in [("bob", "secret"), ("nobody", "secret")] {
            assert_eq!(try_login(&gateway, user, password).await, refused);
        }
    }
}

#[tokio::test]
#[ignore = "needs slapd"]
async fn a_user_who_binds_may_be_searched_and_asked_for_groups_too() {
    let slapd = Slapd::start().await;
    let posix = [
        BIND,
        "AUTH__LDAP__GROUPS=[{dn: 'cn=posix,ou=groups,dc=example,dc=com'}]",
        "AUTH__LDAP__GROUP_FILTER=(memberUid={user})",
    ];
    let gateway_of_posix = gateway(&slapd.tls(), &slapd.authority, &posix).await;
    assert_eq!(
        try_login(&gateway_of_posix, "carol", "secret").await.code,
        230
    );
    assert_eq!(
        try_login(&gateway_of_posix, "alice", "secret").await.code,
        530
    );

    let searched = [
        BIND,
        "AUTH__LDAP__BASE=dc=example,dc=com",
        "AUTH__LDAP__FILTER=(mail={user}@example.com)",
        GROUPS,
    ];
    let gateway = gateway(&slapd.tls(), &slapd.authority, &searched).await;
    assert_eq!(try_login(&gateway, "alice", "secret").await.code, 230);
    let refused = try_login(&gateway, "bob", "b0b").await;
    assert_eq!(refused.code, 530, "the filter does not fit: {refused:?}");
}

#[tokio::test]
#[ignore = "needs slapd"]
async fn a_password_is_sent_only_to_who_has_a_certificate_for_the_name() {
    let slapd = Slapd::start().await;
    let stranger = Authority::new();
    for url in [slapd.tls(), slapd.plain()] {
        let trusted = gateway(&url, &slapd.authority, &[BIND]).await;
        assert_eq!(try_login(&trusted, "alice", "secret").await.code, 230);
        let before = slapd.requests().await;
        let untrusting = gateway(&url, &stranger, &[BIND]).await;
        // the certificate is for 127.0.0.1 alone
        let named = url.replace("127.0.0.1", "localhost");
        let misnamed = gateway(&named, &slapd.authority, &[BIND]).await;
        for gateway in [untrusting, misnamed] {
            let reply = try_login(&gateway, "alice", "secret").await;
            assert!(cannot_be_checked(&reply), "{url}: {reply:?}");
            assert!(cause(&gateway).contains("TLS with"), "{}", cause(&gateway));
        }
        assert_eq!(slapd.requests().await, before, "{url}");
    }
}

#[tokio::test]
#[ignore = "needs slapd"]
async fn a_directory_without_tls_gets_no_password_unless_that_is_allowed() {
    let slapd = Slapd::with(false, "").await;
    let careful = gateway(&slapd.plain(), &slapd.authority, &[BIND]).await;
    let reply = try_login(&careful, "alice", "secret").await;
    assert!(cannot_be_checked(&reply), "{reply:?}");
    assert!(cause(&careful).contains("refuses StartTLS"));
    assert_eq!(slapd.requests().await, 0);

    let settings = [
        BIND,
        "AUTH__LDAP__STARTTLS=false",
        "AUTH__LDAP__ALLOW_PLAIN=true",
    ];
    let plain = gateway(&slapd.plain(), &slapd.authority, &settings).await;
    assert_eq!(try_login(&plain, "alice", "secret").await.code, 230);

    // one that wants TLS says so, and that is no wrong password
    let slapd = Slapd::with(true, "security simple_bind=128").await;
    let plain = gateway(&slapd.plain(), &slapd.authority, &settings).await;
    let reply = try_login(&plain, "alice", "secret").await;
    assert!(cannot_be_checked(&reply), "{reply:?}");
    assert!(cause(&plain).contains("confidentialityRequired"));
}

#[tokio::test]
#[ignore = "needs slapd"]
async fn an_empty_password_never_reaches_the_directory_which_would_call_it_a_success() {
    let slapd = Slapd::start().await;
    let more = [BIND, "AUTH__LOCKOUT__PER_USER=2"];
    let gateway = gateway(&slapd.tls(), &slapd.authority, &more).await;
    let mut client = slapd.client().await;
    let alice = "uid=alice,ou=people,dc=example,dc=com";
    let unauthenticated = client.simple_bind(alice, "").await.expect("an answer");
    assert_eq!(unauthenticated.rc, 0, "{unauthenticated:?}");
    let before = slapd.requests().await;
    for _ in 0..2 {
        let mut ftp = gateway.connect().await;
        ftp.command("USER alice").await;
        assert_eq!(ftp.command("PASS ").await.code, 530);
    }
    let locked = try_login(&gateway, "alice", "secret").await;
    assert_eq!(locked.code, 421, "they were counted: {locked:?}");
    assert_eq!(slapd.requests().await, before);
}

#[tokio::test]
#[ignore = "needs slapd"]
async fn a_name_is_a_value_and_nothing_more() {
    let slapd = Slapd::start().await;
    for lookup in [&[BIND][..], &SERVICE[..]] {
        let more = [lookup, &["AUTH__LOCKOUT__PER_ADDRESS=0"]].concat();
        let gateway = gateway(&slapd.tls(), &slapd.authority, &more).await;
        let weird = "we(ird)*, #name\\";
        assert_eq!(
            try_login(&gateway, weird, "secret").await.code,
            230,
            "{lookup:?}"
        );
        for name in [
            "*",
            "a*",
            "alice)(objectClass=*",
            "*)(uid=alice))(|(uid=*",
            "alice,ou=people,dc=example,dc=com",
            "alice+cn=alice",
            "alice\\",
            " alice",
            "alice ",
            "alice\u{ad}",
            "../alice",
            "alice/..",
            "{user}",
            "{dn}",
        ] {
            let reply = try_login(&gateway, name, "secret").await;
            assert_eq!(reply.code, 530, "{name:?} {lookup:?}: {reply:?}");
        }
    }
}

#[tokio::test]
#[ignore = "needs slapd"]
async fn a_success_holds_for_its_time_without_a_request_and_a_failure_never() {
    let slapd = Slapd::start().await;
    let more = [&SERVICE[..], &["AUTH__LDAP__CACHE=3s"]].concat();
    let gateway = gateway(&slapd.tls(), &slapd.authority, &more).await;
    let begun = Instant::now();
    assert_eq!(try_login(&gateway, "alice", "secret").await.code, 230);
    let first = slapd.requests().await;
    assert_eq!(first, 3, "{}", slapd.log());
    assert_eq!(try_login(&gateway, "alice", "secret").await.code, 230);
    slapd.set_password("alice", "changed").await;
    assert_eq!(try_login(&gateway, "alice", "secret").await.code, 230);
    if begun.elapsed() < Duration::from_secs(3) {
        // the bind of the test itself
        assert_eq!(slapd.requests().await, first + 1, "{}", slapd.log());
    }
    // another password is another login
    assert_eq!(try_login(&gateway, "alice", "changed").await.code, 230);
    assert_eq!(try_login(&gateway, "alice", "wrong").await.code, 530);
    eventually("the old password is no good any more", || async {
        try_login(&gateway, "alice", "secret").await.code == 530
    })
    .await;

    let more = [&SERVICE[..], &["AUTH__LDAP__CACHE=off"]].concat();
    let gateway = self::gateway(&slapd.tls(), &slapd.authority, &more).await;
    let before = slapd.requests().await;
    for _ in 0..2 {
        assert_eq!(try_login(&gateway, "bob", "b0b").await.code, 230);
    }
    assert_eq!(slapd.requests().await, before + 6);
}

#[tokio::test]
#[ignore = "needs slapd"]
async fn guesses_are_locked_out_before_they_reach_the_directory_however_the_name_is_written() {
    let slapd = Slapd::start().await;
    let more = [BIND, "AUTH__LOCKOUT__PER_USER=3"];
    let gateway = gateway(&slapd.tls(), &slapd.authority, &more).await;
    for name in ["alice", "Alice", "ALICE"] {
        assert_eq!(try_login(&gateway, name, "wrong").await.code, 530);
    }
    let before = slapd.requests().await;
    for name in ["alice", "aLICE", "Alice"] {
        assert_eq!(try_login(&gateway, name, "secret").await.code, 421);
    }
    assert_eq!(slapd.requests().await, before);
    assert_eq!(try_login(&gateway, "bob", "b0b").await.code, 230);
}

#[tokio::test]
#[ignore = "needs slapd"]
async fn a_dead_directory_is_no_guess_and_is_asked_again_when_it_is_back() {
    let mut slapd = Slapd::start().await;
    let list = users(&["name: local"]);
    let settings = asking(
        &slapd.tls(),
        &slapd.authority,
        &[BIND, "AUTH__LOCKOUT__PER_USER=2", "AUTH__LDAP__CACHE=off"],
    );
    let program = Program::with(&settings, &[("COSGATE_USERS", &list)]);
    let attempt = async |user: &str, password: &str| {
        let mut ftp = Ftp::connect(program.address).await;
        ftp.try_login(user, password).await
    };
    assert_eq!(attempt("alice", "secret").await.code, 230);
    slapd.kill();
    let unavailable = attempt("alice", "secret").await;
    assert!(cannot_be_checked(&unavailable), "{unavailable:?}");
    for _ in 0..4 {
        assert_eq!(attempt("alice", "wrong").await, unavailable);
        // nobody learns who is known here, and who there, or whose names are not even asked about
        assert_eq!(attempt("bob", "wrong").await, unavailable);
        assert_eq!(attempt("local", "wrong").await, unavailable);
        assert_eq!(attempt("al/ice", "wrong").await, unavailable);
    }
    eventually("the fault is logged", || async {
        let log = program.log();
        log.iter()
            .any(|line| line.contains("login_unavailable") && line.contains("does not connect"))
    })
    .await;
    slapd.run().await;
    // 5 attempts with a dead directory, and none was counted
    assert_eq!(attempt("alice", "secret").await.code, 230);
    assert_eq!(attempt("alice", "wrong").await.code, 530);
}

#[tokio::test]
#[ignore = "needs slapd"]
async fn what_the_directory_does_not_answer_for_is_said_and_is_no_guess() {
    let slapd = Slapd::start().await;
    let changed = |index: usize, setting: &'static str| {
        let mut settings = SERVICE.to_vec();
        settings[index] = setting;
        settings.push("AUTH__LOCKOUT__PER_USER=1");
        settings
    };
    for (settings, user, words) in [
        (
            changed(1, "AUTH__LDAP__SERVICE_PASSWORD=wrong"),
            "alice",
            "the bind of auth.ldap.service_dn fails",
        ),
        (
            changed(2, "AUTH__LDAP__BASE=ou=nowhere,dc=example,dc=com"),
            "alice",
            "auth.ldap.base is not there",
        ),
        (
            changed(3, "AUTH__LDAP__FILTER=(mail={user}@example.com)"),
            "twin",
            "fits more than one entry",
        ),
    ] {
        let gateway = gateway(&slapd.tls(), &slapd.authority, &settings).await;
        for _ in 0..3 {
            let reply = try_login(&gateway, user, "secret").await;
            assert!(cannot_be_checked(&reply), "{words}: {reply:?}");
            assert!(cause(&gateway).contains(words), "{}", cause(&gateway));
            assert!(cause(&gateway).contains("the directory of auth.ldap"));
        }
    }
    // what is ambiguous for one is not for another
    let by_mail = changed(3, "AUTH__LDAP__FILTER=(mail={user}@example.com)");
    let gateway = gateway(&slapd.tls(), &slapd.authority, &by_mail).await;
    assert_eq!(try_login(&gateway, "alice", "secret").await.code, 230);
}

/// A server that answers the first bytes of each connection with `answer`, and then keeps it open.
async fn impostor(answer: &'static [u8]) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut request = [0; 1024];
                let _ = socket.read(&mut request).await;
                let _ = socket.write_all(answer).await;
                let _ = socket.read_to_end(&mut Vec::new()).await;
            });
        }
    });
    address
}

#[tokio::test]
async fn what_is_no_directory_lets_nobody_in_and_ends_in_time() {
    // a success, of which the second half never comes; what is none; a success that answers another request; one that says that TLS may
    // begin, with something behind it, and then speaks none
    const ANSWERS: [&[u8]; 5] = [
        b"",
        b"\x30\x0c\x02\x01\x01\x61\x07\x0a",
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"\x30\x0c\x02\x01\x01\x61\x07\x0a\x01\x00\x04\x00\x04\x00",
        b"\x30\x0c\x02\x01\x01\x78\x07\x0a\x01\x00\x04\x00\x04\x00\x30\x0c\x02\x01\x01\x61\x07\x0a\x01\x00\x04\x00\x04\x00",
    ];
    let authority = Authority::new();
    for answer in ANSWERS {
        let address = impostor(answer).await;
        let url = format!("ldap://{address}");
        let more = [BIND, "AUTH__LDAP__TIMEOUT=1s", "AUTH__LOCKOUT__PER_USER=1"];
        let gateway = gateway(&url, &authority, &more).await;
        for _ in 0..2 {
            let begun = Instant::now();
            let reply = try_login(&gateway, "alice", "secret").await;
            assert!(cannot_be_checked(&reply), "{answer:?}: {reply:?}");
            assert!(begun.elapsed() < Duration::from_secs(30));
        }
    }
}
