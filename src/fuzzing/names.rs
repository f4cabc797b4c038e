//! Paths as clients type them, their keys in the store, the names of keys in a listing; and patterns of names.

use crate::escape::{escape, unescape};
use crate::ftp::glob::{is_pattern, matches};
use crate::store::key::Reserved;
use crate::store::{Home, VirtualPath};

/// The directory that is the gateway's own.
const RESERVED: &str = ".cosgate";

/// The input is a home, a working directory and an argument with line ends between them. The argument is taken for a key, too, which
/// others may have made of anything.
///
/// - No path leaves its home: its key begins with the home's prefix and has no component that climbs, is empty or reserved.
/// - A key has one name, a name has one key, and neither has a control character that FTP can't carry.
/// - A pattern ends, and matches what a slow matcher matches.
pub fn names(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let mut parts = text.splitn(3, '\n');
    let mut part = || parts.next().unwrap_or_default();
    let (home, directory, argument) = (part(), part(), part());
    let root = VirtualPath::root();
    if let Ok(home) = VirtualPath::resolve(&root, home)
        && let Ok(directory) = VirtualPath::resolve(&root, directory)
    {
        let prefix = Home::new("ftp/", &home, 1024);
        let home = prefix.clone().reserving(Reserved::new(RESERVED));
        stays_inside(&home, &directory, argument);
        maps_back(&prefix, argument);
    }
    match_as_slowly(directory, argument);
}

fn stays_inside(home: &Home, directory: &VirtualPath, argument: &str) {
    let Ok(path) = VirtualPath::resolve(directory, argument) else {
        assert!(argument.chars().any(char::is_control), "{argument:?}");
        return;
    };
    let components = |text: &str| text.split('/').map(str::to_owned).collect::<Vec<_>>();
    if !path.is_root() {
        let names = components(&path.as_str()[1..]);
        assert!(
            names
                .iter()
                .all(|name| !matches!(&name[..], "" | "." | "..")),
            "{path}"
        );
        // the same by whatever way it is said
        assert_eq!(
            VirtualPath::resolve(directory, path.as_str()),
            Ok(path.clone())
        );
        assert!(path.parent().contains(&path));
    }
    let prefix = home.root().as_str();
    let is_clean = |key: &str| {
        let below = key.strip_prefix(prefix).expect("the home's prefix");
        let below = below.strip_suffix('/').unwrap_or(below);
        let is_bad = |name: &String| matches!(&name[..], "" | "." | "..");
        assert!(
            below.is_empty() || !components(below).iter().any(is_bad),
            "{key:?}"
        );
        assert!(
            !key.split('/')
                .any(|name| name.eq_ignore_ascii_case(RESERVED)),
            "{key:?}"
        );
        assert!(key.len() <= 1024);
    };
    if let Ok(key) = home.key(&path) {
        is_clean(key.as_str());
        assert!(home.root().below(key.as_str()).is_some());
    }
    if let Ok(directory) = home.directory(&path) {
        is_clean(directory.as_str());
    }
}

/// `key` lies below a home; what its name leads to is the key.
fn maps_back(home: &Home, key: &str) {
    let name = escape(key);
    assert!(!name.chars().any(char::is_control), "{name:?}");
    assert_eq!(unescape(&name), key);
    let again = escape(&unescape(key)).into_owned();
    if !key.chars().any(char::is_control) {
        assert_eq!(again, key, "a name of its own");
    }
    let is_reachable = |name: &str| !matches!(name, "" | "." | "..");
    if !key.split('/').all(is_reachable) {
        return;
    }
    let path = VirtualPath::resolve(&VirtualPath::root(), &format!("/{name}"));
    let path = path.expect("it has no control character");
    if let Ok(found) = home.key(&path) {
        assert_eq!(found.as_str(), format!("{}{key}", home.root().as_str()));
    }
    let is_odd = key.chars().any(char::is_control);
    assert_eq!(home.check_new(&path).is_err(), is_odd, "{key:?}");
}

fn match_as_slowly(pattern: &str, name: &str) {
    let fits = matches(pattern, name);
    if !is_pattern(pattern) {
        assert_eq!(fits, pattern == name, "{pattern:?} {name:?}");
    }
    // classes are left to the unit tests: the slow matcher would be the same code again
    if !pattern.contains('[') && pattern.len() < 64 && name.len() < 64 {
        let (pattern, name): (Vec<char>, Vec<char>) =
            (pattern.chars().collect(), name.chars().collect());
        assert_eq!(fits, slow_match(&pattern, &name), "{pattern:?} {name:?}");
    }
}

/// By a table over all prefixes of both.
fn slow_match(pattern: &[char], name: &[char]) -> bool {
    // for each length of a beginning of the name
    let mut fits = vec![false; name.len() + 1];
    fits[0] = true;
    for element in pattern {
        let mut last = false;
        for at in 0..=name.len() {
            let (before, one_less) = (fits[at], last);
            last = before;
            fits[at] = match element {
                '*' => before || at > 0 && fits[at - 1],
                '?' => at > 0 && one_less,
                letter => at > 0 && one_less && name[at - 1] == *letter,
            };
        }
    }
    fits[name.len()]
}
