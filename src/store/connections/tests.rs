use aws_sdk_s3::primitives::SdkBody;
use http_body_util::BodyExt;
use rustls_pki_types::PrivateKeyDer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::http_client;

/// The error of a request to a server that does `serve` with each connection.
async fn fault<F: Future<Output = ()> + Send>(
    scheme: &str,
    serve: impl Fn(TcpStream) -> F + Send + 'static,
) -> ConnectorError {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            serve(socket).await;
        }
    });
    send(&format!("{scheme}://{address}/")).await
}

async fn send(uri: &str) -> ConnectorError {
    let tls = http_client::tls(None).expect("TLS");
    let limit = Duration::from_millis(300);
    let connections = Connections::new(tls, limit, limit);
    let request = Request::get(uri).body(SdkBody::empty()).expect("a request");
    match connections.send(request, Weak::new()).await {
        Ok((answer, _)) => panic!("{answer:?}"),
        Err(error) => error,
    }
}

#[tokio::test]
async fn errors_are_sorted_as_retries_need_it() {
    let refused = {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        listener.local_addr().expect("bound")
    };
    let error = send(&format!("http://{refused}/")).await;
    assert!(error.is_io(), "{error:?}");

    // a handshake is a part of connecting
    let error = fault("https", |socket| async move {
        let _open = socket;
        std::future::pending().await
    })
    .await;
    let text = crate::chain::Chain(&error).to_string();
    assert!(error.is_timeout(), "{error:?}");
    assert!(
        text.ends_with("no connection within 300ms (storage.connect_timeout)"),
        "{text}"
    );

    let error = fault("https", |socket| async { drop(socket) }).await;
    assert!(error.is_io(), "{error:?}");

    let error = fault("http", |mut socket| async move {
        let _ = socket.read(&mut [0; 1024]).await;
    })
    .await;
    assert_eq!(
        error.as_other(),
        Some(ErrorKind::TransientError),
        "{error:?}"
    );
}

const ANSWER: usize = 8 << 20;

/// Answers faster than anybody takes it.
async fn answer(mut socket: impl AsyncRead + AsyncWrite + Unpin) {
    let _ = socket.read(&mut [0; 1024]).await;
    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {ANSWER}\r\n\r\n");
    let _ = socket.write_all(head.as_bytes()).await;
    let _ = socket.write_all(&vec![0; ANSWER]).await;
    let _ = socket.flush().await;
    let _ = socket.read(&mut [0; 1024]).await;
}

/// The largest piece in which [`ANSWER`] arrives.
async fn largest_piece(scheme: &str, is_small: bool) -> usize {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    let names = vec!["127.0.0.1".to_owned()];
    let pair = rcgen::generate_simple_self_signed(names).expect("a pair");
    let tls = http_client::tls_with(pair.cert.pem().as_bytes()).expect("TLS");
    let is_tls = scheme == "https";
    tokio::spawn(async move {
        let (socket, _) = listener.accept().await.expect("a connection");
        if !is_tls {
            return answer(socket).await;
        }
        let key = PrivateKeyDer::try_from(pair.signing_key.serialize_der()).expect("a key");
        let config = rustls::ServerConfig::builder_with_provider(crate::certificates::provider())
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![pair.cert.der().clone()], key)
            .expect("a pair");
        let acceptor = TlsAcceptor::from(Arc::new(config));
        answer(acceptor.accept(socket).await.expect("a handshake")).await;
    });
    let limit = Duration::from_secs(20);
    let connections = Connections::new(tls, limit, limit);
    let request = Request::get(format!("{scheme}://{address}/")).body(SdkBody::empty());
    let mut request = request.expect("a request");
    if is_small {
        request.extensions_mut().insert(InSmallPieces);
    }
    let (answer, _exchange) = connections
        .send(request, Weak::new())
        .await
        .expect("an answer");
    let (mut body, mut largest, mut received) = (answer.into_body(), 0, 0);
    while let Some(frame) = body.frame().await {
        let piece = frame.expect("a piece").into_data().expect("data").len();
        largest = largest.max(piece);
        received += piece;
    }
    assert_eq!(received, ANSWER);
    largest
}

#[tokio::test]
async fn answers_come_in_pieces_that_their_reader_can_count_on() {
    for scheme in ["http", "https"] {
        let usual = largest_piece(scheme, false).await;
        assert!(usual <= READ_BUFFER, "{scheme}: {usual}");
        // large answers take few reads, also where TLS has records of 16 KiB
        assert!(usual > SMALL_READ_BUFFER, "{scheme}: {usual}");
        let small = largest_piece(scheme, true).await;
        assert!(small <= SMALL_READ_BUFFER, "{scheme}: {small}");
    }
}

#[test]
fn no_proxy_is_asked_for_this_machine_itself() {
    let proxies = Matcher::builder().all("http://proxy.example:3128").build();
    let has_proxy = |uri| proxy(&proxies, &Uri::from_static(uri)).is_some();
    for here in [
        "http://127.0.0.1:9000/b",
        "http://[::1]/",
        "https://localhost:443/",
        "http://127.9.9.9/",
    ] {
        assert!(!has_proxy(here), "{here}");
    }
    for there in [
        "http://10.0.0.1/",
        "https://localhost.example/",
        "http://[2001:db8::1]/",
    ] {
        assert!(has_proxy(there), "{there}");
    }
    let forwards = |uri| forward_proxy(&proxies, &Uri::from_static(uri)).is_some();
    assert!(forwards("http://store.example/") && !forwards("https://store.example/"));
}
