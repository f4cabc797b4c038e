//! What load leaves in a gateway: memory, tasks, descriptors, reservations. Seen from outside, in a process of its own.

use crate::configuration::Program;
use crate::support::eventually;
use crate::support::http::get;

/// The program with these settings, `KEY=value` without the prefix, and an admin port.
pub fn start(settings: &[&str]) -> Program {
    let own = ["ADMIN__LISTEN=127.0.0.1:0", "DRAIN__IDLE=1ms"];
    let env = own.iter().chain(settings).map(|setting| {
        let (key, value) = setting.split_once('=').expect("KEY=value");
        (format!("COSGATE_{key}"), value)
    });
    let env: Vec<(String, &str)> = env.collect();
    let env = env.iter().map(|(key, value)| (key.as_str(), *value));
    Program::start(&env.collect::<Vec<_>>())
}

/// What one gateway has in use.
#[derive(Debug, Clone, Copy)]
pub struct Traces {
    sessions: u64,
    reservations: u64,
    /// Of both budgets.
    buffers: u64,
    tasks: u64,
    descriptors: u64,
    resident_kib: u64,
}

/// Memory that the allocator keeps of what was freed, and the caches of names and connections.
const KEPT_KIB: u64 = 64 << 10;

impl Traces {
    pub async fn of(gateway: &Program) -> Self {
        let admin = gateway.admin.expect("it is on");
        let metrics = get(admin, "/metrics", &[]).await.body;
        let sum = |name: &str| {
            let lines = metrics.lines().filter(|line| line.starts_with(name));
            let values = lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
            let (count, sum) =
                values.fold((0, 0.0), |(count, sum), value| (count + 1, sum + value));
            assert!(count > 0, "no {name}");
            sum as u64
        };
        Traces {
            sessions: sum("cosgate_sessions "),
            reservations: sum("cosgate_passive_reservations "),
            buffers: sum("cosgate_buffer_memory_used_bytes"),
            tasks: sum("cosgate_tasks "),
            descriptors: sum("process_open_fds "),
            resident_kib: gateway.resident_kib(),
        }
    }

    /// Waits until it is as it was then, but for what `connections` to the store cost that are kept for the next requests.
    pub async fn are_all_again(&self, gateway: &Program, connections: usize) {
        let idle = 2 * connections as u64;
        let last = std::cell::Cell::new(*self);
        let waiting = eventually("all is as it was", || async {
            let now = Traces::of(gateway).await;
            last.set(now);
            now.sessions == 0
                && now.reservations == 0
                && now.buffers == 0
                && now.tasks <= self.tasks + idle
                && now.descriptors <= self.descriptors + idle
                && now.resident_kib <= self.resident_kib + KEPT_KIB
        });
        let limit = std::time::Duration::from_secs(50);
        if tokio::time::timeout(limit, waiting).await.is_err() {
            panic!("{:?} has become {:?}", self, last.get());
        }
        eprintln!("{self:?} has become {:?}", last.get());
    }
}
