//! The holdings of a gateway at one moment, as its metrics report them: load leaves nothing behind when they are as before.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::http::{get, sample};

/// The holdings of a gateway at one moment.
#[derive(Debug, Clone, Copy)]
pub struct Readings {
    pub sessions: f64,
    pub reservations: f64,
    pub upload_memory: f64,
    pub download_memory: f64,
    pub tasks: f64,
    pub descriptors: f64,
    pub resident_kib: f64,
}

/// What may be there besides, and for how long.
#[derive(Debug, Clone, Copy)]
pub struct Slack {
    /// Tasks, and descriptors: connections to the store stay open for a while.
    pub idle: f64,
    /// Resident memory: the allocator keeps some of what was freed.
    pub kib: f64,
    /// The time in which the rest has to go.
    pub within: Duration,
}

impl Readings {
    /// Of the gateway with this admin port.
    pub async fn of(admin: SocketAddr) -> Self {
        let metrics = get(admin, "/metrics", &[]).await.body;
        let memory = |budget: &str| {
            let name = format!("cosgate_buffer_memory_used_bytes{{budget=\"{budget}\"}}");
            sample(&metrics, &name)
        };
        Readings {
            sessions: sample(&metrics, "cosgate_sessions"),
            reservations: sample(&metrics, "cosgate_passive_reservations"),
            upload_memory: memory("upload"),
            download_memory: memory("download"),
            tasks: sample(&metrics, "cosgate_tasks"),
            descriptors: sample(&metrics, "process_open_fds"),
            resident_kib: sample(&metrics, "process_resident_memory_bytes") / 1024.0,
        }
    }

    /// True if nothing is under way, and no more is there than these and the slack.
    fn have_become(&self, now: &Readings, slack: Slack) -> bool {
        let under_way = [
            now.sessions,
            now.reservations,
            now.upload_memory,
            now.download_memory,
        ];
        under_way.iter().all(|reading| *reading == 0.0)
            && now.tasks <= self.tasks + slack.idle
            && now.descriptors <= self.descriptors + slack.idle
            && now.resident_kib <= self.resident_kib + slack.kib
    }

    /// Waits until they are as they were.
    pub async fn are_all_again(&self, admin: SocketAddr, slack: Slack) {
        let deadline = Instant::now() + slack.within;
        let mut now = Readings::of(admin).await;
        while !self.have_become(&now, slack) {
            assert!(Instant::now() < deadline, "{self:?} have become {now:?}");
            sleep(Duration::from_millis(100)).await;
            now = Readings::of(admin).await;
        }
        eprintln!("{self:?} have become {now:?}");
    }
}
