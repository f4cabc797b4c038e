//! `RETR`: a download to the client's data connection.

use async_trait::async_trait;
use libunftp::options::{Reply, SiteCommandContext, SiteCommandHandler};
use unftp_core::auth::DefaultUser;

use crate::auth::Right;
use crate::ftp::ascii::AsciiSink;
use crate::ftp::engine::backend::{Backend, out_of_step};
use crate::ftp::engine::request::{RetrieveRequest, StorageOutcome, StorageRequest};
use crate::store::StoreError;

/// Takes [`StorageRequest::Retrieve`].
#[derive(Debug)]
pub(super) struct RetrieveHandler;

#[async_trait]
impl SiteCommandHandler<Backend, DefaultUser> for RetrieveHandler {
    async fn handle(&self, context: &SiteCommandContext<Backend, DefaultUser>) -> Reply {
        match context.storage.session.take_request() {
            Some(StorageRequest::Retrieve(request)) => {
                let backend = &context.storage;
                backend.reply(backend.send(request)).await
            }
            _ => out_of_step(),
        }
    }
}

impl Backend {
    async fn send(&self, request: RetrieveRequest) -> Result<StorageOutcome, StoreError> {
        let RetrieveRequest {
            path,
            offset,
            ascii,
            mut offer,
        } = request;
        let at = self.tree.permitted_file(&path, Right::Read)?;
        let key = at.key()?;
        let download = match self.or_interrupted(at.store.open(&key, offset)).await {
            Err(StoreError::NotFound) => {
                self.or_interrupted(at.store.directory_entry(at.home, &at.path))
                    .await?;
                return Err(StoreError::IsDirectory);
            }
            download => download?,
        };
        let mut data = offer.accept().await.ok_or_else(|| self.given_up())?;
        // of text nobody knows how many bytes will cross the wire
        if let Some(size) = download.object_size().filter(|_| !ascii) {
            data.transfer().expect(size.saturating_sub(offset));
        }
        let sent = if ascii {
            download.send(&mut AsciiSink::new(&mut data)).await?
        } else {
            download.send(&mut data).await?
        };
        data.transfer()
            .commit(false)
            .await
            .map_err(StoreError::Interrupted)?;
        data.close().await.map_err(StoreError::Interrupted)?;
        Ok(StorageOutcome::Sent(sent))
    }
}
