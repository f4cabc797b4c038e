//! The promises to users: the documentation of each test here is a sentence of `src/guide/promises.md`.
//!
//! `UPDATE_GUIDE=1 cargo test --test it guide` writes the page anew.

// in the order of the page; a blank line between two keeps rustfmt from sorting them
mod invariants_files;
mod invariants_program;

mod uploads;

mod interruptions;

mod downloads;

mod directories;

mod directories_kept;

mod renames;

mod races;

mod names;

mod times;

mod users;

mod mounts;

mod data_connections;

mod restarts;

mod events;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// One test and its documentation.
struct Promise {
    sentence: String,
    test: String,
}

/// The promises of one file below its heading.
struct Chapter {
    heading: String,
    promises: Vec<Promise>,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The chapters in the order of this file's modules.
fn chapters() -> Vec<Chapter> {
    let own = include_str!("semantics.rs");
    let modules = own
        .lines()
        .filter_map(|line| line.strip_prefix("mod ")?.strip_suffix(';'));
    let modules: Vec<&str> = modules.collect();
    let files = std::fs::read_dir(root().join("tests/it/semantics")).expect("a directory");
    let files = files.map(|file| {
        file.expect("an entry")
            .file_name()
            .into_string()
            .expect("UTF-8")
    });
    let named: BTreeSet<String> = modules.iter().map(|name| format!("{name}.rs")).collect();
    assert_eq!(
        files.collect::<BTreeSet<_>>(),
        named,
        "each file is a module"
    );
    modules.into_iter().map(chapter).collect()
}

fn chapter(module: &str) -> Chapter {
    let text = read(format!("tests/it/semantics/{module}.rs"));
    let heading = text
        .lines()
        .next()
        .and_then(|line| line.strip_prefix("//! "));
    let heading = heading.unwrap_or_else(|| panic!("{module} has a heading"));
    let (mut promises, mut sentence, mut is_test) = (Vec::new(), String::new(), false);
    for line in text.lines() {
        if let Some(words) = line.strip_prefix("/// ") {
            sentence += if sentence.is_empty() { "" } else { " " };
            sentence += words;
        } else if line.starts_with("#[") {
            assert!(
                !line.contains("ignore"),
                "{module}: a promise is tested in each run"
            );
            is_test |= line.starts_with("#[test]") || line.starts_with("#[tokio::test");
        } else {
            let signature = line.split_once("fn ").filter(|_| is_test);
            if let Some((_, signature)) = signature {
                let test = signature.split('(').next().unwrap_or_default().to_owned();
                assert!(
                    sentence.ends_with('.'),
                    "{module}::{test} has a sentence: {sentence:?}"
                );
                let sentence = std::mem::take(&mut sentence);
                promises.push(Promise { sentence, test });
            }
            (sentence, is_test) = (String::new(), false);
        }
    }
    assert!(!promises.is_empty(), "{module} has promises");
    Chapter {
        heading: heading.to_owned(),
        promises,
    }
}

#[test]
fn the_guide_has_a_sentence_for_every_promise_and_a_test_for_every_sentence() {
    const BEGIN: &str = "<!-- from here on: the tests in tests/it/semantics -->\n";
    let page = "src/guide/promises.md";
    let (chapters, text) = (chapters(), read(page));
    let (before, documented) = text
        .split_once(BEGIN)
        .expect("the line before the first chapter");
    let mut generated = String::new();
    for chapter in &chapters {
        generated += &format!("\n## {}\n\n", chapter.heading);
        for Promise { sentence, test } in &chapter.promises {
            generated += &format!("- {sentence}<br>`{test}`\n");
        }
    }
    if std::env::var_os("UPDATE_GUIDE").is_some() {
        let new = [before, BEGIN, &generated].concat();
        std::fs::write(root().join(page), new).expect("writes");
        return;
    }
    for (documented, generated) in documented.lines().zip(generated.lines()) {
        assert_eq!(
            documented, generated,
            "{page} differs; UPDATE_GUIDE=1 writes it anew"
        );
    }
    assert_eq!(documented.lines().count(), generated.lines().count());
    let promises = chapters.iter().flat_map(|chapter| &chapter.promises);
    let sentences: Vec<&str> = promises.map(|promise| promise.sentence.as_str()).collect();
    let unique: BTreeSet<&str> = sentences.iter().copied().collect();
    assert_eq!(
        unique.len(),
        sentences.len(),
        "a sentence stands there once"
    );
}

#[test]
fn each_invariant_of_the_code_is_a_promise() {
    let source = read("src/lib.rs");
    let (mut invariants, mut is_open) = (Vec::<String>::new(), false);
    for line in source.lines().map_while(|line| line.strip_prefix("//!")) {
        let line = line.trim();
        let number = format!("{}. ", invariants.len() + 1);
        if let Some(text) = line.strip_prefix(&number) {
            invariants.push(text.to_owned());
            is_open = true;
        } else if line.is_empty() {
            is_open = false;
        } else if let Some(last) = invariants.last_mut().filter(|_| is_open) {
            *last += &format!(" {line}");
        }
    }
    assert_eq!(invariants.len(), 9);
    let chapters = chapters();
    let promises = chapters.iter().flat_map(|chapter| &chapter.promises);
    let sentences: BTreeSet<&str> = promises.map(|promise| promise.sentence.as_str()).collect();
    for (number, invariant) in (1..).zip(invariants) {
        // links between modules are for readers of the code
        let invariant = match invariant.split_once(" (see [") {
            Some((text, _)) => format!("{text}."),
            None => invariant,
        };
        let sentence = format!("Invariant {number}: {invariant}");
        assert!(
            sentences.contains(sentence.as_str()),
            "no test has the sentence {sentence:?}"
        );
    }
}
