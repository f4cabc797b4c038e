//! `cosgate doctor`: what it finds where all is well, and where something is wrong.

pub mod configuration;
mod directory;
mod gateway;
mod program;

use cosgate::doctor::{Check, Login, Outcome, Report, Security, Target};

/// The check of this name.
pub fn check<'a>(report: &'a Report, name: &str) -> &'a Check {
    let found = report.checks.iter().find(|check| check.name == name);
    found.unwrap_or_else(|| panic!("no {name} in\n{report}"))
}

/// Holds when the check of this name came to `outcome`, and its finding or fix has all the `words`.
#[track_caller]
fn expect(report: &Report, name: &str, outcome: Outcome, words: &[&str]) {
    let check = check(report, name);
    assert_eq!(check.outcome, outcome, "{name}\n{report}");
    let text = format!(
        "{} -> {}",
        check.finding,
        check.fix.as_deref().unwrap_or_default()
    );
    for words in words {
        assert!(text.contains(words), "{words} in {text}");
    }
}

/// Holds when nothing failed.
#[track_caller]
fn expect_sound(report: &Report) {
    assert_ne!(report.outcome(), Outcome::Failed, "{report}");
}

/// A visit of `user` without TLS.
fn target(address: std::net::SocketAddr, user: &str, password: &str) -> Target {
    Target {
        host: address.ip().to_string(),
        port: address.port(),
        security: Security::Auto,
        login: Some(Login {
            user: user.to_owned(),
            password: password.to_owned().into(),
        }),
        ca: None,
        insecure: false,
        admin: None,
        directory: None,
    }
}
