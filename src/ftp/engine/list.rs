//! `LIST`, `NLST`, `MLSD`, `STAT`: a listing to the client's data connection, or for a reply.

use std::time::SystemTime;

use async_trait::async_trait;
use libunftp::options::{Reply, SiteCommandContext, SiteCommandHandler};
use unftp_core::auth::DefaultUser;

use crate::auth::{Right, hide_behind};
use crate::charset::Charset;
use crate::ftp::data_connection::DataConnection;
use crate::ftp::engine::backend::{Backend, out_of_step};
use crate::ftp::engine::request::{ListRequest, StorageOutcome, StorageRequest};
use crate::ftp::glob::matches;
use crate::ftp::listformat::Format;
use crate::ftp::session::state::Session;
use crate::store::{Entry, Sink, StoreError, VirtualPath};

/// Bytes of listing lines that are gathered before they are written.
const LIST_CHUNK: usize = 16 * 1024;

/// The most lines of a listing that is sent as a reply (`STAT path`).
const REPLY_LINES: u64 = 1000;

/// Takes [`StorageRequest::List`].
#[derive(Debug)]
pub(super) struct ListHandler;

#[async_trait]
impl SiteCommandHandler<Backend, DefaultUser> for ListHandler {
    async fn handle(&self, context: &SiteCommandContext<Backend, DefaultUser>) -> Reply {
        match context.storage.session.take_request() {
            Some(StorageRequest::List(request)) => {
                let backend = &context.storage;
                backend.reply(backend.list_entries(request)).await
            }
            _ => out_of_step(),
        }
    }
}

impl Backend {
    async fn list_entries(&self, request: ListRequest) -> Result<StorageOutcome, StoreError> {
        let ListRequest {
            path,
            format,
            pattern,
            directory,
            charset,
            set_times,
            offer,
        } = request;
        let mut outlet = Outlet::new(format, pattern, directory, charset);
        let literal = match &outlet.pattern {
            Some(pattern) => self.named_literally(&path, pattern).await?,
            None => None,
        };
        let path = match &literal {
            Some(named) => {
                outlet.directory += &format!("{}/", named.name());
                outlet.pattern = None;
                named
            }
            None => &path,
        };
        let at = self.tree.permitted(path, Right::List)?;
        let mounts = self.tree.user().mount_names(path);
        let mut listing = at.store.list(at.home.directory(&at.path)?);
        if set_times {
            listing = listing.with_set_times();
        }
        let mut page = match self.or_interrupted(listing.next_page()).await {
            Err(StoreError::NotFound) if at.path.is_root() || !mounts.is_empty() => {
                Some(Vec::new())
            }
            // not a directory: a file lists itself, under the name that the client gave
            Err(StoreError::NotFound) => {
                let file = self
                    .or_interrupted(at.store.file_entry(at.home, &at.path))
                    .await?;
                if matches!(outlet.format, Format::Facts(_)) {
                    return Err(StoreError::NotADirectory);
                }
                // a pattern of names below a file
                if outlet.pattern.is_some() {
                    return Err(StoreError::NotDirectory);
                }
                outlet.name_file(path);
                Some(vec![file])
            }
            page => page?,
        };
        if let Some(entries) = page.as_mut().filter(|_| !mounts.is_empty()) {
            hide_behind(&mounts, entries);
            entries.extend(mounts.iter().map(|name| Entry::directory(name)));
            entries.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        }
        if let Some(mut offer) = offer {
            outlet.data = Some(offer.accept().await.ok_or_else(|| self.given_up())?);
        }
        while let Some(entries) = page {
            for entry in &entries {
                outlet.line(entry, &self.session).await?;
            }
            page = if outlet.is_cut {
                None
            } else {
                self.or_interrupted(listing.next_page()).await?
            };
            if let Some(entries) = &mut page {
                hide_behind(&mounts, entries);
            }
        }
        outlet.left_out = listing.left_out();
        outlet.finish().await
    }

    /// An entry that has the name of a pattern, such as a file `a[1].txt`: it is what the client means.
    async fn named_literally(
        &self,
        directory: &VirtualPath,
        pattern: &str,
    ) -> Result<Option<VirtualPath>, StoreError> {
        let named = VirtualPath::resolve(directory, pattern)?;
        let at = self.tree.permitted(&named, Right::List)?;
        if self.tree.user().leads_to_mount(&named) {
            return Ok(Some(named));
        }
        // one request where there is no such name, which is nearly always
        if !self
            .or_interrupted(at.store.any_begins(at.home, &at.path))
            .await?
        {
            return Ok(None);
        }
        match self.or_interrupted(at.store.entry(at.home, &at.path)).await {
            Ok(_) => Ok(Some(named)),
            Err(StoreError::NotFound) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// Where the lines of a listing go.
struct Outlet {
    format: Format,
    pattern: Option<String>,
    directory: String,
    charset: Charset,
    now: SystemTime,
    text: String,
    entries: u64,
    /// Entries were left out, since a reply has no room for more.
    is_cut: bool,
    left_out: u64,
    data: Option<DataConnection>,
}

impl Outlet {
    fn new(format: Format, pattern: Option<String>, directory: String, charset: Charset) -> Self {
        Outlet {
            format,
            pattern,
            directory,
            charset,
            now: SystemTime::now(),
            text: String::new(),
            entries: 0,
            is_cut: false,
            left_out: 0,
            data: None,
        }
    }

    /// Leaves of the client's argument, which is the file's own name, what stands before the last component.
    fn name_file(&mut self, path: &VirtualPath) {
        let argument = self.directory.trim_end_matches('/');
        let (before, name) = argument.rsplit_once('/').unwrap_or(("", argument));
        let parent = path.parent();
        self.directory = match (name == path.name(), before) {
            (true, "") if !argument.starts_with('/') => String::new(),
            (true, before) => format!("{before}/"),
            // an argument such as `f/.` has no name to put behind something
            (false, _) => format!("{}/", parent.as_str().trim_end_matches('/')),
        };
    }

    async fn line(&mut self, entry: &Entry, session: &Session) -> Result<(), StoreError> {
        let pattern = self.pattern.as_deref();
        if pattern.is_some_and(|pattern| !matches(pattern, &entry.name)) {
            return Ok(());
        }
        if self.data.is_none() && self.entries >= REPLY_LINES {
            self.is_cut = true;
            return Ok(());
        }
        if !self.charset.is_utf8() && !entry.name.is_ascii() {
            session.shown().note(&self.charset.encode(&entry.name));
        }
        self.format
            .line(entry, &self.directory, self.now, &mut self.text);
        self.entries += 1;
        if self.text.len() >= LIST_CHUNK
            && let Some(data) = &mut self.data
        {
            data.write(&self.charset.encode(&self.text))
                .await
                .map_err(StoreError::Interrupted)?;
            self.text.clear();
        }
        Ok(())
    }

    async fn finish(mut self) -> Result<StorageOutcome, StoreError> {
        if let Some(mut data) = self.data.take() {
            data.write(&self.charset.encode(&self.text))
                .await
                .map_err(StoreError::Interrupted)?;
            data.transfer()
                .commit(false)
                .await
                .map_err(StoreError::Interrupted)?;
            data.close().await.map_err(StoreError::Interrupted)?;
            self.text.clear();
        }
        Ok(StorageOutcome::Listed {
            entries: self.entries,
            left_out: self.left_out,
            text: self.text,
            is_cut: self.is_cut,
        })
    }
}
