use futures::FutureExt;

use super::*;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const PART: u64 = 8 * MIB;
const ENOUGH: u64 = 5 * MIB;

fn ask(bytes: u64, within: Duration) -> Ask {
    Ask {
        bytes,
        enough: ENOUGH.max(bytes),
        within,
    }
}

fn swift(bytes: u64) -> Ask {
    ask(bytes, Duration::ZERO)
}

fn slow(bytes: u64) -> Ask {
    ask(bytes, SLOW_AFTER * 2)
}

fn user(number: usize) -> Holder {
    Holder::of(&number.to_string())
}

/// An upload of which `bytes` have come, as far as it gets memory for them without a wait.
fn filled(budget: &Arc<Budget>, holder: Holder, bytes: u64, pace: fn(u64) -> Ask) -> Grant {
    let mut grant = budget.grant(holder);
    let mut wanted = 64 * KIB;
    while grant.try_grow(pace(wanted.min(bytes))) && grant.bytes() < bytes {
        if grant.bytes() >= wanted {
            wanted *= 2;
        }
    }
    grant
}

#[tokio::test(start_paused = true)]
async fn half_filled_parts_never_wait_for_each_other_for_ever() {
    let budget = Budget::new(32 * MIB, PART, Duration::from_secs(3600));
    let mut uploads = tokio::task::JoinSet::new();
    for upload in 0..1000 {
        let budget = budget.clone();
        uploads.spawn(async move {
            let mut grant = budget.grant(user(upload % 7));
            let pace = if upload % 3 == 0 { slow } else { swift };
            let mut bytes = 64 * KIB;
            while bytes <= 4 * MIB {
                while grant.bytes() < bytes {
                    grant.grow(pace(bytes)).await.expect("memory in time");
                }
                assert!(budget.used() <= 32 * MIB);
                tokio::task::yield_now().await;
                bytes *= 2;
            }
            // the store takes its time for the part
            tokio::time::sleep(Duration::from_millis(10)).await;
        });
    }
    let all = async {
        while let Some(done) = uploads.join_next().await {
            done.expect("no panic");
        }
    };
    let all = tokio::time::timeout(Duration::from_secs(600), all);
    all.await.expect("all uploads end");
    assert_eq!(budget.used(), 0);
    assert!(budget.state().held.is_empty() && budget.state().line.is_empty());
    assert!(!budget.is_lacking());
}

#[tokio::test(start_paused = true)]
async fn a_spent_budget_is_an_error_in_time() {
    let budget = Budget::new(16 * MIB, PART, Duration::from_secs(5));
    let held: Vec<Grant> = (0..20)
        .map(|number| filled(&budget, user(number), 4 * MIB, swift))
        .collect();
    let mut late = budget.grant(user(99));
    assert!(late.try_grow(swift(64 * KIB)), "a first block is there");
    let refused = late.grow(swift(4 * MIB)).await;
    assert!(matches!(refused, Err(StoreError::NoMemory)), "{refused:?}");
    let (waits, waited) = budget.waits();
    // the timer's grain is a millisecond
    assert_eq!((waits, waited.as_millis() / 10), (1, 500));
    drop((held, late));
    assert_eq!(budget.used(), 0);
}

#[test]
fn one_user_leaves_room_for_another_ones_part() {
    let budget = Budget::new(64 * MIB, PART, Duration::ZERO);
    let stopped: Vec<Grant> = (0..40)
        .map(|_| filled(&budget, user(0), 4 * MIB, swift))
        .collect();
    let whole = |grant: &&Grant| grant.bytes() >= 4 * MIB;
    let got = stopped.iter().filter(whole).count();
    assert!((5..40).contains(&got), "{got} of 40");
    let other = filled(&budget, user(1), PART, swift);
    assert!(other.bytes() >= PART, "{}", other.bytes());
}

#[test]
fn slow_clients_of_any_number_of_users_leave_room_for_a_swift_one() {
    let budget = Budget::new(64 * MIB, PART, Duration::ZERO);
    let stopped: Vec<Grant> = (0..200)
        .map(|upload| filled(&budget, user(upload % 20), 4 * MIB, slow))
        .collect();
    let other = filled(&budget, user(99), PART, swift);
    assert!(other.bytes() >= PART, "{}", other.bytes());
    drop(stopped);
}

#[test]
fn the_last_of_many_uploads_finds_a_first_block() {
    let budget = Budget::new(64 * MIB, PART, Duration::ZERO);
    let mut blocks = Vec::new();
    for number in 0..500 {
        let mut grant = budget.grant(user(number));
        assert!(grant.try_grow(swift(64 * KIB)));
        assert!(grant.bytes() >= 4 * KIB);
        assert_eq!(grant.bytes() % (4 * KIB), 0);
        blocks.push(grant);
    }
    assert!(budget.used() <= 8 * MIB);
}

#[tokio::test(start_paused = true)]
async fn who_asked_first_gets_a_reservation_first_and_a_wait_that_is_given_up_leaves_no_trace() {
    let budget = Budget::new(16 * MIB, PART, Duration::from_secs(60));
    let mut held: Vec<Grant> = (0..20)
        .map(|number| filled(&budget, user(number), 4 * MIB, swift))
        .collect();
    let (mut first, mut second) = (budget.grant(user(100)), budget.grant(user(101)));
    assert!(first.try_grow(swift(4 * KIB)) && second.try_grow(swift(4 * KIB)));
    let mut waits_first = Box::pin(first.grow(swift(5 * MIB)));
    let mut waits_second = Box::pin(second.grow(swift(5 * MIB)));
    assert!(waits_first.as_mut().now_or_never().is_none());
    assert!(waits_second.as_mut().now_or_never().is_none());
    tokio::time::sleep(LACK * 2).await;
    assert!(waits_first.as_mut().now_or_never().is_none());
    assert!(budget.is_lacking());
    while waits_first.as_mut().now_or_never().is_none() {
        assert!(
            waits_second.as_mut().now_or_never().is_none(),
            "its turn is later"
        );
        held.pop()
            .expect("the first one is served before all is free");
    }
    drop((waits_first, waits_second));
    assert!(!budget.is_lacking() && budget.state().line.is_empty());
    drop((first, second, held));
    assert_eq!(budget.used(), 0);
}

#[test]
fn what_is_not_filled_can_be_given_back_but_for_a_reservation() {
    let budget = Budget::new(64 * MIB, PART, Duration::ZERO);
    let mut grant = filled(&budget, user(0), 4 * MIB, swift);
    assert!(!grant.is_reservation());
    grant.shrink(MIB);
    assert_eq!((grant.bytes(), budget.used()), (MIB, MIB));
    let others: Vec<Grant> = (1..30)
        .map(|number| filled(&budget, user(number), 4 * MIB, swift))
        .collect();
    let reservation = others
        .iter()
        .position(Grant::is_reservation)
        .expect("one of them");
    let mut others = others;
    let bytes = others[reservation].bytes();
    others[reservation].shrink(MIB);
    assert_eq!(others[reservation].bytes(), bytes);
}

#[test]
fn a_lowered_budget_takes_nothing_that_is_held_and_grants_no_more_until_it_is_back() {
    let budget = Budget::new(64 * MIB, PART, SLOW_AFTER);
    let held: Vec<Grant> = (0..6)
        .map(|number| filled(&budget, user(number), PART, swift))
        .collect();
    let used = budget.used();
    assert!(used > 24 * MIB, "{used}");
    budget.set_total(16 * MIB);
    assert_eq!((budget.total(), budget.used()), (16 * MIB, used));
    let mut more = budget.grant(user(9));
    assert!(!more.try_grow(swift(MIB)) || more.bytes() < MIB);
    drop((held, more));
    assert_eq!(budget.used(), 0);
    // and so much is there now, and no more
    let held: Vec<Grant> = (0..20)
        .map(|number| filled(&budget, user(number), PART, swift))
        .collect();
    assert!(budget.used() > PART && budget.used() <= 16 * MIB);
    budget.set_total(64 * MIB);
    let more: Vec<Grant> = (20..40)
        .map(|number| filled(&budget, user(number), PART, swift))
        .collect();
    assert!(budget.used() > 16 * MIB && budget.used() <= 64 * MIB);
    drop((held, more));
    assert_eq!((budget.total(), budget.used()), (64 * MIB, 0));
}
