//! The way to a store: name, connection and TLS, each by itself.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::net::lookup_host;

use super::Target;
use super::connect::connect;
use super::examination::CheckResult;
use super::report::Verdict;
use super::trust::Trust;
use crate::config;

/// Where requests go.
pub(super) struct Site {
    host: String,
    port: u16,
    tls: bool,
}

impl Site {
    pub fn of(
        url: Option<&str>,
        region: &str,
        addressing: config::Addressing,
        bucket: &str,
    ) -> Self {
        let amazon = format!("https://s3.{region}.amazonaws.com");
        let url = url.unwrap_or(&amazon);
        let (scheme, rest) = url.split_once("://").unwrap_or(("https", url));
        let authority = rest.split('/').next().unwrap_or_default();
        // the configuration has seen to it that this is a host
        let (host, port) = Target::parse(authority).unwrap_or((authority.to_owned(), None));
        let tls = scheme != "http";
        let host = match addressing {
            config::Addressing::Virtual => format!("{bucket}.{host}"),
            config::Addressing::Path | config::Addressing::Custom => host,
        };
        Site {
            port: port.unwrap_or(if tls { 443 } else { 80 }),
            host,
            tls,
        }
    }

    /// Name, connection and TLS, so that it is known which of them fails.
    pub async fn reach(self) -> CheckResult<()> {
        let Site { host, port, tls } = self;
        let addresses: Vec<SocketAddr> = match lookup_host((host.as_str(), port)).await {
            Ok(addresses) => addresses.collect(),
            Err(error) => {
                return (
                    None,
                    Verdict::failed(
                        format!("the name {host} does not resolve ({error})"),
                        "check storage.endpoint and storage.region, and this machine's DNS",
                    ),
                );
            }
        };
        let Some(address) = addresses.first().copied() else {
            let finding = format!("the name {host} has no address");
            return (None, Verdict::failed(finding, "check storage.endpoint"));
        };
        let place = match host.parse::<IpAddr>() {
            Ok(_) => address.to_string(),
            Err(_) => format!("{host} is {address}"),
        };
        let socket = match connect(address, CONNECT_TIMEOUT).await {
            Ok(socket) => socket,
            Err(error) => {
                let finding = format!("{place}, which does not connect ({error})");
                let fix = format!(
                    "{}; check storage.endpoint, and that firewalls, security groups, proxies and network policies let \
                     this machine out to port {port}",
                    error.cause()
                );
                return (None, Verdict::failed(finding, fix));
            }
        };
        if !tls {
            let finding = format!("{place}, and it connects, without TLS");
            return (Some(()), Verdict::ok(finding));
        }
        let trust = match Trust::new(&host, None) {
            Ok(trust) => trust,
            Err(advice) => return (None, Verdict::failed(advice, "check storage.endpoint")),
        };
        match trust.wrap(Box::new(socket)).await {
            Ok((_, handshake)) => match trust.seen().filter(|seen| !seen.is_trusted()) {
                None => {
                    let finding = format!("{place}, {}", handshake.spoken);
                    (Some(()), Verdict::ok(finding))
                }
                Some(seen) => {
                    let mut verdict = seen.verdict(&host, false);
                    verdict.finding = format!("the certificate of {host}: {}", verdict.finding);
                    verdict.fix = Some(
                        "if no authority vouches for it, add its authority to the system's (in the image: \
                         /etc/ssl/certs), or find out who answers in its place, such as a proxy that opens TLS; if it \
                         is out of date, check this machine's clock, or have the store renew it"
                            .to_owned(),
                    );
                    (None, verdict)
                }
            },
            Err(error) => (
                None,
                Verdict::failed(
                    format!("{place}, and the TLS handshake fails: {error}"),
                    "is it https there? storage.endpoint says so; something on the way may close the connection, too",
                ),
            ),
        }
    }
}

/// One connection to the store.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_go_where_the_sdk_sends_them() {
        use config::Addressing::{Path, Virtual};
        for (url, addressing, host, port, tls) in [
            (None, Virtual, "b.s3.eu-west-1.amazonaws.com", 443, true),
            (
                Some("http://127.0.0.1:9000"),
                Path,
                "127.0.0.1",
                9000,
                false,
            ),
            (Some("https://[::1]:9000"), Path, "::1", 9000, true),
            (
                Some("https://cos.ap-guangzhou.myqcloud.com"),
                Virtual,
                "b.cos.ap-guangzhou.myqcloud.com",
                443,
                true,
            ),
        ] {
            let site = Site::of(url, "eu-west-1", addressing, "b");
            assert_eq!((site.host.as_str(), site.port, site.tls), (host, port, tls));
        }
    }
}
