//! Reads the keys of the entries of a list of sections.

use figment::value::Value;

use super::keys::{Key, Kind};
use super::reader::{Origin, Reader, Refused, Setting};

/// A key in an entry.
struct EntryTexts {
    path: String,
    /// The key's value is a list.
    is_list: bool,
    /// None where it is not set.
    texts: Vec<String>,
    origin: Origin,
}

impl Reader {
    /// The number of entries of a list of sections; [`Reader::entry`] asks for one by its index.
    pub fn sections(&mut self, path: &'static str) -> usize {
        let (entries, origin) = match self.root.find_ref(path) {
            Some(value) => (
                value.as_array().map_or(0, <[Value]>::len),
                self.origin(value),
            ),
            None => (0, Origin::Default),
        };
        let value = (entries > 0).then(|| entries.to_string());
        self.settings.insert(
            path,
            Setting {
                value,
                origin: origin.to_string(),
            },
        );
        entries
    }

    /// The value of `name` in entry `index` of the list of sections `list`; its absence is a problem.
    pub fn entry<T>(
        &mut self,
        list: &str,
        index: usize,
        name: &str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<T> {
        if self.entry_texts(list, index, name)?.texts.is_empty() {
            let origin = self.entry_origin(list, index);
            if !self.has_unknown_key(&format!("{list}[{index}].")) {
                let path = format!("{list}[{index}].{name}");
                self.report(&path, None, &origin, "this is required; add it");
            }
            return None;
        }
        self.entry_optional(list, index, name, parse).ok().flatten()
    }

    /// As [`Reader::entry`], with none where it is not set, and an error where it was refused.
    pub fn entry_optional<T>(
        &mut self,
        list: &str,
        index: usize,
        name: &str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Result<Option<T>, Refused> {
        let values = self.entry_list(list, index, name, parse)?;
        Ok(values.into_iter().next())
    }

    /// The values of the list `name` in entry `index`; none where it is not set.
    pub fn entry_list<T>(
        &mut self,
        list: &str,
        index: usize,
        name: &str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Result<Vec<T>, Refused> {
        let Some(EntryTexts {
            path,
            is_list,
            texts,
            origin,
        }) = self.entry_texts(list, index, name)
        else {
            return Err(Refused);
        };
        let texts: Vec<String> = if is_list {
            let pieces = texts.iter().flat_map(|text| text.split(','));
            pieces.map(|piece| piece.trim().to_string()).collect()
        } else {
            texts
        };
        if texts.is_empty() && self.entry_is_set(list, index, name) {
            let advice = "the list is empty; write at least one entry, or remove the key";
            self.report(&path, None, &origin, advice);
            return Err(Refused);
        }
        let mut values = Vec::new();
        let mut refused = false;
        for text in texts {
            match parse(&text) {
                Ok(value) => values.push(value),
                Err(advice) => {
                    refused = true;
                    self.report(&path, Some(self.table.shown(&path, &text)), &origin, advice);
                }
            }
        }
        if refused { Err(Refused) } else { Ok(values) }
    }

    /// The texts of a key in an entry, none of them where it is not set; `None` where the entry itself has been refused.
    fn entry_texts(&self, list: &str, index: usize, name: &str) -> Option<EntryTexts> {
        let section = self.entries(list)?.get(index)?;
        section.as_dict()?;
        let path = format!("{list}[{index}].{name}");
        let key = self.table.find_indexed(&path);
        let is_list = key.is_some_and(|key| key.kind == Kind::List);
        let default = key.and_then(Key::default_text);
        let (texts, origin) = match (section.find_ref(name), default) {
            (Some(Value::Array(tag, items)), _) => {
                let texts = items.iter().filter_map(Value::as_str);
                let origin = self.origin(&Value::Array(*tag, Vec::new()));
                (texts.map(str::to_string).collect(), origin)
            }
            (Some(value), _) => (vec![value.as_str()?.to_string()], self.origin(value)),
            (None, Some(text)) => (vec![text.to_string()], Origin::Default),
            (None, None) => (Vec::new(), self.origin(section)),
        };
        Some(EntryTexts {
            path,
            is_list,
            texts,
            origin,
        })
    }

    /// The number of sections in `list`, which may stand in an entry of another list: `users[3].mounts`.
    pub fn entry_count(&self, list: &str) -> usize {
        self.entries(list).map_or(0, <[Value]>::len)
    }

    fn entries(&self, list: &str) -> Option<&[Value]> {
        let (mut section, mut rest) = (&self.root, list);
        while let Some((outer, inner)) = rest.split_once('[') {
            let (index, below) = inner.split_once("].")?;
            let index: usize = index.parse().ok()?;
            section = section.find_ref(outer)?.as_array()?.get(index)?;
            rest = below;
        }
        section.find_ref(rest)?.as_array()
    }

    fn entry_origin(&self, list: &str, index: usize) -> Origin {
        let section = self.entries(list).and_then(|entries| entries.get(index));
        section.map_or(Origin::Default, |section| self.origin(section))
    }

    /// True if `name` stands in entry `index` of the list of sections `list`.
    pub fn entry_is_set(&self, list: &str, index: usize, name: &str) -> bool {
        self.entries(list)
            .and_then(|entries| entries.get(index))
            .is_some_and(|section| section.find_ref(name).is_some())
    }

    /// True if a key below `inside` was refused by name: it probably is the one that is missed.
    fn has_unknown_key(&self, inside: &str) -> bool {
        self.problems.iter().any(|problem| {
            problem.key.starts_with(inside) && self.table.find_indexed(&problem.key).is_none()
        })
    }

    /// Reports `name` in entry `index` of the list of sections `list`; `value` is what it has, if it has one.
    pub fn refuse_entry(
        &mut self,
        list: &str,
        index: usize,
        name: &str,
        value: Option<&str>,
        advice: &str,
    ) {
        let path = format!("{list}[{index}].{name}");
        let origin = self.entry_origin(list, index);
        let value = value.map(|value| self.table.shown(&path, value));
        self.report(&path, value, &origin, advice);
    }
}
