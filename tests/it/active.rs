//! Active mode: the gateway connects to the client.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::support::tls::Authority;
use crate::support::{Ftp, TestGateway, pattern};

const ACTIVE: &str = "ACTIVE__ENABLED=true";

/// A client's listening port, and the PORT line that names it.
async fn listen() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let port = listener.local_addr().expect("bound").port();
    (
        listener,
        format!("PORT 127,0,0,1,{},{}", port >> 8, port & 255),
    )
}

#[tokio::test]
async fn files_travel_both_ways_over_port_and_eprt() {
    let gateway = TestGateway::with(&[ACTIVE]).await;
    let mut ftp = gateway.login().await;
    let bytes = pattern(3_000_000);

    let (listener, port) = listen().await;
    assert_eq!(ftp.command(&port).await.code, 200);
    ftp.send("STOR f").await;
    let (mut data, from) = listener.accept().await.expect("the gateway connects");
    assert_eq!(from.ip(), gateway.address().ip());
    assert_eq!(ftp.reply().await.code, 150);
    data.write_all(&bytes).await.expect("writes");
    drop(data);
    assert_eq!(ftp.reply().await.code, 226);

    let (listener, _) = listen().await;
    let port = listener.local_addr().expect("bound").port();
    assert_eq!(
        ftp.command(&format!("EPRT |1|127.0.0.1|{port}|"))
            .await
            .code,
        200
    );
    ftp.send("RETR f").await;
    let (mut data, _) = listener.accept().await.expect("the gateway connects");
    assert_eq!(ftp.reply().await.code, 150);
    let mut back = Vec::new();
    data.read_to_end(&mut back).await.expect("reads");
    assert_eq!(ftp.reply().await.code, 226);
    assert!(back == bytes);
    gateway.stop().await;
}

#[tokio::test]
async fn it_is_off_unless_asked_for() {
    let gateway = TestGateway::start().await;
    let mut ftp = gateway.login().await;
    assert_eq!(ftp.command("PORT 127,0,0,1,100,100").await.code, 502);
    assert_eq!(ftp.command("EPRT |1|127.0.0.1|25700|").await.code, 502);
    assert!(!ftp.command("FEAT").await.text.contains("EPRT"));
    gateway.stop().await;
}

#[tokio::test]
async fn nobody_but_the_client_itself_is_connected_to() {
    let gateway = TestGateway::with(&[ACTIVE]).await;
    let mut ftp = gateway.login().await;
    // another address of this machine, on which somebody listens
    let victim = TcpListener::bind("127.0.0.2:0").await.expect("a free port");
    let address = victim.local_addr().expect("bound");
    let port = address.port();
    for line in [
        format!("PORT 127,0,0,2,{},{}", port >> 8, port & 255),
        format!("EPRT |1|127.0.0.2|{port}|"),
        format!("EPRT |2|::1|{port}|"),
        format!("EPRT |2|::ffff:127.0.0.2|{port}|"),
        "PORT 127,0,0,1,0,22".to_owned(),
        "PORT 127,0,0,1,3,255".to_owned(),
        "EPRT |1|127.0.0.1|1023|".to_owned(),
    ] {
        assert_eq!(ftp.command(&line).await.code, 504, "{line}");
        assert_eq!(ftp.command("LIST").await.code, 425, "{line}");
    }
    let nobody = std::time::Duration::from_millis(200);
    assert!(tokio::time::timeout(nobody, victim.accept()).await.is_err());
    assert_eq!(ftp.command("EPSV ALL").await.code, 200);
    assert_eq!(ftp.command("PORT 127,0,0,1,100,100").await.code, 501);
    gateway.stop().await;
}

/// Names the gateway's own ports in every way, from the address `local`, and expects no connection to any of them.
async fn refuses_own_ports(gateway: &TestGateway, ftp: &mut Ftp, local: std::net::IpAddr) {
    let store = gateway.gateway.embedded().expect("it is the store");
    let passive = gateway.gateway.passive_ports();
    let own = [
        gateway.gateway.addresses()[0].port(),
        gateway.gateway.admin_address().expect("it is on").port(),
        store.address().port(),
        *passive.start(),
        *passive.end(),
    ];
    for port in own {
        let lines = match local {
            std::net::IpAddr::V4(v4) => {
                let [a, b, c, d] = v4.octets();
                vec![
                    format!("PORT {a},{b},{c},{d},{},{}", port >> 8, port & 255),
                    format!("EPRT |1|{v4}|{port}|"),
                    format!("EPRT |2|::ffff:{v4}|{port}|"),
                ]
            }
            std::net::IpAddr::V6(v6) => vec![format!("EPRT |2|{v6}|{port}|")],
        };
        for line in lines {
            assert_eq!(ftp.command(&line).await.code, 504, "{line}");
            assert_eq!(ftp.command("LIST").await.code, 425, "{line}");
        }
    }
}

#[tokio::test]
async fn the_gateways_own_ports_are_never_connected_to() {
    let admin = "ADMIN__LISTEN=127.0.0.1:0";
    let gateway = TestGateway::with(&[ACTIVE, admin]).await;
    for last in [1, 9] {
        let mut ftp = Ftp::connect_from([127, 0, 0, last], gateway.address()).await;
        ftp.login("demo", &gateway.password).await;
        refuses_own_ports(&gateway, &mut ftp, [127, 0, 0, last].into()).await;
    }
    gateway.stop().await;
    let gateway = TestGateway::with(&[ACTIVE, admin, "LISTEN=[::1]:0"]).await;
    let mut ftp = gateway.login().await;
    refuses_own_ports(&gateway, &mut ftp, std::net::Ipv6Addr::LOCALHOST.into()).await;
    gateway.stop().await;
}

#[tokio::test]
async fn a_client_that_does_not_accept_gets_425_and_its_object_stays() {
    let gateway = TestGateway::with(&[ACTIVE, "ACTIVE__CONNECT_TIMEOUT=300ms"]).await;
    gateway.put_object("f", b"old".to_vec()).await;
    let mut ftp = gateway.login().await;
    let (listener, port) = listen().await;
    drop(listener);
    assert_eq!(ftp.command(&port).await.code, 200);
    assert_eq!(ftp.command("STOR f").await.code, 425);
    // the address is good for one transfer
    assert_eq!(ftp.command("STOR f").await.code, 425);
    assert_eq!(gateway.object("f").await.as_deref(), Some(&b"old"[..]));
    gateway.stop().await;
}

#[tokio::test]
async fn tls_protects_active_data_connections_too() {
    let authority = Authority::new();
    let gateway = TestGateway::with_tls(&authority, &[ACTIVE, "TLS__REQUIRED=all"]).await;
    let client = authority.client();
    let mut ftp = Ftp::connect(gateway.address())
        .await
        .secure(&client)
        .await
        .expect("a handshake");
    ftp.login("demo", &gateway.password).await;
    let (listener, port) = listen().await;
    assert_eq!(ftp.command(&port).await.code, 521);
    ftp.protect(&client).await;
    assert_eq!(ftp.command(&port).await.code, 200);
    ftp.send("STOR f").await;
    let (data, _): (_, SocketAddr) = listener.accept().await.expect("the gateway connects");
    assert_eq!(ftp.reply().await.code, 150);
    let mut data = ftp.wrap(data).await.expect("a handshake");
    data.write_all(b"protected").await.expect("writes");
    data.shutdown().await.expect("close_notify");
    assert_eq!(ftp.reply().await.code, 226);
    assert_eq!(
        gateway.object("f").await.as_deref(),
        Some(&b"protected"[..])
    );
    gateway.stop().await;
}
