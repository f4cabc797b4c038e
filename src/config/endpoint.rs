//! The store's URL.

use std::net::IpAddr;

use super::parse::Parsed;

/// A URL of a store, without bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Endpoint {
    /// The whole URL, without a slash at the end.
    pub url: String,
    /// Host in lower case; an IPv6 address without brackets.
    pub host: String,
    pub port: Option<u16>,
    pub is_tls: bool,
    pub has_path: bool,
}

impl Endpoint {
    /// Reads `http[s]://host[:port][/path]`.
    pub fn parse(text: &str) -> Parsed<Self> {
        const WANTED: &str = "write a URL such as https://s3.example.com";
        let url = text.trim_end_matches('/');
        if url.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return Err(format!(
                "a URL has no spaces or control characters; {WANTED}"
            ));
        }
        let lower = url.to_ascii_lowercase();
        let (is_tls, rest) = match (
            lower.strip_prefix("https://"),
            lower.strip_prefix("http://"),
        ) {
            (Some(rest), _) => (true, rest),
            (_, Some(rest)) => (false, rest),
            (None, None) if lower.contains("//") => {
                return Err(format!("only http and https are spoken; {WANTED}"));
            }
            (None, None) => {
                return Err("the scheme is missing; put https:// (or http://) in front".into());
            }
        };
        if rest.contains(['?', '#']) {
            return Err(format!("the URL has no query and no fragment; {WANTED}"));
        }
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        if authority.contains('@') {
            return Err("the URL carries a login; \
                        remove it and set storage.access_key_id and storage.secret_access_key"
                .into());
        }
        let (host, port) =
            split_port(authority).ok_or_else(|| format!("host or port are wrong; {WANTED}"))?;
        Ok(Self {
            url: url.to_string(),
            host,
            port,
            is_tls,
            has_path: !path.is_empty(),
        })
    }

    /// The host as an address.
    pub fn ip(&self) -> Option<IpAddr> {
        self.host.parse().ok()
    }

    pub fn is_amazon(&self) -> bool {
        self.is_below(&["amazonaws.com", "amazonaws.com.cn"])
    }

    pub fn is_tencent(&self) -> bool {
        self.is_below(&["myqcloud.com", "tencentcos.cn"])
    }

    /// True if this store refuses, or is about to refuse, the bucket in the path.
    pub fn wants_virtual_addressing(&self) -> bool {
        self.is_amazon() || self.is_tencent() || self.is_below(&["aliyuncs.com"])
    }

    /// `ap-guangzhou` of `cos.ap-guangzhou.myqcloud.com`.
    pub fn tencent_region(&self) -> Option<&str> {
        if !self.is_tencent() {
            return None;
        }
        let mut labels = self.host.split('.');
        let service = labels.next()?;
        let region = labels.next()?;
        // cos.accelerate.myqcloud.com serves every region and names none.
        (service.starts_with("cos") && region.contains('-')).then_some(region)
    }

    /// The host without bucket, if this one carries a bucket of COS.
    pub fn without_tencent_bucket(&self) -> Option<&str> {
        if !self.is_tencent() {
            return None;
        }
        let (bucket, _) = self.host.split_once('.')?;
        let rest = &self.host[bucket.len() + 1..];
        rest.starts_with("cos.")
            .then_some(rest)
            .or(rest.starts_with("cos-internal.").then_some(rest))
    }

    fn is_below(&self, domains: &[&str]) -> bool {
        domains.iter().any(|domain| {
            self.host
                .strip_suffix(domain)
                .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
        })
    }
}

/// Host and port of `host`, `host:1`, `[::1]` or `[::1]:1`.
pub(super) fn split_port(authority: &str) -> Option<(String, Option<u16>)> {
    let (host, port, is_host) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']')?;
            let is_address = host.parse::<std::net::Ipv6Addr>().is_ok();
            (
                host,
                if port.is_empty() {
                    None
                } else {
                    Some(port.strip_prefix(':')?)
                },
                is_address,
            )
        }
        None => {
            let (host, port) = match authority.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (authority, None),
            };
            // Underscores are no host names, but names of services in compose files.
            let is_name = host
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b));
            (host, port, is_name && !host.is_empty())
        }
    };
    let port = port.map(str::parse).transpose().ok()?;
    is_host.then(|| (host.to_string(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(text: &str) -> Endpoint {
        Endpoint::parse(text).expect(text)
    }

    #[test]
    fn a_url_is_split_into_its_parts() {
        let one = endpoint("http://[::1]:9000/");
        assert_eq!(
            (one.host.as_str(), one.port, one.is_tls, one.has_path),
            ("::1", Some(9000), false, false)
        );
        assert_eq!(one.url, "http://[::1]:9000");
        let two = endpoint("HTTPS://S3.example.com/storage/v1");
        assert_eq!(
            (two.host.as_str(), two.port, two.is_tls, two.has_path),
            ("s3.example.com", None, true, true)
        );
    }

    #[test]
    fn what_is_no_url_of_a_store_is_refused() {
        for text in [
            "s3.example.com",
            "ftp://x",
            "https://",
            "https://:9",
            "https://a b",
            "https://a:b@c",
            "https://a?x=1",
            "https://a:99999",
            "https://[::1",
            "https://[x]",
            "https://[::1]9",
            "https://ü.example",
            "",
            "//x",
        ] {
            assert!(Endpoint::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn stores_are_known_by_their_domain_and_no_other() {
        assert!(endpoint("https://s3.eu-west-1.amazonaws.com").is_amazon());
        assert!(!endpoint("https://notamazonaws.com").is_amazon());
        assert!(endpoint("https://cos.ap-guangzhou.myqcloud.com").is_tencent());
        assert!(!endpoint("https://myqcloud.com.example.org").is_tencent());
    }

    #[test]
    fn region_and_bucket_are_seen_in_a_host_of_cos() {
        let region = |text| endpoint(text).tencent_region().map(str::to_string);
        assert_eq!(
            region("https://cos.ap-guangzhou.myqcloud.com").as_deref(),
            Some("ap-guangzhou")
        );
        assert_eq!(
            region("https://cos-internal.ap-beijing.tencentcos.cn").as_deref(),
            Some("ap-beijing")
        );
        assert_eq!(region("https://cos.accelerate.myqcloud.com"), None);
        assert_eq!(region("https://cos.ap-guangzhou.example.com"), None);
        let with_bucket = endpoint("https://files-1250000000.cos.ap-guangzhou.myqcloud.com");
        assert_eq!(
            with_bucket.without_tencent_bucket(),
            Some("cos.ap-guangzhou.myqcloud.com")
        );
        assert_eq!(
            endpoint("https://cos.ap-guangzhou.myqcloud.com").without_tencent_bucket(),
            None
        );
    }
}
