//! Configurations of vsftpd, ProFTPD and Pure-FTPd, as administrators write them.

use std::time::Duration;

use super::*;
use crate::config::TlsRequired;

const VSFTPD: &str = "\
# our own\r
listen=YES
listen_port=2100
anonymous_enable=NO
local_enable=YES
write_enable=YES
chroot_local_user=YES
user_sub_token=$USER
local_root=/srv/ftp/$USER
ftpd_banner=Files of ours
pasv_enable=YES
pasv_min_port=40000
pasv_max_port=40020
pasv_address=ftp.example.com
idle_session_timeout=450
data_connection_timeout=90
max_clients=0
max_per_ip=7
xferlog_enable=YES
secret_key=hunter2
";

const PROFTPD: &str = "\
Include /etc/proftpd/modules.conf
ServerName \"Ours\"
<IfModule mod_ident.c>
  IdentLookups off
</IfModule>
<Global>
  UseIPv6 off
  TimeoutIdle 900
</Global>
Port 2100
PassivePorts 40000 40020
MasqueradeAddress 203.0.113.7
ServerIdent on \"Files of ours\"
MaxInstances 30
MaxClients 20 \"too many\"
DefaultRoot ~
AuthUserFile /etc/proftpd/ftpd.passwd
AllowOverwrite on
TimeoutStalled 90
<Anonymous ~ftp>
  User ftp
  <Limit WRITE>
    DenyAll
  </Limit>
</Anonymous>
SQLConnectInfo ftp@localhost ftp hunter2
";

const PURE_FTPD: &str = "\
# ours
ChrootEveryone               yes
NoAnonymous                  yes
Bind                         ,2100
IPV4Only                     yes
PassivePortRange             40000 40020
ForcePassiveIP               203.0.113.7
MaxClientsNumber             50
MaxClientsPerIP              8
MaxIdleTime                  10
KeepAllFiles                 yes
PureDB                       /etc/pureftpd.pdb
Umask                        133:022
";

fn with_users(text: &str, users: &str, format: Format) -> Imported {
    let users = Text::utf8(users);
    convert(
        &Text::utf8(text),
        Some(&users),
        format,
        "cosgate",
        &fake_hash,
    )
    .expect("sound")
}

fn taken(text: &str) -> Config {
    load(Format::Yaml, &good(text)).expect("taken")
}

#[test]
fn each_server_is_recognised_and_its_network_is_the_same() {
    for (text, program) in [
        (VSFTPD, "vsftpd"),
        (PROFTPD, "ProFTPD"),
        (PURE_FTPD, "Pure-FTPd"),
    ] {
        for format in [Format::Yaml, Format::Env, Format::HelmValues] {
            let imported = convert_as(text, format).expect("sound");
            assert!(
                imported
                    .values
                    .contains(&format!("configuration of {program}.")),
                "{}",
                imported.values
            );
            assert!(!imported.values.contains("hunter2"));
            assert!(!imported.warnings.join("\n").contains("hunter2"));
            if format != Format::HelmValues {
                load(format, &imported).expect("taken");
            }
        }
        let config = taken(text);
        assert_eq!(config.listen, ["0.0.0.0:2100".parse().expect("an address")]);
        assert_eq!(config.passive.ports, 40000..=40020);
        assert!(config.masquerade.address.is_some(), "{program}");
        assert_eq!(config.storage.provider, Provider::Embedded);
        let said = good(text).warnings.join("\n");
        assert!(said.contains("names no store"), "{said}");
        assert!(said.contains("--users FILE"), "{said}");
        assert!(
            said.contains("without counterpart, and left out: "),
            "{said}"
        );
    }
}

#[test]
fn times_and_limits_carry_over() {
    let vsftpd = taken(VSFTPD);
    assert_eq!(vsftpd.sessions.idle_timeout, Duration::from_secs(450));
    assert_eq!(vsftpd.upload.stall_timeout, Duration::from_secs(90));
    assert_eq!((vsftpd.sessions.max, vsftpd.sessions.max_per_ip), (1000, 7));
    assert_eq!(vsftpd.greeting, "Files of ours");
    let proftpd = taken(PROFTPD);
    assert_eq!(proftpd.sessions.idle_timeout, Duration::from_secs(900));
    assert_eq!(proftpd.download.stall_timeout, Duration::from_secs(90));
    assert_eq!(proftpd.sessions.max, 20);
    assert_eq!(proftpd.greeting, "Files of ours");
    let pure = taken(PURE_FTPD);
    assert_eq!(pure.sessions.idle_timeout, Duration::from_secs(600));
    assert_eq!((pure.sessions.max, pure.sessions.max_per_ip), (50, 8));
}

#[test]
fn users_keep_their_passwords_and_get_their_directories() {
    let passwd = format!(
        "alice:{HASH}:1000:1000::/home/ftp/alice:/bin/false\nbob:{HASH}:1001:1001::/home/ftp/x/bob/./:/bin/false\nroot:!::::/root:/bin/sh\n"
    );
    for (text, homes, rights) in [
        (VSFTPD, ["/alice", "/bob"], "RW"),
        (PROFTPD, ["/alice", "/x/bob"], "RW"),
        (PURE_FTPD, ["/alice", "/x/bob"], "read,list,write"),
    ] {
        for format in [Format::Yaml, Format::Env, Format::HelmValues] {
            let imported = with_users(text, &passwd, format);
            assert!(!imported.values.contains(HASH));
            let config = load(format, &imported).expect("taken");
            let users = match config.users_file {
                Some(file) => file.users,
                None => config.users,
            };
            let found: Vec<_> = users.iter().map(|user| user.home.as_str()).collect();
            assert_eq!(found, homes);
            for user in &users {
                let list: Vec<String> = rights.split(',').map(str::to_owned).collect();
                let shown = user.permissions.to_string().replace(' ', "");
                assert!(
                    list.iter().all(|right| shown.contains(right.as_str())),
                    "{shown}"
                );
            }
            let said = imported.warnings.join("\n");
            assert!(said.contains("left out: root"), "{said}");
        }
    }
    let shared = VSFTPD.replace("/srv/ftp/$USER", "/srv/ftp/");
    let config = load(Format::Yaml, &with_users(&shared, &passwd, Format::Yaml)).expect("taken");
    assert!(config.users.iter().all(|user| user.home.as_str() == "/"));
    let read_only = VSFTPD.replace("write_enable=YES", "write_enable=NO");
    let config = load(Format::Yaml, &with_users(&read_only, &passwd, Format::Yaml));
    assert_eq!(config.expect("taken").users[0].permissions.to_string(), "R");
}

#[test]
fn certificates_and_what_must_be_protected_carry_over() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("signs");
    let path = |name: &str| directory.path().join(name).display().to_string();
    let (cert, key, both) = (path("a.crt"), path("a.key"), path("both.pem"));
    std::fs::write(&cert, made.cert.pem()).expect("writes");
    std::fs::write(&key, made.signing_key.serialize_pem()).expect("writes");
    let text = format!("{}{}", made.cert.pem(), made.signing_key.serialize_pem());
    std::fs::write(&both, text).expect("writes");
    for (text, more, required) in [
        (
            VSFTPD,
            format!("ssl_enable=YES\nrsa_cert_file={cert}\nrsa_private_key_file={key}\n"),
            TlsRequired::All,
        ),
        (
            VSFTPD,
            format!("ssl_enable=YES\nrsa_cert_file={both}\nforce_local_data_ssl=NO\n"),
            TlsRequired::Control,
        ),
        (
            VSFTPD,
            format!(
                "ssl_enable=YES\nrsa_cert_file={both}\nforce_local_data_ssl=NO\nforce_local_logins_ssl=NO\n"
            ),
            TlsRequired::None,
        ),
        (
            PROFTPD,
            format!(
                "TLSEngine on\nTLSRSACertificateFile {cert}\nTLSRSACertificateKeyFile {key}\nTLSRequired ctrl\n"
            ),
            TlsRequired::Control,
        ),
        (
            PROFTPD,
            format!("TLSEngine on\nTLSECCertificateFile {both}\nTLSRequired on\n"),
            TlsRequired::All,
        ),
        (
            PURE_FTPD,
            format!("TLS 1\nCertFileAndKey \"{cert}\" \"{key}\"\n"),
            TlsRequired::None,
        ),
        (
            PURE_FTPD,
            format!("TLS 2\nCertFile {both}\n"),
            TlsRequired::Control,
        ),
    ] {
        let config = taken(&format!("{text}{more}"));
        assert_eq!(
            config.tls.expect("a certificate").required,
            required,
            "{more}"
        );
    }
    let implicit = format!("{VSFTPD}ssl_enable=YES\nimplicit_ssl=YES\nrsa_cert_file={both}\n");
    let implicit = implicit.replace("listen_port=2100", "listen_port=990");
    let config = taken(&implicit);
    assert_eq!(config.listen[0].port(), 2121);
    assert_eq!(
        config.tls.expect("a certificate").implicit_listen[0].port(),
        990
    );
    // a certificate that is not used there is not asked for here
    assert!(
        taken(&format!("{VSFTPD}ssl_enable=NO\nrsa_cert_file=/nowhere\n"))
            .tls
            .is_none()
    );
}

#[test]
fn what_does_not_carry_over_is_said_with_its_line() {
    for (text, said) in [
        (VSFTPD, "xferlog_enable (line 19), secret_key (line 20)"),
        (
            PROFTPD,
            "the block <Anonymous ~ftp> in line 20 is about a part",
        ),
        (
            PROFTPD,
            "Include /etc/proftpd/modules.conf: these files were not read",
        ),
        (PROFTPD, "IdentLookups (line 4)"),
        (PURE_FTPD, "Umask (line 13)"),
    ] {
        let warnings = good(text).warnings.join("\n");
        assert!(warnings.contains(said), "no {said:?} in\n{warnings}");
    }
    for (text, said) in [
        (VSFTPD, "anonymous_enable=YES: not carried over"),
        (VSFTPD, "users could leave their home there"),
    ] {
        let text = text.replace("anonymous_enable=NO", "anonymous_enable=YES");
        let text = text.replace("chroot_local_user=YES\n", "");
        let warnings = good(&text).warnings.join("\n");
        assert!(warnings.contains(said), "no {said:?} in\n{warnings}");
    }
}

#[test]
fn mistakes_of_each_server_are_named_with_their_lines() {
    for (text, was, is, said) in [
        (
            VSFTPD,
            "listen_port=2100",
            "listen_port=x",
            "line 3: listen_port = x: write a port",
        ),
        (
            VSFTPD,
            "write_enable=YES",
            "write_enable=maybe",
            "line 6: write_enable = maybe: write yes or no",
        ),
        (
            VSFTPD,
            "xferlog_enable=YES",
            "xferlog",
            "line 19: line: this is not key=value",
        ),
        (VSFTPD, "ftp.example.com", "::1", "pasv_address = ::1"),
        (
            PROFTPD,
            "Port 2100",
            "Port 0",
            "line 10: Port = 0: write a port",
        ),
        (
            PROFTPD,
            "40000 40020",
            "40020 40000",
            "PassivePorts = 40020 40000: the range is the wrong way round",
        ),
        (
            PROFTPD,
            "</Global>",
            "</Anonymous>",
            "line 9: </Anonymous>: this ends a block that has not begun",
        ),
        (
            PROFTPD,
            "</Anonymous>",
            "",
            "<Anonymous>: this block does not end",
        ),
        (PURE_FTPD, ",2100", ",x", "line 4: Bind = ,x: write a port"),
    ] {
        let error = convert_as(&text.replace(was, is), Format::Yaml);
        let error = error.expect_err(said).to_string();
        assert!(error.contains(said), "no {said:?} in\n{error}");
    }
    let users = Text::utf8("nonsense\n");
    let error = convert(
        &Text::utf8(VSFTPD),
        Some(&users),
        Format::Yaml,
        "cosgate",
        &fake_hash,
    );
    let error = error.expect_err("no user").to_string();
    assert!(
        error.contains("line 1: --users: user: this is not name:hash"),
        "{error}"
    );
    let error = convert(
        &Text::utf8(SAMPLE),
        Some(&users),
        Format::Yaml,
        "cosgate",
        &fake_hash,
    );
    assert!(
        error
            .expect_err("two places")
            .to_string()
            .contains("leave this out")
    );
}

#[test]
fn ports_that_collide_are_moved() {
    for (text, ports) in [
        (VSFTPD.replace("2100", "8080"), 40000..=40020),
        (VSFTPD.replace("2100", "40010"), 30000..=30047),
        (VSFTPD.replace("pasv_min_port=40000\n", ""), 30000..=30047),
        (
            VSFTPD.replace("pasv_min_port=40000\npasv_max_port=40020\n", ""),
            30000..=30047,
        ),
        (PURE_FTPD.replace("40000 40020", "8070 8090"), 30000..=30047),
    ] {
        assert_eq!(taken(&text).passive.ports, ports, "{text}");
    }
}
