//! The files of `src` depend on each other in one direction: there is no cycle, neither of files nor of top-level modules.
//!
//! A dependency is a path in a file's code that leads to another file. A name that a file only hands on (`pub use`) is a dependency
//! of whoever uses it, on the file that defines it. Tests and documentation don't count.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// The names of modules, from the crate's root on.
type Module = Vec<String>;

/// For each node the nodes that it depends on, with the paths that lead there.
type Graph = BTreeMap<String, BTreeMap<String, BTreeSet<String>>>;

#[test]
fn no_file_depends_on_itself_by_way_of_others() {
    let files = read(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src")));
    assert!(files.len() > 100, "{} files", files.len());
    let graph = graph(&files);
    assert_eq!(cycle(&graph), None, "between files");
    assert_eq!(cycle(&top_level(&graph)), None, "between top-level modules");
}

#[test]
fn cycles_are_found_however_a_path_is_written() {
    let from_a = [
        "use crate::b::B;",
        "use crate::{b::{self, C}, c};",
        "fn f() -> crate::b::B { todo!() }",
        "use crate::b; type A = b::B;",
        "fn f() { println!(\"{}\", crate::b::B) }",
        "use crate::c::B;",
        "use crate::c; type A = c::B;",
        "use super::b::B;",
        "mod inner { use super::super::b::B; }",
    ];
    for a in from_a {
        let found = cycle(&graph(&sources(&[
            ("a", a),
            ("b", "use crate::a::A;"),
            ("c", "pub use crate::b::B; pub use crate::a::A;"),
        ])));
        let found = found.unwrap_or_else(|| panic!("{a}"));
        assert!(found.starts_with("a -> b"), "{found}");
    }
    let none = [
        "//! [`crate::b`]",
        "const A: &str = \"crate::b::B\";",
        "#[cfg(test)] mod tests { use crate::b::B; }",
        "#[cfg(test)] use crate::b::B; fn f() {}",
        "pub use crate::b::B;",
        "pub struct C; mod inner { pub use super::C; use super::super::a::C as D; }",
    ];
    for a in none {
        let files = sources(&[("a", a), ("b", "use crate::a::A;")]);
        assert_eq!(cycle(&graph(&files)), None, "{a}");
    }
}

#[test]
fn a_cycle_of_modules_need_not_be_one_of_files() {
    let files = sources(&[
        ("a", ""),
        ("a/one", "use crate::b::two::X;"),
        ("a/two", ""),
        ("b", ""),
        ("b/one", "use crate::a::two::X;"),
        ("b/two", ""),
    ]);
    let graph = graph(&files);
    assert_eq!(cycle(&graph), None);
    assert!(cycle(&top_level(&graph)).is_some());
}

/// The code of one file.
struct Source {
    tokens: Vec<String>,
    /// The names that `use` makes known in it.
    imports: BTreeMap<String, Module>,
    /// Absolute paths in it, but for those that are only handed on.
    paths: Vec<Module>,
}

fn sources(texts: &[(&str, &str)]) -> BTreeMap<Module, Source> {
    let texts = texts.iter().map(|(name, text)| {
        let module = name.split('/').map(str::to_owned).collect();
        (module, (*text).to_owned())
    });
    parse(texts.collect())
}

/// All files below `directory` but those of tests and the crate's root.
fn read(directory: &Path) -> BTreeMap<Module, Source> {
    let mut texts = BTreeMap::new();
    let mut directories = vec![(directory.to_owned(), Module::new())];
    while let Some((directory, module)) = directories.pop() {
        for entry in fs::read_dir(directory).expect("a directory") {
            let path = entry.expect("an entry").path();
            let name = path.file_stem().and_then(|name| name.to_str());
            let name = name.expect("a name").to_owned();
            let is_root = module.is_empty() && matches!(name.as_str(), "lib" | "main");
            if is_root || matches!(name.as_str(), "tests" | "testing") {
                continue;
            }
            let inner = [module.as_slice(), &[name]].concat();
            if path.is_dir() {
                directories.push((path, inner));
            } else if path.extension().is_some_and(|end| end == "rs") {
                texts.insert(inner, fs::read_to_string(path).expect("text"));
            }
        }
    }
    parse(texts)
}

fn parse(texts: BTreeMap<Module, String>) -> BTreeMap<Module, Source> {
    let modules: BTreeSet<Module> = texts.keys().cloned().collect();
    let parsed = texts.into_iter().map(|(module, text)| {
        let mut source = Source {
            tokens: without_tests(tokens(&text)),
            imports: BTreeMap::new(),
            paths: Vec::new(),
        };
        source.find_uses(&module, &modules);
        source.find_paths(&module, &modules);
        (module, source)
    });
    parsed.collect()
}

/// Words, `::`, and single characters; comments are gone, and texts are one token.
fn tokens(text: &str) -> Vec<String> {
    let mut tokens = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let length = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").expect("the end of a comment") + 2
        } else if let Some(length) = literal(rest) {
            tokens.push("\"\"".to_owned());
            length
        } else if first.is_whitespace() {
            first.len_utf8()
        } else {
            let is_of_word = |c: char| c.is_alphanumeric() || c == '_';
            let length = match rest.find(|c| !is_of_word(c)) {
                Some(0) if rest.starts_with("::") => 2,
                Some(0) => first.len_utf8(),
                Some(length) => length,
                None => rest.len(),
            };
            tokens.push(rest[..length].to_owned());
            length
        };
        rest = &rest[length..];
    }
    tokens
}

/// The length of the text or the character that `code` begins with, if it does.
fn literal(code: &str) -> Option<usize> {
    let unprefixed = code.trim_start_matches(['b', 'c']);
    let prefix = code.len() - unprefixed.len();
    if prefix <= 1
        && let Some(raw) = unprefixed.strip_prefix('r')
    {
        let quoted = raw.trim_start_matches('#');
        let hashes = &raw[..raw.len() - quoted.len()];
        if let Some(text) = quoted.strip_prefix('"') {
            let end = format!("\"{hashes}");
            let length = text.find(&end).expect("the end of a raw text") + end.len();
            return Some(code.len() - text.len() + length);
        }
    }
    let quote = unprefixed.chars().next()?;
    let text = &unprefixed[quote.len_utf8()..];
    // a lifetime has no second quote behind its first character
    let is_character = quote == '\''
        && (text.starts_with('\\') || text.chars().nth(1).is_some_and(|next| next == '\''));
    if prefix > 1 || (quote != '"' && !is_character) {
        return None;
    }
    let mut escaped = false;
    let length = text.find(|c| {
        let is_end = c == quote && !escaped;
        escaped = c == '\\' && !escaped;
        is_end
    });
    Some(prefix + 1 + length.expect("the end of a text") + 1)
}

/// Leaves out each item behind `#[cfg(test)]` and `#[cfg(doc)]`.
fn without_tests(tokens: Vec<String>) -> Vec<String> {
    let mut kept = Vec::with_capacity(tokens.len());
    let mut at = 0;
    while at < tokens.len() {
        let is_test = |word: &str| {
            let attribute = ["#", "[", "cfg", "(", word, ")", "]"];
            tokens[at..].iter().take(attribute.len()).eq(attribute)
        };
        if !is_test("test") && !is_test("doc") {
            kept.push(tokens[at].clone());
            at += 1;
            continue;
        }
        let mut depth = 0;
        at += 7;
        while at < tokens.len() {
            let token = tokens[at].as_str();
            match token {
                "{" | "(" | "[" => depth += 1,
                // the end of what the item is in: of a field, or of an argument
                "}" | ")" | "]" if depth == 0 => break,
                "}" | ")" | "]" => depth -= 1,
                _ => {}
            }
            at += 1;
            if depth == 0 && matches!(token, "}" | ";") {
                break;
            }
        }
    }
    kept
}

/// The modules within a file (`mod name { ... }`) around a token.
struct Nesting {
    module: Module,
    depth: usize,
    /// The depths at which they began.
    begun: Vec<usize>,
}

impl Nesting {
    fn new(file: &Module) -> Self {
        Nesting {
            module: file.clone(),
            depth: 0,
            begun: Vec::new(),
        }
    }

    fn step(&mut self, tokens: &[String], at: usize) {
        match tokens[at].as_str() {
            "{" => {
                self.depth += 1;
                if let [.., word, name] = &tokens[..at]
                    && word == "mod"
                {
                    self.module.push(name.clone());
                    self.begun.push(self.depth);
                }
            }
            "}" => {
                if self.begun.last() == Some(&self.depth) {
                    self.module.pop();
                    self.begun.pop();
                }
                self.depth -= 1;
            }
            _ => {}
        }
    }
}

impl Source {
    /// Takes the `use` items out of the tokens.
    fn find_uses(&mut self, module: &Module, modules: &BTreeSet<Module>) {
        let tokens = std::mem::take(&mut self.tokens);
        let mut nesting = Nesting::new(module);
        let mut at = 0;
        while at < tokens.len() {
            // `use<...>` is a bound
            let is_item = tokens[at] == "use" && tokens.get(at + 1).is_some_and(|next| next != "<");
            if !is_item {
                nesting.step(&tokens, at);
                self.tokens.push(tokens[at].clone());
                at += 1;
                continue;
            }
            let before = match self.tokens.iter().rposition(|token| token == "(") {
                Some(open) if self.tokens.last().is_some_and(|last| last == ")") => open,
                _ => self.tokens.len(),
            };
            let is_public = before > 0 && self.tokens[before - 1] == "pub";
            at += 1;
            let end = tokens[at..].iter().position(|token| token == ";");
            let end = at + end.expect("the end of a use");
            let mut leaves = Vec::new();
            use_tree(&tokens[at..end], &[], &mut leaves);
            at = end + 1;
            for (path, name) in leaves {
                let Some(path) = absolute(&nesting.module, &path, modules) else {
                    continue;
                };
                if !is_public {
                    self.paths.push(path.clone());
                }
                if nesting.begun.is_empty() {
                    self.imports.insert(name, path);
                }
            }
        }
    }

    fn find_paths(&mut self, module: &Module, modules: &BTreeSet<Module>) {
        let mut nesting = Nesting::new(module);
        let mut at = 0;
        while at < self.tokens.len() {
            nesting.step(&self.tokens, at);
            let begins = is_word(&self.tokens[at]) && (at == 0 || self.tokens[at - 1] != "::");
            if !begins {
                at += 1;
                continue;
            }
            let mut path = vec![self.tokens[at].clone()];
            at += 1;
            while let [separator, word, ..] = &self.tokens[at..]
                && separator == "::"
                && is_word(word)
            {
                path.push(word.clone());
                at += 2;
            }
            let known = match self.imports.get(&path[0]) {
                Some(import) => Some([import.as_slice(), &path[1..]].concat()),
                None if path.len() > 1 => absolute(&nesting.module, &path, modules),
                None => None,
            };
            self.paths.extend(known);
        }
    }
}

/// The paths of a `use`, each with the name that it gets.
fn use_tree(tokens: &[String], prefix: &[String], leaves: &mut Vec<(Module, String)>) {
    let mut path = prefix.to_vec();
    for (at, token) in tokens.iter().enumerate() {
        match token.as_str() {
            "::" => {}
            "{" => {
                let inner = &tokens[at + 1..tokens.len() - 1];
                let mut depth = 0;
                let branches = inner.split(|token| {
                    match token.as_str() {
                        "{" => depth += 1,
                        "}" => depth -= 1,
                        _ => {}
                    }
                    depth == 0 && token == ","
                });
                for branch in branches.filter(|branch| !branch.is_empty()) {
                    use_tree(branch, &path, leaves);
                }
                return;
            }
            "as" => {
                let name = tokens[at + 1].clone();
                leaves.push((path, name));
                return;
            }
            "self" if !path.is_empty() => {}
            word => path.push(word.to_owned()),
        }
    }
    let name = path.last().cloned().unwrap_or_default();
    leaves.push((path, name));
}

/// `path` from the crate's root on; none if it leads out of the crate.
fn absolute(module: &Module, path: &[String], modules: &BTreeSet<Module>) -> Option<Module> {
    let mut from = module.as_slice();
    let mut path = path;
    match path.first()?.as_str() {
        "crate" => return Some(path[1..].to_vec()),
        "self" => path = &path[1..],
        "super" => {
            while path.first().is_some_and(|word| word == "super") {
                (from, path) = (&from[..from.len().checked_sub(1)?], &path[1..]);
            }
        }
        child => {
            let child = [from, &[child.to_owned()]].concat();
            modules.get(&child)?;
        }
    }
    Some([from, path].concat())
}

fn is_word(token: &str) -> bool {
    token.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

/// The file that `path` leads to, through all files that hand it on.
fn defined_in(path: &[String], files: &BTreeMap<Module, Source>, hops: usize) -> Option<Module> {
    let length = (1..=path.len()).rev();
    let module = length
        .map(|length| &path[..length])
        .find(|module| files.contains_key(*module))?;
    let next = path.get(module.len());
    let handed_on = next.and_then(|name| files[module].imports.get(name));
    match handed_on {
        Some(import) if hops > 0 => {
            let path = [import.as_slice(), &path[module.len() + 1..]].concat();
            defined_in(&path, files, hops - 1)
        }
        _ => Some(module.to_vec()),
    }
}

fn graph(files: &BTreeMap<Module, Source>) -> Graph {
    let mut graph = Graph::new();
    for (module, source) in files {
        let edges = graph.entry(module.join("/")).or_default();
        for path in &source.paths {
            // a module that is imported is used by the paths that begin with it
            if files.contains_key(path) {
                continue;
            }
            match defined_in(path, files, 10) {
                Some(other) if other != *module => {
                    let paths = edges.entry(other.join("/")).or_default();
                    paths.insert(path.join("::"));
                }
                _ => {}
            }
        }
    }
    graph
}

fn top_level(graph: &Graph) -> Graph {
    let top = |file: &str| file.split('/').next().unwrap_or_default().to_owned();
    let mut modules = Graph::new();
    for (file, edges) in graph {
        let of_module = modules.entry(top(file)).or_default();
        for (other, _) in edges.iter().filter(|(other, _)| top(other) != top(file)) {
            let paths = of_module.entry(top(other)).or_default();
            paths.insert(format!("{file} to {other}"));
        }
    }
    modules
}

/// One of the cycles, with the paths that make it.
fn cycle(graph: &Graph) -> Option<String> {
    let (mut done, mut way) = (BTreeSet::new(), Vec::new());
    graph
        .keys()
        .find_map(|node| visit(node, graph, &mut done, &mut way))
}

fn visit<'a>(
    node: &'a str,
    graph: &'a Graph,
    done: &mut BTreeSet<&'a str>,
    way: &mut Vec<&'a str>,
) -> Option<String> {
    if let Some(begin) = way.iter().position(|other| *other == node) {
        let steps = way[begin..].windows(2).map(|pair| (pair[0], pair[1]));
        let steps = steps.chain([(way[way.len() - 1], node)]);
        let steps = steps.map(|(from, to)| {
            let paths: Vec<&str> = graph[from][to].iter().map(String::as_str).collect();
            format!("{from} -> {to} ({})", paths.join(", "))
        });
        return Some(steps.collect::<Vec<_>>().join("; "));
    }
    if !done.insert(node) {
        return None;
    }
    way.push(node);
    let found = graph
        .get(node)
        .into_iter()
        .flat_map(BTreeMap::keys)
        .find_map(|other| visit(other, graph, done, way));
    way.pop();
    found
}
