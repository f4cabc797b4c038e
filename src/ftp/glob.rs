//! Shell patterns in the last component of a listing's path, which clients send for `mget` (`NLST *.jpg`).

/// One element of a pattern.
enum Element {
    /// `*`
    Any,
    /// `?`
    One,
    /// `[a-z_]`, or with `!` or `^` in front what is none of these.
    Class {
        ranges: Vec<(char, char)>,
        is_negated: bool,
    },
    Letter(char),
}

impl Element {
    /// True if the element is, or may be, this one letter.
    fn takes(&self, letter: char) -> bool {
        match self {
            Element::Any => false,
            Element::One => true,
            Element::Letter(own) => *own == letter,
            Element::Class { ranges, is_negated } => {
                let is_in = ranges
                    .iter()
                    .any(|(from, to)| (*from..=*to).contains(&letter));
                is_in != *is_negated
            }
        }
    }
}

/// True if `name` fits the pattern.
pub fn matches(pattern: &str, name: &str) -> bool {
    let pattern = parse(pattern);
    let name: Vec<char> = name.chars().collect();
    let (mut p, mut n) = (0, 0);
    // where to go on when a `*` has to take one letter more
    let mut retry = None;
    while n < name.len() {
        match pattern.get(p) {
            Some(Element::Any) => {
                retry = Some((p + 1, n));
                p += 1;
            }
            Some(element) if element.takes(name[n]) => (p, n) = (p + 1, n + 1),
            Some(_) | None => match retry {
                Some((after_star, at)) => {
                    (p, n) = (after_star, at + 1);
                    retry = Some((after_star, at + 1));
                }
                None => return false,
            },
        }
    }
    pattern[p..]
        .iter()
        .all(|element| matches!(element, Element::Any))
}

/// True if a path's last component is a pattern.
pub fn is_pattern(name: &str) -> bool {
    parse(name)
        .iter()
        .any(|element| !matches!(element, Element::Letter(_)))
}

fn parse(pattern: &str) -> Vec<Element> {
    let letters: Vec<char> = pattern.chars().collect();
    let mut elements = Vec::with_capacity(letters.len());
    let mut at = 0;
    while at < letters.len() {
        let element = match letters[at] {
            '*' => Element::Any,
            '?' => Element::One,
            '[' => match class(&letters[at + 1..]) {
                Some((class, length)) => {
                    at += length;
                    class
                }
                None => Element::Letter('['),
            },
            letter => Element::Letter(letter),
        };
        elements.push(element);
        at += 1;
    }
    elements
}

/// The class whose first letter follows a `[`, with its length up to `]`; `None` if it has no end.
fn class(letters: &[char]) -> Option<(Element, usize)> {
    let is_negated = matches!(letters.first(), Some('!' | '^'));
    let start = usize::from(is_negated);
    // a `]` that comes first is a letter of the class
    let end = start + 1 + letters.get(start + 1..)?.iter().position(|l| *l == ']')?;
    let inside = &letters[start..end];
    let mut ranges = Vec::new();
    let mut at = 0;
    while at < inside.len() {
        match inside[at..] {
            [from, '-', to, ..] => {
                ranges.push((from, to));
                at += 3;
            }
            _ => {
                ranges.push((inside[at], inside[at]));
                at += 1;
            }
        }
    }
    Some((Element::Class { ranges, is_negated }, end + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_in_a_shell() {
        for (pattern, name, fits) in [
            ("*", "anything", true),
            ("*.jpg", "a.jpg", true),
            ("*.jpg", "a.jpeg", false),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("*a*b", "xaybzb", true),
            ("", "", true),
            ("?", "ü", true),
            ("[ab]*", "b1", true),
            ("[ab]*", "c1", false),
            ("f[0-9].txt", "f7.txt", true),
            ("f[0-9].txt", "fx.txt", false),
            ("f[!0-9]", "f7", false),
            ("f[^0-9]", "fx", true),
            ("[]x]", "]", true),
            ("[a-]", "-", true),
            ("*[ab][cd]", "xbbad", true),
            ("[ab", "[ab", true),
        ] {
            assert_eq!(matches(pattern, name), fits, "{pattern} {name}");
        }
    }

    #[test]
    fn only_what_can_match_several_names_is_a_pattern() {
        for (name, wanted) in [
            ("a.jpg", false),
            ("*.jpg", true),
            ("a?", true),
            ("[ab]", true),
            ("a[1", false),
            ("a]", false),
            ("[]", false),
        ] {
            assert_eq!(is_pattern(name), wanted, "{name}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_pattern_panics_and_a_plain_name_matches_itself(pattern in "[a-c\\[\\]!^*?-]{0,12}", name in "[a-c-]{0,8}") {
            let _ = matches(&pattern, &name);
            proptest::prop_assert!(matches(&name, &name));
        }
    }
}
