//! The end of an upload: its object becomes visible, what an interrupted one left is kept or held, or nothing of it stays.

use std::time::Duration;

use crate::config::OnInterrupt;
use crate::store::Source;
use crate::store::announcement::{Announcement, ObjectFacts};
use crate::store::describe::Description;
use crate::store::error::{Interruption, Left, StoreError};
use crate::store::locks::NameGuard;
use crate::store::put::Proof;
use crate::store::upload::state::{Upload, or_interrupted};

/// The longest time that a gateway that must stop waits for the parts of an upload that is to be kept: its drain deadline has passed.
const KEEP_TIMEOUT: Duration = Duration::from_secs(10);

impl Upload {
    /// Makes the object visible. `source` decides the race with an abort.
    pub(super) async fn finish(
        &mut self,
        announcement: Option<&Announcement>,
        source: &mut impl Source,
    ) -> Result<(), StoreError> {
        // until the store has answered, no other command of this process changes the name
        let _name = match or_interrupted(source, self.announced(announcement, None)).await {
            Ok(name) => match source.commit().await {
                Ok(()) => name,
                Err(reason) => {
                    drop(name);
                    return self.interrupted(announcement, reason).await;
                }
            },
            Err(StoreError::Interrupted(reason)) => {
                return self.interrupted(announcement, reason).await;
            }
            Err(error) => return Err(error),
        };
        self.publish(announcement, None).await.map(drop)
    }

    /// Waits for all that has to come before [`Upload::publish`], the entry in the outbox included. Cancel safe.
    async fn announced(
        &mut self,
        announcement: Option<&Announcement>,
        ending: Option<Interruption>,
    ) -> Result<NameGuard, StoreError> {
        let Some(announcement) = announcement else {
            return self.ready().await;
        };
        let (name, ()) = tokio::try_join!(self.ready(), announcement.ready(ending))?;
        Ok(name)
    }

    /// Makes the object visible, with its entry in the outbox kept young; returns its ETag.
    async fn publish(
        &mut self,
        announcement: Option<&Announcement>,
        ending: Option<Interruption>,
    ) -> Result<String, StoreError> {
        let Some(announcement) = announcement else {
            return Box::pin(self.send_commit()).await.map(|proof| proof.etag);
        };
        let mut facts = ObjectFacts {
            size: self.size,
            parts: self.parts.max(1),
            content_type: match &self.description {
                Description::Of(head) => head.content_type.clone(),
                Description::New(_) => Some(self.store.new_content_type(&self.key)),
            },
            ..ObjectFacts::default()
        };
        let proof = tokio::select! {
            biased;
            sent = Box::pin(self.send_commit()) => sent?,
            never = announcement.stay_fresh(ending) => never,
        };
        let etag = proof.etag.trim_matches('"');
        facts.etag = (!etag.is_empty()).then(|| etag.to_owned());
        facts.checksum = proof.checksum;
        if self.is_continued {
            announcement.identify(&facts, ending).await;
        }
        announcement.committed(facts);
        Ok(proof.etag)
    }

    /// Sends the request that makes the object visible.
    async fn send_commit(&mut self) -> Result<Proof, StoreError> {
        match self.multipart.take() {
            Some(multipart) => {
                let parts = std::mem::take(&mut self.acknowledged);
                multipart.complete(parts).await
            }
            None => {
                let empty = self.store.buffers().part(self.holder);
                let whole = std::mem::replace(&mut self.filling, empty);
                let (whole, mark) = (whole.freeze(), self.mark.clone());
                let (replaces, description) = (&self.replaces, &self.description);
                self.store
                    .put_marked(&self.key, whole, mark, replaces, description)
                    .await
            }
        }
    }

    /// Waits for all that has to come before [`Upload::publish`]. Cancel safe.
    async fn ready(&mut self) -> Result<NameGuard, StoreError> {
        if self.multipart.is_some() && self.filling.len() > 0 {
            // the last part has any size, so by itself it would say nothing to the sweeper
            self.one_acknowledged().await?;
            self.ship().await?;
        }
        self.all_sent().await?;
        if let Some(multipart) = self.multipart.as_ref()
            && self.has_copies
            && !self.copies_proved
        {
            multipart.check_lengths(&self.acknowledged).await?;
        }
        let name = self.store.lock_key(&self.key).await?;
        self.store
            .check_unchanged(&self.key, &self.replaces)
            .await?;
        Ok(name)
    }

    /// Waits until the store has acknowledged every part.
    async fn all_sent(&mut self) -> Result<(), StoreError> {
        while let Some(done) = self.running.join_next().await {
            self.collect(done)?;
        }
        Ok(())
    }

    /// The client's side broke off: keeps what arrived as one whole object, holds it, or drops it, as configured.
    pub(super) async fn interrupted(
        &mut self,
        announcement: Option<&Announcement>,
        reason: Interruption,
    ) -> Result<(), StoreError> {
        let left = |left| StoreError::UploadInterrupted { reason, left };
        let dropped = left(Left::Nothing);
        match self.store.settings().on_interrupt {
            OnInterrupt::Hold => {
                let held = self.hold(Some(reason)).await;
                return Err(held.map_or(dropped, |bytes| left(Left::Held(bytes))));
            }
            OnInterrupt::Keep if self.received > 0 => {}
            OnInterrupt::Keep | OnInterrupt::Discard => return Err(dropped),
        }
        let ready = self.announced(announcement, Some(reason));
        let _name = if reason == Interruption::Stopping {
            let ready = tokio::time::timeout(KEEP_TIMEOUT, ready).await;
            ready.map_err(|_| dropped)??
        } else {
            ready.await?
        };
        let etag = self.publish(announcement, Some(reason)).await?;
        let tags = match &self.description {
            Description::Of(head) => &head.tags[..],
            Description::New(_) => &self.store.object_options().tags,
        };
        self.store.tag_kept(&self.key, &etag, tags).await;
        // stored, and yet an error: the client has to learn that the file is not whole
        Err(left(Left::Kept(self.size)))
    }

    /// Gives up a multipart upload that was begun; does nothing if there is none.
    pub(super) async fn abort(&mut self) {
        self.running.shutdown().await;
        if let Some(mut multipart) = self.multipart.take() {
            multipart.abort().await;
        }
    }
}
