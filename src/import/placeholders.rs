//! Values that COS FTP Server's example files come with, where something of one's own belongs.

/// The text in the place of `value`; none if it is nothing that an example file came with.
pub(super) fn wanted(key: &str, value: &str) -> Option<&'static str> {
    let value = value.to_ascii_lowercase();
    let is_crosses = value.len() > 2 && value.chars().all(|c| c == 'x' || c == '.');
    let is_default = value == "default";
    let is_of = |words: &[&str]| words.contains(&value.as_str());
    let (is_placeholder, wanted) = match key {
        "cos_secretid" => (
            is_of(&["cos_secretid", "secretid"]),
            "write the SecretId of Tencent Cloud (console: Access Management, API keys)",
        ),
        "cos_secretkey" => (
            is_of(&["cos_secretkey", "secretkey"]),
            "write the SecretKey that goes with cos_secretid",
        ),
        "cos_appid" => (
            value.contains("xxx"),
            "write the APPID of Tencent Cloud, such as 1250000000",
        ),
        "cos_bucket" => (
            value.contains(['{', '}'])
                || value.starts_with("examplebucket-")
                || value.ends_with("-appid"),
            "write the bucket as the console shows it, name-APPID, such as files-1250000000",
        ),
        "cos_region" => (
            value.contains("xxx") || value == "region",
            "write the bucket's region, such as ap-guangzhou",
        ),
        "cos_endpoint" => (
            value.contains("xxx") || value.starts_with("region."),
            "write the host, such as cos.ap-guangzhou.myqcloud.com, or remove the key",
        ),
        "masquerade_address" | "passive_address" | "pasv_address" => (
            value.contains("xxx"),
            "write the IPv4 address that clients connect to, or remove the key if they reach this host by its own",
        ),
        _ => return None,
    };
    (is_placeholder || is_crosses || is_default).then_some(wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_the_example_files_are_placeholders_and_real_ones_are_not() {
        for (key, value, is_placeholder) in [
            ("cos_secretid", "XXXXXX", true),
            ("cos_secretid", "COS_SECRETID", true),
            ("cos_secretid", "AKIDxxxyz0000", false),
            ("cos_secretkey", "xxx", true),
            ("cos_secretkey", "default", true),
            ("cos_secretkey", "Gu5t9xGARNpq86cd98joQYCN3EXAMPLE", false),
            ("cos_appid", "12XXXXXX", true),
            ("cos_bucket", "{bucket name}-123", true),
            ("cos_bucket", "{bucket}-{appid}", true),
            ("cos_bucket", "BucketName-appid", true),
            ("cos_bucket", "examplebucket-1250000000", true),
            ("cos_bucket", "xxx-1250000000", false),
            ("cos_region", "ap-xxx", true),
            ("cos_region", "region", true),
            ("cos_region", "ap-guangzhou", false),
            ("cos_endpoint", "ap-xxx.myqcloud.com", true),
            ("cos_endpoint", "region.myqcloud.com", true),
            ("cos_endpoint", "cos.ap-guangzhou.myqcloud.com", false),
            ("masquerade_address", "XXX.XXX.XXX.XXX", true),
            ("masquerade_address", "119.xxx.xxx.xxx", true),
            ("masquerade_address", "203.0.113.7", false),
            ("ftp_login_user_password", "xxx", false),
        ] {
            assert_eq!(
                wanted(key, value).is_some(),
                is_placeholder,
                "{key} = {value}"
            );
        }
    }
}
