//! `cosgate init` on the command line: writes a first configuration and says what comes next.

use std::fs::OpenOptions;
use std::io::{self, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use secrecy::{ExposeSecret as _, SecretString};

use super::failure::Failure;
use crate::auth::{hash_password, random_password};
use crate::config::init::{self, Draft, Wishes};
use crate::config::{Provider, printable};

#[derive(Debug, Args)]
pub(super) struct Init {
    /// The kind of store (default: asked for on a terminal, else embedded)
    #[arg(value_enum)]
    store: Option<StoreKind>,
    /// The bucket
    #[arg(long, value_name = "NAME")]
    bucket: Option<String>,
    /// The bucket's region, such as ap-guangzhou
    #[arg(long, value_name = "NAME")]
    region: Option<String>,
    /// URL of a store that is neither Amazon's nor Tencent's own
    #[arg(long, value_name = "URL")]
    endpoint: Option<String>,
    /// The address for clients, if not this host's own address: IPv4 address or DNS name
    #[arg(long, value_name = "ADDRESS")]
    masquerade_address: Option<String>,
    /// A user, with a random password that is shown once; may be repeated
    #[arg(long = "user", value_name = "NAME", default_value = "alice")]
    users: Vec<String>,
    /// Where the configuration goes; - is standard output
    #[arg(long, value_name = "FILE", default_value = "cosgate.yaml")]
    out: PathBuf,
    /// Overwrite the file
    #[arg(long)]
    force: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum StoreKind {
    /// Tencent Cloud COS
    Cos,
    /// Amazon S3 and compatible stores
    S3,
    /// The embedded store, for trials
    Embedded,
}

/// Writes the configuration, and what comes next: to standard output, or to standard error where that has the configuration.
pub(super) fn run(mut wanted: Init) -> Result<(), Failure> {
    let provider = ask_for_what_is_missing(&mut wanted)?;
    let mut passwords = Vec::new();
    let mut users = Vec::new();
    for name in &wanted.users {
        let password = random_password()?;
        users.push((name.clone(), hash_password(&password)?));
        passwords.push((name.as_str(), password));
    }
    let wishes = Wishes {
        provider,
        bucket: wanted.bucket.clone(),
        region: wanted.region.clone(),
        endpoint: wanted.endpoint.clone(),
        masquerade_address: wanted.masquerade_address.clone(),
        users,
    };
    init::check(&wishes).map_err(Failure::Init)?;
    let draft = init::draft(&wishes);
    if wanted.out.as_os_str() == "-" {
        print!("{}", draft.text);
        eprint!("{}", next(&draft, provider, Path::new("FILE"), &passwords));
    } else {
        write(&wanted.out, &draft.text, wanted.force)?;
        print!("{}", next(&draft, provider, &wanted.out, &passwords));
    }
    Ok(())
}

/// The kind of store; where a person sits at a terminal, it and its bucket are asked for if they are not given.
fn ask_for_what_is_missing(wanted: &mut Init) -> io::Result<Provider> {
    let may_ask = io::stdin().is_terminal() && io::stderr().is_terminal();
    let store = match wanted.store {
        Some(store) => store,
        None if may_ask => loop {
            let answer = ask("Store: cos, s3 or embedded", "embedded")?;
            match StoreKind::from_str(&answer, true) {
                Ok(store) => break store,
                Err(_) => eprintln!("Write one of the three words."),
            }
        },
        None => StoreKind::Embedded,
    };
    let provider = match store {
        StoreKind::Cos => Provider::Cos,
        StoreKind::S3 => Provider::S3,
        StoreKind::Embedded => Provider::Embedded,
    };
    if may_ask && provider != Provider::Embedded {
        for (given, question) in [
            (&mut wanted.bucket, "Bucket"),
            (&mut wanted.region, "Region"),
        ] {
            if given.is_none() {
                *given = Some(ask(question, "")?).filter(|answer| !answer.is_empty());
            }
        }
    }
    Ok(provider)
}

/// A line from the terminal; an empty one is `default`.
fn ask(question: &str, default: &str) -> io::Result<String> {
    match default {
        "" => eprint!("{question}: "),
        _ => eprint!("{question} [{default}]: "),
    }
    let mut line = String::new();
    if io::stdin().read_line(&mut line)? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let answer = line.trim();
    Ok(if answer.is_empty() { default } else { answer }.to_owned())
}

/// Others may read it: a container's user has to, and it holds hashes of random passwords only.
fn write(path: &Path, text: &str, force: bool) -> Result<(), Failure> {
    let mut options = OpenOptions::new();
    match force {
        true => options.write(true).create(true).truncate(true),
        false => options.write(true).create_new(true),
    };
    let written = options
        .open(path)
        .and_then(|mut file| file.write_all(text.as_bytes()));
    written.map_err(|error| {
        let path = printable(&path.display().to_string());
        Failure::Written(match error.kind() {
            io::ErrorKind::AlreadyExists => format!(
                "{path}: exists already; name another file with --out, or overwrite it with --force"
            ),
            _ => format!("{path}: cannot be written: {error}"),
        })
    })
}

/// The next steps, with the passwords.
fn next(
    draft: &Draft,
    provider: Provider,
    path: &Path,
    passwords: &[(&str, SecretString)],
) -> String {
    let file = printable(&path.display().to_string());
    let mut text = format!(
        "{file} holds a configuration with these users; passwords are shown this once:\n\n"
    );
    for (name, password) in passwords {
        text += &format!(
            "  user {}, password {}\n",
            printable(name),
            password.expose_secret()
        );
    }
    text += "\n";
    if !draft.examples.is_empty() {
        text += &format!(
            "Write your own in the place of the examples: {}\n\n",
            draft.examples.join(", ")
        );
    }
    if matches!(provider, Provider::Cos | Provider::S3) {
        text +=
            "  export COSGATE_STORAGE__ACCESS_KEY_ID=... COSGATE_STORAGE__SECRET_ACCESS_KEY=...\n";
    }
    text += &format!("  cosgate check-config --config {file}\n");
    text += &format!(
        "  cosgate doctor --config {file}        tries the store, and what stands in the way\n"
    );
    text += &format!("  cosgate serve --config {file}\n");
    if let Some((name, password)) = passwords.first() {
        let name = percent_encoding::utf8_percent_encode(name, percent_encoding::NON_ALPHANUMERIC);
        text += &format!(
            "  curl --ssl-reqd --insecure -T FILE ftp://{name}:{}@127.0.0.1:2121/\n",
            password.expose_secret()
        );
    }
    text
}
