//! `MFMT` and `HASH`: a file's time, and the hashes that the store keeps of it.

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

#[async_trait]
impl SiteCommandHandler<Backend, DefaultUser> for SetTimeHandler {
    async fn handle(&self, context: &SiteCommandContext<Backend, DefaultUser>) -> Reply {
        let backend = &context.storage;
        let Some(StorageRequest::SetTime(path, time)) = backend.session.take_request() else {
            return out_of_step();
        };
        let call = async {
            let home = backend.home(Right::Write)?;
            let entry = backend.store.set_modified(home, &path, time).await?;
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
            let hashes = backend
                .store
                .hashes(backend.home(Right::Read)?, &path)
                .await?;
            Ok(StorageOutcome::Hashes(hashes))
        };
        backend.reply(call).await
    }
}
