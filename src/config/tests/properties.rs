//! The rules for any text.

use proptest::prelude::*;

use super::*;
use crate::config::table::Lookup;

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(200) })]

    #[test]
    fn no_text_in_any_variable_panics(row in 0..table().len(), text in any::<String>()) {
        if let Some(name) = table()[row].variable() {
            let _ = load_from(None, [(name, text)]).map(|loaded| loaded.describe());
        }
    }

    #[test]
    fn no_text_in_any_yaml_key_panics(row in 0..table().len(), text in any::<String>()) {
        let path = table()[row].path.replace("[]", ".x");
        let nested = path.split('.').rev().fold(text, |inner, name| match name {
            "x" => format!("[{inner}]"),
            name => format!("{{{name}: {inner}}}"),
        });
        let _ = with_yaml(&nested, &[]).map(|loaded| loaded.describe());
    }

    #[test]
    fn no_text_at_all_panics_as_a_file(text in "[-a-z:\\[\\]{}&*!|>'\"%@#,?0-9 \n\t~<]{0,60}") {
        let _ = with_yaml(&text, &[]);
    }

    #[test]
    fn values_that_look_like_values_do_not_panic(
        row in 0..table().len(),
        text in "([0-9]{1,20}(\\.[0-9]{1,20})?|-)? ?(GiB|s|m|days|:|-|,|//|\\[::\\]|\\.|@|\\$argon2id\\$)?[0-9a-z]{0,5}",
    ) {
        if let Some(name) = table()[row].variable() {
            let _ = load_from(None, [(name, text)]).map(|loaded| loaded.describe());
        }
    }

    #[test]
    fn an_unknown_variable_is_always_refused(name in "[A-Z][A-Z_]{0,20}") {
        let name = format!("COSGATE_{name}");
        let is_known = name == "COSGATE_CONFIG" || name.starts_with("COSGATE_TEST_") || table().iter().any(|key| {
            key.variable().as_ref() == Some(&name) || key.file_variable().as_ref() == Some(&name)
        });
        prop_assume!(!is_known);
        for value in ["", "x"] {
            let error = load_from(None, [(name.clone(), value.to_string())]).expect_err(&name);
            prop_assert!(error.to_string().contains(&name));
        }
    }

    #[test]
    fn an_unknown_yaml_key_is_always_refused(section in "(|upload|storage|log|users|a)", name in "[a-z][a-z_]{0,12}") {
        let path = match section.as_str() {
            "" => name.clone(),
            "users" => format!("users[].{name}"),
            section => format!("{section}.{name}"),
        };
        prop_assume!(!matches!(crate::config::sections::table().look_up(&path), Lookup::Key(_) | Lookup::Section));
        // Some words are not strings in YAML; as keys they have to be refused all the same.
        let text = match section.as_str() {
            "" => format!("{name}: 1"),
            "users" => format!("users: [{{{name}: 1}}]"),
            section => format!("{section}: {{{name}: 1}}"),
        };
        prop_assert!(with_yaml(&text, &[]).is_err());
    }
}
