//! The arguments of LIST and NLST as the guide describes them, written a second time: options and patterns.

/// Takes the options of `ls` off; an error for a recursive listing, which is refused with 504.
pub fn without_options(argument: &str) -> Result<&str, ()> {
    let Some((word, rest)) = split_option(argument) else {
        return Ok(argument);
    };
    if word == "--" && argument.starts_with("-- ") {
        return Ok(&argument[3..]);
    }
    if word == "--recursive" || (!word.starts_with("--") && word.contains('R')) {
        return Err(());
    }
    without_options(rest)
}

fn split_option(argument: &str) -> Option<(&str, &str)> {
    let word = argument.split(' ').next().unwrap_or_default();
    let is_option = word.starts_with('-')
        && word[1..]
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || c == '-');
    is_option.then(|| (word, argument[word.len()..].trim_start_matches(' ')))
}

/// True for a name that stands for others.
pub fn is_pattern(name: &str) -> bool {
    let letters: Vec<char> = name.chars().collect();
    (0..letters.len()).any(|at| match letters[at] {
        '*' | '?' => true,
        '[' => class(&letters[at..]).is_some(),
        _ => false,
    })
}

/// True if `name` fits `pattern`.
pub fn fits(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) =
        (pattern.chars().collect(), name.chars().collect());
    fits_at(&pattern, &name)
}

fn fits_at(pattern: &[char], name: &[char]) -> bool {
    let Some(first) = pattern.first() else {
        return name.is_empty();
    };
    if *first == '*' {
        return (0..=name.len()).any(|taken| fits_at(&pattern[1..], &name[taken..]));
    }
    let Some(letter) = name.first() else {
        return false;
    };
    let (fits, length) = match (first, class(pattern)) {
        ('?', _) => (true, 1),
        ('[', Some((inside, length))) => (is_in(inside, *letter), length),
        _ => (first == letter, 1),
    };
    fits && fits_at(&pattern[length..], &name[1..])
}

/// The inside of a class at the beginning, and the length of all of it.
fn class(pattern: &[char]) -> Option<(&[char], usize)> {
    let negated = usize::from(matches!(pattern.get(1), Some('!' | '^')));
    // a `]` right behind the beginning is a letter
    let from = 2 + negated;
    let end = from
        + pattern
            .get(from..)?
            .iter()
            .position(|letter| *letter == ']')?;
    (pattern[0] == '[').then(|| (&pattern[1..end], end + 1))
}

fn is_in(inside: &[char], letter: char) -> bool {
    let (is_negated, mut inside) = match inside {
        ['!' | '^', rest @ ..] if !rest.is_empty() => (true, rest),
        inside => (false, inside),
    };
    let mut found = false;
    while let Some(first) = inside.first() {
        let (last, length) = match inside {
            [_, '-', last, ..] => (last, 3),
            _ => (first, 1),
        };
        found |= (*first..=*last).contains(&letter);
        inside = &inside[length..];
    }
    found != is_negated
}
