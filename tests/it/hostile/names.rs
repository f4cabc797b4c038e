//! Path tricks: names that are to lead out of a home.

use crate::support::{TestGateway, login, users};

/// Ways to say "above" and "elsewhere", on this system and on others, before the path of the file to reach.
const TRICKS: &[&[u8]] = &[
    b"../bob/",
    b"/../bob/",
    b"/../../../../../../../../../../bob/",
    b"./../bob/",
    b".../../../bob/",
    b"a/../../bob/",
    b"//../bob/",
    b"..//bob//",
    b"..\\bob\\",
    b"..\\/bob\\",
    b"\\..\\bob\\",
    b"%2e%2e/bob/",
    b"%2E%2E%2Fbob%2F",
    b"..%2Fbob%2F",
    b"%252e%252e%252fbob%252f",
    b"..%00/bob/",
    b"..%0A/bob/",
    b"\xc0\xae\xc0\xae/bob/",
    b"\xe0\x80\xae\xe0\x80\xae/bob/",
    b"\xef\xbc\x8e\xef\xbc\x8e\xef\xbc\x8fbob\xef\xbc\x8f",
    b"..\xe2\x81\x84bob\xe2\x81\x84",
    b"~bob/",
    b"~/../bob/",
    b"C:\\bob\\",
    b"file:///bob/",
    b"\\\\?\\bob\\",
    b"bob/",
    b"/bob/",
    b"../alicebob/../bob/",
    b".. /bob/",
    b"..;/bob/",
    b" ../bob/",
    b"-- ../bob/",
    b"-l ../bob/",
];

#[tokio::test]
async fn no_way_to_write_a_path_leads_out_of_a_home() {
    let list = users(&["name: alice, home: /alice", "name: bob, home: /bob"]);
    let gateway = TestGateway::with(&[&format!("USERS={list}"), "UPLOAD__OVERWRITE=true"]).await;
    let secret = b"nobody else's";
    for key in ["bob/secret", "bobsecret", "secret", "alicebob/secret"] {
        gateway.put_object(key, secret.to_vec()).await;
    }
    let mut alice = login(&gateway, "alice").await;
    for trick in TRICKS {
        let shown = String::from_utf8_lossy(trick);
        let path = [*trick, b"secret"].concat();
        for verb in [
            "SIZE",
            "MDTM",
            "DELE",
            "RMD",
            "MLST",
            "RNFR",
            "HASH",
            "SITE SHA256",
            "STAT",
            "CWD",
        ] {
            let line = [verb.as_bytes(), b" ", &path].concat();
            let reply = alice.command(&line).await;
            // a pattern that fits nothing has an empty listing
            let is_empty = reply.code == 213 && !reply.text.contains("secret");
            let is_refused = (500..=553).contains(&reply.code) || is_empty;
            assert!(is_refused, "{verb} {shown}: {reply:?}");
        }
        for verb in ["RETR", "LIST", "NLST", "MLSD"] {
            let line = [verb.as_bytes(), b" ", &path].concat();
            let (bytes, reply) = alice.fetch(&line).await;
            assert!(
                !bytes
                    .windows(6)
                    .any(|part| part == b"secret" && verb != "RETR"),
                "{verb} {shown}"
            );
            assert!(!bytes.ends_with(secret), "{verb} {shown}: {reply:?}");
        }
        assert_eq!(alice.command("CWD /").await.code, 250);
    }
    // what is made lies at home
    for trick in TRICKS {
        let path = [*trick, b"secret"].concat();
        for verb in ["STOR", "APPE"] {
            let line = [verb.as_bytes(), b" ", &path].concat();
            alice.store(&line, b"planted").await;
        }
        alice.store("STOR planted", b"planted").await;
        alice.command("RNFR planted").await;
        for verb in ["RNTO", "MKD", "DELE", "RMD"] {
            alice.command([verb.as_bytes(), b" ", &path].concat()).await;
        }
    }
    for key in ["bob/secret", "bobsecret", "secret", "alicebob/secret"] {
        assert_eq!(
            gateway.object(key).await.as_deref(),
            Some(&secret[..]),
            "{key}"
        );
    }
    let keys = gateway.keys().await;
    let planted = keys.iter().filter(|key| !key.starts_with("alice/")).count();
    assert_eq!(planted, 4, "{keys:?}");
    gateway.stop().await;
}

/// Paths of the greatest depth and length that a line holds, as arguments and as working directories.
#[tokio::test]
async fn deep_and_long_paths_are_refused_or_lead_back_to_the_root() {
    let gateway = TestGateway::start().await;
    let mut ftp = gateway.login().await;
    for path in [
        "../".repeat(2600),
        "a/../".repeat(1600),
        "/".repeat(8000),
        "./".repeat(4000),
    ] {
        assert_eq!(
            ftp.command(format!("CWD {path}")).await.code,
            250,
            "{}",
            &path[..5]
        );
        assert_eq!(ftp.command("PWD").await.text, "257 \"/\"\r\n");
        assert_eq!(ftp.store(format!("STOR {path}f"), b"x").await.code, 226);
    }
    for path in ["a/".repeat(4000), "a".repeat(8000), "é".repeat(4000)] {
        assert_eq!(ftp.store(format!("STOR {path}f"), b"x").await.code, 553);
        assert_eq!(ftp.command(format!("MKD {path}")).await.code, 553);
        assert!(ftp.command(format!("CWD {path}")).await.code >= 500);
    }
    assert_eq!(gateway.keys().await, ["f"]);
    gateway.stop().await;
}
