//! The directory of `auth.ldap`: connection, certificate, service account, base and groups, so that it is known which of them fails.

use super::examination::{CheckResult, Examination};
use super::report::Verdict;
use crate::chain::Chain;
use crate::config::{Config, LdapAuth, LdapLookup, LdapSearch, LdapService};
use crate::ftp_client::printable;
use crate::ldap::{Connection, Directory, Fault, Found, Place, Security};

/// Examines the directory; no user logs in.
pub(super) async fn examine(examination: &mut Examination, config: &Config) {
    if let Some(settings) = &config.auth.ldap {
        examination.step(CHECK, directory(settings)).await;
    }
}

async fn directory(settings: &LdapAuth) -> CheckResult<()> {
    match examined(settings).await {
        Ok(finding) => (Some(()), Verdict::ok(finding)),
        Err(verdict) => (None, verdict),
    }
}

async fn examined(settings: &LdapAuth) -> Result<String, Verdict> {
    let ca_file = settings.ca_file.as_deref();
    let directory = Directory::new(settings.place.clone(), ca_file).map_err(|error| {
        Verdict::failed(printable(&error.to_string()), "correct auth.ldap.ca_file")
    })?;
    let mut connection = directory.connect(settings.timeout).await.map_err(failed)?;
    let mut finding = reached(&settings.place);
    if let LdapLookup::Search { service, search } = &settings.lookup {
        log_in(&mut connection, service).await?;
        base(&mut connection, search).await?;
        for group in &settings.groups {
            if !is_there(&mut connection, &group.dn).await? {
                return Err(Verdict::failed(
                    format!(
                        "the group {} is not there, or may not be seen",
                        printable(&group.dn)
                    ),
                    "correct auth.ldap.groups, or let auth.ldap.service_dn read the group; nobody is in a group that can't be seen",
                ));
            }
        }
        finding += &format!(
            "; {} logs in and sees {}",
            printable(&service.dn),
            printable(&search.base)
        );
        if !settings.groups.is_empty() {
            finding += &format!(" and {} of auth.ldap.groups", settings.groups.len());
        }
    }
    connection.close().await;
    Ok(finding)
}

fn reached(place: &Place) -> String {
    let Place { host, port, .. } = place;
    match place.security {
        Security::Tls => format!("{host} port {port} speaks TLS, and its certificate is good"),
        Security::StartTls => {
            format!("{host} port {port} speaks StartTLS, and its certificate is good")
        }
        Security::Off => format!("{host} port {port} connects, without TLS"),
    }
}

async fn log_in(connection: &mut Connection, service: &LdapService) -> Result<(), Verdict> {
    let outcome = connection.bind(&service.dn, &service.password).await;
    let outcome = outcome.map_err(failed)?;
    match outcome.code {
        0 => Ok(()),
        _ => Err(Verdict::failed(
            format!("the service account is refused: {outcome}"),
            "correct auth.ldap.service_dn and auth.ldap.service_password, and see that the account is neither locked nor expired",
        )),
    }
}

async fn base(connection: &mut Connection, search: &LdapSearch) -> Result<(), Verdict> {
    match is_there(connection, &search.base).await? {
        true => Ok(()),
        false => Err(Verdict::failed(
            format!(
                "{} is not there, or may not be seen",
                printable(&search.base)
            ),
            "correct auth.ldap.base, or let auth.ldap.service_dn read below it",
        )),
    }
}

async fn is_there(connection: &mut Connection, dn: &str) -> Result<bool, Verdict> {
    let found = connection.examine(dn, "(objectClass=*)").await;
    Ok(matches!(found.map_err(failed)?, Found::One(_)))
}

fn failed(fault: Fault) -> Verdict {
    let fix = match &fault {
        Fault::Name(..) => "correct auth.ldap.url, or this machine's DNS",
        Fault::Connect(..) => {
            "correct auth.ldap.url, start the directory, and see that firewalls and network policies let this machine out to its port"
        }
        Fault::StartTls(_) => {
            "give the directory a certificate, or write ldaps:// if it speaks TLS on a port of its own"
        }
        Fault::Tls(..) => {
            "write the name that the certificate is for into auth.ldap.url, and its authority's file into auth.ldap.ca_file; on the \
             port of ldap:// there is no TLS from the first byte"
        }
        Fault::Closed | Fault::Broken(_) | Fault::Malformed => {
            "see that an LDAP directory listens there, and speaks what auth.ldap.url says; its log has the reason"
        }
        Fault::Filter(_) => "report this: the configuration checks filters",
        Fault::Refused(..) => {
            "see what the directory's log says, and what auth.ldap.service_dn may read"
        }
    };
    Verdict::failed(printable(&Chain(&fault).to_string()), fix)
}

const CHECK: &str = "directory";
