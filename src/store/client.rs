//! A store as operations see it: the client, and the settings that they share.

use std::sync::{Arc, Weak};
use std::time::Duration;

use aws_sdk_s3::Client;
use tokio_util::task::TaskTracker;

use crate::config;
use crate::metrics::Requests;
use crate::store::active::ActiveUploads;
use crate::store::base::Base;
use crate::store::budget::Budget;
use crate::store::buffer::Buffers;
use crate::store::conditions::Conditions;
use crate::store::credentials::{self, Renewed};
use crate::store::error::StoreError;
use crate::store::integrity::Integrity;
use crate::store::key::Reserved;
use crate::store::known::Known;
use crate::store::locks::NameLocks;
use crate::store::parts::PartPlan;
use crate::store::pool::Pool;
use crate::store::remembered_times::SetTimes;
use crate::store::sdk;
use crate::store::settings::{
    COPY_PART_BYTES, MAX_COPY_BYTES, ObjectOptions, Settings, SetupError,
};
use crate::store::tag_support::TagSupport;

/// One bucket, reached with one set of credentials. Cheap to clone.
#[derive(Clone)]
pub struct Store(Arc<Inner>);

#[derive(Clone)]
pub(super) struct Inner {
    client: Client,
    base: Base,
    renewed: Option<Renewed>,
    bucket: String,
    settings: Settings,
    options: ObjectOptions,
    integrity: Arc<Integrity>,
    conditions: Arc<Conditions>,
    tag_support: Arc<TagSupport>,
    /// Of all stores of the process.
    active_uploads: Arc<ActiveUploads>,
    /// Amazon's own S3, as far as the configuration says it.
    is_amazon: bool,
    /// Of all stores of the process; a bucket's name is a part of each name.
    name_locks: Arc<NameLocks>,
    known: Arc<Known>,
    set_times: Arc<SetTimes>,
    /// Distinguishes the keys of this site from those of others in `known`; 0 is the gateway's own.
    site_id: u64,
    unsigned_payload: bool,
    /// The facts from which integrity and signatures at another place follow.
    wanted: (config::Integrity, config::SignPayload),
    buffers: Arc<Buffers>,
    /// For the chunks that downloads read ahead.
    read_ahead: Arc<Pool>,
    requests: Requests,
    /// Of multipart uploads that were dropped before their end.
    aborts: TaskTracker,
}

/// The way a user's store differs from the gateway's own.
#[derive(Debug, Clone)]
pub struct Tenant {
    /// Another bucket.
    pub bucket: Option<String>,
    /// Another region or endpoint.
    pub site: Option<config::StoreLocation>,
    /// Other credentials.
    pub credentials: Option<config::StaticCredentials>,
    /// A new object may replace an old one, if `upload.overwrite` allows it too.
    pub overwrite: bool,
    /// What new objects get besides their bytes, where it isn't what `upload` says.
    pub objects: config::ObjectOverrides,
}

impl Tenant {
    /// The store of a user's mount.
    pub fn of(mount: config::Mount) -> Self {
        Tenant {
            bucket: mount.bucket,
            site: mount.site,
            credentials: mount.credentials,
            overwrite: mount.permissions.overwrite,
            objects: mount.upload.objects,
        }
    }
}

/// An upload waits for memory for so many times `upload.stall_timeout`: those who have it may be slow without being stalled.
const MEMORY_WAIT: u32 = 5;

impl Store {
    /// Prepares the client; no request is sent.
    ///
    /// `endpoint` is where the embedded store listens, with its credentials already in `storage`.
    pub async fn new(
        storage: &config::Storage,
        upload: &config::Upload,
        download: &config::Download,
        sessions: usize,
    ) -> Result<Self, SetupError> {
        let plan = PartPlan::new(
            upload.min_part_size,
            upload.max_file_size,
            &storage.part_bytes,
        )?;
        let needed = plan.largest() + plan.smallest();
        if upload.memory_budget < needed {
            return Err(SetupError::MemoryBudget {
                budget: upload.memory_budget,
                largest: plan.largest(),
                needed,
            });
        }
        let settings = Settings {
            plan,
            concurrency: upload.concurrency,
            min_part_bytes: *storage.part_bytes.start(),
            parts_alike: sdk::wants_parts_alike(storage.endpoint.as_deref()),
            max_copy_bytes: MAX_COPY_BYTES,
            copy_part_bytes: COPY_PART_BYTES,
            request_timeout: storage.request_timeout,
            max_attempts: storage.retry.max_attempts,
            retry_time: storage.retry.time_limit,
            on_interrupt: upload.on_interrupt,
            page_keys: None,
            list_version: storage.list_version,
            reserved: Reserved::new(&storage.reserved_name),
            download: download.clone(),
        };
        let requests = Requests::default();
        let (base, renewed) = sdk::config(storage).await?;
        let base = Base {
            config: base,
            send_trace_context: storage.send_trace_context,
            addressing: storage.addressing,
            endpoint: storage.endpoint.clone(),
            sessions,
            requests: requests.clone(),
        };
        Ok(Store(Arc::new(Inner {
            client: base.client(base.addressed(), renewed.clone(), &settings),
            base,
            renewed,
            bucket: storage.bucket.clone(),
            settings,
            options: ObjectOptions {
                provider: storage.provider,
                overwrite: upload.overwrite,
                storage_class: upload.storage_class.clone(),
                encryption: upload.server_side_encryption.clone(),
                kms_key: upload.kms_key_id.clone(),
                content_type: upload.objects.content_type.clone(),
                cache_control: upload.objects.cache_control.clone(),
                tags: upload.objects.tags.clone(),
                metadata: upload.objects.metadata.clone(),
                trace_metadata: upload.trace_metadata,
                provenance: upload.provenance,
            },
            integrity: Arc::new(Integrity::new(sdk::integrity_method(
                storage.provider,
                storage.integrity,
                storage.checksums_when_required,
            ))),
            conditions: Arc::new(Conditions::new(
                storage.provider,
                !storage.checksums_when_required,
            )),
            tag_support: Arc::default(),
            active_uploads: Arc::default(),
            is_amazon: !storage.checksums_when_required,
            name_locks: Arc::default(),
            known: Arc::default(),
            set_times: Arc::default(),
            site_id: 0,
            unsigned_payload: sdk::unsigned_payload(
                storage.provider,
                (storage.integrity, storage.sign_payload),
                storage.endpoint.as_deref(),
            ),
            wanted: (storage.integrity, storage.sign_payload),
            buffers: Buffers::new(Budget::new(
                upload.memory_budget,
                plan.largest(),
                upload.stall_timeout * MEMORY_WAIT,
            )),
            read_ahead: Pool::new(download.memory_budget),
            aborts: TaskTracker::new(),
            requests,
        })))
    }

    /// The same with `http` in the place of the network, for properties of what a store answers.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn answered_by(self, http: impl aws_sdk_s3::config::HttpClient + 'static) -> Self {
        let mut inner = Arc::into_inner(self.0).expect("nobody else has it yet");
        let config = inner.base.addressed().http_client(http);
        inner.client = inner.base.client(config, None, &inner.settings);
        Store(Arc::new(inner))
    }

    /// Asks the store whether the bucket is there and the credentials may use it.
    ///
    /// By a listing of one key: a web server that answers 200 to everything passes a HEAD of the bucket, and only an S3
    /// server answers with a listing. Both need the same right.
    pub async fn probe(&self) -> Result<(), StoreError> {
        self.keys("", None, Some(1), None).await.map(drop)
    }

    /// Bytes of part buffers in use, of all uploads together.
    pub fn buffered_bytes(&self) -> u64 {
        self.0.buffers.budget().used()
    }

    /// Bytes that downloads may hold at this moment for chunks read ahead.
    pub fn read_ahead_bytes(&self) -> u64 {
        self.0.read_ahead.used()
    }

    /// The most bytes of part buffers, and of chunks read ahead.
    pub fn memory_limits(&self) -> (u64, u64) {
        (self.0.buffers.budget().total(), self.0.read_ahead.total())
    }

    /// Sets the most bytes of part buffers, raised to what the largest part needs, and of chunks read ahead; returns what holds.
    pub fn set_memory_limits(&self, upload: u64, download: u64) -> (u64, u64) {
        let plan = &self.0.settings.plan;
        let upload = upload.max(plan.largest() + plan.smallest());
        self.0.buffers.budget().set_total(upload);
        self.0.read_ahead.set_total(download);
        (upload, download)
    }

    /// The number of times that uploads have waited for buffer memory, and how long in all.
    pub fn memory_waits(&self) -> (u64, Duration) {
        self.0.buffers.budget().waits()
    }

    /// The counters of the requests.
    pub fn requests(&self) -> &Requests {
        &self.0.requests
    }

    /// Waits for the aborts of multipart uploads that were dropped before their end, so that a process which ends now
    /// leaves none to the sweeper; for `within` at most.
    pub async fn settle(&self, within: Duration) {
        self.0.aborts.close();
        // what is not through by then is the sweeper's
        let _ = tokio::time::timeout(within, self.0.aborts.wait()).await;
    }

    pub(super) fn aborts(&self) -> &TaskTracker {
        &self.0.aborts
    }

    pub(super) fn read_ahead_pool(&self) -> &Arc<Pool> {
        &self.0.read_ahead
    }

    pub(super) fn client(&self) -> &Client {
        &self.0.client
    }

    /// The bucket that keys lie in.
    pub fn bucket(&self) -> &str {
        &self.0.bucket
    }

    pub(super) fn settings(&self) -> &Settings {
        &self.0.settings
    }

    pub(super) fn object_options(&self) -> &ObjectOptions {
        &self.0.options
    }

    pub(super) fn integrity(&self) -> &Integrity {
        &self.0.integrity
    }

    pub(super) fn conditions(&self) -> &Conditions {
        &self.0.conditions
    }

    pub(super) fn tag_support(&self) -> &TagSupport {
        &self.0.tag_support
    }

    pub(super) fn active_uploads(&self) -> &Arc<ActiveUploads> {
        &self.0.active_uploads
    }

    pub(super) fn set_times(&self) -> &SetTimes {
        &self.0.set_times
    }

    pub(super) fn known(&self) -> &Arc<Known> {
        &self.0.known
    }

    /// A number for the endpoint and its region.
    pub fn site_id(&self) -> u64 {
        self.0.site_id
    }

    pub(super) fn name_locks(&self) -> &Arc<NameLocks> {
        &self.0.name_locks
    }

    /// True if request bodies aren't hashed for the signature.
    pub(super) fn unsigned_payload(&self) -> bool {
        self.0.unsigned_payload
    }

    /// The store of a user; connections, budgets and settings are shared. See [`crate::store::tenants`].
    pub(super) fn for_tenant(&self, tenant: &Tenant) -> Self {
        let inner = &self.0;
        let mut config = match &tenant.site {
            Some(site) => sdk::at_site(inner.base.config.clone(), site),
            None => inner.base.addressed(),
        };
        let mut renewed = inner.renewed.clone();
        if let Some(keys) = &tenant.credentials {
            config = config.credentials_provider(credentials::fixed(keys));
            renewed = None;
        }
        // a client of its own even where only the bucket is another: its retries are
        let client = inner.base.client(config, renewed.clone(), &inner.settings);
        let (integrity, unsigned_payload) = match (&tenant.site, &tenant.bucket) {
            (None, None) => (Arc::clone(&inner.integrity), inner.unsigned_payload),
            // what was learnt of the one bucket says nothing of the other: they may be behind different proxies
            (None, Some(_)) => {
                let integrity = inner.integrity.of_another_bucket();
                (Arc::new(integrity), inner.unsigned_payload)
            }
            (Some(site), _) => {
                let ((integrity, _), provider) = (inner.wanted, inner.options.provider);
                let when_required = site.checksums_when_required;
                let method = sdk::integrity_method(provider, integrity, when_required);
                let endpoint = site.endpoint.as_deref();
                (
                    Arc::new(Integrity::new(method)),
                    sdk::unsigned_payload(provider, inner.wanted, endpoint),
                )
            }
        };
        let conditions = match (&tenant.site, &tenant.bucket) {
            (None, None) => Arc::clone(&inner.conditions),
            (site, _) => {
                let is_amazon = match site {
                    Some(site) => !site.checksums_when_required,
                    None => inner.is_amazon,
                };
                Arc::new(Conditions::new(inner.options.provider, is_amazon))
            }
        };
        let mut options = inner.options.clone();
        options.apply(&tenant.objects);
        options.overwrite &= tenant.overwrite;
        let mut settings = inner.settings.clone();
        settings.on_interrupt = tenant.objects.on_interrupt.unwrap_or(settings.on_interrupt);
        if let Some(site) = &tenant.site {
            settings.parts_alike = sdk::wants_parts_alike(site.endpoint.as_deref());
        }
        Store(Arc::new(Inner {
            client,
            base: inner.base.clone(),
            renewed,
            bucket: tenant.bucket.clone().unwrap_or(inner.bucket.clone()),
            settings,
            options,
            integrity,
            conditions,
            tag_support: match (&tenant.site, &tenant.bucket) {
                (None, None) => Arc::clone(&inner.tag_support),
                _ => Arc::default(),
            },
            active_uploads: Arc::clone(&inner.active_uploads),
            is_amazon: inner.is_amazon,
            name_locks: Arc::clone(&inner.name_locks),
            known: Arc::clone(&inner.known),
            set_times: Arc::clone(&inner.set_times),
            site_id: match &tenant.site {
                Some(site) => self.hash_of_site(site),
                None => inner.site_id,
            },
            unsigned_payload,
            wanted: inner.wanted,
            requests: inner.requests.clone(),
            buffers: Arc::clone(&inner.buffers),
            read_ahead: Arc::clone(&inner.read_ahead),
            aborts: inner.aborts.clone(),
        }))
    }

    pub(super) fn downgrade(&self) -> Weak<Inner> {
        Arc::downgrade(&self.0)
    }

    /// The same account's bucket of this name, to ask what is in it.
    pub fn of_bucket(&self, name: &str) -> Self {
        let mut inner = Inner::clone(&self.0);
        inner.bucket = name.to_owned();
        Store(Arc::new(inner))
    }

    /// The same store with other settings, for tests of what no small object would reach.
    #[cfg(test)]
    pub(super) fn with(&self, change: impl FnOnce(&mut Settings)) -> Self {
        let mut inner = Inner::clone(&self.0);
        change(&mut inner.settings);
        inner.integrity = Arc::new(Integrity::new(Some(
            crate::store::integrity::Method::Crc64Nvme,
        )));
        Store(Arc::new(inner))
    }

    /// The same store, of whose conditions nothing is known but what the provider says.
    #[cfg(test)]
    pub(super) fn with_conditions(&self, provider: config::Provider) -> Self {
        let mut store = self.with(|_| {});
        let inner = Arc::get_mut(&mut store.0).expect("nobody else has it yet");
        inner.conditions = Arc::new(Conditions::new(provider, false));
        store
    }

    pub(super) fn buffers(&self) -> &Arc<Buffers> {
        &self.0.buffers
    }
}

impl Tenant {
    /// True if both are at the same endpoint and reached with the same credentials, so that one can copy from the other.
    pub(crate) fn reaches_store_of(&self, other: &Tenant) -> bool {
        let has_same_keys = match (&self.credentials, &other.credentials) {
            (None, None) => true,
            (Some(one), Some(other)) => one.is_same(other),
            _ => false,
        };
        self.site == other.site && has_same_keys
    }

    /// True if `store` serves just as well.
    pub(super) fn is_like(&self, store: &Store) -> bool {
        self.bucket
            .as_ref()
            .is_none_or(|bucket| *bucket == store.0.bucket)
            && self.site.is_none()
            && self.credentials.is_none()
            && self.objects == config::ObjectOverrides::default()
            && (self.overwrite || !store.0.options.overwrite)
    }
}

impl From<Arc<Inner>> for Store {
    fn from(inner: Arc<Inner>) -> Self {
        Store(inner)
    }
}
