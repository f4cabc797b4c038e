//! Order among the commands of this process that change the same name.
//!
//! An upload takes its name for the final request only, never while a client sends; a rename takes both of its names, and
//! within a directory each file for the moment in which it is copied or deleted. Other replicas and other programs are
//! not ordered by this: the store's conditions do that, see [`conditions`](super::conditions).
//!
//! Invariant: a ticket waits only for tickets that were issued before it, or that wait for nobody themselves, so no two
//! commands ever wait for each other. There are as many tickets as commands under way, and one per object that a rename
//! of a directory has in work.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};
use tokio_util::sync::CancellationToken;

/// The claim of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scope {
    /// One name: a file, or the marker of a directory.
    Name,
    /// A name and all names below it.
    Tree,
    /// A directory as such, while the files in it may be changed one by one.
    Directory,
    /// One file, for a command that has [`Scope::Directory`] above it.
    Inner,
}

impl Scope {
    /// True if the two can't be in work at the same time, at the same name.
    fn excludes(self, other: Scope) -> bool {
        use Scope::{Directory, Inner, Name, Tree};
        match (self, other) {
            (Directory, Directory) => true,
            (Directory, Name | Inner) | (Name | Inner, Directory) => false,
            // the directory above keeps trees out
            (Inner, Tree) | (Tree, Inner) => false,
            (Tree, _) | (_, Tree) | (Name | Inner, Name | Inner) => true,
        }
    }

    /// True if this, on a directory, excludes `other` on a name below it.
    fn excludes_below(self, other: Scope) -> bool {
        match self {
            Scope::Tree => true,
            Scope::Directory => matches!(other, Scope::Tree | Scope::Directory),
            Scope::Name | Scope::Inner => false,
        }
    }
}

/// The names in work.
#[derive(Debug, Default)]
pub(super) struct NameLocks(Mutex<Tickets>);

#[derive(Debug, Default)]
struct Tickets {
    issued: u64,
    /// By bucket and key, without a slash at the end.
    by_name: BTreeMap<String, Vec<Ticket>>,
}

#[derive(Debug)]
struct Ticket {
    /// The command; it may have several.
    id: u64,
    scope: Scope,
    granted: bool,
    released: CancellationToken,
}

impl Tickets {
    /// A ticket that must be released before `(id, scope)` at `name` may be granted.
    fn blocking(&self, name: &str, id: u64, scope: Scope) -> Option<CancellationToken> {
        // an inner one never waits for those that wait: they may wait for the directory around it
        let counts = |other: &&Ticket| match scope {
            Scope::Inner => other.granted && other.id != id,
            _ => other.id < id || (other.granted && other.id != id),
        };
        let at = self.by_name.get(name).into_iter().flatten();
        let at = at.filter(|other| scope.excludes(other.scope));
        let above = name
            .match_indices('/')
            .filter_map(|(end, _)| self.by_name.get(&name[..end]))
            .flatten()
            .filter(|other| scope != Scope::Inner && other.scope.excludes_below(scope));
        let is_wide = matches!(scope, Scope::Tree | Scope::Directory);
        // '0' follows '/'
        let below = is_wide.then(|| self.by_name.range(format!("{name}/")..format!("{name}0")));
        let below = below
            .into_iter()
            .flatten()
            .flat_map(|(_, tickets)| tickets)
            .filter(|other| scope.excludes_below(other.scope));
        at.chain(above)
            .chain(below)
            .find(counts)
            .map(|other| other.released.clone())
    }

    /// Takes a place in the order for one command; returns its id.
    fn issue(&mut self, wanted: &[(String, Scope)]) -> u64 {
        self.issued += 1;
        for (name, scope) in wanted {
            let of_name = self.by_name.entry(name.clone()).or_default();
            of_name.push(Ticket {
                id: self.issued,
                scope: *scope,
                granted: false,
                released: CancellationToken::new(),
            });
        }
        self.issued
    }

    fn grant(&mut self, name: &str, id: u64, scope: Scope) {
        let tickets = self.by_name.get_mut(name).into_iter().flatten();
        for ticket in tickets.filter(|ticket| ticket.id == id && ticket.scope == scope) {
            ticket.granted = true;
        }
    }
}

impl NameLocks {
    fn lock(&self) -> MutexGuard<'_, Tickets> {
        self.0.lock()
    }

    /// Waits until all of `wanted` are free. Dropping the wait gives up what it had.
    pub(super) async fn acquire(self: &Arc<Self>, wanted: Vec<(String, Scope)>) -> NameGuard {
        let id = self.lock().issue(&wanted);
        let guard = NameGuard {
            locks: Arc::clone(self),
            id,
            names: wanted,
        };
        for (name, scope) in &guard.names {
            loop {
                let blocking = {
                    let mut tickets = self.lock();
                    let blocking = tickets.blocking(name, id, *scope);
                    if blocking.is_none() {
                        tickets.grant(name, id, *scope);
                    }
                    blocking
                };
                match blocking {
                    None => break,
                    Some(released) => released.cancelled().await,
                }
            }
        }
        guard
    }
}

/// Names in work by one command, until it is dropped.
#[derive(Debug)]
pub(super) struct NameGuard {
    locks: Arc<NameLocks>,
    id: u64,
    names: Vec<(String, Scope)>,
}

impl NameGuard {
    /// Gives up those of one scope.
    pub(super) fn release(&mut self, scope: Scope) {
        let (released, kept) = std::mem::take(&mut self.names)
            .into_iter()
            .partition(|(_, of)| *of == scope);
        self.names = kept;
        self.remove(&released);
    }

    fn remove(&self, names: &[(String, Scope)]) {
        let mut tickets = self.locks.lock();
        for (name, scope) in names {
            let Some(of_name) = tickets.by_name.get_mut(name) else {
                continue;
            };
            of_name.retain(|ticket| {
                let is_ours = ticket.id == self.id && ticket.scope == *scope;
                if is_ours {
                    ticket.released.cancel();
                }
                !is_ours
            });
            if of_name.is_empty() {
                tickets.by_name.remove(name);
            }
        }
    }
}

impl Drop for NameGuard {
    fn drop(&mut self) {
        self.remove(&self.names);
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    fn acquire(
        locks: &Arc<NameLocks>,
        names: &[(&str, Scope)],
    ) -> futures::future::BoxFuture<'static, NameGuard> {
        let names = names
            .iter()
            .map(|(name, scope)| ((*name).to_owned(), *scope));
        let (locks, names) = (Arc::clone(locks), names.collect());
        let mut acquired = async move { locks.acquire(names).await }.boxed();
        // its place in the order is taken now
        match (&mut acquired).now_or_never() {
            Some(guard) => futures::future::ready(guard).boxed(),
            None => acquired,
        }
    }

    fn is_free(locks: &Arc<NameLocks>, name: &str, scope: Scope) -> bool {
        acquire(locks, &[(name, scope)]).now_or_never().is_some()
    }

    #[tokio::test]
    async fn what_excludes_each_other_waits_and_all_else_does_not() {
        use Scope::{Directory, Inner, Name, Tree};
        for (held, wanted, free) in [
            (("b/a", Name), ("b/a", Name), false),
            (("b/a", Name), ("b/ab", Name), true),
            (("b/a", Name), ("b/a/x", Name), true),
            (("b/a", Tree), ("b/a", Name), false),
            (("b/a", Tree), ("b/a/x/y", Name), false),
            (("b/a", Tree), ("b/a0", Tree), true),
            (("b/a", Tree), ("b/a-b", Name), true),
            (("b/a/x", Name), ("b/a", Tree), false),
            (("b/a/x", Name), ("b/a", Directory), true),
            (("b/a", Directory), ("b/a/x", Name), true),
            (("b/a", Directory), ("b/a/x", Tree), false),
            (("b/a", Directory), ("b/a", Tree), false),
            (("b/a/x", Directory), ("b/a", Directory), false),
            (("b/a/x", Inner), ("b/a/x", Name), false),
            (("b/a/x", Name), ("b/a/x", Inner), false),
        ] {
            let locks = Arc::new(NameLocks::default());
            let guard = acquire(&locks, &[held]).await;
            assert_eq!(
                is_free(&locks, wanted.0, wanted.1),
                free,
                "{held:?} {wanted:?}"
            );
            drop(guard);
            assert!(is_free(&locks, wanted.0, wanted.1), "{held:?} {wanted:?}");
            assert!(locks.lock().by_name.is_empty());
        }
    }

    #[tokio::test]
    async fn names_are_granted_in_the_order_of_arrival_and_a_wait_that_is_dropped_is_forgotten() {
        let locks = Arc::new(NameLocks::default());
        let first = acquire(&locks, &[("b/a", Scope::Tree), ("b/c", Scope::Tree)]).await;
        let second = acquire(&locks, &[("b/c", Scope::Name)]);
        let mut third = acquire(&locks, &[("b/c", Scope::Name)]);
        assert!((&mut third).now_or_never().is_none());
        drop(first);
        assert!((&mut third).now_or_never().is_none());
        drop(second);
        drop(third.now_or_never().expect("free"));
        assert!(locks.lock().by_name.is_empty());
    }

    #[tokio::test]
    async fn a_rename_that_has_a_directory_never_waits_for_those_who_wait_for_it() {
        let locks = Arc::new(NameLocks::default());
        let mut rename = acquire(&locks, &[("b/d", Scope::Tree), ("b/d", Scope::Directory)]).await;
        rename.release(Scope::Tree);
        let remove = acquire(&locks, &[("b/d", Scope::Tree)]);
        let mut store = acquire(&locks, &[("b/d/f", Scope::Name)]);
        assert!((&mut store).now_or_never().is_none(), "behind the removal");
        let file = acquire(&locks, &[("b/d/f", Scope::Inner)])
            .now_or_never()
            .expect("not behind the upload that waits");
        drop(remove);
        assert!((&mut store).now_or_never().is_none(), "behind the copy");
        drop(file);
        assert!(store.now_or_never().is_some());
    }
}
