//! `masquerade.mapping_file`: passive ports whose public port is another one.
//!
//! Two forms are read, both as YAML, and so as JSON too. cosgate's own:
//!
//! ```yaml
//! address: 203.0.113.7      # IPv4 address or DNS name; may be left out
//! ports:
//!   - {bound: 30000-30015, public: 41000-41015}
//!   - {bound: 30016, public: 41100}
//! ```
//!
//! And what TKE's port pools leave in a pod's annotation `networking.cloud.tencent.com/clb-port-mapping-result`
//! (tke-extend-network-controller), which the downward API mounts as a file: a list with `port`, `endPort`, `protocol`,
//! `loadbalancerPort`, `ips` and `hostname`.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use tokio::sync::watch;
use tracing::{info, warn};

use crate::config::{MasqueradeAddress, parse_masquerade_address, parse_ports};
use crate::masquerade::address::is_usable;
use crate::reload::Watched;

/// From passive port to public port.
pub type PortMap = BTreeMap<u16, u16>;

/// The content of a mapping file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mapping {
    /// The public address, if it is in there.
    pub address: Option<MasqueradeAddress>,
    /// The public ports; at least one.
    pub ports: Arc<PortMap>,
}

/// The file is read this often: mounted files are replaced without any signal that works on every file system.
const READ_EVERY: Duration = Duration::from_secs(2);

/// cosgate's own form.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Own {
    address: Option<String>,
    ports: Vec<OwnRow>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OwnRow {
    bound: PortText,
    public: PortText,
}

/// `30000` or `30000-30015`.
#[derive(Deserialize)]
#[serde(untagged)]
enum PortText {
    Number(u16),
    Text(String),
}

/// TKE's form; what is not named here doesn't matter.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct TkeRow {
    port: u16,
    end_port: Option<u16>,
    #[serde(default)]
    protocol: String,
    loadbalancer_port: u16,
    hostname: Option<String>,
    #[serde(default)]
    ips: Vec<String>,
}

/// Reads a mapping, or says what is wrong with it.
pub fn parse(text: &str) -> Result<Mapping, String> {
    if text.trim().is_empty() {
        return Err("it is empty".to_owned());
    }
    // the first sign of a list, in JSON or in YAML
    if text.trim_start().starts_with(['[', '-']) {
        let rows: Vec<TkeRow> =
            serde_saphyr::from_str(text).map_err(|error| error.without_snippet().to_string())?;
        from_tke(rows)
    } else {
        let own: Own =
            serde_saphyr::from_str(text).map_err(|error| error.without_snippet().to_string())?;
        from_own(own)
    }
}

fn from_own(own: Own) -> Result<Mapping, String> {
    let address = own
        .address
        .map(|text| {
            parse_masquerade_address(&text).map_err(|advice| format!("address = {text}: {advice}"))
        })
        .transpose()?;
    let mut ports = PortMap::new();
    for row in own.ports {
        let (bound, public) = (row.bound.range("bound")?, row.public.range("public")?);
        add(&mut ports, bound, public)?;
    }
    finish(address, ports)
}

fn from_tke(rows: Vec<TkeRow>) -> Result<Mapping, String> {
    let mut ports = PortMap::new();
    let mut address = None;
    // the pool has a listener of its own for each protocol, and FTP speaks TCP only
    let is_tcp = |row: &TkeRow| row.protocol.is_empty() || row.protocol == "TCP";
    for row in rows.into_iter().filter(is_tcp) {
        let end = row.end_port.unwrap_or(row.port);
        let length = end
            .checked_sub(row.port)
            .ok_or_else(|| format!("port {} to endPort {end} is the wrong way round", row.port))?;
        let public_end = row
            .loadbalancer_port
            .checked_add(length)
            .ok_or("loadbalancerPort leaves no room for the range")?;
        add(
            &mut ports,
            row.port..=end,
            row.loadbalancer_port..=public_end,
        )?;
        let here = row.address()?;
        // PASV tells one address: the control connection's, so all ports have to be on it
        if address.is_some() && here.is_some() && address != here {
            return Err("its ports are on several load balancers; take them from one".to_owned());
        }
        address = address.or(here);
    }
    finish(address, ports)
}

impl TkeRow {
    fn address(&self) -> Result<Option<MasqueradeAddress>, String> {
        let mut ips = self.ips.iter().filter_map(|ip| ip.parse::<Ipv4Addr>().ok());
        if let Some(ip) = ips.find(|ip| is_usable(*ip)) {
            return Ok(Some(MasqueradeAddress::Ipv4(ip)));
        }
        let Some(name) = self.hostname.as_deref().filter(|name| !name.is_empty()) else {
            return Ok(None);
        };
        let parsed = parse_masquerade_address(name);
        parsed
            .map(Some)
            .map_err(|advice| format!("hostname = {name}: {advice}"))
    }
}

fn add(
    ports: &mut PortMap,
    bound: std::ops::RangeInclusive<u16>,
    public: std::ops::RangeInclusive<u16>,
) -> Result<(), String> {
    if bound.len() != public.len() {
        return Err(format!(
            "{} bound ports can't have {} public ones; write ranges of one length",
            bound.len(),
            public.len()
        ));
    }
    for (bound, public) in bound.zip(public) {
        if bound == 0 || public == 0 {
            return Err("port 0 is no port".to_owned());
        }
        if ports.insert(bound, public).is_some() {
            return Err(format!("the bound port {bound} stands there twice"));
        }
    }
    Ok(())
}

fn finish(address: Option<MasqueradeAddress>, ports: PortMap) -> Result<Mapping, String> {
    if ports.is_empty() {
        return Err("it maps no TCP port".to_owned());
    }
    let mut public: Vec<u16> = ports.values().copied().collect();
    public.sort_unstable();
    match public.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(format!("the public port {} stands there twice", pair[0])),
        None => Ok(Mapping {
            address,
            ports: Arc::new(ports),
        }),
    }
}

impl PortText {
    fn range(&self, what: &str) -> Result<std::ops::RangeInclusive<u16>, String> {
        match self {
            PortText::Number(port) => Ok(*port..=*port),
            PortText::Text(text) => {
                parse_ports(text).map_err(|advice| format!("{what} = {text}: {advice}"))
            }
        }
    }
}

/// Publishes what the file at `path` says, at once and whenever it changes. What is wrong with it is logged once.
pub(super) async fn keep_reading(
    path: PathBuf,
    publish: watch::Sender<Option<Result<Arc<Mapping>, String>>>,
) {
    let mut file = Watched::new(vec![path.clone()], READ_EVERY);
    let mut read = file.now().await;
    loop {
        let mapping = match &read {
            Ok(contents) => parse(&String::from_utf8_lossy(&contents.concat())),
            Err(error) => Err(format!("it {}", error.reason)),
        };
        match &mapping {
            Ok(mapping) => {
                info!(path = %path.display(), ports = mapping.ports.len(), "mapping file read");
            }
            // an annotation that isn't there yet is an empty file: usual at start, and readiness tells it
            Err(reason) => warn!(path = %path.display(), reason, "mapping file not usable"),
        }
        let said = mapping
            .map(Arc::new)
            .map_err(|reason| format!("masquerade.mapping_file {}: {reason}", path.display()));
        publish.send_replace(Some(said));
        read = file.changed().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_own_form_maps_ports_and_ranges() {
        let text = "address: 203.0.113.7\nports:\n- {bound: 30000-30001, public: 41000-41001}\n- {bound: 30002, public: 50}\n";
        let mapping = parse(text).expect("it is right");
        assert_eq!(
            mapping.address,
            Some(MasqueradeAddress::Ipv4([203, 0, 113, 7].into()))
        );
        let pairs: Vec<_> = mapping.ports.iter().map(|(b, p)| (*b, *p)).collect();
        assert_eq!(pairs, [(30000, 41000), (30001, 41001), (30002, 50)]);
        let json = r#"{"ports": [{"bound": 30000, "public": "41000"}]}"#;
        assert_eq!(parse(json).expect("JSON is YAML").address, None);
    }

    #[test]
    fn the_annotation_of_tkes_port_pools_is_read_as_it_is() {
        let text = r#"[
          {"port":30000,"protocol":"TCP","pool":"p","region":"ap-chengdu","loadbalancerId":"lb-1","loadbalancerPort":41000,
           "loadbalancerEndPort":41003,"listenerId":"lbl-1","endPort":30003,"ips":["203.0.113.7"]},
          {"port":30000,"protocol":"UDP","pool":"p","loadbalancerPort":41000,"loadbalancerEndPort":41003,"endPort":30003},
          {"port":30010,"protocol":"TCP","pool":"p","loadbalancerPort":41010,"ips":["203.0.113.7"]}]"#;
        let mapping = parse(text).expect("it is right");
        assert_eq!(
            mapping.address,
            Some(MasqueradeAddress::Ipv4([203, 0, 113, 7].into()))
        );
        assert_eq!(mapping.ports.len(), 5);
        assert_eq!(mapping.ports.get(&30003), Some(&41003));
        assert_eq!(mapping.ports.get(&30010), Some(&41010));
        let named =
            r#"[{"port":1,"protocol":"TCP","loadbalancerPort":2,"hostname":"lb-1.example.com"}]"#;
        assert_eq!(
            parse(named).expect("it is right").address,
            Some(MasqueradeAddress::Dns("lb-1.example.com".into()))
        );
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (text, words) in [
            ("", "empty"),
            ("[]", "no TCP port"),
            ("ports: []", "no TCP port"),
            (
                "ports: [{bound: 1-3, public: 1-2}]",
                "3 bound ports can't have 2",
            ),
            (
                "ports: [{bound: 1, public: 2}, {bound: 1, public: 3}]",
                "bound port 1 stands there twice",
            ),
            (
                "ports: [{bound: 1, public: 2}, {bound: 3, public: 2}]",
                "public port 2 stands there twice",
            ),
            ("ports: [{bound: 0, public: 2}]", "port 0"),
            ("ports: [{bound: x, public: 2}]", "bound = x"),
            ("ports: [{bound: 1, pubic: 2}]", "pubic"),
            ("address: ::1\nports: [{bound: 1, public: 2}]", "EPSV"),
            (
                r#"[{"port":9,"endPort":8,"loadbalancerPort":1}]"#,
                "wrong way round",
            ),
            (
                r#"[{"port":1,"endPort":9,"loadbalancerPort":65535}]"#,
                "no room",
            ),
            (
                r#"[{"port":1,"loadbalancerPort":1,"ips":["203.0.113.7"]},{"port":2,"loadbalancerPort":2,"ips":["203.0.113.8"]}]"#,
                "several load balancers",
            ),
        ] {
            let reason = parse(text).expect_err(text);
            assert!(reason.contains(words), "{text}: {reason}");
        }
    }
}
