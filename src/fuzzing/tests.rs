//! The targets under stable Rust: the corpus of `fuzz/`, and inputs that proptest makes, of pieces that occur in sound ones.

use std::path::Path;

use proptest::prelude::*;

use super::*;
use crate::config::table;

/// Each input of the corpus, and each that once was a finding, has all properties.
#[test]
fn the_corpus_has_all_properties() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
    for (name, target) in TARGETS {
        let inputs = std::fs::read_dir(corpus.join(name)).expect("each target has a corpus");
        let mut count = 0;
        for input in inputs {
            let path = input.expect("a directory").path();
            let bytes = std::fs::read(&path).expect("it can be read");
            // a panic doesn't say which one it was
            println!("{}", path.display());
            target(&bytes);
            count += 1;
        }
        assert!(count > 0, "{name} has no corpus");
    }
}

/// cargo-fuzz builds each target, under the name that it has here.
#[test]
fn each_target_is_in_the_manifest_of_cargo_fuzz() {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
    let manifest = std::fs::read_to_string(fuzz.join("Cargo.toml")).expect("it is there");
    for (name, _) in TARGETS {
        assert!(manifest.contains(&format!("name = \"{name}\"")), "{name}");
        let source = fuzz.join(format!("fuzz_targets/{name}.rs"));
        let source = std::fs::read_to_string(source).expect("it is there");
        assert!(
            source.contains(&format!("cosgate::fuzzing::{name}(")),
            "{name}"
        );
    }
    assert_eq!(manifest.matches("[[bin]]").count(), TARGETS.len());
}

/// Bytes of `pieces` and any others, one in four.
fn bytes_of(pieces: &'static [&'static [u8]], most: usize) -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        3 => prop::sample::select(pieces).prop_map(<[u8]>::to_vec),
        1 => prop::collection::vec(any::<u8>(), 0..6),
    ];
    prop::collection::vec(piece, 0..most).prop_map(|pieces| pieces.concat())
}

const LINES: &[&[u8]] = &[
    b"\r\n",
    b"\n",
    b"\r",
    b"\0",
    b"\xff",
    b"\xff\xff",
    b"\xff\xf4\xff\xf2",
    b"\xff\xfb\x01",
    b"ABOR",
    b"STOR f",
    b" ",
    b"\xc3\xa9",
    b"\xe9",
];

const COMMANDS: &[&[u8]] = &[
    b"USER ",
    b"pass ",
    b"STOR ",
    b"retr ",
    b"LIST ",
    b"NLST -la ",
    b"-R",
    b"-- ",
    b"PORT 127,0,0,1,4,1",
    b"EPRT |1|127.0.0.1|1025|",
    b"EPRT !2!::1!2000!",
    b"EPSV ",
    b"ALL",
    b"REST 10",
    b"TYPE A N",
    b"L 8",
    b"MFMT 20200229235960 ",
    b"MDTM 20200102030405 ",
    b"SITE ",
    b"UTIME ",
    b"202001020304 ",
    b" 20200102030405",
    b" UTC",
    b"CHMOD 644 ",
    b"SHA256 ",
    b"HASH ",
    b"OPTS UTF8 ON",
    b"f",
    b" ",
    b"1",
];

const NAMES: &[&[u8]] = &[
    b"\n",
    b"/",
    b".",
    b"..",
    b"a",
    b"ab",
    b".cosgate",
    b".COSGATE",
    b"%0A",
    b"%25",
    b"%2F",
    b"%C2%85",
    b"\x1b",
    b"\xc2\x85",
    b"*",
    b"?",
    b"[a-z]",
    b"\\",
    b"\xc3\xa9",
];

const FOREIGN: &[&[u8]] = &[
    b"a",
    b"/",
    b" ",
    b"\"",
    b"%E4%B8%AD",
    b"%25",
    b"\xd6\xd0",
    b"\xb3\x5c",
    b"\x83\x36\x84\x33",
    b"\xc3\xa8",
    b"\xe4\xb8\xad",
    b"\xe9",
    b"\xff",
    b"\x95\x5c",
    b"\xa4",
    b"\xd1\x8f",
];

const HEADERS: &[&[u8]] = &[
    b"PROXY ",
    b"TCP4 ",
    b"TCP6 ",
    b"UNKNOWN",
    b"192.0.2.1 ",
    b"2001:db8::1 ",
    b"56324 ",
    b"443",
    b"\r\n",
    b"USER x\r\n",
    b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x01\xc6\x33\x64\x01\xdc\x04\0\x15",
    b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0",
    b"\r\n\r\n\0\r\nQUIT\n\x21\x21\0\x24",
    b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x13\xc0\0\x02\x01\xc6\x33\x64\x01\xdc\x04\0\x15",
    b"\x04\0\x04abcd",
    b"\x03\0\x04\0\0\0\0",
    b"\0\0\0\0\0\0\0\0\0\0\xff\xff\xc0\0\x02\x01",
];

const XML: &[&[u8]] = &[
    b"<ListBucketResult>",
    b"</ListBucketResult>",
    b"<Contents>",
    b"</Contents>",
    b"<Key>a</Key>",
    b"<Key>d/a%0Ab</Key>",
    b"<Key>d/</Key>",
    b"<Key>d/x/../y</Key>",
    b"<Size>1</Size>",
    b"<Size>-1</Size>",
    b"<LastModified>2020-01-01T00:00:00.000Z</LastModified>",
    b"<LastModified>9999-12-31T23:59:59-01:00</LastModified>",
    b"<CommonPrefixes><Prefix>d/e/</Prefix></CommonPrefixes>",
    b"<CommonPrefixes><Prefix>b//</Prefix></CommonPrefixes>",
    b"<EncodingType>url</EncodingType>",
    b"<IsTruncated>true</IsTruncated>",
    b"<IsTruncated>false</IsTruncated>",
    b"<NextContinuationToken>t</NextContinuationToken>",
    b"<NextMarker>m</NextMarker>",
    b"<KeyCount>1</KeyCount>",
    b"&#10;",
    b"&amp;",
    b"<!--",
    b"<![CDATA[a]]>",
    b"<?xml version=\"1.0\"?>",
];

const SERVERS: &[&[u8]] = &[
    b"listen=YES\n",
    b"listen_port=2100\n",
    b"pasv_min_port=",
    b"40000\n",
    b"pasv_max_port=40020\n",
    b"pasv_address=192.0.2.1\n",
    b"ssl_enable=YES\n",
    b"rsa_cert_file=/c.pem\n",
    b"ftpd_banner=",
    b"local_root=/srv/$USER\n",
    b"user_sub_token=$USER\n",
    b"idle_session_timeout=",
    b"99999999999\n",
    b"0\n",
    b"max_clients=7\n",
    b"write_enable=NO\n",
    b"cmds_allowed=STOR\n",
    b"Port 2100\n",
    b"PassivePorts 40000 40020\n",
    b"DefaultRoot ~\n",
    b"Bind ,2100\n",
    b"MaxIdleTime 10\n",
    b"[NETWORK]\n",
    b"\0",
    b"u:$6$saltsalt$abcdefghijklmnopqrstuvwxyz:1:1::/home/u:\n",
    b"=",
    b"\n",
    b"'",
    b"#",
];

fn yaml() -> impl Strategy<Value = Vec<u8>> {
    let key = (0..table().len()).prop_map(|row| table()[row].path);
    let value = prop_oneof![
        "[0-9]{1,6}(s|MiB|)",
        "'[ -~&&[^']]{12,20}'",
        "[a-z./:0-9-]{1,12}",
        "\\PC{0,8}",
        "\\[[a-z0-9,]{0,8}\\]",
    ];
    let entry = (key, value, 0..4_usize).prop_map(|(path, value, style)| {
        let path = path.replace("[]", "");
        match style {
            0 => format!("{path}: {value}\n"),
            1 => {
                let (outer, inner) = path.split_once('.').unwrap_or((&path, "x"));
                format!("{outer}:\n  {inner}: {value}\n")
            }
            2 => format!(
                "{}: {{{}: {value}}}\n",
                path.split('.').next().unwrap_or("a"),
                path.rsplit('.').next().unwrap_or("b")
            ),
            _ => format!(
                "users:\n- {}: {value}\n",
                path.rsplit('.').next().unwrap_or("name")
            ),
        }
    });
    let text = prop::collection::vec(entry, 0..5).prop_map(|entries| entries.concat());
    (text, "[\\[\\]{}:&*!|>'\"%@#,\n -]{0,3}").prop_map(|(text, end)| (text + &end).into_bytes())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(1000) })]

    #[test]
    fn lines(choice: u8, bytes in bytes_of(LINES, 20)) {
        control_line(&[&[choice], &bytes[..]].concat());
    }

    #[test]
    fn commands(bytes in bytes_of(COMMANDS, 6)) {
        command(&bytes);
    }

    #[test]
    fn paths_keys_and_patterns(bytes in bytes_of(NAMES, 16)) {
        names(&bytes);
    }

    #[test]
    fn encodings(choice: u8, bytes in bytes_of(FOREIGN, 10)) {
        charset(&[&[choice], &bytes[..]].concat());
    }

    #[test]
    fn headers_of_proxies(bytes in bytes_of(HEADERS, 8)) {
        proxy_header(&bytes);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(300) })]

    #[test]
    fn yaml_of_the_configuration(text in yaml()) {
        configuration(&text);
    }

    #[test]
    fn files_of_other_servers(choice: u8, bytes in bytes_of(SERVERS, 12)) {
        import(&[&[choice], &bytes[..]].concat());
    }

    #[test]
    fn answers_to_a_listing(choice: u8, bytes in bytes_of(XML, 12), is_closed: bool) {
        let end: &[u8] = if is_closed { b"</ListBucketResult>" } else { b"" };
        listing(&[&[choice], &b"<ListBucketResult>"[..], &bytes[..], end].concat());
    }
}
