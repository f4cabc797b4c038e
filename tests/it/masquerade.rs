//! The address and ports that clients get, with an API server that behaves and one that doesn't.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};

use crate::configuration::Program;
use crate::sessions::get;
use crate::support::http::metric;
use crate::support::kube_api::{Cut, Gone};
use crate::support::{Ftp, KubeApi, TestGateway, eventually, pattern};

/// The longest time that a change of the address may take to reach a client.
const AT_ONCE: Duration = Duration::from_secs(2);

pub async fn gateway(api: &KubeApi, more: &[&str]) -> TestGateway {
    let settings = api.settings();
    let settings: Vec<&str> = settings
        .iter()
        .map(String::as_str)
        .chain(more.iter().copied())
        .collect();
    TestGateway::with(&settings).await
}

pub fn at(last: u8) -> (Ipv4Addr, Value) {
    let address = Ipv4Addr::new(203, 0, 113, last);
    (address, json!([{"ip": address.to_string()}]))
}

/// A way to the API server on which everything can get lost, as where a firewall drops packets: nothing arrives, nothing ends.
struct Way {
    address: std::net::SocketAddr,
    is_silent: tokio::sync::watch::Sender<bool>,
}

impl Way {
    async fn to(server: std::net::SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let is_silent = tokio::sync::watch::Sender::new(false);
        let silent = is_silent.subscribe();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let mut silent = silent.clone();
                tokio::spawn(async move {
                    if *silent.borrow_and_update() {
                        // held, so that it looks open; its client gives up
                        until(&mut silent, false).await;
                        return;
                    }
                    let Ok(server) = TcpStream::connect(server).await else {
                        return;
                    };
                    let (mut client, mut server) = (client, server);
                    tokio::select! {
                        _ = tokio::io::copy_bidirectional(&mut client, &mut server) => {}
                        () = until(&mut silent, true) => until(&mut silent, false).await,
                    }
                });
            }
        });
        Way { address, is_silent }
    }

    fn silence(&self, is_silent: bool) {
        self.is_silent.send_replace(is_silent);
    }
}

async fn until(silent: &mut tokio::sync::watch::Receiver<bool>, wanted: bool) {
    // an end of the channel is the end of the scenario
    let _ = silent.wait_for(|silent| *silent == wanted).await;
}

/// Waits until the session's PASV reports `address`, and says how long it took.
pub async fn told(ftp: &mut Ftp, address: Ipv4Addr) -> Duration {
    let begun = Instant::now();
    loop {
        match ftp.pasv().await {
            Ok((told, _)) if told == address => return begun.elapsed(),
            other => assert!(begun.elapsed() < Duration::from_secs(60), "{other:?}"),
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_change_reaches_open_and_new_sessions_within_two_seconds() {
    let api = KubeApi::start().await;
    let (first, ingress) = at(7);
    api.set_ingress(ingress);
    let gateway = gateway(&api, &[]).await;
    let mut open = gateway.login().await;
    told(&mut open, first).await;
    // an upload that is under way must not notice
    let mut busy = gateway.login().await;
    let mut data = busy.data().await;
    assert_eq!(busy.command("STOR f").await.code, 150);
    let bytes = pattern(100_000);
    data.write_all(&bytes[..50_000]).await.expect("writes");

    for last in 8..20 {
        let (address, ingress) = at(last);
        api.set_ingress(ingress);
        let took = told(&mut open, address).await;
        assert!(took < AT_ONCE, "{took:?}");
    }
    let (last, _) = at(19);
    assert_eq!(
        gateway.login().await.pasv().await.map(|told| told.0),
        Ok(last)
    );
    data.write_all(&bytes[50_000..]).await.expect("writes");
    drop(data);
    assert_eq!(busy.reply().await.code, 226);
    assert_eq!(gateway.object("f").await, Some(bytes));
    // one list and one watch, whatever the sessions do
    assert_eq!(api.requests(), (1, 1));
}

#[tokio::test]
async fn an_unknown_address_refuses_pasv_serves_epsv_and_may_be_ready_after_the_grace() {
    let api = KubeApi::start().await;
    let more = [
        "ADMIN__LISTEN=127.0.0.1:0",
        "MASQUERADE__GRACE=3s",
        "MASQUERADE__AFTER_GRACE=serve",
    ];
    let gateway = gateway(&api, &more).await;
    let admin = gateway.gateway.admin_address().expect("it is on");
    let answer = get(admin, "/readyz").await;
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    assert!(answer.contains("masquerade address unknown"), "{answer}");
    let mut ftp = gateway.login().await;
    let refused = ftp.pasv().await.expect_err("no address is known");
    assert_eq!(refused.code, 425);
    assert!(
        refused.text.contains("not known yet, use EPSV"),
        "{refused:?}"
    );
    assert_eq!(ftp.store("STOR f", b"by EPSV").await.code, 226);
    eventually("the grace has passed", || async {
        let answer = get(admin, "/readyz").await;
        answer.starts_with("HTTP/1.1 200 ")
            && answer.contains("PASV is refused: the Service ftp/control does not exist")
    })
    .await;
    assert!(
        ftp.pasv().await.is_err(),
        "the grace makes no address known"
    );
    let (address, ingress) = at(7);
    api.set_ingress(ingress);
    let took = told(&mut ftp, address).await;
    assert!(took < AT_ONCE, "{took:?}");
    let answer = get(admin, "/readyz").await;
    assert!(answer.ends_with("\r\n\r\nready\n"), "{answer}");
}

#[tokio::test]
async fn a_pod_that_never_knew_an_address_is_not_ready_and_says_so_when_the_grace_ends() {
    let mut api = KubeApi::start().await;
    let (address, ingress) = at(7);
    let more = [
        ("COSGATE_ADMIN__LISTEN", "127.0.0.1:0"),
        ("COSGATE_MASQUERADE__GRACE", "1s"),
    ];
    let program = Program::with(&api.settings(), &more);
    let admin = program.admin.expect("it is on");
    eventually("the log says so", || async {
        program
            .output()
            .contains("\"event\":\"masquerade_unknown\"")
    })
    .await;
    let answer = get(admin, "/readyz").await;
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    assert!(
        answer.contains("also after masquerade.grace: the Service ftp/control does not exist")
            && answer.contains("masquerade.after_grace: serve"),
        "{answer}"
    );
    let metrics = get(admin, "/metrics").await;
    assert!(metrics.contains("\ncosgate_masquerade_address_known 0"));
    api.set_ingress(ingress);
    eventually("it is known", || async {
        get(admin, "/readyz").await.ends_with("\r\n\r\nready\n")
    })
    .await;
    // what was known stays, and so does readiness
    api.die().await;
    api.delete();
    let mut ftp = Ftp::connect(program.address).await;
    ftp.login("demo", &program.password).await;
    assert_eq!(ftp.pasv().await.map(|told| told.0), Ok(address));
    assert!(get(admin, "/readyz").await.starts_with("HTTP/1.1 200 "));
    program.terminate();
}

#[tokio::test]
async fn the_address_outlives_the_service_and_the_api_server() {
    let mut api = KubeApi::start().await;
    let (first, ingress) = at(7);
    api.set_ingress(ingress);
    let gateway = gateway(&api, &["ADMIN__LISTEN=127.0.0.1:0"]).await;
    let admin = gateway.gateway.admin_address().expect("it is on");
    let mut ftp = gateway.login().await;
    told(&mut ftp, first).await;
    api.delete();
    let (second, ingress) = at(8);
    // deleted and made again, without an address at first
    api.set_ingress(Value::Null);
    assert_eq!(ftp.pasv().await.map(|told| told.0), Ok(first));
    api.set_ingress(ingress);
    assert!(told(&mut ftp, second).await < AT_ONCE);

    api.die().await;
    eventually("it is noticed", || async {
        let answer = get(admin, "/readyz").await;
        answer.starts_with("HTTP/1.1 200 ") && answer.contains("can't be reached")
    })
    .await;
    assert_eq!(ftp.pasv().await.map(|told| told.0), Ok(second));
    let (third, ingress) = at(9);
    api.set_ingress(ingress);
    api.come_back().await;
    told(&mut ftp, third).await;
    eventually("all is well", || async {
        get(admin, "/readyz").await.ends_with("\r\n\r\nready\n")
    })
    .await;
}

#[tokio::test]
async fn cut_watches_and_forgotten_versions_lose_no_change() {
    let api = KubeApi::start().await;
    let (first, ingress) = at(1);
    api.set_ingress(ingress);
    let gateway = gateway(&api, &[]).await;
    let mut ftp = gateway.login().await;
    told(&mut ftp, first).await;
    let mut last = 1;
    for cut in [Cut::Orderly, Cut::Short] {
        // while the watch is cut the Service changes, and then the server may have forgotten when
        for gone in [None, Some(Gone::Status), Some(Gone::Event)] {
            last += 1;
            let (address, ingress) = at(last);
            let (lists, _) = api.requests();
            if let Some(gone) = gone {
                api.forget(gone);
            }
            api.cut(cut);
            api.set_ingress(ingress);
            told(&mut ftp, address).await;
            let relisted = api.requests().0 > lists;
            assert!(relisted || gone.is_none(), "{cut:?} {gone:?}");
        }
    }
}

#[tokio::test]
async fn what_is_forbidden_is_said_by_readiness_with_the_fix() {
    let api = KubeApi::start().await;
    let (address, ingress) = at(7);
    api.set_ingress(ingress);
    api.forbid(true);
    let gateway = gateway(&api, &["ADMIN__LISTEN=127.0.0.1:0"]).await;
    let admin = gateway.gateway.admin_address().expect("it is on");
    eventually("it is said", || async {
        let answer = get(admin, "/readyz").await;
        answer.starts_with("HTTP/1.1 503 ")
            && answer.contains("is forbidden")
            && answer.contains("get, list and watch on services, resourceNames: [control]")
    })
    .await;
    api.forbid(false);
    told(&mut gateway.login().await, address).await;
}

#[tokio::test]
async fn a_host_name_is_resolved_and_gives_way_to_an_address() {
    let api = KubeApi::start().await;
    api.set_ingress(json!([{"hostname": "localhost"}]));
    let gateway = gateway(&api, &[]).await;
    let mut ftp = gateway.login().await;
    told(&mut ftp, Ipv4Addr::LOCALHOST).await;
    let (address, ingress) = at(7);
    api.set_ingress(ingress);
    assert!(told(&mut ftp, address).await < AT_ONCE);
}

#[tokio::test]
async fn a_change_is_written_as_an_event_of_the_service() {
    let api = KubeApi::start().await;
    let (first, ingress) = at(7);
    api.set_ingress(ingress);
    let gateway = gateway(&api, &["KUBERNETES__POD_NAME=cosgate-0"]).await;
    let mut ftp = gateway.login().await;
    told(&mut ftp, first).await;
    assert!(api.events().is_empty(), "to start is no change");
    let (second, ingress) = at(8);
    api.set_ingress(ingress);
    told(&mut ftp, second).await;
    eventually("it is written", || async { !api.events().is_empty() }).await;
    let event = api.events().remove(0);
    assert_eq!(event["regarding"]["kind"], "Service");
    assert_eq!(event["regarding"]["name"], "control");
    assert_eq!(event["regarding"]["uid"], "1");
    assert_eq!(event["reportingInstance"], "cosgate-0");
    let note = event["note"].as_str().expect("a text");
    assert!(note.contains("told 203.0.113.8") && note.contains("was 203.0.113.7"));
}

#[tokio::test]
async fn why_a_pod_is_not_ready_is_written_as_an_event_of_the_pod() {
    let api = KubeApi::start().await;
    let pod = [
        "ADMIN__LISTEN=127.0.0.1:0",
        "KUBERNETES__POD_NAME=cosgate-0",
        "KUBERNETES__POD_UID=0b5a-7",
    ];
    let gateway = gateway(&api, &pod).await;
    eventually("it is written", || async { !api.events().is_empty() }).await;
    let event = api.events().remove(0);
    assert_eq!(event["regarding"]["kind"], "Pod");
    assert_eq!(event["regarding"]["name"], "cosgate-0");
    assert_eq!(event["regarding"]["namespace"], "ftp");
    assert_eq!(event["regarding"]["uid"], "0b5a-7");
    assert_eq!(
        (&event["type"], &event["reason"]),
        (&json!("Warning"), &json!("NotReady"))
    );
    let note = event["note"].as_str().expect("a text");
    assert!(
        note.contains("masquerade address unknown: the Service ftp/control does not exist"),
        "{note}"
    );
    gateway.stop().await;
    assert_eq!(api.events().len(), 1, "the end is no fault");
}

/// Seconds since the API server's last sign of life, by `/metrics`.
async fn silence(admin: std::net::SocketAddr) -> f64 {
    metric(admin, "cosgate_api_server_silence_seconds").await
}

#[tokio::test]
async fn a_silent_way_to_the_api_server_is_noticed_within_45_seconds() {
    let mut api = KubeApi::start().await;
    let (first, ingress) = at(7);
    api.set_ingress(ingress);
    let way = Way::to(api.address()).await;
    api.reached_at(way.address);
    let gateway = gateway(&api, &["ADMIN__LISTEN=127.0.0.1:0"]).await;
    let admin = gateway.gateway.admin_address().expect("it is on");
    let mut ftp = gateway.login().await;
    told(&mut ftp, first).await;
    // an idle Service says nothing, and yet there are signs of life
    let idle = Instant::now();
    while idle.elapsed() < Duration::from_secs(16) {
        let silence = silence(admin).await;
        assert!(silence < 15.0, "{silence}");
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    way.silence(true);
    let since = Instant::now();
    eventually("it is said", || async {
        get(admin, "/readyz")
            .await
            .contains("note: the Service is not watched")
    })
    .await;
    assert!(
        since.elapsed() < Duration::from_secs(45),
        "{:?}",
        since.elapsed()
    );
    assert!(silence(admin).await > 10.0);
    assert_eq!(ftp.pasv().await.map(|told| told.0), Ok(first));
    let (second, ingress) = at(8);
    api.set_ingress(ingress);
    way.silence(false);
    told(&mut ftp, second).await;
}

#[tokio::test]
async fn without_the_right_to_write_events_all_else_works() {
    let api = KubeApi::start().await;
    api.forbid_events();
    let gateway = gateway(&api, &[]).await;
    let mut ftp = gateway.login().await;
    for last in 7..10 {
        let (address, ingress) = at(last);
        api.set_ingress(ingress);
        assert!(told(&mut ftp, address).await < AT_ONCE);
    }
    assert!(api.events().is_empty());
}

#[tokio::test]
async fn mapped_ports_are_advertised_by_pasv_and_epsv_and_lead_to_the_gateway() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("mapping");
    let setting = format!("MASQUERADE__MAPPING_FILE={}", path.display());
    let gateway = TestGateway::with(&["KUBERNETES__IN_CLUSTER=true", &setting]).await;
    let mut ftp = gateway.login().await;
    // without the mapping even EPSV would tell a port that leads nowhere
    for command in ["PASV", "EPSV"] {
        let refused = ftp.command(command).await;
        assert_eq!(refused.code, 425, "{refused:?}");
        assert!(refused.text.contains("not known yet"), "{refused:?}");
    }
    let bound = gateway.gateway.passive_ports();
    let balancer = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a free port");
    let public = balancer.local_addr().expect("bound").port();
    let behind = *bound.end();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = balancer.accept().await {
            let Ok(mut server) = tokio::net::TcpStream::connect(("127.0.0.1", behind)).await else {
                continue;
            };
            tokio::spawn(
                async move { tokio::io::copy_bidirectional(&mut client, &mut server).await },
            );
        }
    });
    // as TKE's port pools write it; one port of four is mapped
    let row = json!([{"port": behind, "protocol": "TCP", "pool": "p", "loadbalancerPort": public,
        "ips": ["203.0.113.7"], "listenerId": "lbl-1"}]);
    std::fs::write(&path, row.to_string()).expect("written");
    told(&mut ftp, Ipv4Addr::new(203, 0, 113, 7)).await;
    for _ in 0..8 {
        assert_eq!(ftp.pasv().await.map(|told| told.1), Ok(public));
        assert_eq!(ftp.epsv().await, public);
    }
    let bytes = pattern(300_000);
    assert_eq!(ftp.store("STOR f", &bytes).await.code, 226);
    assert_eq!(ftp.fetch("RETR f").await.0, bytes);
}

#[tokio::test]
async fn replicas_bind_only_their_slices_of_one_range() {
    // all four ports of a range that was free a moment ago
    let probe = TestGateway::start().await;
    let range = probe.gateway.passive_ports();
    probe.stop().await;
    let ports = format!("PASSIVE__PORTS={}-{}", range.start(), range.end());
    let mut replicas = Vec::new();
    for name in ["cosgate-0", "cosgate-1"] {
        let pod_name = format!("KUBERNETES__POD_NAME={name}");
        replicas.push(TestGateway::with(&[&ports, "PASSIVE__SLICE_SIZE=2", &pod_name]).await);
    }
    let slices: Vec<_> = replicas
        .iter()
        .map(|replica| replica.gateway.passive_ports())
        .collect();
    assert_eq!(slices[0], *range.start()..=range.start() + 1);
    assert_eq!(slices[1], range.start() + 2..=*range.end());
    for (replica, slice) in replicas.iter().zip(&slices) {
        let mut ftp = replica.login().await;
        for _ in 0..6 {
            let port = ftp.epsv().await;
            assert!(slice.contains(&port), "{port} is not in {slice:?}");
        }
        assert_eq!(ftp.store("STOR f", b"x").await.code, 226);
    }
}

#[tokio::test]
async fn a_healthy_start_warns_of_nothing_and_a_lost_address_is_reported_with_its_reason() {
    let api = KubeApi::start().await;
    let (_, ingress) = at(7);
    api.set_ingress(ingress);
    let program = Program::with(&api.settings(), &[]);
    let mut ftp = Ftp::connect(program.address).await;
    ftp.login("demo", &program.password).await;
    eventually("the address is told", || async {
        program.output().contains("203.0.113.7")
    })
    .await;
    let stays = || {
        let output = program.output();
        let lines = output.lines().filter(|line| line.contains("address stays"));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(stays(), Vec::<String>::new());
    api.set_ingress(json!([]));
    eventually("the loss is told", || async { !stays().is_empty() }).await;
    assert!(stays()[0].contains("has no IPv4 address"), "{:?}", stays());
}
