//! Files in and out.

use std::time::{Duration, Instant};

use crate::support::tls::Authority;
use crate::support::{Ftp, TestGateway, pattern};

/// Small writes that wait for an acknowledgement which the other end delays (Nagle's algorithm, RFC 1122, section
/// 4.2.3.4) cost a file 40 ms. A busy machine slows some files down, such a pause most of them.
#[tokio::test]
async fn no_small_file_waits_for_a_delayed_acknowledgement() {
    let authority = Authority::new();
    let gateway = TestGateway::with_tls(&authority, &[]).await;
    let bytes = pattern(4096);
    for private in [false, true] {
        let mut ftp = gateway.login().await;
        if private {
            let client = authority.client();
            ftp = Ftp::connect(gateway.address()).await;
            ftp = ftp.secure(&client).await.expect("a handshake");
            ftp.login("demo", &gateway.password).await;
            ftp.protect(&client).await;
        }
        let (mut stored, mut fetched) = (Vec::new(), Vec::new());
        for _ in 0..40 {
            let began = Instant::now();
            assert_eq!(ftp.store("STOR f", &bytes).await.code, 226);
            stored.push(began.elapsed());
            let began = Instant::now();
            let (content, reply) = ftp.fetch("RETR f").await;
            fetched.push(began.elapsed());
            assert_eq!((reply.code, content.len()), (226, bytes.len()));
        }
        for mut times in [stored, fetched] {
            times.sort();
            // the quickest quarter
            assert!(times[10] < Duration::from_millis(40), "{times:?}");
        }
    }
    gateway.stop().await;
}
