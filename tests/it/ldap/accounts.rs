//! Accounts that are not to be harmed by what is typed for them or for others: the service account, those that may not log in here, and
//! users of the configuration.

use super::{BIND, GROUPS, SERVICE, cannot_be_checked, cause, gateway};
use crate::support::slapd::Slapd;
use crate::support::{try_login, users};

#[tokio::test]
#[ignore = "needs slapd"]
async fn a_password_is_tried_only_for_an_entry_that_may_log_in() {
    let slapd = Slapd::start().await;
    // base and filter fit the service account, too
    let wide = [
        "AUTH__LDAP__SERVICE_DN=CN=FTP Service, dc=example, dc=com",
        SERVICE[1],
        "AUTH__LDAP__BASE=dc=example,dc=com",
        "AUTH__LDAP__FILTER=(|(uid={user})(cn={user}))",
    ];
    let own_account = gateway(&slapd.tls(), &slapd.authority, &wide).await;
    let with_groups = [&SERVICE[..], &[GROUPS]].concat();
    let with_groups = gateway(&slapd.tls(), &slapd.authority, &with_groups).await;
    let refused = try_login(&own_account, "nobody", "wrong").await;
    assert_eq!(refused.code, 530);
    for (gateway, user, words, requests) in [
        (&own_account, "nobody", "has no entry", 3),
        (&own_account, "ftp service", "auth.ldap.service_dn", 3),
        (&with_groups, "nobody", "has no entry", 5),
        (&with_groups, "carol", "in none of auth.ldap.groups", 5),
    ] {
        for password in ["wrong", "service", "secret"] {
            let before = slapd.requests().await;
            assert_eq!(try_login(gateway, user, password).await, refused, "{user}");
            assert!(cause(gateway).contains(words), "{}", cause(gateway));
            assert_eq!(slapd.requests().await, before + requests, "{user}");
        }
    }
    assert!(!slapd.log().contains("err=49"), "{}", slapd.log());

    // the same work for a password that is tried
    let before = slapd.requests().await;
    assert_eq!(try_login(&with_groups, "alice", "wrong").await, refused);
    assert_eq!(slapd.requests().await, before + 5);
    assert!(slapd.log().contains("err=49"), "{}", slapd.log());
    assert_eq!(try_login(&own_account, "carol", "secret").await.code, 230);
}

#[tokio::test]
#[ignore = "needs slapd"]
async fn what_the_directory_refuses_to_one_user_changes_nothing_for_others() {
    let slapd = Slapd::start().await;
    let list = format!("USERS={}", users(&["name: local"]));
    // a name that is no number is none to this directory, which says invalidDNSyntax
    let more = [
        "AUTH__LDAP__BIND=uidNumber={user},ou=people,dc=example,dc=com",
        "AUTH__LOCKOUT__PER_USER=2",
        &list,
    ];
    let gateway = gateway(&slapd.tls(), &slapd.authority, &more).await;
    for _ in 0..3 {
        let reply = try_login(&gateway, "alice", "wrong").await;
        assert!(cannot_be_checked(&reply), "{reply:?}");
        assert!(
            cause(&gateway).contains("result code 34"),
            "{}",
            cause(&gateway)
        );
    }
    assert_eq!(try_login(&gateway, "local", "wrong").await.code, 530);
    assert_eq!(try_login(&gateway, "1000", "wrong").await.code, 530);
}

#[tokio::test]
#[ignore = "needs slapd"]
async fn a_user_of_the_configuration_is_never_one_of_the_directory_in_whatever_case() {
    let slapd = Slapd::start().await;
    let list = format!("USERS={}", users(&["name: Alice"]));
    let more = [BIND, "AUTH__LOCKOUT__PER_USER=3", &list];
    let gateway = gateway(&slapd.tls(), &slapd.authority, &more).await;
    assert_eq!(try_login(&gateway, "Alice", "secret").await.code, 230);
    for name in ["alice", "Alice", "ALICE"] {
        assert_eq!(try_login(&gateway, name, "wrong").await.code, 530, "{name}");
    }
    assert_eq!(
        try_login(&gateway, "alice", "secret").await.code,
        421,
        "all count for one user"
    );
    assert_eq!(slapd.requests().await, 0);
    assert_eq!(try_login(&gateway, "bob", "b0b").await.code, 230);
}
