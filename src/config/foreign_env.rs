//! Variables that carry our prefix and are not ours.

use std::net::IpAddr;

use super::keys::{CONFIG_VARIABLE, PREFIX};

/// Where `cosgate doctor` finds the password of the user that it logs in with.
pub const DOCTOR_PASSWORD: &str = "COSGATE_DOCTOR_PASSWORD";

/// Variables with our prefix that are not for us to judge.
pub(super) fn is_foreign(name: &str, value: &str) -> bool {
    let Some(rest) = name.strip_prefix(PREFIX) else {
        return true;
    };
    name == CONFIG_VARIABLE
        || name == DOCTOR_PASSWORD
        || rest.starts_with("TEST_")
        || is_service_link(rest, value)
}

/// Kubernetes injects these for each Service of the namespace, so for one named `cosgate`, or
/// `cosgate-data-0`, they carry our prefix. See "Accessing the Service" in its documentation.
fn is_service_link(rest: &str, value: &str) -> bool {
    // A Service's name has no underscores side by side, ours mean a level.
    if rest.contains("__") {
        return false;
    }
    let rest = format!("_{rest}");
    let is_url = ["tcp://", "udp://", "sctp://"]
        .iter()
        .any(|scheme| value.starts_with(scheme));
    let is_number = value.parse::<u16>().is_ok();
    // The values are looked at too: COSGATE_PORT=2121 is somebody's mistake, not a link.
    (rest.ends_with("_SERVICE_HOST") && value.parse::<IpAddr>().is_ok())
        || ((rest.ends_with("_SERVICE_PORT") || rest.contains("_SERVICE_PORT_")) && is_number)
        || (rest.ends_with("_PORT") && is_url)
        || is_port_link(&rest)
}

/// `_PORT_2121_TCP`, and that with `_PROTO`, `_PORT` or `_ADDR`.
fn is_port_link(rest: &str) -> bool {
    let bare = ["_PROTO", "_PORT", "_ADDR"]
        .iter()
        .find_map(|suffix| rest.strip_suffix(suffix))
        .unwrap_or(rest);
    let number = ["_TCP", "_UDP", "_SCTP"]
        .iter()
        .find_map(|protocol| bare.strip_suffix(protocol));
    let number = number
        .and_then(|head| head.rsplit_once("_PORT_"))
        .map(|(_, number)| number);
    number.is_some_and(|number| number.parse::<u16>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_kubernetes_injects_is_known_for_any_service_with_our_name_in_front() {
        for (name, value) in [
            ("COSGATE_SERVICE_HOST", "10.0.0.1"),
            ("COSGATE_SERVICE_PORT", "2121"),
            ("COSGATE_SERVICE_PORT_CONTROL", "2121"),
            ("COSGATE_PORT", "tcp://10.0.0.1:2121"),
            ("COSGATE_PORT_2121_TCP", "tcp://10.0.0.1:2121"),
            ("COSGATE_PORT_2121_TCP_PROTO", "tcp"),
            ("COSGATE_PORT_2121_TCP_PORT", "2121"),
            ("COSGATE_PORT_2121_TCP_ADDR", "10.0.0.1"),
            ("COSGATE_DATA_0_SERVICE_HOST", "10.0.0.2"),
            ("COSGATE_DATA_0_PORT_30000_TCP_ADDR", "10.0.0.2"),
            ("COSGATE_TEST_KUBECONFIG", "/x"),
            ("COSGATE_CONFIG", "/x"),
            (DOCTOR_PASSWORD, "secret"),
        ] {
            assert!(is_foreign(name, value), "{name}");
        }
    }

    #[test]
    fn what_somebody_set_by_mistake_is_no_link() {
        for (name, value) in [
            ("COSGATE_PORT", "2121"),
            ("COSGATE_SERVICE", "x"),
            ("COSGATE_SERVICE_HOST", "ftp"),
            ("COSGATE_PORT_TCP", "1"),
            ("COSGATE_PORT_99999_TCP", "x"),
            ("COSGATE_PASSIVE__PORT", "tcp://x"),
            ("COSGATE_TESTS", "x"),
        ] {
            assert!(!is_foreign(name, value), "{name}");
        }
    }
}
