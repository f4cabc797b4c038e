//! This configuration, examined where it is used: the store behind it, what clients get, the machine.

use super::examination::{Examination, Limits};
use super::report::{Report, Verdict};
use super::{directory, events, handover, machine, network, store};
use crate::config::Loaded;

/// Examines a configuration that was taken.
pub async fn examine_configuration(loaded: &Loaded, limits: Limits) -> Report {
    let config = &loaded.config;
    let subject = format!(
        "configuration for bucket {} at {}",
        config.storage.bucket, config.storage.provider
    );
    let mut examination = Examination::new(subject, limits);
    examination.note("configuration", warnings(&loaded.warnings));
    let running = examination.step("gateway", machine::gateway(config)).await;
    machine::examine(&mut examination, config, running.unwrap_or(false));
    network::examine(&mut examination, config).await;
    if let Some(settings) = &config.handover {
        let checked = handover::replicas(settings);
        examination.step("handover", checked).await;
    }
    directory::examine(&mut examination, config).await;
    events::sinks(&mut examination, config).await;
    if let Err(reason) = store::examine(&mut examination, config).await {
        examination.skip_rest(&store::CHECKS, reason);
    }
    examination.finish()
}

fn warnings(warnings: &[String]) -> Verdict {
    match warnings {
        [] => Verdict::ok("all keys and values are good; cosgate check-config prints them"),
        some => Verdict::warning(
            some.join("; "),
            "cosgate check-config says where each value comes from",
        ),
    }
}
