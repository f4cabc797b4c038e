//! Several guards that share what they count.

use std::collections::VecDeque;

use proptest::prelude::*;
use tokio::sync::broadcast;

use super::*;
use crate::auth::guard::others::SILENCE;

const LIMIT: u32 = 5;
const NAMES: [&str; 2] = ["alice", "bob"];

/// Events under way, with the time when they were sent.
type Link = VecDeque<(Instant, Event)>;

/// Three guards, and what is under way between them.
struct Replicas {
    guards: Vec<Arc<Guard>>,
    announced: Vec<broadcast::Receiver<Event>>,
    /// By sender and receiver.
    links: [[Link; 3]; 3],
    is_cut: [[bool; 3]; 3],
    /// Failures and successes in the order in which they were, with replica and name.
    history: Vec<(usize, usize, Outcome)>,
    /// The length of the history when each replica last had a success for a name.
    known: [[usize; 2]; 3],
    /// Lockouts at each replica that ended with their epoch.
    outdated: [u32; 3],
}

impl Replicas {
    /// Guards that have trusted each other for a while.
    async fn new() -> Self {
        let limits = Lockout {
            per_address: 0,
            per_user: LIMIT,
            window: Duration::from_secs(900),
            duration: Duration::from_secs(900),
            delay: Duration::from_secs(1),
            max_delay: Duration::from_secs(10),
            shared: true,
        };
        let guards: Vec<_> = (0..3)
            .map(|_| Guard::new(limits.clone(), Some([1; 32])))
            .collect();
        guards.iter().for_each(|guard| guard.trust(true));
        tokio::time::advance(2 * SILENCE).await;
        Replicas {
            announced: guards.iter().map(|guard| guard.subscribe()).collect(),
            guards,
            links: Default::default(),
            is_cut: Default::default(),
            history: Vec::new(),
            known: Default::default(),
            outdated: Default::default(),
        }
    }

    /// True if the password was looked at.
    fn login(&mut self, at: usize, name: usize, outcome: Outcome) -> bool {
        let guard = &self.guards[at];
        let Some(Ok(attempt)) = guard.try_admit(address(1), guard.names.hash(NAMES[name])) else {
            return false;
        };
        match outcome {
            Outcome::Failure => drop(attempt.fail()),
            Outcome::Success => attempt.succeed(),
        }
        self.history.push((at, name, outcome));
        if outcome == Outcome::Success {
            self.known[at][name] = self.history.len();
        }
        while let Ok(event) = self.announced[at].try_recv() {
            for to in (0..3).filter(|to| *to != at && !self.is_cut[at][*to]) {
                self.links[at][to].push_back((Instant::now(), event));
            }
        }
        true
    }

    fn deliver(&mut self, from: usize, to: usize) {
        if let Some((sent, mut event)) = self.links[from][to].pop_front() {
            // the receiver doesn't know for how long it was under way
            event.at += sent.elapsed();
            self.guards[to].receive(event);
            if event.outcome == Outcome::Success {
                let name = NAMES.map(|name| self.guards[to].names.hash(name));
                let name = name.iter().position(|name| *name == event.name);
                self.known[to][name.expect("one of them")] = self.history.len();
            }
        }
    }

    fn deliver_all(&mut self) {
        for (from, to) in ALL_LINKS {
            while !self.links[from][to].is_empty() {
                self.deliver(from, to);
            }
        }
    }

    fn cut(&mut self, from: usize, to: usize, is_cut: bool) {
        self.is_cut[from][to] = is_cut;
        self.links[from][to].clear();
        let is_complete = self.is_cut.iter().all(|of| !of[to]);
        let locked = [0, 1].map(|name| self.is_locked(to, name));
        if !is_cut {
            // the first message of a stream says that events were lost
            self.guards[to].lose_events();
        }
        self.guards[to].trust(is_complete);
        for (name, was_locked) in locked.into_iter().enumerate() {
            if was_locked && !self.is_locked(to, name) {
                self.outdated[to] += 1;
            }
        }
    }

    async fn pass(&mut self, time: Duration) {
        tokio::time::advance(time).await;
        for (from, to) in ALL_LINKS {
            let oldest = self.links[from][to].front();
            if oldest.is_some_and(|(sent, _)| sent.elapsed() > SILENCE) {
                self.cut(from, to, true);
            }
        }
    }

    fn is_locked(&self, at: usize, name: usize) -> bool {
        let guard = &self.guards[at];
        let rejected = guard.try_admit(address(1), guard.names.hash(NAMES[name]));
        matches!(rejected, Some(Err(Rejected::Locked(Scope::User))))
    }

    /// Every lockout at a replica that has received everything rests on enough failures; and each failure counts for one lockout, if it
    /// doesn't end with its epoch.
    fn check(&self) {
        let count = |from: usize, name: usize, of: &dyn Fn(usize) -> bool| {
            let counted = self.history[from..]
                .iter()
                .filter(|(at, of_name, outcome)| {
                    *of_name == name && *outcome == Outcome::Failure && of(*at)
                });
            counted.count() as u32
        };
        for at in 0..3 {
            let mut all = 0;
            let is_quiet = (0..3).all(|from| self.links[from][at].is_empty());
            for (name, user) in NAMES.iter().enumerate() {
                all += count(0, name, &|_| true);
                let success = |entry: &(usize, usize, Outcome)| {
                    entry.1 == name && entry.2 == Outcome::Success
                };
                let last = self.history.iter().rposition(success).unwrap_or(0);
                let everywhere = count(last, name, &|_| true);
                let own = count(self.known[at][name], name, &|other| other == at);
                assert!(
                    !is_quiet || !self.is_locked(at, name) || everywhere >= LIMIT || own >= LIMIT,
                    "{user} is locked out at {at} by {everywhere} and {own}: {:?}",
                    self.history
                );
            }
            let guard = &self.guards[at];
            let lockouts = guard.lockouts()[1].1 + guard.lockouts_elsewhere()[1].1;
            let lockouts = lockouts as u32 - self.outdated[at];
            assert!(lockouts * LIMIT <= all, "{lockouts} by {all}");
        }
    }
}

const ALL_LINKS: [(usize, usize); 6] = [(0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1)];

#[tokio::test(start_paused = true)]
async fn guesses_at_three_replicas_meet_the_limit_of_one_and_lock_out_at_all() {
    let mut replicas = Replicas::new().await;
    for guess in 0..LIMIT as usize {
        assert!((0..3).all(|at| !replicas.is_locked(at, 0)), "{guess}");
        assert!(replicas.login(guess % 3, 0, Outcome::Failure));
        replicas.deliver_all();
    }
    assert!((0..3).all(|at| replicas.is_locked(at, 0) && !replicas.is_locked(at, 1)));
    let counted: u64 = replicas
        .guards
        .iter()
        .map(|guard| guard.lockouts()[1].1)
        .sum();
    assert_eq!(counted, 1, "where the last one was");
    let elsewhere = replicas
        .guards
        .iter()
        .map(|guard| guard.lockouts_elsewhere()[1].1);
    assert_eq!(elsewhere.sum::<u64>(), 2);
    replicas.pass(Duration::from_secs(901)).await;
    assert!((0..3).all(|at| !replicas.is_locked(at, 0)), "together");
}

#[tokio::test(start_paused = true)]
async fn addresses_and_users_count_what_others_report_and_no_success_clears_it() {
    let guards = [(); 2].map(|()| {
        let mut limits = guard(|_| {}).limits.clone();
        limits.per_address = 4;
        Guard::new(limits, Some([1; 32]))
    });
    let mut events = guards[0].subscribe();
    for name in ["a", "b", "c", "d"] {
        fail(&guards[0], address(1), name).await.expect("checked");
        guards[1].receive(events.try_recv().expect("announced"));
    }
    // nobody trusts others' failures of pairs here; those of addresses count nevertheless
    let locked = guards[1].admit(address(1), "e").await.map(drop);
    assert_eq!(locked, Err(Rejected::Locked(Scope::Address)));
    for host in 10..20 {
        fail(&guards[0], address(host), "alice")
            .await
            .expect("checked");
        guards[1].receive(events.try_recv().expect("announced"));
    }
    let attempt = guards[1].admit(address(2), "alice").await;
    assert!(attempt.expect("never locked out").wait > Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_success_clears_the_pair_at_all_replicas_and_ends_a_lockout_that_came_before_it() {
    let mut replicas = Replicas::new().await;
    for at in [1, 1, 1, 1] {
        replicas.login(at, 0, Outcome::Failure);
    }
    replicas.deliver_all();
    assert!(replicas.login(0, 0, Outcome::Success));
    // the success is under way while another one fails
    assert!(replicas.login(2, 0, Outcome::Failure));
    assert!(replicas.is_locked(2, 0));
    replicas.deliver_all();
    assert!((0..3).all(|at| !replicas.is_locked(at, 0)));
    replicas.check();
}

#[tokio::test(start_paused = true)]
async fn a_success_that_is_lost_takes_what_others_reported_with_it() {
    for is_locked in [false, true] {
        let mut replicas = Replicas::new().await;
        for at in [1, 1, 1, 1] {
            replicas.login(at, 0, Outcome::Failure);
        }
        replicas.deliver_all();
        assert!(replicas.login(0, 0, Outcome::Success));
        if is_locked {
            replicas.login(2, 0, Outcome::Failure);
            assert!(replicas.is_locked(2, 0));
        }
        replicas.cut(0, 2, true);
        replicas.login(2, 0, Outcome::Failure);
        assert!(!replicas.is_locked(2, 0));
        // own failures lock out as without others
        for _ in 0..LIMIT {
            replicas.login(2, 0, Outcome::Failure);
        }
        assert!(replicas.is_locked(2, 0));
        replicas.cut(0, 2, false);
        assert!(replicas.is_locked(2, 0));
        // the same, reported by the sender
        for _ in 1..LIMIT {
            replicas.login(1, 1, Outcome::Failure);
        }
        replicas.deliver_all();
        replicas.guards[2].lose_events();
        replicas.login(2, 1, Outcome::Failure);
        assert!(!replicas.is_locked(2, 1));
    }
}

#[tokio::test(start_paused = true)]
async fn own_failures_outlast_a_lockout_that_ends_with_its_epoch_and_not_one_that_ends_by_time() {
    for (is_locked_here, own) in [(true, 2), (false, 1)] {
        let mut replicas = Replicas::new().await;
        replicas.login(0, 0, Outcome::Failure);
        for _ in 0..LIMIT - 2 {
            replicas.login(1, 0, Outcome::Failure);
        }
        replicas.deliver_all();
        let last = if is_locked_here { 0 } else { 1 };
        assert!(replicas.login(last, 0, Outcome::Failure));
        replicas.deliver_all();
        assert!(replicas.is_locked(0, 0));
        replicas.guards[0].lose_events();
        // as many guesses in all as where there are no others
        for _ in own..LIMIT {
            assert!(replicas.login(0, 0, Outcome::Failure));
        }
        assert!(replicas.is_locked(0, 0));
        assert!(!replicas.login(0, 0, Outcome::Failure));
    }
    for is_outdated in [false, true] {
        let mut limits = guard(|_| {}).limits.clone();
        // the failures are within their window when the lockout ends
        (limits.per_user, limits.duration) = (LIMIT, limits.window / 2);
        let guards = [(); 2].map(|()| Guard::new(limits.clone(), Some([1; 32])));
        guards[0].trust(true);
        tokio::time::advance(2 * SILENCE).await;
        let mut events = guards[1].subscribe();
        for _ in 0..LIMIT - 1 {
            fail(&guards[1], address(1), "alice")
                .await
                .expect("checked");
            guards[0].receive(events.try_recv().expect("announced"));
        }
        let failed = fail(&guards[0], address(1), "alice").await;
        assert_eq!(failed.expect("checked").locked, Some(Scope::User));
        tokio::time::advance(limits.duration).await;
        if is_outdated {
            guards[0].lose_events();
        }
        for guess in 1..=LIMIT {
            let failed = fail(&guards[0], address(1), "alice").await;
            let locked = failed.expect("checked").locked;
            assert_eq!(locked.is_some(), guess == LIMIT, "{guess}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_being_checked_when_others_locked_out_counts_here() {
    let replicas = Replicas::new().await;
    let [here, there] = [&replicas.guards[0], &replicas.guards[1]];
    let mut events = there.subscribe();
    let mut held = Vec::new();
    for _ in 0..LIMIT {
        held.push(here.admit(address(1), "alice").await.expect("its turn"));
    }
    for _ in 0..LIMIT {
        fail(there, address(1), "alice").await.expect("checked");
        here.receive(events.try_recv().expect("announced"));
    }
    for attempt in held {
        assert_eq!(attempt.fail().locked, None, "it is already");
    }
    here.lose_events();
    assert!(replicas.is_locked(0, 0), "by own failures alone");
}

#[tokio::test(start_paused = true)]
async fn failures_that_arrive_late_count_from_when_they_were_made() {
    let mut replicas = Replicas::new().await;
    for _ in 0..LIMIT {
        replicas.login(0, 0, Outcome::Failure);
    }
    let events: Vec<Event> = replicas.links[0][1]
        .iter()
        .map(|(_, event)| *event)
        .collect();
    tokio::time::advance(Duration::from_secs(600)).await;
    for event in &events {
        replicas.guards[1].receive(*event);
    }
    assert!(replicas.is_locked(1, 0));
    tokio::time::advance(Duration::from_secs(301)).await;
    assert!(!replicas.is_locked(1, 0), "as where they were made");
    for event in &events {
        assert_eq!(replicas.guards[2].receive(*event), None, "too old");
    }
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_a_turn_is_rejected_by_a_lockout_elsewhere_at_once() {
    let replicas = Replicas::new().await;
    let [here, there] = [&replicas.guards[0], &replicas.guards[1]];
    let mut events = there.subscribe();
    let mut held = Vec::new();
    for _ in 0..LIMIT {
        held.push(here.admit(address(1), "alice").await.expect("its turn"));
    }
    let waiting = tokio::spawn({
        let here = Arc::clone(here);
        async move { here.admit(address(1), "alice").await.map(drop) }
    });
    tokio::task::yield_now().await;
    for _ in 0..LIMIT {
        fail(there, address(1), "alice").await.expect("checked");
        here.receive(events.try_recv().expect("announced"));
    }
    let rejected = waiting.await.expect("no panic");
    assert_eq!(rejected, Err(Rejected::Locked(Scope::User)));
    // those that were being checked count nowhere, and a right password is one
    let failed = held.pop().expect("held").fail();
    assert_eq!(
        (failed.locked, failed.pause),
        (None, Duration::from_secs(10))
    );
    held.pop().expect("held").succeed();
    assert!(!replicas.is_locked(0, 0));
}

#[derive(Debug, Clone)]
enum Step {
    Login(usize, usize, bool),
    Deliver(usize),
    Cut(usize, bool),
    Pass(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0..3_usize, 0..2_usize, prop::bool::weighted(0.15)).prop_map(|(at, name, ok)| Step::Login(at, name, ok)),
        12 => (0..6_usize).prop_map(Step::Deliver),
        1 => (0..6_usize, any::<bool>()).prop_map(|(link, is_cut)| Step::Cut(link, is_cut)),
        1 => (0..2500_u64).prop_map(Step::Pass),
    ]
}

/// Failures that were under way when a success was lost, and arrive afterwards, are none of those since the success.
#[tokio::test(start_paused = true)]
async fn failures_from_before_a_lost_success_lock_nobody_out() {
    let mut replicas = Replicas::new().await;
    for _ in 0..2 {
        replicas.login(0, 1, Outcome::Failure);
    }
    replicas.login(2, 1, Outcome::Success);
    replicas.cut(2, 1, false);
    for _ in 0..3 {
        replicas.login(0, 1, Outcome::Failure);
    }
    replicas.deliver_all();
    assert!(!replicas.is_locked(1, 1));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn whatever_is_late_or_lost_nobody_is_locked_out_without_enough_failures(steps in prop::collection::vec(step(), 1..120)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        runtime.expect("a runtime").block_on(async {
            let mut replicas = Replicas::new().await;
            for step in steps {
                match step {
                    Step::Login(at, name, is_right) => {
                        let outcome = if is_right { Outcome::Success } else { Outcome::Failure };
                        replicas.login(at, name, outcome);
                    }
                    Step::Deliver(link) => replicas.deliver(ALL_LINKS[link].0, ALL_LINKS[link].1),
                    Step::Cut(link, is_cut) => replicas.cut(ALL_LINKS[link].0, ALL_LINKS[link].1, is_cut),
                    Step::Pass(millis) => replicas.pass(Duration::from_millis(millis)).await,
                }
                replicas.check();
            }
            replicas.deliver_all();
            replicas.check();
        });
    }
}
