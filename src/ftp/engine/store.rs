//! `STOR`, `APPE`, `STOU`: an upload from the client's data connection.

use std::sync::Arc;

use async_trait::async_trait;
use libunftp::options::{Reply, SiteCommandContext, SiteCommandHandler};
use unftp_core::auth::DefaultUser;

use crate::auth::Right;
use crate::events::Pending;
use crate::ftp::ascii::AsciiSource;
use crate::ftp::data_connection::DataConnection;
use crate::ftp::engine::announce::UPLOAD;
use crate::ftp::engine::backend::{Backend, out_of_step};
use crate::ftp::engine::request::{
    DataConnectionOffer, IncomingFile, StorageOutcome, StorageRequest, StoreRequest,
};
use crate::ftp::session::state::Session;
use crate::store::{
    Holder, Interruption, Located, ObjectKey, Source, StoreError, Stored, UploadRequest,
};

/// Takes [`StorageRequest::Store`].
#[derive(Debug)]
pub(super) struct StoreHandler;

#[async_trait]
impl SiteCommandHandler<Backend, DefaultUser> for StoreHandler {
    async fn handle(&self, context: &SiteCommandContext<Backend, DefaultUser>) -> Reply {
        match context.storage.session.take_request() {
            Some(StorageRequest::Store(request)) => {
                let backend = &context.storage;
                backend.reply(backend.store_from_client(request)).await
            }
            _ => out_of_step(),
        }
    }
}

impl Backend {
    async fn store_from_client(&self, request: StoreRequest) -> Result<StorageOutcome, StoreError> {
        let source = OfferedSource {
            session: Arc::clone(&self.session),
            offer: Some(request.offer),
            data: None,
        };
        let stored = self.receive(request.file, source).await?;
        Ok(StorageOutcome::Stored(stored))
    }

    /// Stores what `source` sends, for the client's own data connection and for [`put`](unftp_core::storage::StorageBackend::put).
    pub(super) async fn receive(
        &self,
        file: IncomingFile,
        source: impl Source,
    ) -> Result<Stored, StoreError> {
        let at = self.tree.permitted_file(&file.path, Right::Write)?;
        at.home.check_new(&at.path)?;
        at.home.check_file(&at.path)?;
        let key = at.key()?;
        let verb = self
            .session
            .transfer()
            .map_or("STOR", |transfer| transfer.subject().verb);
        // the entry of its event is written while names are looked at and the client sends
        let pending = self.announce(&UPLOAD, verb, &at, None)?;
        // boxed, as the commit is: the compiler gives up on futures that are nested so deeply
        let stored = Box::pin(self.receive_as(file, &at, &key, pending.as_ref(), source)).await;
        self.conclude(pending, &stored);
        let stored = stored?;
        at.store.saw_stored(&key);
        Ok(stored)
    }

    async fn receive_as(
        &self,
        file: IncomingFile,
        at: &Located<'_>,
        key: &ObjectKey,
        pending: Option<&Pending>,
        mut source: impl Source,
    ) -> Result<Stored, StoreError> {
        self.or_interrupted(at.store.check_collision(at.home, &at.path))
            .await?;
        let upload = UploadRequest {
            mode: file.mode,
            announced: file.announced,
            max_bytes: at.home.file_rules().max_bytes(),
            holder: Holder::of(&self.tree.user().name),
            stored_by: Some(self.stored_by()),
            is_text: file.ascii,
            held: file.held,
        };
        let announcement = pending.map(|pending| pending.announcement().as_ref());
        if file.ascii {
            let mut source = AsciiSource::new(source);
            let stored = at.store.upload(key, upload, announcement, &mut source);
            stored.await
        } else {
            let stored = at.store.upload(key, upload, announcement, &mut source);
            stored.await
        }
    }
}

/// The client's data connection, asked for at the first byte: what can fail before, fails before the client gets a 150.
struct OfferedSource {
    session: Arc<Session>,
    offer: Option<DataConnectionOffer>,
    data: Option<DataConnection>,
}

impl Source for OfferedSource {
    async fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Interruption> {
        // cleared after the wait: an upload drops it where others lack memory, and comes back
        if let Some(offer) = &mut self.offer {
            self.data = offer.accept().await;
            self.offer = None;
        }
        match &mut self.data {
            Some(data) => data.read(buffer).await,
            None => Err(self.session.interruption()),
        }
    }

    async fn commit(&mut self) -> Result<(), Interruption> {
        match &mut self.data {
            Some(data) => data.commit().await,
            None => Err(self.session.interruption()),
        }
    }

    async fn interrupted(&self) -> Interruption {
        match &self.data {
            Some(data) => Source::interrupted(data).await,
            None => self.session.interrupted().await,
        }
    }
}
