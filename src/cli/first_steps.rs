//! The first steps that a gateway without users shows to the person in front of it: whom to log in as, and what to try.

use secrecy::ExposeSecret as _;

use crate::app::{DEMO_USER, Gateway};

/// The lines, if the gateway made a user for this run. They hold its password, which stands in no log line.
pub(super) fn block(gateway: &Gateway) -> Option<String> {
    let password = gateway.demo_password()?.expose_secret();
    let port = gateway.addresses().first().map_or(2121, |it| it.port());
    let url = format!("ftp://{DEMO_USER}:{password}@127.0.0.1:{port}/");
    Some(format!(
        "
  No users are configured. For this run there is one: user {DEMO_USER}, password {password}

    curl -T FILE {url}
    curl -O {url}FILE

  Files go to the embedded store, for a trial. For a bucket, with users of your own: cosgate init --help

"
    ))
}
