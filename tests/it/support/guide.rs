//! Tables of the guide that are made from the source.

use std::path::Path;

/// Compares the first table below `heading` in a page of `src/guide` with `rows`.
///
/// `UPDATE_GUIDE=1 cargo test --test it guide` writes the tables anew.
pub fn check_table(page: &str, heading: &str, rows: &str) {
    const HEAD: &str = "|---|---|---|---|\n";
    let file = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("src/guide")
        .join(page);
    let text = std::fs::read_to_string(&file).expect("a page of the guide");
    let section = text.find(heading).expect("the section");
    let begin = section + text[section..].find(HEAD).expect("a table") + HEAD.len();
    let end = text[begin..]
        .find("\n\n")
        .map_or(text.len(), |end| begin + end + 1);
    if std::env::var_os("UPDATE_GUIDE").is_some() {
        let new = [&text[..begin], rows, &text[end..]].concat();
        std::fs::write(file, new).expect("writes");
        return;
    }
    for (documented, row) in text[begin..end].lines().zip(rows.lines()) {
        assert_eq!(
            documented, row,
            "{page} differs; UPDATE_GUIDE=1 writes it anew"
        );
    }
    assert_eq!(text[begin..end].lines().count(), rows.lines().count());
}
