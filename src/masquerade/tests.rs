//! The order of the sources, and what is published when they change.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

use proptest::prelude::*;

use super::decision::LookUp;
use super::mapping::{Mapping, PortMap};
use super::*;
use crate::config::{MasqueradeAddress, Multiple};

const OWN: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 7));
const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 51, 100, 1));
const PUBLIC: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 7);
const OTHER: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 8);

fn unset() -> config::Masquerade {
    config::Masquerade {
        address: None,
        mapping_file: None,
        multiple: Multiple::First,
        internal_cidrs: Vec::new(),
        grace: Duration::from_secs(60),
        after_grace: AfterGrace::Unready,
    }
}

fn nothing() -> Sources {
    Sources {
        configured: None,
        mapping: None,
        service: None,
        proxy_header: false,
        in_cluster: false,
        multiple: Multiple::First,
        looked_up: None,
    }
}

fn status(address: Option<Ipv4Addr>, hostname: Option<&str>) -> ServiceStatus {
    ServiceStatus {
        address,
        hostname: hostname.map(str::to_owned),
        missing: "no address yet".to_owned(),
        trouble: None,
    }
}

fn mapping(address: Option<MasqueradeAddress>) -> Arc<Mapping> {
    let ports = Arc::new(PortMap::from([(30000, 41000)]));
    Arc::new(Mapping { address, ports })
}

fn unknown() -> Decision {
    Decision::Unknown("not yet".into())
}

fn known(address: Ipv4Addr, origin: Origin) -> Decision {
    Decision::Known { address, origin }
}

#[test]
fn each_source_wins_over_those_behind_it() {
    let mut sources = nothing();
    assert_eq!(decide(&sources, &unknown()), Decision::ControlConnection);
    sources.looked_up = Some(LookUp {
        name: "lb.example.com".into(),
        addresses: Ok(vec![PUBLIC]),
    });
    sources.service = Some(status(None, Some("lb.example.com")));
    let by_name = known(PUBLIC, Origin::ServiceHostname);
    assert_eq!(decide(&sources, &unknown()), by_name);
    sources.service = Some(status(Some(OTHER), Some("lb.example.com")));
    let by_address = known(OTHER, Origin::ServiceAddress);
    assert_eq!(decide(&sources, &unknown()), by_address);
    // a mapping of ports alone leaves the address to the Service
    sources.mapping = Some(Ok(mapping(None)));
    assert_eq!(decide(&sources, &unknown()), by_address);
    sources.mapping = Some(Ok(mapping(Some(MasqueradeAddress::Ipv4(PUBLIC)))));
    let by_file = known(PUBLIC, Origin::MappingFile);
    assert_eq!(decide(&sources, &unknown()), by_file);
    sources.configured = Some(MasqueradeAddress::Ipv4(OTHER));
    let by_hand = known(OTHER, Origin::Configured);
    assert_eq!(decide(&sources, &unknown()), by_hand);
}

#[test]
fn a_source_that_is_set_is_waited_for() {
    let mut sources = nothing();
    sources.service = Some(status(Some(PUBLIC), None));
    sources.configured = Some(MasqueradeAddress::Dns("ftp.example.com".into()));
    let Decision::Unknown(reason) = decide(&sources, &unknown()) else {
        panic!("the Service's address is not what was asked for");
    };
    assert!(reason.contains("ftp.example.com has not been resolved"));
    sources.configured = None;
    sources.mapping = Some(Err("the file is empty".into()));
    let waiting = Decision::Unknown("the file is empty".into());
    assert_eq!(decide(&sources, &unknown()), waiting);
    assert!(matches!(ports(&sources), Ports::Unknown(_)));
}

#[test]
fn the_last_known_address_stays_when_its_source_falls_silent() {
    let mut sources = nothing();
    let last = known(PUBLIC, Origin::ServiceHostname);
    sources.service = Some(status(None, Some("lb.example.com")));
    assert_eq!(decide(&sources, &last), last);
    sources.looked_up = Some(LookUp {
        name: "lb.example.com".into(),
        addresses: Err("no answer in time".into()),
    });
    assert_eq!(decide(&sources, &last), last);
    // the answer for another name is none
    sources.looked_up = Some(LookUp {
        name: "old.example.com".into(),
        addresses: Ok(vec![OTHER]),
    });
    assert_eq!(decide(&sources, &last), last);
}

#[test]
fn of_several_addresses_one_is_kept_to_or_none_is_advertised() {
    let mut sources = nothing();
    sources.configured = Some(MasqueradeAddress::Dns("ftp.example.com".into()));
    sources.looked_up = Some(LookUp {
        name: "ftp.example.com".into(),
        addresses: Ok(vec![PUBLIC, OTHER]),
    });
    let first = known(PUBLIC, Origin::Configured);
    assert_eq!(decide(&sources, &unknown()), first);
    let second = known(OTHER, Origin::Configured);
    assert_eq!(decide(&sources, &second), second, "it is still among them");
    sources.multiple = Multiple::Zero;
    let zero = known(Ipv4Addr::UNSPECIFIED, Origin::Configured);
    assert_eq!(decide(&sources, &unknown()), zero);
}

fn any_sources() -> impl Strategy<Value = Sources> {
    // none of these is the pod's own address
    let address = || prop_oneof![Just(PUBLIC), Just(OTHER)];
    let name = || prop_oneof![Just("a.example.com"), Just("b.example.com")];
    let target = move || {
        prop_oneof![
            address().prop_map(MasqueradeAddress::Ipv4),
            name().prop_map(|name| MasqueradeAddress::Dns(name.into())),
        ]
    };
    let configured = proptest::option::of(target());
    let mapping = proptest::option::of(prop_oneof![
        Just(Err("not read".to_owned())),
        proptest::option::of(target()).prop_map(|address| Ok(mapping(address))),
    ]);
    let service = proptest::option::of(
        (
            proptest::option::of(address()),
            proptest::option::of(name()),
        )
            .prop_map(|(address, name)| status(address, name)),
    );
    let answer = prop_oneof![
        Just(Err("no such name".to_owned())),
        Just(Ok(vec![PUBLIC])),
        Just(Ok(vec![PUBLIC, OTHER])),
    ];
    let looked_up = proptest::option::of((name(), answer).prop_map(|(name, addresses)| LookUp {
        name: name.into(),
        addresses,
    }));
    let multiple = prop_oneof![Just(Multiple::First), Just(Multiple::Zero)];
    (configured, mapping, service, looked_up, multiple).prop_map(
        |(configured, mapping, service, looked_up, multiple)| Sources {
            configured,
            mapping,
            service,
            proxy_header: matches!(multiple, Multiple::Zero),
            in_cluster: true,
            multiple,
            looked_up,
        },
    )
}

proptest! {
    /// Invariant 8 of the crate: whatever the sources go through.
    #[test]
    fn in_a_cluster_only_clients_inside_get_the_pods_address(
        history in proptest::collection::vec(any_sources(), 1..8)
    ) {
        let mut published = Published {
            decision: unknown(),
            ports: Ports::AsBound,
            changes: 0,
            trouble: None,
        };
        let mut was_known = false;
        for sources in &history {
            published = next(sources, &published);
            let (_keep, receiver) = watch::channel(published.clone());
            let masquerade = Masquerade {
                published: receiver,
                internal: Arc::new(["10.0.0.0/8".parse().expect("a network")].into_iter().collect()),
                proxy_header: sources.proxy_header,
                grace_ends: Instant::now(),
                after_grace: AfterGrace::Unready,
            };
            let IpAddr::V4(own) = OWN else { unreachable!() };
            for destination in [None, Some(OWN), Some(PUBLIC.into())] {
                prop_assert_ne!(masquerade.advertised_to(OWN, CLIENT, destination).address, Ok(own));
            }
            let inside = masquerade.advertised_to(OWN, "10.2.3.4".parse().expect("an address"), None);
            prop_assert_eq!(inside.address, Ok(own));
            prop_assert_eq!(inside.ports, Ports::AsBound);
            // what was known once is never unknown again
            let is_known = published.decision.address().is_some();
            prop_assert!(is_known || !was_known);
            was_known = is_known;
        }
    }
}

/// A resolver that answers what the test says.
#[derive(Clone, Default)]
struct Names(Arc<Mutex<HashMap<String, Answer>>>);

type Answer = Result<Vec<Ipv4Addr>, String>;

impl Names {
    fn set(&self, name: &str, addresses: &[Ipv4Addr]) {
        let answer = Ok(addresses.to_vec());
        let mut names = self.0.lock().expect("not poisoned");
        names.insert(name.to_owned(), answer);
    }

    fn fail(&self, name: &str) {
        let answer = Err("no such name".to_owned());
        let mut names = self.0.lock().expect("not poisoned");
        names.insert(name.to_owned(), answer);
    }

    fn start(
        &self,
        config: &config::Masquerade,
        in_cluster: bool,
        service: Option<watch::Receiver<ServiceStatus>>,
    ) -> Masquerade {
        self.start_behind_proxy(config, false, in_cluster, service)
    }

    fn start_behind_proxy(
        &self,
        config: &config::Masquerade,
        proxy_header: bool,
        in_cluster: bool,
        service: Option<watch::Receiver<ServiceStatus>>,
    ) -> Masquerade {
        let names = self.clone();
        Masquerade::start_with(
            config,
            proxy_header,
            in_cluster,
            service,
            CancellationToken::new(),
            move |name| {
                let names = names.0.lock().expect("not poisoned");
                let answer = names.get(&name).cloned();
                std::future::ready(answer.unwrap_or_else(|| Err("no such name".to_owned())))
            },
        )
    }
}

/// Waits until an outside client gets `address`.
async fn tells(masquerade: &Masquerade, address: Ipv4Addr) {
    let mut published = masquerade.subscribe();
    let told = published.wait_for(|published| published.decision.address() == Some(address));
    tokio::time::timeout(Duration::from_secs(300), told)
        .await
        .unwrap_or_else(|_| panic!("{address} is never told"))
        .expect("still deciding");
    assert_eq!(
        masquerade.advertised_to(OWN, CLIENT, None).address,
        Ok(address)
    );
}

#[tokio::test]
async fn outside_a_cluster_the_control_connections_address_is_advertised() {
    let masquerade = Names::default().start(&unset(), false, None);
    let told = |local: &str| {
        masquerade
            .advertised_to(local.parse().expect("an address"), CLIENT, None)
            .address
    };
    assert_eq!(told("10.0.0.7"), Ok(Ipv4Addr::new(10, 0, 0, 7)));
    assert_eq!(told("::ffff:10.0.0.7"), Ok(Ipv4Addr::new(10, 0, 0, 7)));
    assert_eq!(told("::1"), Err(NoAddress::Ipv6));
    assert_eq!(masquerade.not_ready(), None);
    assert!(masquerade.notes().is_empty());
}

#[tokio::test(start_paused = true)]
async fn in_a_cluster_without_a_source_nothing_is_advertised_and_readiness_waits_for_the_grace() {
    let masquerade = Names::default().start(&unset(), true, None);
    assert_eq!(
        masquerade.advertised_to(OWN, CLIENT, None).address,
        Err(NoAddress::Unknown)
    );
    assert_eq!(
        masquerade.advertised_to(OWN, CLIENT, None).port(30000),
        Some(30000)
    );
    let reason = masquerade.not_ready().expect("it is not ready");
    assert!(reason.contains("masquerade address unknown: this is a pod"));
    tokio::time::advance(Duration::from_secs(61)).await;
    let reason = masquerade.not_ready().expect("it is not ready");
    assert!(reason.contains("also after masquerade.grace: this is a pod"));
    assert!(!masquerade.is_known());
    let mut config = unset();
    config.after_grace = AfterGrace::Serve;
    let masquerade = Names::default().start(&config, true, None);
    assert!(masquerade.not_ready().is_some());
    tokio::time::advance(Duration::from_secs(61)).await;
    assert_eq!(masquerade.not_ready(), None);
    assert!(masquerade.notes()[0].contains("PASV is refused: this is a pod"));
}

#[tokio::test(start_paused = true)]
async fn a_name_is_resolved_again_and_its_last_address_stays_when_it_fails() {
    let names = Names::default();
    let mut config = unset();
    config.address = Some(MasqueradeAddress::Dns("ftp.example.com".into()));
    let masquerade = names.start(&config, false, None);
    assert_eq!(
        masquerade.advertised_to(OWN, CLIENT, None).address,
        Err(NoAddress::Unknown)
    );
    names.set("ftp.example.com", &[PUBLIC]);
    tells(&masquerade, PUBLIC).await;
    names.fail("ftp.example.com");
    tokio::time::sleep(2 * lookup::RESOLVE_INTERVAL).await;
    tells(&masquerade, PUBLIC).await;
    let asked = Instant::now();
    names.set("ftp.example.com", &[OTHER]);
    tells(&masquerade, OTHER).await;
    assert!(asked.elapsed() <= lookup::RESOLVE_INTERVAL);
    assert_eq!(masquerade.subscribe().borrow().changes, 1);
}

#[tokio::test(start_paused = true)]
async fn changes_of_the_service_are_advertised_at_once() {
    let names = Names::default();
    names.set("lb.example.com", &[OTHER]);
    let (service, receiver) = watch::channel(status(None, None));
    let masquerade = names.start(&unset(), true, Some(receiver));
    assert!(
        masquerade
            .not_ready()
            .is_some_and(|reason| reason.contains("no address yet"))
    );
    let before = Instant::now();
    service.send_replace(status(Some(PUBLIC), None));
    tells(&masquerade, PUBLIC).await;
    service.send_replace(status(None, Some("lb.example.com")));
    tells(&masquerade, OTHER).await;
    assert!(before.elapsed() < Duration::from_secs(1));
    let mut trouble = status(None, Some("lb.example.com"));
    trouble.trouble = Some("forbidden".into());
    service.send_replace(trouble);
    let mut published = masquerade.subscribe();
    let noted = published.wait_for(|published| published.trouble.is_some());
    noted.await.expect("still deciding");
    assert_eq!(masquerade.not_ready(), None);
    assert!(masquerade.notes()[0].contains("its last known address holds: forbidden"));
    tells(&masquerade, OTHER).await;
}

#[tokio::test(start_paused = true)]
async fn a_mapping_file_gives_address_and_ports_when_it_comes_and_when_it_changes() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("mapping");
    let mut config = unset();
    config.mapping_file = Some(path.clone());
    let masquerade = Names::default().start(&config, true, None);
    let told = masquerade.advertised_to(OWN, CLIENT, None);
    assert_eq!((told.address.is_err(), told.port(30000)), (true, None));
    // a mounted file is replaced, not written
    let replace = |text: &str| {
        let new = directory.path().join("new");
        std::fs::write(&new, text).expect("written");
        std::fs::rename(&new, &path).expect("renamed");
    };
    replace("address: 203.0.113.7\nports: [{bound: 30000-30001, public: 41000-41001}]");
    tells(&masquerade, PUBLIC).await;
    assert_eq!(
        masquerade.advertised_to(OWN, CLIENT, None).port(30001),
        Some(41001)
    );
    assert_eq!(
        masquerade.advertised_to(OWN, CLIENT, None).port(30002),
        None
    );
    replace("ports: [{bound: 30000-30001, public: 41000-41002}]");
    tokio::time::sleep(Duration::from_secs(10)).await;
    tells(&masquerade, PUBLIC).await;
    assert_eq!(
        masquerade.advertised_to(OWN, CLIENT, None).port(30001),
        Some(41001)
    );
    replace("address: 203.0.113.8\nports: [{bound: 30000, public: 42000}]");
    tells(&masquerade, OTHER).await;
    assert_eq!(
        masquerade.advertised_to(OWN, CLIENT, None).port(30000),
        Some(42000)
    );
}

#[tokio::test]
async fn the_systems_resolver_gives_ipv4_addresses() {
    let addresses = lookup::by_system("localhost".into()).await;
    assert_eq!(addresses, Ok(vec![Ipv4Addr::LOCALHOST]));
    assert!(lookup::by_system("name.invalid".into()).await.is_err());
}

#[tokio::test]
async fn what_a_proxy_header_names_is_advertised_if_it_is_public_and_the_others_hold_else() {
    let header = unset();
    let elsewhere = config::Masquerade {
        address: Some(MasqueradeAddress::Ipv4(OTHER)),
        ..unset()
    };
    let private = || Some(OWN);
    let public = || Some(PUBLIC.into());
    let v6 = || Some("2001:db8::1".parse().expect("an address"));
    let told = |config: &config::Masquerade, in_cluster, destination| {
        let masquerade = Names::default().start_behind_proxy(config, true, in_cluster, None);
        assert_eq!(masquerade.not_ready(), None);
        assert!(masquerade.is_known());
        masquerade.advertised_to(OWN, CLIENT, destination).address
    };
    for in_cluster in [true, false] {
        assert_eq!(told(&header, in_cluster, public()), Ok(PUBLIC));
        assert_eq!(told(&header, in_cluster, v6()), Err(NoAddress::Ipv6));
        assert_eq!(told(&elsewhere, in_cluster, public()), Ok(PUBLIC));
        for other in [private(), None] {
            assert_eq!(told(&elsewhere, in_cluster, other), Ok(OTHER));
        }
    }
    for other in [private(), None] {
        assert_eq!(told(&header, true, other), Err(NoAddress::NotInHeader));
        assert_eq!(told(&header, false, other), Ok(Ipv4Addr::new(10, 0, 0, 7)));
    }
    // the header alone, as long as the Service has no address
    let (_keep, service) = watch::channel(status(None, None));
    let masquerade = Names::default().start_behind_proxy(&header, true, true, Some(service));
    assert_eq!(masquerade.not_ready(), None);
    assert_eq!(
        masquerade.advertised_to(OWN, CLIENT, public()).address,
        Ok(PUBLIC)
    );
}

#[tokio::test]
async fn without_the_switch_a_header_says_only_of_which_family_the_clients_address_is() {
    let masquerade = Names::default().start(&unset(), false, None);
    let told = |local: &str, destination: &str| {
        let [local, destination] =
            [local, destination].map(|text| text.parse().expect("an address"));
        masquerade
            .advertised_to(local, CLIENT, Some(destination))
            .address
    };
    assert_eq!(
        told("10.0.0.7", "203.0.113.7"),
        Ok(Ipv4Addr::new(10, 0, 0, 7))
    );
    assert_eq!(told("10.0.0.7", "2001:db8::1"), Err(NoAddress::Ipv6));
    assert_eq!(told("::1", "203.0.113.7"), Err(NoAddress::Ipv6));
}
