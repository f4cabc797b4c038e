//! The keys of a section that name the store.

use super::fields::Fields;
use super::source::{Location, Store};
use crate::config::{self, Endpoint, Provider, parse, printable};

/// The store's keys of a section.
pub(super) fn store(fields: &mut Fields<'_, '_>, notes: &mut Vec<String>) -> Option<Store> {
    let id = fields.required(
        "cos_secretid",
        "the SecretId of Tencent Cloud",
        parse::credential,
    );
    let key = fields.required(
        "cos_secretkey",
        "the SecretKey that goes with it",
        parse::credential,
    );
    let bucket = bucket(fields);
    let is_tls = fields.optional("cos_protocol", |text| {
        match text.to_ascii_lowercase().as_str() {
            "https" => Ok(true),
            "http" => Ok(false),
            _ => Err("write https or http".to_owned()),
        }
    });
    let region = fields.optional("cos_region", |text| {
        config::region_name(full_region(text).unwrap_or(text))
    });
    let has_region = fields.entry("cos_region").is_some();
    let endpoint = endpoint(fields, is_tls.unwrap_or(true), notes);
    if !has_region && fields.entry("cos_endpoint").is_none() {
        fields.wrong(
            fields.section.line,
            "cos_region",
            "neither region nor endpoint is set; write the bucket's region, such as ap-guangzhou",
        );
    }
    let region_url = region.as_ref().filter(|_| is_tls == Some(false));
    let endpoint = endpoint.or_else(|| Some(format!("http://cos.{}.myqcloud.com", region_url?)));
    Some(Store {
        access_key_id: id?.into(),
        secret_access_key: key?.into(),
        location: Location {
            bucket: bucket?,
            region,
            endpoint,
        },
    })
}

/// The bucket with its APPID, which stood apart in the earliest releases.
fn bucket(fields: &mut Fields<'_, '_>) -> Option<String> {
    let appid = fields.optional("cos_appid", |text| {
        match text.bytes().all(|byte| byte.is_ascii_digit()) {
            true => Ok(text.to_owned()),
            false => Err("an APPID is a number; write it as the console shows it".to_owned()),
        }
    });
    fields.required(
        "cos_bucket",
        "name-APPID, such as files-1250000000",
        |text| {
            let whole = match &appid {
                Some(appid) if !text.ends_with(&format!("-{appid}")) => format!("{text}-{appid}"),
                _ => text.to_owned(),
            };
            config::bucket_name(&whole, Some(Provider::Cos))
        },
    )
}

/// The region that COS's first API had a short name for. [cloud.tencent.com/document/product/436/6224]
fn full_region(short: &str) -> Option<&'static str> {
    let found = SHORT_REGIONS.iter().find(|(name, _)| *name == short)?;
    Some(found.1)
}

/// The endpoint is a host; some write the scheme or the bucket into it, too.
fn endpoint(fields: &mut Fields<'_, '_>, is_tls: bool, notes: &mut Vec<String>) -> Option<String> {
    let section = printable(&fields.section.name);
    let endpoint = fields.optional("cos_endpoint", |text| {
        let text = match text.contains("://") {
            true => text.to_owned(),
            false if is_tls => format!("https://{text}"),
            false => format!("http://{text}"),
        };
        let endpoint = Endpoint::parse(&text)?;
        if endpoint.has_path {
            return Err(
                "this has a path; write the host alone, such as cos.ap-guangzhou.myqcloud.com"
                    .to_owned(),
            );
        }
        Ok(endpoint)
    })?;
    match endpoint.without_tencent_bucket() {
        None => Some(endpoint.url),
        Some(host) => {
            notes.push(format!(
                "[{section}] cos_endpoint held the bucket; it is left out of storage.endpoint"
            ));
            let scheme = if endpoint.is_tls { "https" } else { "http" };
            Some(format!("{scheme}://{host}"))
        }
    }
}

const SHORT_REGIONS: [(&str, &str); 10] = [
    ("tj", "ap-beijing-1"),
    ("bj", "ap-beijing"),
    ("sh", "ap-shanghai"),
    ("gz", "ap-guangzhou"),
    ("cd", "ap-chengdu"),
    ("cq", "ap-chongqing"),
    ("hk", "ap-hongkong"),
    ("sgp", "ap-singapore"),
    ("ca", "na-toronto"),
    ("ger", "eu-frankfurt"),
];
