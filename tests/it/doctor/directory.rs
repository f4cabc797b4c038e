//! The directory that checks logins, examined.

use cosgate::doctor::Outcome;

use super::configuration::examine;
use super::expect;
use crate::ldap::{BIND, GROUPS, SERVICE, asking};
use crate::support::slapd::Slapd;
use crate::support::tls::Authority;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs slapd"]
async fn the_doctor_says_which_part_of_the_way_to_the_directory_fails() {
    let mut slapd = Slapd::start().await;
    let stranger = Authority::new();
    let service = [&SERVICE[..], &[GROUPS]].concat();
    let changed = |index: usize, setting: &'static str| {
        let mut settings = service.clone();
        settings[index] = setting;
        settings
    };
    let of_service = |settings: &[&str]| asking(&slapd.plain(), &slapd.authority, settings);
    let missing_group = "AUTH__LDAP__GROUPS=[{dn: 'cn=admins,ou=groups,dc=example,dc=com'}, {dn: 'cn=gone,dc=example,dc=com'}]";
    let cases: [(Vec<String>, Outcome, &[&str]); 7] = [
        (
            of_service(&service),
            Outcome::Ok,
            &[
                "StartTLS",
                "certificate is good",
                "sees ou=people",
                "2 of auth.ldap.groups",
            ],
        ),
        (
            asking(&slapd.tls(), &slapd.authority, &[BIND]),
            Outcome::Ok,
            &["speaks TLS"],
        ),
        (
            asking(&slapd.tls(), &stranger, &[BIND]),
            Outcome::Failed,
            &[
                "TLS with 127.0.0.1",
                "invalid peer certificate",
                "auth.ldap.ca_file",
            ],
        ),
        (
            of_service(&changed(1, "AUTH__LDAP__SERVICE_PASSWORD=hunter2")),
            Outcome::Failed,
            &["the service account is refused", "invalidCredentials"],
        ),
        (
            of_service(&changed(2, "AUTH__LDAP__BASE=ou=gone,dc=example,dc=com")),
            Outcome::Failed,
            &["ou=gone,dc=example,dc=com is not there", "auth.ldap.base"],
        ),
        (
            of_service(&changed(4, missing_group)),
            Outcome::Failed,
            &["cn=gone,dc=example,dc=com is not there", "auth.ldap.groups"],
        ),
        (
            asking("ldap://directory.invalid", &slapd.authority, &[BIND]),
            Outcome::Failed,
            &["directory.invalid does not resolve", "DNS"],
        ),
    ];
    for (settings, outcome, words) in cases {
        let report = examine(&settings).await;
        expect(&report, "directory", outcome, words);
        assert!(!report.to_string().contains("hunter2"), "{report}");
    }
    let settings = of_service(&service);
    slapd.kill();
    let report = examine(&settings).await;
    let words = ["does not connect", "start the directory"];
    expect(&report, "directory", Outcome::Failed, &words);
}
