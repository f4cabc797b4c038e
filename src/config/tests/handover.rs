//! `handover.*`.

use super::*;

const GOOD: [&str; 6] = [
    "PASSIVE__PORTS=30000-30005",
    "PASSIVE__SLICE_SIZE=2",
    "PASSIVE__ORDINAL=1",
    "HANDOVER__LISTEN=10.0.0.1:2122",
    "HANDOVER__PEERS=cosgate-{ordinal}.cosgate-admin.ftp.svc",
    "HANDOVER__KEY=0123456789abcdef0123456789abcdef",
];

/// A configuration that works, but with these keys changed; `KEY=` takes a key out.
fn with(changes: &[&str]) -> Result<Loaded, ConfigError> {
    let name = |text: &str| text.split('=').next().unwrap_or_default().to_owned();
    let kept = GOOD
        .iter()
        .filter(|good| changes.iter().all(|change| name(change) != name(good)));
    let env: Vec<&str> = kept.chain(changes).copied().collect();
    with_env(&env)
}

fn handover(loaded: Loaded) -> Handover {
    loaded.config.handover.expect("it is on")
}

#[test]
fn a_replica_has_its_slice_and_binds_the_ports_of_all() {
    let loaded = good(with(&[]));
    assert_eq!(loaded.config.passive.ports, 30002..=30003);
    assert_eq!(loaded.config.bound_ports(), 30000..=30005);
    assert!(!loaded.describe().contains("0123456789abcdef"));
    let handover = handover(loaded);
    assert_eq!((handover.ordinal, handover.replicas()), (1, 3));
    for (port, owner) in [
        (29_999, None),
        (30_000, Some(0)),
        (30_001, Some(0)),
        (30_005, Some(2)),
        (30_006, None),
    ] {
        assert_eq!(handover.owner(port), owner, "{port}");
    }
    let peer = ("cosgate-2.cosgate-admin.ftp.svc".to_owned(), 2122);
    assert_eq!(handover.peers.of(2), Some(peer));
}

#[test]
fn peers_may_be_listed() {
    let listed = "HANDOVER__PEERS=a.example, 10.0.0.2:2200, [fd00::3]:2201";
    let peers = handover(good(with(&[listed]))).peers;
    let of = |ordinal| peers.of(ordinal).expect("listed");
    assert_eq!(of(0), ("a.example".to_owned(), 2122));
    assert_eq!(of(1), ("10.0.0.2".to_owned(), 2200));
    assert_eq!(of(2), ("fd00::3".to_owned(), 2201));
    assert_eq!(peers.of(3), None);
}

#[test]
fn the_key_may_come_from_a_file() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("key");
    fs::write(&file, "fedcba9876543210fedcba9876543210\n").expect("writes");
    let from_file = format!("HANDOVER__KEY_FILE={}", file.display());
    let loaded = good(with(&["HANDOVER__KEY=", &from_file]));
    let key = handover(loaded).key;
    assert_eq!(key.expose_secret(), "fedcba9876543210fedcba9876543210");
}

#[test]
fn without_its_port_or_with_one_slice_nothing_is_handed_over() {
    let off = with(&["HANDOVER__LISTEN=", "HANDOVER__PEERS="]);
    let loaded = good(off);
    assert!(loaded.config.handover.is_none());
    assert_eq!(loaded.config.bound_ports(), 30002..=30003);
    let one = with(&["PASSIVE__SLICE_SIZE=6", "PASSIVE__ORDINAL=0"]);
    assert!(good(one).config.handover.is_none());
}

#[test]
fn what_does_not_go_together_is_refused_with_the_remedy() {
    for (changes, words) in [
        (
            &["HANDOVER__KEY=too short"][..],
            &["handover.key", "9 bytes", "openssl rand -hex 32"][..],
        ),
        (
            &["HANDOVER__KEY="],
            &["handover.key", "without a key anybody"],
        ),
        (
            &["HANDOVER__PEERS="],
            &["handover.peers", "{ordinal}", "3 slices"],
        ),
        (
            &["HANDOVER__PEERS=a, b"],
            &["handover.peers = a, b", "2 addresses for the 3 slices"],
        ),
        (
            &["HANDOVER__PEERS=a-{ordinal}, b"],
            &["handover.peers", "write it alone"],
        ),
        (
            &["HANDOVER__PEERS=http://a-{ordinal}"],
            &["handover.peers", "port behind its colon"],
        ),
        (
            &["HANDOVER__LISTEN="],
            &["handover.peers", "handover.listen is not set"],
        ),
        (
            &["HANDOVER__LISTEN=10.0.0.1"],
            &["handover.listen = 10.0.0.1", "the port is missing"],
        ),
        (
            &["HANDOVER__LISTEN=0.0.0.0:30005"],
            &["handover.listen", "is one of passive.ports"],
        ),
        (
            &["HANDOVER__LISTEN=0.0.0.0:2121"],
            &["handover.listen", "is a control port"],
        ),
        (
            &[
                "HANDOVER__LISTEN=127.0.0.1:2200",
                "ADMIN__LISTEN=127.0.0.1:2200",
            ],
            &["handover.listen", "is the admin port"],
        ),
        (
            &["PASSIVE__SLICE_SIZE=", "PASSIVE__ORDINAL="],
            &["handover.listen", "passive.slice_size is not set"],
        ),
        (
            &["PASSIVE__ORDINAL="],
            &["passive.slice_size = 2", "ordinal is unknown"],
        ),
        (
            &["PASSIVE__SLICE_SIZE=4"],
            &["passive.slice_size = 4", "30000-30003"],
        ),
        (
            &["LISTEN=10.0.0.1:21,10.0.0.2:21"],
            &["handover.listen", "both 10.0.0.1 and 10.0.0.2"],
        ),
        (
            &["HANDOVER__MAX_CONNECTIONS=0"],
            &["handover.max_connections = 0", "from 1 to 100000"],
        ),
    ] {
        refused(with(changes), words);
    }
}

#[test]
fn failed_logins_are_shared_where_there_is_handover_unless_that_is_off() {
    let is_shared = |loaded: &Loaded| loaded.config.shared_lockouts().is_some();
    assert!(is_shared(&good(with(&[]))));
    assert!(!is_shared(&good(with(&["AUTH__LOCKOUT__SHARED=false"]))));
    // one replica has nobody to share with
    assert!(!is_shared(&good(with(&[
        "PASSIVE__PORTS=30000-30001",
        "PASSIVE__ORDINAL=0"
    ]))));
    let alone = good(with_env(&["AUTH__LOCKOUT__SHARED=true"]));
    assert!(!is_shared(&alone));
    let warnings = alone.warnings.join("\n");
    assert!(
        warnings.contains("handover.listen is not set"),
        "{warnings}"
    );
}

#[test]
fn keys_are_derived_for_one_purpose_each() {
    let handover = handover(good(with(&[])));
    let names = handover.derived_key(&[b"names"]);
    assert_eq!(names, handover.derived_key(&[b"names"]));
    assert_ne!(names, handover.derived_key(&[b"streams"]));
}
