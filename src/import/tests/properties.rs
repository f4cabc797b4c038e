//! Whatever the file says: it is refused, or the result is taken; and what is said holds no secret.

use proptest::prelude::*;

use super::*;

/// Secrets that no other text of a file contains by chance.
const SECRETS: [&str; 4] = [
    "AKIDsecretid0000",
    "secretkey0000",
    "ftppassword0000",
    "ftppassword1111",
];

fn holds_no_secret(text: &str) -> Result<(), TestCaseError> {
    for secret in SECRETS {
        prop_assert!(!text.contains(secret), "{secret} in {text}");
    }
    prop_assert!(!text.contains(HASH), "a hash in {text}");
    Ok(())
}

/// Whatever comes out is taken, and whatever is said holds no secret.
fn is_sound(text: &str) -> Result<(), TestCaseError> {
    for format in [Format::Yaml, Format::Env, Format::HelmValues] {
        match convert_as(text, format) {
            Ok(imported) => {
                holds_no_secret(&imported.values)?;
                holds_no_secret(&imported.warnings.join("\n"))?;
                if let Err(error) = load(format, &imported) {
                    return Err(TestCaseError::fail(format!(
                        "{error}\n{}\n{text}",
                        imported.values
                    )));
                }
            }
            Err(error) => holds_no_secret(&error.to_string())?,
        }
    }
    Ok(())
}

/// A value for any key: what fits, what nearly fits, and anything.
fn value() -> impl Strategy<Value = String> {
    prop_oneof![
        "[0-9]{1,20}",
        "[0-9]{1,5},[0-9]{1,5}",
        "(true|false|R|W|RW|http|https|DEBUG|warn|AP-X|ap-guangzhou|10.0.0.1)",
        "(cos|x-1|a\\.b)\\.[a-z-]{1,10}\\.(myqcloud\\.com|example)",
        "[ -~]{0,30}",
        "\\PC{0,20}",
    ]
}

/// Keys that are no secret.
const FREE: [&str; 17] = [
    "cos_bucket",
    "cos_region",
    "cos_endpoint",
    "cos_protocol",
    "delete_enable",
    "home_dir",
    "authority",
    "masquerade_address",
    "listen_port",
    "passive_port",
    "single_file_max_size",
    "min_part_size",
    "upload_thread_num",
    "max_connection_num",
    "max_list_file",
    "log_level",
    "ftp_login_user_name",
];

/// Those of them that an account has for itself.
const OF_ACCOUNTS: [&str; 7] = [
    "cos_bucket",
    "cos_region",
    "cos_endpoint",
    "cos_protocol",
    "delete_enable",
    "home_dir",
    "authority",
];

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(300) })]

    #[test]
    fn any_value_of_any_key_of_any_account_is_refused_or_taken(
        key in 0..FREE.len(), value in value(), own_keys in any::<bool>(), place in 0..3_usize,
    ) {
        // the key is replaced where it stands, and said of the second account if it may be said of accounts
        let mut text: String = SAMPLE.lines().map(|line| {
            match line.split(['=', ' ']).next() {
                Some(name) if name == FREE[key] => format!("{name} = {value}\n"),
                _ => format!("{line}\n"),
            }
        }).collect();
        let mut second = ["", "cos_region = ap-shanghai\n", "cos_endpoint = cos.example.org\n"][place].to_owned();
        if own_keys {
            second += "cos_secretkey = secretkey0000-too\nauthority = RW\ndelete_enable = false\n";
        }
        if OF_ACCOUNTS.contains(&FREE[key]) {
            second += &format!("{} = {value}\n", FREE[key]);
        }
        text = text.replacen("[NETWORK]", &format!("{second}[NETWORK]"), 1);
        is_sound(&text)?;
    }

    #[test]
    fn several_changed_numbers_are_refused_or_taken(
        listen in 1..=65535_u16, from in any::<u16>(), width in 0..200_u16,
        max in any::<u64>(), min in any::<u64>(), shift in 0..60_u32,
    ) {
        let text = SAMPLE
            .replace("listen_port = 2121", &format!("listen_port = {listen}"))
            .replace("60000,65535", &format!("{from},{}", from.saturating_add(width)))
            .replace("214748364800", &(max >> shift).to_string())
            .replace("2097152", &(min >> shift).to_string());
        is_sound(&text)?;
    }

    #[test]
    fn a_mutated_file_is_refused_or_taken(
        lines in proptest::collection::vec(0..40_usize, 0..8),
        at in 0..900_usize, noise in "\\PC{0,10}|[\\[\\]=:#;\n\t\r\u{0}-\u{1f}]{0,5}",
    ) {
        // lines missing, and noise anywhere but inside of a secret, which would make it another one
        let mut text: String = SAMPLE.lines().enumerate()
            .filter(|(index, line)| !lines.contains(index) || SECRETS.iter().any(|secret| line.contains(secret)))
            .map(|(_, line)| format!("{line}\n")).collect();
        let at = (at..text.len()).find(|at| text.as_bytes()[*at] == b'\n').unwrap_or(text.len());
        text.insert_str(at, &noise);
        match convert_as(&text, Format::Yaml) {
            Ok(imported) => {
                holds_no_secret(&imported.values)?;
                prop_assert!(crate::config::parse_yaml(&imported.values).is_ok(), "{}", imported.values);
            }
            Err(error) => holds_no_secret(&error.to_string())?,
        }
    }

    #[test]
    fn no_text_at_all_panics(text in "\\PC{0,200}|([\\[\\]=:#; \n\ta-zA-Z_0-9]{0,300})") {
        let _ = convert_as(&text, Format::HelmValues);
    }
}
