//! What the store has, past the gateway, compared with the model.

use std::collections::BTreeSet;

use super::machine::State;
use super::mounts::{Mount, place, places};
use super::tree::{is_below, parent};
use crate::support::TestGateway;

/// Compares all keys and sizes in a home and its mounts, and the content of what the last step wrote.
pub async fn compare(gateway: &TestGateway, home: &str, state: &State) -> Result<(), String> {
    let tree = &state.tree;
    let (mut files, mut directories) = (BTreeSet::new(), BTreeSet::new());
    for mount in places(tree.has_mounts) {
        let found = found(gateway, home, mount).await?;
        files.extend(found.files);
        directories.extend(found.directories);
    }
    let expected = tree.files().iter();
    let expected: BTreeSet<(String, usize)> = expected
        .map(|(path, file)| (path.clone(), file.content.len()))
        .collect();
    ensure!(
        files == expected,
        "the store has {files:?}, the model {expected:?}"
    );
    let expected = tree.made_directories();
    ensure!(
        &directories == expected,
        "the store has the directories {directories:?}, the model {expected:?}"
    );
    for (path, file) in tree.files() {
        if file.written == state.step {
            let mount = place(tree.has_mounts, path);
            let key = format!("{}{}", mount.directory(home), &path[mount.path.len()..]);
            let stored = gateway.object_in(mount.bucket, &key).await;
            let is_same = stored.as_ref() == Some(&*file.content);
            ensure!(is_same, "{path} has other bytes in the store");
        }
    }
    Ok(())
}

/// The content of a place, by the paths in the tree.
#[derive(Default)]
struct Found {
    files: BTreeSet<(String, usize)>,
    directories: BTreeSet<String>,
}

async fn found(gateway: &TestGateway, home: &str, mount: &Mount) -> Result<Found, String> {
    let directory = mount.directory(home);
    let page = gateway.s3().list_objects_v2();
    let page = page.bucket(mount.bucket).prefix(&directory).send().await;
    let page = page.map_err(|error| error.to_string())?;
    let mut found = Found::default();
    for object in page.contents() {
        let (key, size) = (object.key().unwrap_or_default(), object.size());
        let path = key
            .strip_prefix(&directory)
            .filter(|rest| rest.starts_with('/'));
        // the homes of other sequences may begin in the same way
        let Some(path) = path else { continue };
        let path = format!("{}{path}", mount.path);
        let mut above = path.clone();
        if let Some(directory) = path.strip_suffix('/') {
            found.directories.insert(directory.to_owned());
            above = directory.to_owned();
        } else {
            let size = size.unwrap_or_default() as usize;
            found.files.insert((path, size));
        }
        while parent(&above) != "/" && is_below(&parent(&above), mount.path) {
            above = parent(&above);
            found.directories.insert(above.clone());
        }
    }
    found.directories.remove(mount.path);
    Ok(found)
}
