//! `MFMT`, `HASH` and `SIZE`: a file's time, the hashes that the store keeps of it, and what is held of an upload.

use async_trait::async_trait;
use libunftp::options::{Reply, SiteCommandContext, SiteCommandHandler};
use unftp_core::auth::DefaultUser;

use crate::auth::Right;
use crate::ftp::engine::backend::{Backend, out_of_step};
use crate::ftp::engine::request::{StorageOutcome, StorageRequest};

/// Takes [`StorageRequest::SetTime`].
#[derive(Debug)]
pub(super) struct SetTimeHandler;

/// Takes [`StorageRequest::Hash`].
#[derive(Debug)]
pub(super) struct HashHandler;

/// Takes [`StorageRequest::Size`].
#[derive(Debug)]
pub(super) struct SizeHandler;

#[async_trait]
impl SiteCommandHandler<Backend, DefaultUser> for SizeHandler {
    async fn handle(&self, context: &SiteCommandContext<Backend, DefaultUser>) -> Reply {
        let backend = &context.storage;
        let Some(StorageRequest::Size(path)) = backend.session.take_request() else {
            return out_of_step();
        };
        let call = async {
            // to whoever can't go on with an upload, the file is the object that is there
            if let Ok(at) = backend.tree.permitted_file(&path, Right::Write)
                && !at.path.is_root()
                && let Some(bytes) = at.store.held_bytes(&at.key()?).await?
            {
                return Ok(StorageOutcome::Held(bytes));
            }
            let entry = backend.tree.entry(&path).await?;
            Ok(StorageOutcome::Entry(entry))
        };
        backend.reply(call).await
    }
}

#[async_trait]
impl SiteCommandHandler<Backend, DefaultUser> for SetTimeHandler {
    async fn handle(&self, context: &SiteCommandContext<Backend, DefaultUser>) -> Reply {
        let backend = &context.storage;
        let Some(StorageRequest::SetTime(path, time)) = backend.session.take_request() else {
            return out_of_step();
        };
        let call = async {
            let at = backend.tree.permitted_file(&path, Right::Write)?;
            let entry = at.store.set_modified(at.home, &at.path, time).await?;
            Ok(StorageOutcome::Entry(entry))
        };
        backend.reply(call).await
    }
}

#[async_trait]
impl SiteCommandHandler<Backend, DefaultUser> for HashHandler {
    async fn handle(&self, context: &SiteCommandContext<Backend, DefaultUser>) -> Reply {
        let backend = &context.storage;
        let Some(StorageRequest::Hash(path)) = backend.session.take_request() else {
            return out_of_step();
        };
        let call = async {
            let at = backend.tree.permitted_file(&path, Right::Read)?;
            let hashes = at.store.hashes(at.home, &at.path).await?;
            Ok(StorageOutcome::Hashes(hashes))
        };
        backend.reply(call).await
    }
}
