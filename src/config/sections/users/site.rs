//! A user's own bucket and keys, in another region, or at another store of the same kind.
//!
//! Invariant: the credentials of `storage` sign requests to the places of their own vendor only. Whoever may write a users
//! file, or answers for `auth.http.url`, can't have them sent elsewhere.

use super::list::USERS;
use crate::config::endpoint::Endpoint;
use crate::config::error::{REDACTED, printable};
use crate::config::keys::row::*;
use crate::config::parse;
use crate::config::reader::{Reader, Refused};
use crate::config::sections::storage::credentials::StaticCredentials;
use crate::config::sections::storage::location::{self, Addressing, region_name};
use crate::config::sections::storage::provider::Provider;
use crate::config::sections::storage::{Storage, bucket_name};

/// The rows of the table.
#[rustfmt::skip]
pub(in crate::config) const KEYS: &[Key] = &[
    key("users[].bucket", Text, Unset,
        "Bucket of the user's own; `storage.bucket` if not set."),
    key("users[].region", Text, Derived("the endpoint's; else `storage.region`"),
        "Region of the user's bucket; with `cos` it implies the endpoint."),
    key("users[].endpoint", Text, Derived("`storage.endpoint`; cos: of `users[].region`"),
        "URL of the user's store, of the same kind as `storage`; another one than `storage.endpoint` takes the user's own keys, except in another region of COS or Amazon over https."),
    key("users[].access_key_id", Secret, Unset,
        "Access key of the user's own; the gateway's credentials if not set."),
    key("users[].secret_access_key", Secret, Unset,
        "Secret key; goes with `users[].access_key_id`."),
    key("users[].session_token", Secret, Unset,
        "Session token of the user's temporary credentials."),
];

/// A place of the same kind as [`Storage`], in another region or at another endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct StoreLocation {
    /// Region to sign requests for.
    pub region: String,
    /// URL without bucket and without trailing `/`; none: the SDK's own choice.
    pub endpoint: Option<String>,
    /// The place of the bucket's name in a request.
    pub addressing: Addressing,
    /// As [`Storage::checksums_when_required`].
    pub checksums_when_required: bool,
}

/// The measure for users' stores: `storage`, as far as it is valid.
#[derive(Debug, Clone)]
pub struct StorageDefaults {
    /// None: any store's rules.
    pub(crate) provider: Option<Provider>,
    location: Option<DefaultLocation>,
}

#[derive(Debug, Clone)]
struct DefaultLocation {
    region: String,
    /// None: the SDK's own choice, which is Amazon's.
    endpoint: Option<Endpoint>,
    bucket: String,
    /// `storage.addressing`, where it says something else than the endpoint does.
    addressing: Option<Addressing>,
}

impl StorageDefaults {
    /// Of a configuration that was taken.
    pub fn of(storage: &Storage) -> Self {
        let endpoint = storage
            .endpoint
            .as_deref()
            .and_then(|url| Endpoint::parse(url).ok());
        let fitting = location::fitting_addressing(storage.provider, endpoint.as_ref());
        StorageDefaults {
            provider: Some(storage.provider),
            location: Some(DefaultLocation {
                region: storage.region.clone(),
                bucket: storage.bucket.clone(),
                addressing: (storage.addressing != fitting).then_some(storage.addressing),
                endpoint,
            }),
        }
    }

    /// The fault of a user's own `bucket` at `site`, if anything is: at the domain of one bucket there is no other.
    fn refuses_bucket(&self, bucket: &str, site: Option<&StoreLocation>) -> Option<&'static str> {
        let location = self.location.as_ref()?;
        let common = location.endpoint.as_ref().map(|endpoint| &endpoint.url);
        let is_common = site.is_none_or(|site| site.endpoint.as_ref() == common);
        let is_custom = location.addressing == Some(Addressing::Custom);
        (is_custom && is_common && bucket != location.bucket).then_some(
            "storage.endpoint is the domain of one bucket (storage.addressing: custom); set the endpoint beside it, too",
        )
    }

    /// Endpoint and bucket of a store: the same for two that are one bucket, since regions of an endpoint share their names.
    pub(super) fn bucket_at<'a>(
        &'a self,
        bucket: Option<&'a str>,
        site: Option<&'a StoreLocation>,
    ) -> (Option<&'a str>, Option<&'a str>) {
        let location = self.location.as_ref();
        let common = location.and_then(|location| location.endpoint.as_ref());
        let endpoint = match site {
            Some(site) => site.endpoint.as_deref(),
            None => common.map(|endpoint| endpoint.url.as_str()),
        };
        (
            endpoint,
            bucket.or(location.map(|location| location.bucket.as_str())),
        )
    }

    /// Of one that is being read: what was refused there is not held against users.
    pub(super) fn read(read: &Reader, storage: &Storage) -> Self {
        let sound = |keys: &[&str]| keys.iter().all(|key| read.is_valid(key));
        let common = Self::of(storage);
        if sound(&["storage.provider", REGION, ENDPOINT, "storage.addressing"]) {
            common
        } else {
            StorageDefaults {
                provider: common.provider.filter(|_| sound(&["storage.provider"])),
                location: None,
            }
        }
    }
}

/// Bucket, place and credentials of one entry.
type OwnStore = (
    Result<Option<String>, Refused>,
    Result<Option<StoreLocation>, Refused>,
    Result<Option<StaticCredentials>, Refused>,
);

/// Reads the store of entry `index`, of which each part is none where it is that of `storage`.
pub(super) fn store(
    read: &mut Reader,
    list: &str,
    index: usize,
    common: &StorageDefaults,
) -> OwnStore {
    let bucket = read.entry_optional(list, index, "bucket", |text| {
        bucket_name(text, common.provider)
    });
    let credentials = credentials(read, list, index);
    // refused ones are there, too
    let has_credentials = !matches!(credentials, Ok(None));
    let site = resolve(read, list, index, common, has_credentials);
    let bucket = match (bucket, &site) {
        (Ok(Some(own)), Ok(site)) => match common.refuses_bucket(&own, site.as_ref()) {
            Some(advice) => {
                read.refuse_entry(list, index, "bucket", Some(own.as_str()), advice);
                Err(Refused)
            }
            None => Ok(Some(own)),
        },
        (bucket, _) => bucket,
    };
    (bucket, site, credentials)
}

/// The keys of an entry's store that are set, with their values.
pub(super) fn lines(
    bucket: Option<&str>,
    site: Option<&StoreLocation>,
    credentials: Option<&StaticCredentials>,
) -> Vec<(&'static str, String)> {
    let mut keys = Vec::new();
    keys.extend(bucket.map(|name| ("bucket", printable(name))));
    if let Some(site) = site {
        keys.push(("region", printable(&site.region)));
        keys.extend(site.endpoint.iter().map(|url| ("endpoint", printable(url))));
    }
    if let Some(credentials) = credentials {
        keys.push(("access_key_id", REDACTED.to_string()));
        keys.push(("secret_access_key", REDACTED.to_string()));
        if credentials.session_token.is_some() {
            keys.push(("session_token", REDACTED.to_string()));
        }
    }
    keys
}

/// Reads the place of entry `index`; none where it is that of `storage`.
fn resolve(
    read: &mut Reader,
    list: &str,
    index: usize,
    common: &StorageDefaults,
    has_credentials: bool,
) -> Result<Option<StoreLocation>, Refused> {
    let keys = match list {
        USERS => "users[].".to_owned(),
        _ => "users[].mounts[].".to_owned(),
    };
    let region = read.entry_optional(list, index, "region", region_name);
    let endpoint = read.entry_optional(list, index, "endpoint", |text| {
        let endpoint = Endpoint::parse(text).map_err(|advice| advice.replace("storage.", &keys))?;
        match common.provider {
            Some(Provider::Cos) => location::cos_endpoint(endpoint)
                .map_err(|advice| advice.replace("storage.bucket", &format!("{keys}bucket"))),
            _ => Ok(endpoint),
        }
    });
    let (region, endpoint) = (region?, endpoint?);
    if region.is_none() && endpoint.is_none() {
        return Ok(None);
    }
    let key = match endpoint {
        Some(_) => "endpoint",
        None => "region",
    };
    let refuse = |read: &mut Reader, advice: &str| {
        let value = endpoint.as_ref().map(|endpoint| endpoint.url.as_str());
        let value = value.or(region.as_deref());
        read.refuse_entry(list, index, key, value, advice);
        Err(Refused)
    };
    // nothing can be said of it before `storage` is right, which is reported there
    let (Some(provider), Some(location)) = (common.provider, &common.location) else {
        return Ok(None);
    };
    if provider == Provider::Embedded {
        return refuse(
            read,
            "the embedded store is the only one there; remove it, or set storage.provider to s3 or cos",
        );
    }
    let site = match location.of_user(provider, region.as_deref(), endpoint.as_ref()) {
        Ok(site) => site,
        Err(advice) => return refuse(read, advice),
    };
    let Some((site, endpoint)) = site else {
        return Ok(None);
    };
    if !has_credentials && !may_share_credentials(location.endpoint.as_ref(), endpoint.as_ref()) {
        return refuse(
            read,
            "the credentials of `storage` are not sent to another store, or in the clear; \
             set access_key_id and secret_access_key beside it, too",
        );
    }
    Ok(Some(site))
}

impl DefaultLocation {
    /// Where a user's store is that has at least one of `region` and `endpoint`; none if it is here.
    fn of_user(
        &self,
        provider: Provider,
        region: Option<&str>,
        endpoint: Option<&Endpoint>,
    ) -> Result<Option<(StoreLocation, Option<Endpoint>)>, &'static str> {
        let told = endpoint.and_then(Endpoint::tencent_region);
        let region = region.or(told).unwrap_or(&self.region).to_string();
        let endpoint = match (provider, endpoint, &self.endpoint) {
            (_, Some(own), _) => Some(own.clone()),
            (_, None, common) if region == self.region => common.clone(),
            (Provider::Cos, None, _) => Endpoint::parse(&location::cos_endpoint_of(&region)).ok(),
            // these have one endpoint for each region
            (_, None, Some(common)) if common.is_amazon() || common.is_tencent() => {
                return Err(
                    "storage.endpoint belongs to its own region; set the endpoint beside it, too",
                );
            }
            (_, None, common) => common.clone(),
        };
        let is_here = match (&endpoint, &self.endpoint) {
            (Some(one), Some(other)) => one.url == other.url,
            (None, None) => true,
            _ => false,
        };
        if is_here && region == self.region {
            return Ok(None);
        }
        let fitting = location::fitting_addressing(provider, endpoint.as_ref());
        let is_known = endpoint
            .as_ref()
            .is_none_or(|endpoint| endpoint.wants_virtual_addressing() || endpoint.ip().is_some());
        let site = StoreLocation {
            region,
            addressing: match self.addressing {
                Some(chosen) if !is_known => chosen,
                _ => fitting,
            },
            checksums_when_required: location::checksums_when_required(provider, endpoint.as_ref()),
            endpoint: endpoint.as_ref().map(|endpoint| endpoint.url.clone()),
        };
        Ok(Some((site, endpoint)))
    }
}

/// True if credentials for `common` may sign for `own` as well: at the same host and port, or in another region of the same
/// vendor, and never with less protection. None is Amazon's.
pub(crate) fn may_share_credentials(common: Option<&Endpoint>, own: Option<&Endpoint>) -> bool {
    let is_tls = |endpoint: Option<&Endpoint>| endpoint.is_none_or(|endpoint| endpoint.is_tls);
    if is_tls(common) && !is_tls(own) {
        return false;
    }
    // vendors have customers' services below these domains as well
    let is_service = |endpoint: &Endpoint, names: &[&str]| {
        let name = endpoint.host.split('.').next();
        name.is_some_and(|name| names.contains(&name))
    };
    let is_amazon = |endpoint: Option<&Endpoint>| {
        endpoint.is_none_or(|it| it.is_amazon() && is_service(it, &["s3", "s3-fips"]))
    };
    let is_tencent = |endpoint: Option<&Endpoint>| {
        endpoint.is_some_and(|it| it.is_tencent() && is_service(it, &["cos", "cos-internal"]))
    };
    let authority = |endpoint: &Endpoint| {
        let usual = if endpoint.is_tls { 443 } else { 80 };
        (endpoint.host.clone(), endpoint.port.unwrap_or(usual))
    };
    is_amazon(common) && is_amazon(own)
        || is_tencent(common) && is_tencent(own)
        || common.map(authority) == own.map(authority)
}

const REGION: &str = "storage.region";

const ENDPOINT: &str = "storage.endpoint";
/// Reads the key pair of entry `index`; none: the gateway's own.
fn credentials(
    read: &mut Reader,
    list: &str,
    index: usize,
) -> Result<Option<StaticCredentials>, Refused> {
    let id = read.entry_optional(list, index, ID, parse::credential)?;
    let secret = read.entry_optional(list, index, SECRET, parse::credential)?;
    let token = read.entry_optional(list, index, TOKEN, parse::credential)?;
    let missing = match (&id, &secret) {
        (Some(_), Some(_)) => None,
        (None, None) if token.is_none() => return Ok(None),
        (None, _) => Some(ID),
        (Some(_), None) => Some(SECRET),
    };
    if let Some(missing) = missing {
        let advice = "the other credentials are set without it; add it, or remove them";
        read.refuse_entry(list, index, missing, None, advice);
    }
    let (Some(access_key_id), Some(secret)) = (id, secret) else {
        return Err(Refused);
    };
    Ok(Some(StaticCredentials {
        access_key_id,
        secret_access_key: secret.into(),
        session_token: token.map(Into::into),
    }))
}

const ID: &str = "access_key_id";

const SECRET: &str = "secret_access_key";

const TOKEN: &str = "session_token";
