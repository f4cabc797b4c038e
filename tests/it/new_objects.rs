//! What new objects get besides their bytes, for all users and for one, and the names that files may have.

use cosgate::config::load_from;
use tokio::io::AsyncWriteExt;

use crate::held::{cut, go_on, size};
use crate::support::gateway::BUCKET;
use crate::support::{TestGateway, login, pattern, users};

const COMMON: [&str; 5] = [
    "UPLOAD__STORAGE_CLASS=STANDARD_IA",
    "UPLOAD__CACHE_CONTROL=max-age=60, public",
    "UPLOAD__TAGS=project=alpha, owner=ftp",
    "UPLOAD__METADATA=Source=gateway",
    "UPLOAD__DENY_NAMES=*.exe, *.bat",
];

/// A gateway with these users, and what holds for all of them.
async fn gateway(entries: &[&str], more: &[&str]) -> TestGateway {
    let list = format!("USERS={}", users(entries));
    let own = [list.as_str(), "UPLOAD__MIN_PART_SIZE=5MiB"];
    TestGateway::with(&[&own, &COMMON[..], more].concat()).await
}

/// An object's tags as `name=value`, in order.
async fn tags(gateway: &TestGateway, key: &str) -> Vec<String> {
    let tags = gateway.tags(key).await.into_iter();
    tags.map(|(name, value)| format!("{name}={value}"))
        .collect()
}

/// Content type, cache control, storage class, and the metadata `source`.
async fn facts(gateway: &TestGateway, key: &str) -> [Option<String>; 4] {
    let head = gateway
        .s3()
        .head_object()
        .bucket(BUCKET)
        .key(key)
        .send()
        .await;
    let head = head.expect("it is there");
    let source = head.metadata().and_then(|all| all.get("source").cloned());
    [
        head.content_type,
        head.cache_control,
        head.storage_class.map(|class| class.as_str().to_owned()),
        source,
    ]
}

fn some(texts: [&str; 4]) -> [Option<String>; 4] {
    texts.map(|text| Some(text.to_owned()))
}

#[tokio::test]
async fn a_users_own_takes_the_place_of_what_holds_for_all_in_objects_of_one_part_and_of_several() {
    let own = "name: own, upload: {storage_class: GLACIER_IR, content_type: text/csv, cache_control: no-store, \
               tags: [owner=erp], metadata: [source=erp]}";
    let gateway = gateway(&["name: all", own], &[]).await;
    let sizes = [("one.txt", 1000), ("several.txt", 12 << 20)];
    for (name, size) in sizes {
        let bytes = pattern(size);
        let mut all = login(&gateway, "all").await;
        assert_eq!(
            all.store(&format!("STOR all-{name}"), &bytes).await.code,
            226
        );
        let mut own = login(&gateway, "own").await;
        assert_eq!(
            own.store(&format!("STOR own-{name}"), &bytes).await.code,
            226
        );
        let key = format!("all-{name}");
        let wanted = some(["text/plain", "max-age=60, public", "STANDARD_IA", "gateway"]);
        assert_eq!(facts(&gateway, &key).await, wanted, "{name}");
        assert_eq!(tags(&gateway, &key).await, ["owner=ftp", "project=alpha"]);
        let key = format!("own-{name}");
        let wanted = some(["text/csv", "no-store", "GLACIER_IR", "erp"]);
        assert_eq!(facts(&gateway, &key).await, wanted, "{name}");
        assert_eq!(tags(&gateway, &key).await, ["owner=erp"]);
        assert_eq!(gateway.object(&key).await, Some(bytes));
    }
    gateway.stop().await;
}

#[tokio::test]
async fn an_upload_that_breaks_off_is_what_the_user_says_and_keeps_its_tags() {
    let entries = [
        "name: keeps",
        "name: discards, upload: {on_interrupt: discard}",
    ];
    let gateway = gateway(&entries, &[]).await;
    for (user, kept) in [("keeps", true), ("discards", false)] {
        let mut ftp = login(&gateway, user).await;
        let mut data = ftp.data().await;
        assert_eq!(ftp.command(&format!("STOR {user}")).await.code, 150);
        data.write_all(b"half").await.expect("writes");
        assert_eq!(ftp.command("ABOR").await.code, 426);
        assert_eq!(ftp.reply().await.code, 226);
        assert_eq!(gateway.object(user).await.is_some(), kept, "{user}");
    }
    let wanted = ["cosgate-outcome=kept", "owner=ftp", "project=alpha"];
    assert_eq!(tags(&gateway, "keeps").await, wanted);
    gateway.stop().await;
}

#[tokio::test]
async fn a_user_may_overwrite_where_others_may_not_and_the_other_way_round() {
    for (common, own) in [("false", "true"), ("true", "false")] {
        let entry = format!("name: own, upload: {{overwrite: {own}}}");
        let setting = format!("UPLOAD__OVERWRITE={common}");
        let right = "name: without, permissions: [write], upload: {overwrite: true}";
        let gateway = gateway(&["name: all", &entry, right], &[&setting]).await;
        for (user, may) in [("all", common), ("own", own), ("without", "false")] {
            gateway.put_object("f", b"old".to_vec()).await;
            let mut ftp = login(&gateway, user).await;
            let code = ftp.store("STOR f", b"new").await.code;
            assert_eq!(
                code,
                if may == "true" { 226 } else { 550 },
                "{common}, {user}"
            );
        }
        gateway.stop().await;
    }
}

#[tokio::test]
async fn names_that_are_refused_get_553_with_the_rule_in_uploads_and_renames() {
    let entries = [
        "name: all",
        "name: csv, upload: {allow_names: ['*.csv', '*.exe']}",
        "name: free, upload: {deny_names: ['*.tmp']}",
    ];
    let gateway = gateway(&entries, &[]).await;
    let mut all = login(&gateway, "all").await;
    for name in ["a.exe", "d/A.EXE", "x.Bat"] {
        for verb in ["STOR", "APPE"] {
            let reply = all.store(&format!("{verb} {name}"), b"x").await;
            assert!(
                reply.code == 553 && reply.text.contains("deny_names: *."),
                "{reply:?}"
            );
        }
    }
    assert_eq!(all.store("STOR a.txt", b"x").await.code, 226);
    assert_eq!(all.command("RNFR a.txt").await.code, 350);
    assert_eq!(all.command("RNTO a.exe").await.code, 553);
    assert_eq!(gateway.object("a.txt").await.as_deref(), Some(&b"x"[..]));
    assert_eq!(gateway.object("a.exe").await, None);
    // directories have any name, and what is there already can be read and deleted
    assert_eq!(all.command("MKD d.exe").await.code, 257);
    assert_eq!(all.command("RNFR d.exe").await.code, 350);
    assert_eq!(all.command("RNTO e.exe").await.code, 250);
    gateway.put_object("old.exe", b"old".to_vec()).await;
    assert_eq!(all.fetch("RETR old.exe").await.0, b"old");
    assert_eq!(all.command("DELE old.exe").await.code, 250);

    let mut csv = login(&gateway, "csv").await;
    let reply = csv.store("STOR b.xml", b"x").await;
    assert!(
        reply.code == 553 && reply.text.contains("allow_names"),
        "{reply:?}"
    );
    assert_eq!(csv.store("STOR b.CSV", b"x").await.code, 226);
    assert_eq!(
        csv.store("STOR b.exe", b"x").await.code,
        553,
        "denied for all"
    );
    let mut free = login(&gateway, "free").await;
    assert_eq!(
        free.store("STOR b.exe", b"x").await.code,
        226,
        "the own list holds"
    );
    assert_eq!(free.store("STOR b.tmp", b"x").await.code, 553);
    gateway.stop().await;
}

/// A user with a mount in the common bucket: `/m` with a place of its own and these keys.
fn with_mount(user: &str, mount: &str) -> String {
    format!("name: u, home: /home, {user}, mounts: [{{path: /m, home: /mount, {mount}}}]")
}

#[tokio::test]
async fn a_mounts_own_wins_over_the_users_and_the_users_over_what_holds_for_all() {
    let entry = with_mount(
        "upload: {cache_control: no-store, tags: [owner=erp], metadata: [source=erp], on_interrupt: discard}",
        "upload: {content_type: text/csv, tags: [owner=mount, kind=a/b], on_interrupt: hold, overwrite: false}",
    );
    let gateway = gateway(&[&entry], &[]).await;
    let mut ftp = login(&gateway, "u").await;
    for line in ["STOR f.txt", "STOR m/f.txt"] {
        assert_eq!(ftp.store(line, b"x").await.code, 226, "{line}");
    }
    let wanted = some(["text/plain", "no-store", "STANDARD_IA", "erp"]);
    assert_eq!(facts(&gateway, "home/f.txt").await, wanted);
    assert_eq!(tags(&gateway, "home/f.txt").await, ["owner=erp"]);
    let wanted = some(["text/csv", "no-store", "STANDARD_IA", "erp"]);
    assert_eq!(facts(&gateway, "mount/f.txt").await, wanted);
    let own = ["kind=a/b", "owner=mount"];
    assert_eq!(tags(&gateway, "mount/f.txt").await, own);
    // what continues or moves a file keeps what it has
    assert_eq!(ftp.store("APPE f.txt", b"y").await.code, 226);
    assert_eq!(ftp.command("RNFR f.txt").await.code, 350);
    assert_eq!(ftp.command("RNTO m/moved.txt").await.code, 250);
    assert_eq!(tags(&gateway, "mount/moved.txt").await, ["owner=erp"]);
    let kept = facts(&gateway, "mount/moved.txt").await;
    assert_eq!(kept, some(["text/plain", "no-store", "STANDARD_IA", "erp"]));
    // nothing is replaced in the mount, by whatever command
    for line in ["STOR m/f.txt", "APPE m/f.txt"] {
        assert_eq!(ftp.store(line, b"z").await.code, 550, "{line}");
    }
    assert_eq!(ftp.command("REST 1").await.code, 350);
    assert_eq!(ftp.store("STOR m/f.txt", b"z").await.code, 550);
    for from in ["m/moved.txt", "g"] {
        assert_eq!(ftp.store("STOR g", b"x").await.code, 226);
        assert_eq!(ftp.command(format!("RNFR {from}")).await.code, 350);
        assert_eq!(ftp.command("RNTO m/f.txt").await.code, 550, "{from}");
    }
    assert_eq!(
        gateway.object("mount/f.txt").await.as_deref(),
        Some(&b"x"[..])
    );

    let bytes = pattern(12 << 20);
    for (path, is_held) in [("large", false), ("m/large", true)] {
        let mut ftp = login(&gateway, "u").await;
        assert_eq!(
            cut(&mut ftp, &format!("STOR {path}"), &bytes).await.code,
            426
        );
        let mut ftp = login(&gateway, "u").await;
        assert_eq!(size(&mut ftp, path).await.is_some(), is_held, "{path}");
        if is_held {
            assert_eq!(go_on(&mut ftp, path, &bytes).await.code, 226);
            assert_eq!(tags(&gateway, "mount/large").await, own);
        }
    }
    assert!(gateway.object("mount/large").await == Some(bytes));
    gateway.stop().await;
}

#[tokio::test]
async fn no_command_and_no_way_into_a_mount_passes_its_rules() {
    let entry = with_mount(
        "max_file_size: 100, upload: {deny_names: ['*.tmp']}",
        "max_file_size: 1000, upload: {deny_names: ['*.exe', '*.bat'], allow_names: ['*.exe', '*.csv']}",
    );
    let gateway = gateway(&[&entry], &[]).await;
    let mut ftp = login(&gateway, "u").await;
    assert_eq!(ftp.command("CWD m").await.code, 250);
    let dots = "a%2Eexe";
    for name in [
        "a.exe",
        "A.eXe",
        "a.exe.",
        "a.exe ",
        "./d/../a.exe",
        "/m/b.BAT",
        "a.txt",
        dots,
    ] {
        for line in [format!("STOR {name}"), format!("APPE {name}")] {
            assert_eq!(ftp.store(&line, b"x").await.code, 553, "{line}");
        }
    }
    assert_eq!(ftp.store("STOU", b"x").await.code, 553);
    assert_eq!(ftp.store("STOR a.csv", &[0; 1000]).await.code, 226);
    // nor does a size, whether it is announced or not
    assert_eq!(ftp.store("STOR b.csv", &[0; 1001]).await.code, 552);
    assert_eq!(ftp.store("APPE a.csv", b"x").await.code, 552);
    assert_eq!(ftp.command("REST 999").await.code, 350);
    assert_eq!(ftp.store("STOR a.csv", b"xy").await.code, 552);
    assert_eq!(ftp.command("ALLO 1001").await.code, 200);
    let mut data = ftp.data().await;
    let refused = match ftp.command("STOR b.csv").await.code {
        // before or after the data connection
        150 => {
            data.write_all(&[0; 1001]).await.expect("taken");
            drop(data);
            ftp.reply().await.code
        }
        code => code,
    };
    assert_eq!(refused, 552);
    assert_eq!(gateway.object("mount/b.csv").await, None);
    let size = gateway.object("mount/a.csv").await.map(|bytes| bytes.len());
    assert_eq!(size, Some(1000));

    // renames into the mount: of a file, and of a directory with one
    assert_eq!(ftp.command("CWD /").await.code, 250);
    for (name, size) in [
        ("d/a.exe", 1),
        ("e/deep/er/a.txt", 1),
        ("ok/a.csv", 1),
        ("large.csv", 2000),
    ] {
        gateway
            .put_object(&format!("home/{name}"), vec![0; size])
            .await;
    }
    for (from, to, code) in [
        ("d/a.exe", "m/a.exe", 553),
        ("d/a.exe", "m/a.csv.", 553),
        ("ok/a.csv", "m/a.exe", 553),
        ("d", "m/d", 553),
        ("e", "m/e", 553),
        ("large.csv", "m/large.csv", 552),
        ("ok", "m/ok", 250),
        ("m/a.csv", "a.tmp", 553),
        // larger than the home takes
        ("m/a.csv", "a.csv", 552),
        ("d", "d2", 250),
    ] {
        assert_eq!(
            ftp.command(format!("RNFR {from}")).await.code,
            350,
            "{from}"
        );
        let reply = ftp.command(format!("RNTO {to}")).await;
        assert_eq!(reply.code, code, "{from} to {to}: {reply:?}");
    }
    assert_eq!(
        gateway.keys().await,
        [
            "home/d2/a.exe",
            "home/e/deep/er/a.txt",
            "home/large.csv",
            "mount/a.csv",
            "mount/ok/a.csv"
        ]
    );
    gateway.stop().await;
}

#[test]
fn faults_name_key_value_and_remedy() {
    let load =
        |key: &str, value: &str| load_from(None, [(format!("COSGATE_{key}"), value.to_owned())]);
    let own = |upload: &str| users(&[&format!("name: u, upload: {{{upload}}}")]);
    let ten: Vec<String> = (0..10).map(|n| format!("t{n}=v")).collect();
    let long = format!("a={}, b={}", "x".repeat(255), "y".repeat(255));
    let long = format!("{long}, c={}, dd={}", "x".repeat(255), "y".repeat(255));
    let wide = format!("a={}", "标".repeat(230));
    for (key, value, words) in [
        (
            "UPLOAD__TAGS",
            "alpha",
            &[
                "upload.tags = alpha (from COSGATE_UPLOAD__TAGS)",
                "name=value",
            ][..],
        ),
        (
            "UPLOAD__TAGS",
            "a=1, a=2",
            &["upload.tags", "a is there twice"],
        ),
        (
            "UPLOAD__TAGS",
            "cosgate-outcome=kept",
            &["upload.tags", "taken"],
        ),
        (
            "UPLOAD__TAGS",
            "a=<>",
            &["upload.tags = a=<>", "letters, digits"],
        ),
        (
            "UPLOAD__TAGS",
            &ten.join(","),
            &["upload.tags", "up to nine"],
        ),
        (
            "UPLOAD__METADATA",
            "mtime=1",
            &["upload.metadata = mtime=1", "choose another"],
        ),
        (
            "UPLOAD__METADATA",
            "näme=1",
            &["upload.metadata", "letters, digits"],
        ),
        (
            "UPLOAD__METADATA",
            &long,
            &["upload.metadata", "1,024 bytes"],
        ),
        (
            "UPLOAD__CONTENT_TYPE",
            "csv",
            &["upload.content_type = csv", "text/csv"],
        ),
        (
            "UPLOAD__CACHE_CONTROL",
            "a\nb",
            &["upload.cache_control", "header"],
        ),
        (
            "UPLOAD__DENY_NAMES",
            "d/*.exe",
            &["upload.deny_names = d/*.exe", "no /"],
        ),
        (
            "USERS",
            &own("tags: [a]"),
            &["users[0].upload.tags = a", "name=value"],
        ),
        (
            "USERS",
            &own("metadata: [a=1, A=2]"),
            &["users[0].upload.metadata", "a is there twice"],
        ),
        (
            "USERS",
            &own("on_interrupt: drop"),
            &["users[0].upload.on_interrupt = drop", "discard"],
        ),
        (
            "USERS",
            &own("allow_names: []"),
            &["users[0].upload.allow_names", "empty"],
        ),
        (
            "USERS",
            &own("max_file_size: 1MiB"),
            &["users[0].upload.max_file_size", "did you mean"],
        ),
        (
            "USERS",
            &users(&[&with_mount(
                "max_file_size: 1",
                "upload: {tags: [a=1, a=2], on_interrupt: drop}",
            )]),
            &[
                "users[0].mounts[0].upload.tags",
                "a is there twice",
                "users[0].mounts[0].upload.on_interrupt = drop",
            ],
        ),
        ("UPLOAD__TAGS", "a=", &["upload.tags = a=", "1 to 255"]),
        ("UPLOAD__TAGS", &wide, &["upload.tags", "2,048 bytes"]),
    ] {
        let error = load(key, value).expect_err(value).to_string();
        for word in words {
            assert!(error.contains(word), "no {word:?} in {error}");
        }
    }
    let list = own("tags: [a=1, b=2], overwrite: false, deny_names: '*.exe'");
    let shown = load("USERS", &list).expect("valid").describe();
    for line in [
        "users[0].upload.tags = a=1, b=2",
        "users[0].upload.overwrite = false",
        "users[0].upload.deny_names = *.exe",
    ] {
        assert!(shown.contains(line), "no {line:?} in {shown}");
    }
}
