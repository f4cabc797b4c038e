mod others;

use super::*;

fn guard(change: impl FnOnce(&mut Lockout)) -> Arc<Guard> {
    let mut limits = Lockout {
        per_address: 10,
        per_user: 3,
        window: Duration::from_secs(900),
        duration: Duration::from_secs(600),
        delay: Duration::from_secs(1),
        max_delay: Duration::from_secs(10),
        shared: true,
    };
    change(&mut limits);
    Guard::new(limits, None)
}

fn address(last: u8) -> IpAddr {
    IpAddr::from([192, 0, 2, last])
}

async fn fail(guard: &Arc<Guard>, address: IpAddr, name: &str) -> Result<Failed, Rejected> {
    guard.admit(address, name).await.map(Attempt::fail)
}

#[tokio::test(start_paused = true)]
async fn a_user_is_locked_out_at_one_address_and_nowhere_else() {
    let guard = guard(|_| {});
    let pauses = [1, 2, 4];
    for (failure, pause) in pauses.into_iter().enumerate() {
        let failed = fail(&guard, address(1), "alice").await.expect("checked");
        assert_eq!(failed.pause, Duration::from_secs(pause));
        assert_eq!(failed.locked, (failure == 2).then_some(Scope::User));
    }
    let locked = Rejected::Locked(Scope::User);
    assert_eq!(
        guard.admit(address(1), "alice").await.map(drop),
        Err(locked)
    );
    assert!(guard.admit(address(1), "bob").await.is_ok());
    assert!(guard.admit(address(2), "alice").await.is_ok());
    tokio::time::advance(Duration::from_secs(601)).await;
    assert!(guard.admit(address(1), "alice").await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn guesses_at_many_names_lock_the_address_out_and_locked_ones_count_nowhere() {
    let guard = guard(|_| {});
    for failure in 1..=10 {
        let failed = fail(&guard, address(1), &format!("user{failure}"))
            .await
            .expect("checked");
        assert_eq!(failed.locked.is_some(), failure == 10);
        assert!(failed.pause <= Duration::from_secs(10));
    }
    for _ in 0..1000 {
        let rejected = guard.admit(address(1), "alice").await.map(drop);
        assert_eq!(rejected, Err(Rejected::Locked(Scope::Address)));
    }
    tokio::time::advance(Duration::from_secs(600)).await;
    assert!(
        fail(&guard, address(1), "alice")
            .await
            .expect("checked")
            .locked
            .is_none()
    );
}

#[tokio::test(start_paused = true)]
async fn a_success_clears_the_pair_and_not_the_address() {
    let guard = guard(|limits| limits.per_address = 5);
    for _ in 0..4 {
        fail(&guard, address(1), "victim").await.expect("checked");
        guard
            .admit(address(1), "mallory")
            .await
            .expect("checked")
            .succeed();
        guard
            .admit(address(1), "victim")
            .await
            .expect("checked")
            .succeed();
    }
    let failed = fail(&guard, address(1), "victim").await.expect("checked");
    assert_eq!(failed.locked, Some(Scope::Address));
}

#[tokio::test(start_paused = true)]
async fn a_user_who_is_guessed_at_from_everywhere_waits_but_not_where_at_home() {
    let guard = guard(|_| {});
    guard
        .admit(address(200), "alice")
        .await
        .expect("checked")
        .succeed();
    for last in 1..=100 {
        fail(&guard, address(last), "alice").await.expect("checked");
    }
    let elsewhere = guard
        .admit(address(201), "alice")
        .await
        .expect("never locked out");
    assert_eq!(elsewhere.wait, Duration::from_secs(10));
    let at_home = guard
        .admit(address(200), "alice")
        .await
        .expect("never locked out");
    assert_eq!(at_home.wait, Duration::ZERO);
    assert_eq!(
        guard
            .admit(address(201), "bob")
            .await
            .expect("checked")
            .wait,
        Duration::ZERO
    );
}

#[tokio::test(start_paused = true)]
async fn guesses_sent_at_once_are_not_checked_more_often_than_one_by_one() {
    let guard = guard(|_| {});
    let mut attempts = tokio::task::JoinSet::new();
    for _ in 0..50 {
        let guard = Arc::clone(&guard);
        attempts.spawn(async move {
            let attempt = guard.admit(address(1), "alice").await?;
            tokio::time::sleep(Duration::from_millis(50)).await;
            Ok::<_, Rejected>(attempt.fail())
        });
    }
    let outcomes = attempts.join_all().await;
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 3);
    // right passwords get their turn one after another
    let mut logins = tokio::task::JoinSet::new();
    for _ in 0..50 {
        let guard = Arc::clone(&guard);
        logins.spawn(async move {
            let attempt = guard
                .admit(address(2), "alice")
                .await
                .expect("its turn comes");
            tokio::time::sleep(Duration::from_millis(50)).await;
            attempt.succeed();
        });
    }
    logins.join_all().await;
}

#[tokio::test(start_paused = true)]
async fn failures_are_forgotten_after_a_quiet_window_and_a_verdict_that_never_came_counts_nowhere()
{
    let guard = guard(|_| {});
    for _ in 0..20 {
        fail(&guard, address(1), "alice").await.expect("checked");
        drop(guard.admit(address(1), "alice").await.expect("checked"));
        fail(&guard, address(1), "alice").await.expect("checked");
        tokio::time::advance(Duration::from_secs(900)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_whole_ipv6_network_counts_as_one_address() {
    let guard = guard(|_| {});
    for host in 1..=3 {
        let address = format!("2001:db8:0:1::{host}").parse().expect("an address");
        fail(&guard, address, "alice").await.expect("checked");
    }
    let neighbour = "2001:db8:0:1:ffff::".parse().expect("an address");
    assert!(guard.admit(neighbour, "alice").await.is_err());
    let other = "2001:db8:0:2::1".parse().expect("an address");
    assert!(guard.admit(other, "alice").await.is_ok());
    assert_eq!(
        network("::ffff:192.0.2.1".parse().expect("an address")),
        address(1)
    );
}

#[tokio::test(start_paused = true)]
async fn limits_of_zero_lock_nobody_out() {
    let guard = guard(|limits| (limits.per_address, limits.per_user) = (0, 0));
    for _ in 0..1000 {
        let failed = fail(&guard, address(1), "alice").await.expect("checked");
        assert_eq!(failed.locked, None);
    }
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_names_and_addresses_takes_bounded_memory() {
    let guard = guard(|_| {});
    for host in 0..(ENTRIES.get() as u32 + 1000) {
        let address = IpAddr::from((0x0a00_0000 + host).to_be_bytes());
        fail(&guard, address, &host.to_string())
            .await
            .expect("checked");
    }
    let tables = guard.lock();
    assert_eq!(tables.addresses.len(), ENTRIES.get());
    assert_eq!(
        (tables.pairs.len(), tables.users.len()),
        (ENTRIES.get(), ENTRIES.get())
    );
}
