//! Password hashes: which are accepted, what each may cost, and the check of a password against one.
//!
//! New hashes are argon2id (RFC 9106). bcrypt and SHA-512 crypt are accepted, so that users of other servers can move
//! without a new password. Invariant: no accepted hash asks for more than [`MAX_MEMORY_KIB`] of memory or much more than a
//! second of one core, so that nobody who may write users can stop the logins of all others by one of them.

use std::fmt;

use argon2::password_hash::rand_core::OsRng;
use argon2::password_hash::{PasswordHash as Phc, PasswordHasher, SaltString};
use argon2::{Algorithm, Argon2, Block, Params, Version};
use secrecy::{ExposeSecret, SecretString};
use sha_crypt::{PasswordVerifier as _, ShaCrypt};
use subtle::ConstantTimeEq;

/// A hash that passwords are checked against; it shows itself to nobody.
#[derive(Clone)]
pub struct PasswordHash {
    scheme: Scheme,
    /// Its kind and cost in words; equal words, equal cost.
    cost: String,
    /// About how long a check takes, in microseconds.
    work: u64,
}

#[derive(Clone)]
enum Scheme {
    Argon2id {
        version: Version,
        params: Params,
        salt: Vec<u8>,
        output: Vec<u8>,
    },
    Bcrypt(SecretString),
    Sha512Crypt {
        hash: SecretString,
        longest_password: usize,
    },
}

/// The memory of one checking thread, kept from check to check.
///
/// A fresh allocation for each check would leave its 19 MiB in the allocator's arenas again and again: 20 logins grew the
/// process by 250 MiB.
#[derive(Default)]
pub struct Scratch(Vec<Block>);

/// A password could not be hashed, or no random bytes could be had.
#[derive(Debug, thiserror::Error)]
#[error("a password could not be hashed: {0}")]
pub struct HashError(String);

/// The most memory that an argon2id hash may ask for, in KiB: what RFC 9106, section 4, recommends where memory is
/// scarce, and OWASP's choices are below it. Each checking thread keeps so much.
pub const MAX_MEMORY_KIB: u32 = 64 * 1024;

/// The most that an argon2id hash may ask for in all passes, in KiB: four passes over the most memory, about half a second.
const MAX_WORK_KIB: u64 = 4 * MAX_MEMORY_KIB as u64;

/// Lanes cost nothing more, since one thread works on all; a larger figure is a slip.
const MAX_LANES: u32 = 16;

/// bcrypt doubles with each step: 12 is usual and takes a quarter of a second, so 14 takes one.
const BCRYPT_COST: std::ops::RangeInclusive<u32> = 4..=14;

/// SHA-512 crypt's usual 5,000 rounds take 5 ms or less, so this takes less than a second.
const SHA_CRYPT_ROUNDS: std::ops::RangeInclusive<u32> = 1_000..=500_000;

/// Blocks that a check of a SHA-512 crypt hash may take, since it takes time by the password's length, too: three times as
/// long as a short password in the most rounds. Only over 166,666 rounds passwords of 512 bytes are too long for it.
const SHA_CRYPT_BLOCKS: u32 = 1_500_000;

/// Longest password in bytes that is checked, as in glibc's crypt.
const MAX_PASSWORD_BYTES: usize = 512;

impl PasswordHash {
    /// Reads a hash as it stands in a configuration or a password file.
    ///
    /// The error says what is accepted and repeats nothing of `text`, which may be a password.
    pub fn parse(text: &str) -> Result<Self, String> {
        if let Some(rest) = text.strip_prefix("$2")
            && let Some(rest) = rest
                .strip_prefix("a$")
                .or(rest.strip_prefix("b$"))
                .or(rest.strip_prefix("y$"))
        {
            return bcrypt_hash(text, rest);
        }
        match text.split('$').nth(1) {
            Some("argon2id") if text.starts_with('$') => argon2id_hash(text),
            Some("6") if text.starts_with('$') => sha512_crypt_hash(text),
            Some("1" | "5" | "y" | "7" | "argon2i" | "argon2d" | "2x") if text.starts_with('$') => {
                Err(format!("this kind of hash is not accepted; {ACCEPTED}"))
            }
            _ => Err(format!("this is no password hash; {ACCEPTED}")),
        }
    }

    /// True if `password` is the one; takes as long for a wrong one.
    pub fn verify(&self, password: &SecretString, scratch: &mut Scratch) -> bool {
        let password = password.expose_secret().as_bytes();
        if password.len() > MAX_PASSWORD_BYTES {
            return false;
        }
        match &self.scheme {
            Scheme::Argon2id {
                version,
                params,
                salt,
                output,
            } => {
                let blocks = scratch.blocks(params.block_count());
                let mut computed = vec![0; output.len()];
                let argon2 = Argon2::new(Algorithm::Argon2id, *version, params.clone());
                argon2
                    .hash_password_into_with_memory(password, salt, &mut computed, blocks)
                    .is_ok()
                    && bool::from(computed.ct_eq(output))
            }
            // bcrypt itself looks at 72 bytes; so do the programs that made these hashes
            Scheme::Bcrypt(hash) => bcrypt::verify(password, hash.expose_secret()).unwrap_or(false),
            Scheme::Sha512Crypt {
                hash,
                longest_password,
            } => {
                let taken = password.get(..*longest_password).unwrap_or(password);
                ShaCrypt::SHA512
                    .verify_password(taken, hash.expose_secret())
                    .is_ok()
                    && taken.len() == password.len()
            }
        }
    }

    /// Kind and cost in words, such as `argon2id m=19456 t=2 p=1`: nothing that authenticates.
    pub fn cost(&self) -> &str {
        &self.cost
    }

    /// About how long a check takes on one core, in microseconds: good enough to find the dearest of several.
    pub fn work(&self) -> u64 {
        self.work
    }
}

impl Scratch {
    /// Memory for a check, grown where it is needed; its content doesn't matter.
    fn blocks(&mut self, count: usize) -> &mut [Block] {
        if self.0.len() < count {
            // the old memory goes first, or both would be held for a moment
            self.0 = Vec::new();
            self.0.resize(count, Block::default());
        }
        &mut self.0[..count]
    }
}

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PasswordHash")
    }
}

/// The PHC form, `$argon2id$v=19$m=...,t=...,p=...$salt$hash`.
fn argon2id_hash(text: &str) -> Result<PasswordHash, String> {
    let broken = || format!("this is no whole argon2id hash; {ACCEPTED}");
    let phc = Phc::new(text).map_err(|_| broken())?;
    let (Some(salt), Some(output)) = (phc.salt, phc.hash) else {
        return Err(broken());
    };
    let params = Params::try_from(&phc).map_err(|_| broken())?;
    let version = Version::try_from(phc.version.unwrap_or(0x13)).map_err(|_| broken())?;
    let mut bytes = [0; 64];
    let salt = salt.decode_b64(&mut bytes).map_err(|_| broken())?.to_vec();
    let work = u64::from(params.m_cost()) * u64::from(params.t_cost());
    if params.m_cost() > MAX_MEMORY_KIB
        || work > MAX_WORK_KIB
        || params.p_cost() > MAX_LANES
        || output.as_bytes().len() < 16
    {
        return Err(format!(
            "an argon2id hash has m up to {MAX_MEMORY_KIB} (KiB), m times t up to {MAX_WORK_KIB}, p up to {MAX_LANES} \
             and 16 bytes of output or more; run `cosgate hash-password` for one that fits"
        ));
    }
    let cost = format!(
        "argon2id m={} t={} p={}",
        params.m_cost(),
        params.t_cost(),
        params.p_cost()
    );
    let output = output.as_bytes().to_vec();
    let scheme = Scheme::Argon2id {
        version,
        params,
        salt,
        output,
    };
    // 256 MiB take about half a second
    let work = 2 * work;
    Ok(PasswordHash { scheme, cost, work })
}

/// `$2b$12$`, 22 letters of salt and 31 of hash; `rest` begins at the cost.
fn bcrypt_hash(text: &str, rest: &str) -> Result<PasswordHash, String> {
    let cost = rest.get(..2).and_then(|digits| digits.parse::<u32>().ok());
    let letters = rest.get(2..).and_then(|rest| rest.strip_prefix('$'));
    let (Some(cost), Some(letters)) = (cost, letters) else {
        return Err(format!("this is no whole bcrypt hash; {ACCEPTED}"));
    };
    if letters.len() != 53 || text.parse::<bcrypt::HashParts>().is_err() {
        return Err(format!("this is no whole bcrypt hash; {ACCEPTED}"));
    }
    if !BCRYPT_COST.contains(&cost) {
        return Err(format!(
            "a bcrypt hash has a cost from {} to {}; run `cosgate hash-password` for a hash that fits",
            BCRYPT_COST.start(),
            BCRYPT_COST.end()
        ));
    }
    Ok(PasswordHash {
        scheme: Scheme::Bcrypt(text.into()),
        // a cost of 14 takes about a second
        work: 61 << cost,
        cost: format!("bcrypt {cost}"),
    })
}

/// `$6$salt$hash` or `$6$rounds=N$salt$hash`, as in /etc/shadow.
fn sha512_crypt_hash(text: &str) -> Result<PasswordHash, String> {
    /// Without a figure in the hash, by the specification of SHA-crypt.
    const ROUNDS: u32 = 5_000;
    let mut fields: Vec<&str> = text.split('$').skip(2).collect();
    let rounds = match fields
        .first()
        .and_then(|field| field.strip_prefix("rounds="))
    {
        Some(rounds) => {
            fields.remove(0);
            rounds.parse::<u32>().ok()
        }
        None => Some(ROUNDS),
    };
    let alphabet = |field: &str| {
        field
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'/'))
    };
    let (Some(rounds), &[salt, hash]) = (rounds, &fields[..]) else {
        return Err(format!("this is no whole SHA-512 crypt hash; {ACCEPTED}"));
    };
    if salt.is_empty() || salt.len() > 16 || hash.len() != 86 || !alphabet(salt) || !alphabet(hash)
    {
        return Err(format!("this is no whole SHA-512 crypt hash; {ACCEPTED}"));
    }
    if !SHA_CRYPT_ROUNDS.contains(&rounds) {
        return Err(format!(
            "a SHA-512 crypt hash has {} to {} rounds; run `cosgate hash-password` for a hash that fits",
            SHA_CRYPT_ROUNDS.start(),
            SHA_CRYPT_ROUNDS.end()
        ));
    }
    Ok(PasswordHash {
        scheme: Scheme::Sha512Crypt {
            hash: text.into(),
            longest_password: longest_password(rounds),
        },
        // 500,000 rounds take about a second
        work: 2 * u64::from(rounds),
        cost: format!("sha512crypt {rounds}"),
    })
}

/// The longest password in bytes that is checked in so many rounds of SHA-512 crypt.
///
/// A round hashes the digest (64 bytes), two thirds of the salt (16) and 13/7 of the password on average, and 17 bytes of
/// padding, in blocks of 128 bytes.
fn longest_password(rounds: u32) -> usize {
    let blocks = (SHA_CRYPT_BLOCKS / rounds) as usize;
    ((blocks * 128).saturating_sub(64 + 11 + 17) * 7 / 13).min(MAX_PASSWORD_BYTES)
}

/// The argon2id hash of a password with a fresh salt, in the PHC format that `users[].password_hash` takes.
pub fn hash_password(password: &SecretString) -> Result<SecretString, HashError> {
    let salt = SaltString::generate(&mut OsRng);
    let hash = Argon2::default().hash_password(password.expose_secret().as_bytes(), &salt);
    hash.map(|hash| hash.to_string().into())
        .map_err(|error| HashError(error.to_string()))
}

/// A password of 20 letters and digits, none of which looks like another: about 116 bits.
pub fn random_password() -> Result<SecretString, HashError> {
    const ALPHABET: &[u8] = b"ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz23456789";
    // 57 letters each
    const LENGTH: usize = 20;
    let mut password = String::with_capacity(LENGTH);
    while password.len() < LENGTH {
        let mut random = [0; 32];
        getrandom::fill(&mut random).map_err(|error| HashError(error.to_string()))?;
        // bytes over the last whole multiple would make some letters likelier
        let fair = random
            .iter()
            .filter(|byte| usize::from(**byte) < 256 / ALPHABET.len() * ALPHABET.len());
        let letters = fair.map(|byte| char::from(ALPHABET[usize::from(*byte) % ALPHABET.len()]));
        password.extend(letters.take(LENGTH - password.len()));
    }
    Ok(password.into())
}

const ACCEPTED: &str = "run `cosgate hash-password` and write its whole output here; bcrypt ($2b$) and SHA-512 crypt \
                        ($6$) hashes of another server are taken as well";

#[cfg(test)]
mod tests {
    use super::*;

    /// Made with crypt(3) of libxcrypt: what a Linux server has in its password files.
    const FOREIGN: [(&str, &str); 4] = [
        (
            "$6$saltstring$svn8UoSVapNtMuq1ukKS4tPQd8iKwSMHWjl/O817G3uBnIFNjnQJuesI68u4OTLiBFdcbYEdFCoEOfaS35inz1",
            "Hello world!",
        ),
        (
            "$6$rounds=10000$saltstringsaltst$OW1/O6BYHV6BcXZu8QVeXbDWra3Oeqh0sbHbbMCVNSnCM/UrjmM0Dp8vOuZeHBy/YTBmSK6H9qs/y3RnOaw5v.",
            "Hello world!",
        ),
        (
            "$2b$04$cVWp4XaNU8a4v1uMRum2SO6zFzBE5Eciyc8UQv5/y8DXfqM5e7jVS",
            "correct horse",
        ),
        (
            "$2y$05$/OK.fbVrR/bpIqNJ5ianF.OGgjYrCx73oCO4F/tdYhlT5v8plPbja",
            "correct horse",
        ),
    ];

    fn verify(hash: &str, password: &str) -> bool {
        let hash = PasswordHash::parse(hash).expect(hash);
        hash.verify(&password.to_owned().into(), &mut Scratch::default())
    }

    #[test]
    fn a_hash_fits_its_password_only() {
        let password: SecretString = "correct horse".to_owned().into();
        let hash = hash_password(&password).expect("hashes");
        let hash = PasswordHash::parse(hash.expose_secret()).expect("its own output");
        assert_eq!(hash.cost(), "argon2id m=19456 t=2 p=1");
        let mut scratch = Scratch::default();
        for _ in 0..2 {
            assert!(hash.verify(&password, &mut scratch));
            assert!(!hash.verify(&"wrong".to_owned().into(), &mut scratch));
        }
        assert_eq!(scratch.0.len(), 19456, "the memory is kept");
    }

    #[test]
    fn hashes_of_other_servers_fit_their_passwords_only() {
        for (hash, password) in FOREIGN {
            assert!(verify(hash, password), "{hash}");
            assert!(!verify(hash, "wrong"), "{hash}");
            assert!(!verify(hash, &"x".repeat(4096)), "{hash}");
        }
    }

    #[test]
    fn what_is_no_hash_or_costs_too_much_is_refused_with_the_remedy_and_not_repeated() {
        let argon2id = crate::config::HASH_FOR_TESTS;
        let cut = FOREIGN.map(|(hash, _)| &hash[..hash.len() - 1]);
        let dear = [
            argon2id.replace("m=19456", "m=65537"),
            argon2id.replace("t=2", "t=14"),
            argon2id.replace("p=1", "p=17"),
            FOREIGN[2].0.replace("$04$", "$15$"),
            FOREIGN[2].0.replace("$04$", "$03$"),
            FOREIGN[1].0.replace("=10000", "=500001"),
            FOREIGN[1].0.replace("=10000", "=999"),
        ];
        let others = [
            "",
            "hunter2",
            "$",
            "6$a$b",
            "$1$salt$qJH7.N4xYta3aEG/dfqo/0",
            "$5$saltstring$5B8vYYiY.CVt1RlTTf8KbXBH3hsxY/GNooZaBBGWEc8",
            "$y$j9T$F5Jx5fExrKuPp53xLKQ..1$X3DX6M94c7o.9agCG9G317fhZg9SqC.5i5rd.RhAtQ7",
            "$2b$",
            "$2b$1é$",
            "$6$rounds=$a$b",
            "$6$rounds=5000$",
            "$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHQ",
        ];
        assert!(PasswordHash::parse(argon2id).is_ok());
        for bad in cut
            .into_iter()
            .chain(dear.iter().map(String::as_str))
            .chain(others)
        {
            let advice = PasswordHash::parse(bad).expect_err(bad);
            assert!(advice.contains("cosgate hash-password"), "{advice}");
            assert!(!advice.contains("hunter2"), "{advice}");
        }
    }

    #[test]
    fn memory_of_a_dear_hash_serves_a_cheap_one_too() {
        let cheap = Params::new(64, 1, 2, None).expect("small");
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x10, cheap);
        let salt = SaltString::from_b64("c2FsdHNhbHQ").expect("base64");
        let text = argon2
            .hash_password(b"pw", &salt)
            .expect("hashes")
            .to_string();
        let hash = PasswordHash::parse(&text).expect("in bounds");
        let mut scratch = Scratch(vec![Block::default(); 4096]);
        assert!(hash.verify(&"pw".to_owned().into(), &mut scratch));
        assert!(!hash.verify(&"PW".to_owned().into(), &mut scratch));
    }

    #[test]
    fn the_length_of_a_password_bounds_the_work_of_sha_crypt() {
        assert_eq!(longest_password(5_000), 512);
        assert_eq!(longest_password(166_666), 512);
        assert_eq!(longest_password(500_000), 157);
    }

    #[test]
    fn random_passwords_differ() {
        let (one, other) = (
            random_password().expect("random"),
            random_password().expect("random"),
        );
        assert_eq!(one.expose_secret().len(), 20);
        assert_ne!(one.expose_secret(), other.expose_secret());
    }
}
