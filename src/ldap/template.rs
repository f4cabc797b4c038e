//! Texts with placeholders, filled in with what strangers type: each value is escaped for where it goes.

use std::borrow::Cow;

/// The placeholder of the name that was typed.
pub const USER: &str = "{user}";

/// The placeholder of the distinguished name of the user's entry.
pub const DN: &str = "{dn}";

/// The placeholder of the distinguished name of a group.
pub const GROUP: &str = "{group}";

/// True if a name that a user binds with is a distinguished name, and not one such as `user@domain`.
pub fn is_distinguished(name: &str) -> bool {
    name.contains('=')
}

/// True if `text` is a filter (RFC 4515), whatever its placeholders stand for.
pub fn is_filter(text: &str) -> bool {
    // its escape is good as a value, and nowhere else
    let values = [(USER, "*"), (DN, "*"), (GROUP, "*")];
    ldap3::parse_filter(filter(text, &values)).is_ok()
}

/// The name that `user` binds with: a distinguished name (RFC 4514), or another one.
pub fn bind_name(template: &str, user: &str) -> String {
    match is_distinguished(template) {
        true => fill(template, &[(USER, user)], ldap3::dn_escape),
        false => fill(template, &[(USER, user)], Cow::Borrowed),
    }
}

/// A filter (RFC 4515) with `values` in the places of their placeholders.
pub fn filter(template: &str, values: &[(&str, &str)]) -> String {
    fill(template, values, ldap3::ldap_escape)
}

/// In one pass, so that a value with a placeholder in it stays as it is.
fn fill<'a>(
    template: &str,
    values: &[(&str, &'a str)],
    escape: impl Fn(&'a str) -> Cow<'a, str>,
) -> String {
    let mut filled = String::new();
    let mut rest = template;
    while !rest.is_empty() {
        let value = values
            .iter()
            .find_map(|(placeholder, value)| Some((rest.strip_prefix(placeholder)?, *value)));
        if let Some((behind, value)) = value {
            filled.push_str(&escape(value));
            rest = behind;
        } else {
            let mut letters = rest.chars();
            filled.extend(letters.next());
            rest = letters.as_str();
        }
    }
    filled
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_typed_stays_one_value_of_a_name() {
        let template = "uid={user},ou=people,dc=x";
        assert_eq!(bind_name(template, "alice"), "uid=alice,ou=people,dc=x");
        for (typed, escaped) in [
            ("a,ou=admins", r"a\2cou\3dadmins"),
            ("a+cn=b", r"a\2bcn\3db"),
            (r"a\", r"a\5c"),
            ("#a", r"\23a"),
            ("a\"<>;b", r"a\22\3c\3e\3bb"),
        ] {
            let name = bind_name(template, typed);
            assert_eq!(name, format!("uid={escaped},ou=people,dc=x"));
        }
        assert_eq!(
            bind_name("{user}@corp.example.com", "a=b"),
            "a=b@corp.example.com"
        );
    }

    #[test]
    fn what_is_typed_stays_one_value_of_a_filter() {
        let template = "(&(objectClass=person)(uid={user}))";
        for (typed, escaped) in [
            ("*", r"\2a"),
            ("a)(uid=*", r"a\29\28uid=\2a"),
            (r"a\2a", r"a\5c2a"),
            ("a\0", r"a\00"),
        ] {
            let filter = filter(template, &[(USER, typed)]);
            assert_eq!(filter, format!("(&(objectClass=person)(uid={escaped}))"));
            assert!(ldap3::parse_filter(&filter).is_ok(), "{filter}");
        }
    }

    #[test]
    fn a_placeholder_that_is_typed_is_not_filled_in() {
        let values = [(USER, "{dn}"), (DN, "cn=a"), (GROUP, "cn=g")];
        let filled = filter("(|(a={user})(b={dn})(c={group}))", &values);
        assert_eq!(filled, "(|(a={dn})(b=cn=a)(c=cn=g))");
    }

    #[test]
    fn filters_are_known_by_their_syntax() {
        for good in [
            "(uid={user})",
            "(&(objectClass=user)(|(sAMAccountName={user})(mail={user}@example.com)))",
            "(member:1.2.840.113556.1.4.1941:={dn})",
            "(!(userAccountControl:1.2.840.113556.1.4.803:=2))",
        ] {
            assert!(is_filter(good), "{good}");
        }
        for bad in [
            "",
            "(uid={user}",
            "(&(uid={user})",
            "(uid={user}))",
            "(=)",
            "({user}=x)",
            "(uid:{user}:=x)",
            "(uid;{user}=x)",
        ] {
            assert!(!is_filter(bad), "{bad}");
        }
    }
}
