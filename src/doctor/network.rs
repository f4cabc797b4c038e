//! The client's view: the public address, the cluster behind it, names, the certificate.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::time::SystemTime;

use super::examination::{CheckResult, Examination};
use super::report::Verdict;
use super::trust::RENEW;
use crate::certificates::{self, ENDS_SOON, Pair};
use crate::chain::Chain;
use crate::config::{CertificateSource, Config, MasqueradeAddress, Multiple, Tls};
use crate::kubernetes::examine::{self, Examined};
use crate::masquerade::{self, is_private, mapping};
use crate::reload;

/// Examines what clients get and shown.
pub(super) async fn examine(examination: &mut Examination, config: &Config) {
    let service = match &config.kubernetes.service {
        Some(service) => {
            let asked = in_cluster(service, config);
            examination.step("kubernetes", asked).await
        }
        None => {
            let reason = "kubernetes.service is not set: no Service is watched";
            examination.note("kubernetes", Verdict::skipped(reason));
            None
        }
    };
    let address = public_address(config, service.as_ref());
    examination.step("public address", address).await;
    examination.note("proxies", proxies(config));
    examination.note("certificate", certificate(config));
}

async fn in_cluster(service: &str, config: &Config) -> CheckResult<Examined> {
    let examined = match examine::examine(service, &config.kubernetes).await {
        Ok(examined) => examined,
        Err(error) => {
            let fix = "check the service account's token, or kubernetes.kubeconfig";
            return (None, Verdict::failed(Chain(&error).to_string(), fix));
        }
    };
    let verdict = match examined.refused.as_slice() {
        [] => Verdict::ok(format!(
            "get, list and watch on the Service {} work",
            examined.service
        )),
        refused => {
            let each = refused.iter();
            let each = each.map(|(verb, reason)| format!("{verb}: {reason}"));
            Verdict::failed(
                each.collect::<Vec<_>>().join("; "),
                format!(
                    "allow get, list and watch on services, resourceNames: [{service}], to this pod's service account; \
                     if nothing answers, look for a network policy that keeps the pod from the API server"
                ),
            )
        }
    };
    (Some(examined), verdict)
}

/// The address that PASV would send, by the same order of sources as the gateway's.
async fn public_address(config: &Config, service: Option<&Examined>) -> CheckResult<()> {
    let wanted = &config.masquerade;
    let verdict = match (&wanted.address, &wanted.mapping_file) {
        (Some(address), _) => of(address, "masquerade_address", config).await,
        (None, Some(file)) => match mapped(file, config) {
            Ok(Some(address)) => of(&address, "masquerade.mapping_file", config).await,
            Ok(None) => of_service(config, service).await,
            Err(verdict) => verdict,
        },
        (None, None) => of_service(config, service).await,
    };
    (Some(()), verdict)
}

async fn of_service(config: &Config, service: Option<&Examined>) -> Verdict {
    let Some(service) = service else {
        if config.kubernetes.service.is_some() {
            return Verdict::skipped("the Service says it, which can't be asked");
        }
        return control_connection(config);
    };
    let origin = format!("the Service {}", service.service);
    match &service.ingress {
        Ok((Some(address), _)) => of(&MasqueradeAddress::Ipv4(*address), &origin, config).await,
        Ok((None, Some(name))) => of(&MasqueradeAddress::Dns(name.clone()), &origin, config).await,
        _ if config.proxy_protocol.masquerade => control_connection(config),
        Ok((None, None)) => Verdict::failed(format!("{origin} has no address"), NO_INGRESS),
        Err(reason) => Verdict::failed(
            format!("{reason}: PASV is refused until it has one"),
            NO_INGRESS,
        ),
    }
}

/// No source is set.
fn control_connection(config: &Config) -> Verdict {
    if config.proxy_protocol.masquerade {
        return Verdict::ok(
            "clients are told the public address that they connected to by their connection's PROXY header (proxy_protocol.masquerade)",
        );
    }
    if config.kubernetes.in_cluster {
        return Verdict::failed(
            "no source is set, and a pod's own address is of no use to clients: PASV is refused",
            "set kubernetes.service to the name of the Service, or masquerade_address",
        );
    }
    Verdict::ok(
        "clients are told the address that they connect to, which is right unless NAT or a balancer stands before the \
         gateway (then set masquerade_address)",
    )
}

/// `proxy_protocol.trusted`
fn proxies(config: &Config) -> Verdict {
    let trusted = &config.proxy_protocol.trusted;
    if trusted.is_empty() {
        return Verdict::skipped("proxy_protocol.trusted is not set: no PROXY header is read");
    }
    let networks: Vec<String> = trusted.iter().map(ToString::to_string).collect();
    let networks = networks.join(", ");
    let finding = format!(
        "connections from {networks} must begin with a PROXY header, on the control port and on every passive port"
    );
    let loopback = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
    if trusted.iter().any(|network| network.prefix_len() == 0) {
        return Verdict::warning(
            finding,
            "whoever reaches the ports can claim any address: name the addresses of the proxies alone",
        );
    }
    if trusted.iter().any(|network| {
        loopback
            .iter()
            .any(|address: &IpAddr| network.contains(address))
    }) {
        return Verdict::warning(
            finding,
            "doctor --connect and clients on this machine can't use the gateway without a proxy: fine if the proxy runs here",
        );
    }
    Verdict::ok(finding)
}

/// An address that a source says.
async fn of(address: &MasqueradeAddress, origin: &str, config: &Config) -> Verdict {
    let (addresses, name) = match address {
        MasqueradeAddress::Ipv4(address) => (vec![*address], None),
        MasqueradeAddress::Dns(name) => match masquerade::resolve(name).await {
            Ok(addresses) => (addresses, Some(name)),
            Err(reason) => {
                return Verdict::failed(
                    format!("{name} from {origin} does not resolve: {reason}"),
                    "check the name, and the A record in the DNS",
                );
            }
        },
    };
    judge(
        &addresses,
        name.map(String::as_str),
        origin,
        config.masquerade.multiple,
    )
}

fn judge(addresses: &[Ipv4Addr], name: Option<&str>, origin: &str, multiple: Multiple) -> Verdict {
    let all: Vec<String> = addresses.iter().map(Ipv4Addr::to_string).collect();
    let all = all.join(", ");
    let finding = match name {
        Some(name) => format!("{all}, which is {name}, from {origin}"),
        None => format!("{all} from {origin}"),
    };
    if addresses.len() > 1 && multiple == Multiple::Zero {
        return Verdict::warning(
            format!(
                "{finding}; clients are told 0.0.0.0 (masquerade.multiple: zero), which some refuse"
            ),
            "give the gateway a name with one address, or masquerade.multiple: first",
        );
    }
    if addresses.len() > 1 {
        return Verdict::warning(
            format!("{finding}; clients are told the first, whichever they connected to"),
            "give the gateway a name with one address, or masquerade.multiple: zero",
        );
    }
    if addresses
        .iter()
        .any(|address| is_private(IpAddr::V4(*address)))
    {
        return Verdict::warning(
            format!("{finding}; clients on the internet can't connect to a private address"),
            "fine if all clients are in this network; else set masquerade_address to the public address",
        );
    }
    Verdict::ok(finding)
}

/// The address in the mapping file, if it says one; or what is wrong with the file.
fn mapped(file: &Path, config: &Config) -> Result<Option<MasqueradeAddress>, Verdict> {
    let shown = file.display();
    let bad = |reason: String| {
        Verdict::failed(
            format!("masquerade.mapping_file {shown}: {reason}"),
            "see \"Port pools\" in the guide (src/guide/address.md); an annotation that is not there yet is an empty file",
        )
    };
    let bytes = reload::read_bounded(file).map_err(bad)?;
    let mapping = mapping::parse(&String::from_utf8_lossy(&bytes)).map_err(bad)?;
    let bound = config.passive.ports.clone();
    let missing = bound
        .clone()
        .filter(|port| !mapping.ports.contains_key(port));
    match (missing.count(), bound.count()) {
        (0, _) => Ok(mapping.address),
        (missing, all) => Err(Verdict::warning(
            format!(
                "masquerade.mapping_file {shown} leaves out {missing} of {all} passive ports, which are not used"
            ),
            "map all of passive.ports, or make passive.ports smaller",
        )),
    }
}

/// The certificate files, as the gateway reads them.
fn certificate(config: &Config) -> Verdict {
    let Some(tls) = &config.tls else {
        return Verdict::skipped(
            "tls.cert is not set: there is no FTPS, passwords travel in clear",
        );
    };
    let (cert, key) = match &tls.source {
        CertificateSource::Files { cert, key } => (cert, key),
        CertificateSource::SelfSigned => {
            return Verdict::warning(
                "made at each start, so no client can verify it",
                "for more than trials set tls.cert and tls.key",
            );
        }
    };
    let (pair, clients) = match (Pair::read(cert, key), clients(tls)) {
        (Err(error), _) | (_, Err(error)) => {
            return Verdict::failed(format!("it can't be used: {error}"), RENEW);
        }
        (Ok(pair), Ok(clients)) => (pair, clients),
    };
    let Some(own) = pair.certified.cert.first() else {
        return Verdict::failed("the file holds no certificate", RENEW);
    };
    let names = certificates::facts(own).map_or(Vec::new(), |facts| facts.names);
    let until = humantime::format_rfc3339_seconds(pair.validity.until);
    let about = format!("for {}, valid until {until}{clients}", names.join(", "));
    let now = SystemTime::now();
    if let Some(fault) = pair.validity.fault(now) {
        return Verdict::failed(format!("{fault}; it is {about}"), RENEW);
    }
    let left = pair.validity.left(now);
    if left < ENDS_SOON {
        let days = left.as_secs() / 86_400;
        return Verdict::warning(format!("{days} days are left: {about}"), RENEW);
    }
    let host = match &config.masquerade.address {
        Some(MasqueradeAddress::Dns(name)) => Some(name.clone()),
        // where the certificate has a name, that is what clients connect to
        Some(MasqueradeAddress::Ipv4(address)) => {
            let is_address = |name: &String| name.parse::<IpAddr>().is_ok();
            names.iter().all(is_address).then(|| address.to_string())
        }
        None => None,
    };
    match host.filter(|host| !certificates::covers(own, host)) {
        Some(host) => Verdict::warning(
            format!("it is not made out to {host} (masquerade_address): {about}"),
            "get a certificate for the name or address that clients connect to",
        ),
        None => Verdict::ok(about),
    }
}

fn clients(tls: &Tls) -> Result<&'static str, certificates::CertificateError> {
    match &tls.clients {
        Some(clients) => certificates::client_authorities(&clients.authorities)
            .map(|_| ", and tls.client_ca can be read"),
        None => Ok(""),
    }
}

const NO_INGRESS: &str = "see why the load balancer gives no address (kubectl describe service), or set masquerade_address";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Outcome;

    #[test]
    fn public_addresses_are_fine_and_others_are_explained() {
        let judged = |addresses: &[[u8; 4]], multiple| {
            let addresses: Vec<Ipv4Addr> = addresses.iter().map(|four| (*four).into()).collect();
            judge(&addresses, Some("ftp.example.com"), "x", multiple)
        };
        let public = [203, 0, 113, 7];
        assert_eq!(judged(&[public], Multiple::First).outcome, Outcome::Ok);
        let private = judged(&[[10, 0, 0, 1]], Multiple::First);
        assert!(private.finding.contains("private"), "{private:?}");
        let two = [public, [203, 0, 113, 8]];
        assert!(judged(&two, Multiple::Zero).finding.contains("0.0.0.0"));
        assert_eq!(judged(&two, Multiple::First).outcome, Outcome::Warning);
    }
}
