//! `cosgate init`: a first configuration with a comment for each thing that is likely to be changed.
//!
//! Invariant: the text passes `check-config`, with the keys of the store in the environment where it needs any.

use std::fmt::Write as _;

use secrecy::{ExposeSecret as _, SecretString};

use super::yaml_text::scalar;
use super::{Provider, bucket_name, masquerade_address, parse, region_name};

/// The purpose of the configuration.
#[derive(Debug)]
pub struct Wishes {
    /// The kind of store.
    pub provider: Provider,
    /// None: an example stands there, to be replaced. The embedded store needs none.
    pub bucket: Option<String>,
    /// None: as with the bucket.
    pub region: Option<String>,
    /// URL of an S3-compatible store; none for Amazon's and Tencent's own.
    pub endpoint: Option<String>,
    /// The address for clients, if that is not this host's own address.
    pub masquerade_address: Option<String>,
    /// Names and hashed passwords.
    pub users: Vec<(String, SecretString)>,
}

/// A configuration, and what is still to be done with it.
#[derive(Debug)]
pub struct Draft {
    /// The YAML file. It holds hashes of passwords, and no keys of the store.
    pub text: String,
    /// Keys whose values are examples.
    pub examples: Vec<&'static str>,
}

/// Checks `wishes` by the rules of the configuration; the error says what to write instead.
pub fn check(wishes: &Wishes) -> Result<(), String> {
    let of = |option: &str, checked: Result<(), String>| {
        checked.map_err(|advice| format!("--{option}: {advice}"))
    };
    if let Some(bucket) = &wishes.bucket {
        of(
            "bucket",
            bucket_name(bucket, Some(wishes.provider)).map(drop),
        )?;
    }
    if let Some(region) = &wishes.region {
        of("region", region_name(region).map(drop))?;
    }
    if let Some(endpoint) = &wishes.endpoint {
        of(
            "endpoint",
            super::endpoint::Endpoint::parse(endpoint).map(drop),
        )?;
    }
    if let Some(address) = &wishes.masquerade_address {
        of("masquerade-address", masquerade_address(address).map(drop))?;
    }
    for (index, (name, _)) in wishes.users.iter().enumerate() {
        let is_again = wishes.users[..index].iter().any(|(other, _)| other == name);
        let checked = match is_again {
            true => Err(format!("{name} stands there twice")),
            false => parse::segments(name).and_then(|segments| {
                match segments.len() == 1 && name.len() <= 128 {
                    true => Ok(()),
                    false => Err("a name has 1 to 128 bytes and no slash".to_owned()),
                }
            }),
        };
        of("user", checked)?;
    }
    Ok(())
}

/// Writes the configuration.
pub fn draft(wishes: &Wishes) -> Draft {
    let mut examples = Vec::new();
    let mut text = HEAD.to_owned();
    text += match &wishes.masquerade_address {
        Some(address) => format!("masquerade_address: {}\n", scalar(address)),
        None => "# masquerade_address: 203.0.113.7\n".to_owned(),
    }
    .as_str();
    text += NETWORK;
    text += "\nstorage:\n";
    let mut set = |text: &mut String, key: &'static str, given: &Option<String>, example: &str| {
        let (_, name) = key.split_once('.').unwrap_or(("", key));
        // Writing to a String cannot fail.
        let _ = match given {
            Some(value) => writeln!(text, "  {name}: {}", scalar(value)),
            None => {
                examples.push(key);
                writeln!(text, "  {name}: {example}    # an example: write your own")
            }
        };
    };
    match wishes.provider {
        Provider::Embedded => {
            text += EMBEDDED;
            if let Some(bucket) = &wishes.bucket {
                set(&mut text, "storage.bucket", &Some(bucket.clone()), "");
            }
        }
        Provider::Cos => {
            text += "  provider: cos\n  # name-APPID, as the console shows it\n";
            set(
                &mut text,
                "storage.bucket",
                &wishes.bucket,
                "files-1250000000",
            );
            set(&mut text, "storage.region", &wishes.region, "ap-guangzhou");
            if wishes.endpoint.is_some() {
                set(&mut text, "storage.endpoint", &wishes.endpoint, "");
            }
            text += COS_KEYS;
        }
        Provider::S3 => {
            text += "  provider: s3\n";
            set(&mut text, "storage.bucket", &wishes.bucket, "files");
            set(&mut text, "storage.region", &wishes.region, "us-east-1");
            match &wishes.endpoint {
                Some(_) => set(&mut text, "storage.endpoint", &wishes.endpoint, ""),
                None => {
                    text +=
                        "  # a store that is not Amazon's\n  # endpoint: https://s3.example.com\n"
                }
            }
            text += S3_KEYS;
        }
    }
    text += USERS;
    for (name, hash) in &wishes.users {
        let home = scalar(&format!("/{name}"));
        let (name, hash) = (scalar(name), hash.expose_secret());
        let _ = write!(
            text,
            "  - name: {name}\n    password_hash: '{hash}'\n    home: {home}\n    permissions: RW\n"
        );
    }
    text += DROP_BOX;
    Draft { text, examples }
}

const HEAD: &str = "\
# Made by `cosgate init`. `cosgate check-config` prints all keys with what holds now.

# The control port. Clients must reach it and all passive ports: open both in firewalls and security groups.
listen: 0.0.0.0:2121

# What clients connect to (IPv4 address or DNS name), where NAT, a load balancer or a container's port mapping stands between
# them and this host: they are told to connect there for data.
";

const NETWORK: &str = "
passive:
  # one port per transfer at a time
  ports: 30000-30015

tls:
  # FTPS with a certificate that is made at each start: clients can't verify it. For production your own, in its place:
  self_signed: true
  # cert: /etc/cosgate/tls.crt
  # key: /etc/cosgate/tls.key
  # what clients must protect: none, control (passwords) or all
  required: none
";

const EMBEDDED: &str = "  # the embedded store, for trials: files are below data_dir\n  provider: embedded\n  data_dir: ./cosgate-data\n";

const COS_KEYS: &str = "\
  # Keys stay out of this file: COSGATE_STORAGE__ACCESS_KEY_ID (SecretId) and COSGATE_STORAGE__SECRET_ACCESS_KEY (SecretKey)
  # in the environment, or in files that ..._FILE variables name. Without any: `cvm` (role of the CVM), `tke` (pod identity).
  # credentials: cvm
";

const S3_KEYS: &str = "\
  # Keys stay out of this file: COSGATE_STORAGE__ACCESS_KEY_ID and COSGATE_STORAGE__SECRET_ACCESS_KEY in the environment, or
  # in files that ..._FILE variables name. Without them AWS's chain holds: AWS_... variables, profile, role.
";

const USERS: &str = "
# Each user sees its home in the bucket and nothing above it. `cosgate init` has shown the passwords; for another one:
# cosgate hash-password
users:
";

const DROP_BOX: &str = "\
  # a drop box, which stores new files and sees nothing:
  # - name: camera
  #   password_hash: '$argon2id$...'
  #   home: /camera
  #   permissions: [write]
";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::HASH_FOR_TESTS as HASH;
    use crate::config::load_from;

    fn wishes(provider: Provider, users: &[&str]) -> Wishes {
        Wishes {
            provider,
            bucket: None,
            region: None,
            endpoint: None,
            masquerade_address: None,
            users: users
                .iter()
                .map(|name| ((*name).to_owned(), HASH.into()))
                .collect(),
        }
    }

    /// The verdict of `check-config` on the text.
    fn loaded(text: &str) -> crate::config::Config {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("cosgate.yaml");
        std::fs::write(&path, text).expect("writes");
        let env = ["ACCESS_KEY_ID", "SECRET_ACCESS_KEY"]
            .map(|name| (format!("COSGATE_STORAGE__{name}"), "0".to_owned()));
        load_from(Some(&path), env)
            .unwrap_or_else(|error| panic!("{error}\n{text}"))
            .config
    }

    #[test]
    fn names_of_users_stay_as_they_are_whatever_they_are_made_of() {
        let names = [
            "alice",
            "true",
            "0123",
            "it's",
            "a: b #c",
            "\u{5f20}\u{4e09}",
            "\"\\",
        ];
        for provider in [Provider::Cos, Provider::S3, Provider::Embedded] {
            let wishes = wishes(provider, &names);
            check(&wishes).expect("sound");
            let config = loaded(&draft(&wishes).text);
            assert_eq!(config.storage.provider, provider);
            let found: Vec<_> = config.users.iter().map(|user| user.name.as_str()).collect();
            assert_eq!(found, names);
            for user in &config.users {
                let home = user.home.as_str().trim_matches('/').to_owned();
                assert_eq!(home, user.name);
            }
        }
    }

    #[test]
    fn what_is_given_is_no_example() {
        let mut wishes = wishes(Provider::S3, &["alice"]);
        assert_eq!(
            draft(&wishes).examples,
            ["storage.bucket", "storage.region"]
        );
        wishes.bucket = Some("mine".to_owned());
        wishes.region = Some("eu-1".to_owned());
        wishes.endpoint = Some("https://s3.example.com".to_owned());
        wishes.masquerade_address = Some("ftp.example.com".to_owned());
        check(&wishes).expect("sound");
        let draft = draft(&wishes);
        assert!(draft.examples.is_empty());
        let config = loaded(&draft.text);
        assert_eq!(config.storage.bucket, "mine");
        assert_eq!(config.storage.region, "eu-1");
        assert_eq!(
            config.storage.endpoint.as_deref(),
            Some("https://s3.example.com")
        );
        assert!(config.masquerade.address.is_some());
    }

    #[test]
    fn what_check_config_would_refuse_is_refused_with_its_option() {
        type Change = fn(&mut Wishes);
        let cases: [(&str, Change); 6] = [
            ("--bucket", |it| it.bucket = Some("files".to_owned())),
            ("--region", |it| it.region = Some("a b".to_owned())),
            ("--endpoint", |it| it.endpoint = Some("nowhere".to_owned())),
            ("--masquerade-address", |it| {
                it.masquerade_address = Some("::1".to_owned())
            }),
            ("--user", |it| it.users[0].0 = "a/b".to_owned()),
            ("--user", |it| it.users[1].0 = "a".to_owned()),
        ];
        for (option, change) in cases {
            let mut wishes = wishes(Provider::Cos, &["a", "b"]);
            change(&mut wishes);
            let error = check(&wishes).expect_err("wrong");
            assert!(error.starts_with(option), "{error}");
        }
    }
}
