//! Names that are not UTF-8: what a device sends is what it gets, and a key in UTF-8 is what the store has.

use crate::support::{Ftp, TestGateway, cheap_hash, login, users};

/// A charset, a directory and a file in it, as keys and as a device sends them.
type Device = (&'static str, [&'static str; 2], [&'static [u8]; 2]);

/// The bytes of 图片 are UTF-8 as well: ͼƬ.
const DEVICES: &[Device] = &[
    (
        "gbk",
        ["图片", "停车场 1.jpg"],
        [b"\xcd\xbc\xc6\xac", b"\xcd\xa3\xb3\xb5\xb3\xa1 1.jpg"],
    ),
    (
        "gb18030",
        ["图片", "한.jpg"],
        [b"\xcd\xbc\xc6\xac", b"\x83\x36\x84\x33.jpg"],
    ),
    // second bytes that are backslashes and bars
    (
        "shift_jis",
        ["表示", "ソ予 能.jpg"],
        [b"\x95\x5c\x8e\xa6", b"\x83\x5c\x97\x5c \x94\x5c.jpg"],
    ),
    (
        "big5",
        ["許功蓋", "啲.jpg"],
        [b"\xb3\x5c\xa5\x5c\xbb\x5c", b"\x9d\xf8.jpg"],
    ),
    (
        "euc-kr",
        ["사진", "한글.jpg"],
        [b"\xbb\xe7\xc1\xf8", b"\xc7\xd1\xb1\xdb.jpg"],
    ),
    (
        "iso-8859-1",
        ["Größe", "aÿbÿ\u{fe}é.jpg"],
        [b"Gr\xf6\xdfe", b"a\xffb\xff\xfe\xe9.jpg"],
    ),
    (
        "koi8-r",
        ["Фото", "Ъъ.jpg"],
        [b"\xe6\xcf\xd4\xcf", b"\xff\xdf.jpg"],
    ),
    (
        "windows-1251",
        ["Фото", "змея я.jpg"],
        [b"\xd4\xee\xf2\xee", b"\xe7\xec\xe5\xff \xff.jpg"],
    ),
];

/// 猫 in GBK; the same bytes are è in UTF-8.
const CAT: &[u8] = b"\xc3\xa8";

async fn with(charset: &str) -> TestGateway {
    TestGateway::with(&[&format!("CHARSET={charset}")]).await
}

fn has(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

async fn fetched(ftp: &mut Ftp, line: impl AsRef<[u8]>) -> Vec<u8> {
    let (bytes, reply) = ftp.fetch(line).await;
    assert_eq!(reply.code, 226, "{reply:?}");
    bytes
}

#[tokio::test]
async fn a_device_finds_what_it_stored_under_its_own_bytes_and_the_store_has_utf8() {
    for (charset, [directory, file], [raw_directory, raw_file]) in DEVICES {
        let gateway = with(charset).await;
        let mut ftp = gateway.login().await;
        let path = [*raw_directory, b"/", *raw_file].concat();
        let line = |verb: &[u8], name: &[u8]| [verb, b" ", name].concat();

        let reply = ftp.raw_command(line(b"MKD", raw_directory)).await;
        let quoted = [b"257 \"/", *raw_directory, b"\" created\r\n"].concat();
        assert_eq!(reply, quoted, "{charset}");
        assert_eq!(ftp.store(line(b"STOR", &path), b"x").await.code, 226);
        assert!(
            gateway
                .keys()
                .await
                .contains(&format!("{directory}/{file}")),
            "{charset}"
        );

        let reply = ftp.raw_command(line(b"CWD", raw_directory)).await;
        assert!(reply.starts_with(b"250 ") && has(&reply, raw_directory));
        let reply = ftp.raw_command("PWD").await;
        assert_eq!(
            reply,
            [b"257 \"/", *raw_directory, b"\"\r\n"].concat(),
            "{charset}"
        );
        let whole = [*raw_file, b"\r\n"].concat();
        assert_eq!(fetched(&mut ftp, "NLST").await, whole, "{charset}");
        for verb in ["LIST", "MLSD"] {
            let listing = fetched(&mut ftp, verb).await;
            assert!(
                listing.ends_with(&[b" ", &whole[..]].concat()),
                "{charset} {verb}"
            );
        }
        let status = ftp.raw_command("STAT .").await;
        assert!(
            status.starts_with(b"213") && has(&status, &whole),
            "{charset}"
        );
        let facts = ftp.raw_command(line(b"MLST", raw_file)).await;
        assert!(facts.starts_with(b"250") && has(&facts, &[b"/", &whole[..]].concat()));
        assert_eq!(ftp.raw_command(line(b"SIZE", raw_file)).await, b"213 1\r\n");
        let pattern = [&raw_file[..raw_file.len() - 4], b"*"].concat();
        assert_eq!(
            fetched(&mut ftp, line(b"NLST", &pattern)).await,
            whole,
            "{charset}"
        );
        assert_eq!(fetched(&mut ftp, line(b"RETR", raw_file)).await, b"x");
        ftp.raw_command("CDUP").await;
        let named = [&path[..], b"\r\n"].concat();
        assert_eq!(
            fetched(&mut ftp, line(b"NLST", raw_directory)).await,
            named,
            "{charset}"
        );

        assert_eq!(ftp.command(line(b"RNFR", &path)).await.code, 350);
        assert_eq!(ftp.command(line(b"RNTO", raw_file)).await.code, 250);
        assert!(
            gateway.keys().await.contains(&(*file).to_owned()),
            "{charset}"
        );
        assert_eq!(ftp.command(line(b"DELE", raw_file)).await.code, 250);
        assert_eq!(ftp.command(line(b"RMD", raw_directory)).await.code, 250);
        assert_eq!(gateway.keys().await, Vec::<String>::new(), "{charset}");
    }
}

#[tokio::test]
async fn a_name_in_utf8_is_one_whatever_the_charset() {
    let gateway = with("gbk").await;
    let mut ftp = gateway.login().await;
    let names = ["中文/文件.txt", "Größe.txt", "한글😀", "сіль"];
    for name in names {
        assert_eq!(ftp.store(format!("STOR {name}"), b"x").await.code, 226);
        assert_eq!(
            gateway.object(name).await.as_deref(),
            Some(&b"x"[..]),
            "{name}"
        );
    }
    // the replies are in GBK until the client says otherwise
    let reply = ftp.raw_command("CWD 中文").await;
    assert!(has(&reply, b"\"/\xd6\xd0\xce\xc4\""), "{reply:?}");
    assert_eq!(ftp.command("OPTS UTF8 ON").await.code, 200);
    assert_eq!(ftp.command("PWD").await.text, "257 \"/中文\"\r\n");
    assert_eq!(ftp.listing("NLST").await, "文件.txt\r\n");
    // who says so and sends GBK nevertheless gets GBK
    let reply = ftp.raw_command(b"CWD /\xd6\xd0\xce\xc4").await;
    assert!(has(&reply, b"\"/\xd6\xd0\xce\xc4\""), "{reply:?}");
    assert_eq!(fetched(&mut ftp, "NLST").await, b"\xce\xc4\xbc\xfe.txt\r\n");
    assert_eq!(ftp.command("OPTS UTF8 ON").await.code, 200);
    assert_eq!(ftp.listing("NLST").await, "文件.txt\r\n");
    assert_eq!(ftp.command("OPTS UTF8 OFF").await.code, 200);
    assert_eq!(fetched(&mut ftp, "NLST").await, b"\xce\xc4\xbc\xfe.txt\r\n");
    assert!(ftp.command("FEAT").await.text.contains("\r\n UTF8\r\n"));
}

#[tokio::test]
async fn what_the_charset_lacks_is_found_by_the_code_that_is_shown() {
    let keys = ["中é", "%E4%B8%ADé", "a\nb", "%0A", "ÿ中/☃", "plain 100%"];
    let shown: [&[u8]; 6] = [
        b"%E4%B8%AD\xe9",
        b"%25E4%B8%AD\xe9",
        b"a%0Ab",
        b"%250A",
        b"\xff%E4%B8%AD/%E2%98%83",
        b"plain 100%",
    ];
    let gateway = with("latin1").await;
    for key in keys {
        gateway.put_object(key, key.as_bytes().to_vec()).await;
    }
    let mut ftp = gateway.login().await;
    let listing = fetched(&mut ftp, "NLST").await;
    for (key, name) in keys.iter().zip(shown) {
        let top = name.split(|byte| *byte == b'/').next().unwrap_or_default();
        let line = [top, b"\r\n"].concat();
        assert!(has(&listing, &line), "{key}: {listing:?}");
        let content = fetched(&mut ftp, [b"RETR ", name].concat()).await;
        assert_eq!(content, key.as_bytes(), "{key}");
        // 0xFF as a client sends it that takes the control connection for telnet's
        let telnet = name
            .iter()
            .flat_map(|byte| vec![*byte; if *byte == 0xFF { 2 } else { 1 }]);
        let line: Vec<u8> = b"RETR ".iter().copied().chain(telnet).collect();
        assert_eq!(fetched(&mut ftp, line).await, key.as_bytes(), "{key}");
    }
    assert_eq!(
        fetched(&mut ftp, b"NLST \xff%E4%B8%AD").await,
        b"\xff%E4%B8%AD/%E2%98%83\r\n"
    );
    assert_eq!(
        ftp.command("CWD %C3%BF%E4%B8%AD").await.code,
        550,
        "Latin-1 has that letter"
    );
    let reply = ftp.raw_command(b"CWD \xff%E4%B8%AD").await;
    assert!(reply.starts_with(b"250 ") && has(&reply, b"\"/\xff%E4%B8%AD\""));
    // in UTF-8 a code is what it seems
    ftp.command("OPTS UTF8 ON").await;
    assert_eq!(ftp.command("PWD").await.text, "257 \"/ÿ中\"\r\n");
    assert_eq!(
        fetched(&mut ftp, "RETR /%E4%B8%ADé").await,
        "%E4%B8%ADé".as_bytes()
    );
    assert_eq!(ftp.command("SIZE /%25E4%B8%ADé").await.code, 550);
}

#[tokio::test]
async fn bytes_that_could_be_both_are_what_the_client_has_shown_or_seen() {
    let gateway = with("gbk").await;
    let line = [b"STOR ", CAT].concat();
    // nothing is known of the client, so this is UTF-8
    let mut ftp = gateway.login().await;
    assert_eq!(ftp.store(&line, b"x").await.code, 226);
    assert_eq!(gateway.keys().await, ["è"]);
    // it has sent bytes that can't be UTF-8
    let mut ftp = gateway.login().await;
    assert_eq!(ftp.command(b"SIZE \xd6\xd0").await.code, 550);
    assert_eq!(ftp.store(&line, b"xx").await.code, 226);
    assert_eq!(gateway.object("猫").await.as_deref(), Some(&b"xx"[..]));
    // it says that it knows no UTF-8
    let mut ftp = gateway.login().await;
    ftp.command("OPTS UTF8 OFF").await;
    assert_eq!(
        ftp.command([b"SIZE ", CAT].concat()).await.text,
        "213 2\r\n"
    );
    // it has got a listing with this name
    for listing in ["NLST", "LIST", "MLSD", "STAT ."] {
        let mut ftp = gateway.login().await;
        match listing {
            "STAT ." => drop(ftp.raw_command(listing).await),
            _ => drop(fetched(&mut ftp, listing).await),
        }
        let reply = ftp.command([b"SIZE ", CAT].concat()).await;
        assert_eq!(reply.text, "213 2\r\n", "{listing}");
    }
}

#[tokio::test]
async fn users_and_passwords_are_read_in_the_charset_too() {
    let hash = cheap_hash("%E4%B8%AD密码");
    let users = format!("[{{name: 管理员, home: /, password_hash: '{hash}'}}]");
    let gateway = TestGateway::with(&[&format!("USERS={users}"), "CHARSET=gbk"]).await;
    let (name, password) = (b"\xb9\xdc\xc0\xed\xd4\xb1", b"%E4%B8%AD\xc3\xdc\xc2\xeb");
    let mut ftp = gateway.connect().await;
    assert_eq!(ftp.command([&b"USER "[..], name].concat()).await.code, 331);
    assert_eq!(
        ftp.command([&b"PASS "[..], password].concat()).await.code,
        230
    );
    let status = ftp.raw_command("STAT").await;
    assert!(has(&status, name), "{status:?}");
    let mut ftp = gateway.connect().await;
    ftp.login("管理员", "%E4%B8%AD密码").await;
    let mut ftp = gateway.connect().await;
    ftp.command([&b"USER "[..], name].concat()).await;
    assert_eq!(ftp.command(b"PASS \xc3\xdc").await.code, 530);
}

#[tokio::test]
async fn a_user_may_have_a_charset_of_the_own() {
    let users = users(&[
        "name: camera, home: /",
        "name: printer, home: /, charset: shift_jis",
        "name: modern, home: /, charset: utf-8",
    ]);
    let gateway = TestGateway::with(&[&format!("USERS={users}"), "CHARSET=gbk"]).await;
    for (user, bytes) in [
        ("camera", &b"\xb1\xed"[..]),
        ("printer", b"\x95\x5c"),
        ("modern", "表".as_bytes()),
    ] {
        let mut ftp = login(&gateway, user).await;
        assert_eq!(
            ftp.store([b"STOR ", bytes].concat(), user.as_bytes())
                .await
                .code,
            226
        );
        assert_eq!(gateway.object("表").await.as_deref(), Some(user.as_bytes()));
        assert_eq!(
            fetched(&mut ftp, "NLST").await,
            [bytes, b"\r\n"].concat(),
            "{user}"
        );
    }
    let mut ftp = login(&gateway, "modern").await;
    assert_eq!(ftp.command(b"SIZE \xb1\xed").await.code, 501);
    assert_eq!(ftp.command("OPTS UTF8 OFF").await.code, 504);
}

#[tokio::test]
async fn what_is_in_no_encoding_is_refused_and_the_session_goes_on() {
    let gateway = TestGateway::start().await;
    let mut ftp = gateway.login().await;
    let reply = ftp.command(b"SIZE \xd6\xd0").await;
    assert_eq!(reply.text, "501 This is not UTF-8, and names are\r\n");
    assert_eq!(ftp.command("OPTS UTF8 OFF").await.code, 504);
    // a letter of Latin-1, and no command of telnet's that is thrown away
    assert_eq!(ftp.store(b"STOR a\xffb", b"x").await.code, 501);
    assert_eq!(gateway.keys().await, Vec::<String>::new());
    let gateway = with("GBK").await;
    let mut ftp = gateway.login().await;
    let reply = ftp.command(b"SIZE \xff\xfe").await;
    assert_eq!(reply.text, "501 This is neither UTF-8 nor GBK\r\n");
    assert_eq!(ftp.command("NOOP").await.code, 200);
}
