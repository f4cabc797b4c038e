//! Rates over ten seconds of paused time, exact within 5 %.

use super::*;

const MIB: u64 = 1 << 20;
const SECONDS: u64 = 10;

fn rates(rate: impl Into<Option<u64>>) -> Rates {
    let rate = rate.into();
    Rates {
        upload: rate,
        download: rate,
    }
}

fn limits(all: impl Into<Option<u64>>, session: impl Into<Option<u64>>) -> Limits {
    Limits {
        all: rates(all),
        session: rates(session),
    }
}

fn bandwidth(limits: &Limits) -> Bandwidth {
    Bandwidth::new(limits, &FtpMetrics::default())
}

/// Waits for permission to move bytes; how many.
async fn permit(pace: &Pace) -> usize {
    loop {
        match pace.permit() {
            (bytes, None) => return bytes,
            (_, Some(from)) => pace.wait(from).await,
        }
    }
}

/// A client that moves as much as it may, in pieces of at most `piece` bytes; the bytes so far.
fn mover(session: SessionBandwidth, piece: usize) -> Arc<AtomicU64> {
    let bytes = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&bytes);
    tokio::spawn(async move {
        let pace = session.pace(Direction::Received);
        loop {
            let moved = permit(pace).await.min(piece);
            pace.moved(moved);
            counted.fetch_add(moved as u64, Ordering::Relaxed);
            // a socket that always has something
            tokio::task::yield_now().await;
        }
    });
    bytes
}

async fn after_ten_seconds(movers: &[Arc<AtomicU64>]) -> Vec<f64> {
    let before: Vec<u64> = movers.iter().map(|it| it.load(Ordering::Relaxed)).collect();
    tokio::time::sleep(Duration::from_secs(SECONDS)).await;
    let after = movers.iter().map(|it| it.load(Ordering::Relaxed));
    let moved = after.zip(before).map(|(after, before)| after - before);
    moved.map(|bytes| bytes as f64 / SECONDS as f64).collect()
}

#[track_caller]
fn assert_near(rate: f64, wanted: u64) {
    let off = rate / wanted as f64 - 1.0;
    assert!(
        off.abs() < 0.05,
        "{rate:.0} B/s in the place of {wanted}: {:.1} %",
        off * 100.0
    );
}

#[tokio::test(start_paused = true)]
async fn one_session_moves_at_its_rate_whatever_its_pieces_are() {
    for (rate, pieces) in [
        (1024, &[100, 8192][..]),
        (100_000, &[100, 8192, usize::MAX]),
        (3 * MIB, &[8192, usize::MAX]),
        (1024 * MIB, &[usize::MAX]),
    ] {
        for piece in pieces.iter().copied() {
            let all = bandwidth(&limits(None, rate));
            let moved = mover(all.session("u", &limits(None, None)), piece);
            let measured = after_ten_seconds(&[moved]).await[0];
            assert_near(measured, rate);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn sessions_share_the_gateways_rate_in_equal_parts() {
    let all = bandwidth(&limits(10 * MIB, None));
    let names = ["a", "a", "a", "b", "c", "d", "d", "e"];
    let movers: Vec<_> = names
        .iter()
        .map(|name| mover(all.session(name, &limits(None, None)), usize::MAX))
        .collect();
    let measured = after_ten_seconds(&movers).await;
    assert_near(measured.iter().sum(), 10 * MIB);
    for rate in &measured {
        assert_near(*rate, 10 * MIB / 8);
    }
    // what one leaves is for the others
    let late = mover(all.session("f", &limits(None, MIB / 2)), usize::MAX);
    let movers: Vec<_> = movers.into_iter().take(3).chain([late]).collect();
    let measured = after_ten_seconds(&movers).await;
    assert_near(measured[3], MIB / 2);
}

#[tokio::test(start_paused = true)]
async fn the_smallest_of_three_limits_holds() {
    let all = bandwidth(&limits(8 * MIB, 2 * MIB));
    let own = limits(3 * MIB, None);
    let movers = [
        mover(all.session("a", &own), usize::MAX),
        mover(all.session("a", &own), usize::MAX),
        // by the user's own, in the place of the gateway's
        mover(all.session("b", &limits(None, MIB)), usize::MAX),
        mover(all.session("c", &limits(None, None)), usize::MAX),
    ];
    let measured = after_ten_seconds(&movers).await;
    assert_near(measured[0], 3 * MIB / 2);
    assert_near(measured[1], 3 * MIB / 2);
    assert_near(measured[2], MIB);
    assert_near(measured[3], 2 * MIB);
}

#[tokio::test(start_paused = true)]
async fn a_users_new_rate_holds_for_the_sessions_that_run() {
    let all = bandwidth(&limits(None, None));
    let moved = [mover(all.session("a", &limits(100_000, None)), usize::MAX)];
    assert_near(after_ten_seconds(&moved).await[0], 100_000);
    let second = all.session("a", &limits(1_000_000, None));
    assert_near(after_ten_seconds(&moved).await[0], 1_000_000);
    let third = all.session("a", &limits(50_000, None));
    assert_near(after_ten_seconds(&moved).await[0], 50_000);
    drop((second, third));
    // a changed users file: a rate for each session, in the place of one for all
    let movers = [
        Arc::clone(&moved[0]),
        mover(all.session("a", &limits(50_000, None)), usize::MAX),
    ];
    all.update(|name| (name == "a").then(|| limits(None, 200_000)));
    for rate in after_ten_seconds(&movers).await {
        assert_near(rate, 200_000);
    }
    // of a user whom the file no longer has
    all.update(|_| None);
    for rate in after_ten_seconds(&movers).await {
        assert_near(rate, 200_000);
    }
}

#[tokio::test(start_paused = true)]
async fn one_session_among_ten_of_another_user_gets_its_part() {
    let all = bandwidth(&limits(11 * MIB / 10, None));
    let crowd: Vec<_> = (0..10)
        .map(|_| mover(all.session("crowd", &limits(None, None)), usize::MAX))
        .collect();
    let one = mover(all.session("one", &limits(None, None)), 1000);
    let movers: Vec<_> = crowd.into_iter().chain([one]).collect();
    for rate in after_ten_seconds(&movers).await {
        assert_near(rate, MIB / 10);
    }
}

#[tokio::test(start_paused = true)]
async fn many_sessions_that_begin_at_once_get_no_more_than_the_rate() {
    let all = bandwidth(&limits(50_000, None));
    let movers: Vec<_> = (0..200)
        .map(|_| mover(all.session("u", &limits(None, None)), usize::MAX))
        .collect();
    let measured = after_ten_seconds(&movers).await;
    assert_near(measured.iter().sum(), 50_000);
}

#[tokio::test(start_paused = true)]
async fn a_limit_that_rested_gives_no_more_than_a_burst() {
    let all = bandwidth(&limits(None, MIB));
    let session = all.session("u", &limits(None, None));
    tokio::time::sleep(Duration::from_secs(3600)).await;
    let pace = session.pace(Direction::Sent);
    let began = Instant::now();
    let mut at_once = 0;
    loop {
        let bytes = permit(pace).await;
        if began.elapsed() > Duration::ZERO {
            break;
        }
        pace.moved(bytes);
        at_once += bytes as u64;
    }
    let burst = (MIB as f64 * BURST.as_secs_f64()) as u64;
    assert!(
        at_once <= burst + MAX_SHARE && at_once > burst / 2,
        "{at_once}"
    );
}

#[tokio::test(start_paused = true)]
async fn neither_aborted_waits_nor_new_sessions_give_time_away() {
    let all = bandwidth(&limits(None, None));
    let own = limits(10_000, None);
    let began = Instant::now();
    let mut moved = 0;
    while began.elapsed() < Duration::from_secs(SECONDS) {
        let session = all.session("u", &own);
        let pace = session.pace(Direction::Sent);
        for _ in 0..3 {
            // an ABOR while it waits
            let _ = tokio::time::timeout(Duration::from_millis(1), permit(pace)).await;
        }
        let bytes = permit(pace).await;
        pace.moved(bytes);
        moved += bytes as u64;
    }
    let rate = moved as f64 / began.elapsed().as_secs_f64();
    assert!(rate < 10_000.0 * 1.06, "{rate}");
}

#[tokio::test(start_paused = true)]
async fn sessions_that_ask_and_go_take_nobodys_time() {
    let all = bandwidth(&limits(MIB, None));
    let steady = [mover(
        all.session("steady", &limits(None, None)),
        usize::MAX,
    )];
    let strangers = async {
        loop {
            // more of them than shares fit into the time
            for _ in 0..100 {
                let session = all.session("guest", &limits(None, None));
                let _ = session.pace(Direction::Received).permit();
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let measured = tokio::select! {
        measured = after_ten_seconds(&steady) => measured[0],
        () = strangers => unreachable!("it has no end"),
    };
    assert_near(measured, MIB);
}

#[tokio::test(start_paused = true)]
async fn a_new_rate_holds_for_sessions_that_wait() {
    for (old, new) in [(100 * MIB, 20_480), (1024, 100_000)] {
        let all = bandwidth(&limits(None, None));
        let movers: Vec<_> = (0..100)
            .map(|_| mover(all.session("u", &limits(old, None)), usize::MAX))
            .collect();
        after_ten_seconds(&movers).await;
        all.update(|_| Some(limits(new, None)));
        tokio::time::sleep(2 * LOOK_AGAIN).await;
        let measured = after_ten_seconds(&movers).await;
        assert_near(measured.iter().sum(), new);
    }
}

#[test]
fn without_limits_nothing_waits() {
    let all = bandwidth(&limits(None, None));
    let session = all.session("u", &limits(None, None));
    for direction in [Direction::Received, Direction::Sent] {
        assert_eq!(session.pace(direction).permit(), (usize::MAX, None));
    }
}

#[test]
fn users_without_sessions_are_forgotten() {
    let all = bandwidth(&limits(None, None));
    for number in 0..10_000 {
        drop(all.session(&format!("user-{number}"), &limits(None, None)));
    }
    assert!(all.users.lock().by_name.len() <= 2 * TIDY_FROM);
}
