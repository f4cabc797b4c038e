use super::*;
use crate::auth::guard::Outcome;

const WINDOW: Duration = Duration::from_secs(900);

fn token() -> CancellationToken {
    CancellationToken::new()
}

#[tokio::test(start_paused = true)]
async fn a_refusal_makes_nobody_gone_whose_stream_was_cut_before_the_window_has_passed() {
    let (mut state, stream) = (State::default(), token());
    state.fail(Unreachable::Gone, WINDOW);
    assert!(state.is_certain(), "it has not been here");
    state.replace(stream.clone());
    state.set(&stream, Incoming::Current);
    state.fail(Unreachable::Gone, WINDOW);
    assert!(!state.is_gone, "its stream is open");
    let last = Instant::now();
    tokio::time::advance(Duration::from_secs(2)).await;
    state.cut(&stream, last);
    for (seconds, is_certain) in [(0, false), (897, false), (1, true)] {
        tokio::time::advance(Duration::from_secs(seconds)).await;
        state.fail(Unreachable::Gone, WINDOW);
        assert_eq!(state.is_certain(), is_certain, "{seconds}");
    }
    // it comes back, and leaves in order
    let newer = token();
    state.replace(newer.clone());
    assert!(stream.is_cancelled());
    state.set(&newer, Incoming::Current);
    state.cut(&stream, Instant::now());
    assert_eq!(state.incoming, Incoming::Current, "an older stream");
    state.set(&newer, Incoming::Left);
    state.fail(Unreachable::Gone, WINDOW);
    assert!(state.is_certain());
    state.fail(Unreachable::Unknown, WINDOW);
    assert!(state.is_certain(), "its machine has ended, too");
    state.fail(Unreachable::Unanswered, WINDOW);
    assert!(!state.is_certain(), "something is back that sends nothing");
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_takes_the_place_of_an_open_one_begins_anew() {
    let (mut state, older, newer) = (State::default(), token(), token());
    state.replace(older.clone());
    state.set(&older, Incoming::Current);
    state.replace(newer);
    assert!(older.is_cancelled() && !state.is_certain());
}

#[tokio::test(start_paused = true)]
async fn who_is_gone_for_less_than_a_minute_is_looked_for_every_few_seconds() {
    let mut state = State::default();
    assert_eq!(state.longest_pause(), MAX_PAUSE);
    for absence in [
        |state: &mut State| state.is_gone = true,
        |state: &mut State| state.incoming = Incoming::Left,
    ] {
        state = State::default();
        absence(&mut state);
        state.note_absence();
        tokio::time::advance(RECENTLY - Duration::from_secs(1)).await;
        state.note_absence();
        assert_eq!(state.longest_pause(), SILENCE);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(state.longest_pause(), MAX_PAUSE);
        state.is_gone = false;
        state.incoming = Incoming::Current;
        state.note_absence();
        assert_eq!(state.absent_since, None);
    }
}

#[tokio::test(start_paused = true)]
async fn whoever_leaves_sends_all_that_waits_before_it_says_so() {
    let (sender, mut events) = broadcast::channel(1024);
    let event = Event {
        outcome: Outcome::Success,
        address: [192, 0, 2, 1].into(),
        name: 1,
        at: Instant::now(),
    };
    for _ in 0..2 * MAX_EVENTS + 1 {
        sender.send(event).expect("waits");
    }
    for (count, is_last) in [(MAX_EVENTS, false), (MAX_EVENTS, false), (1, true)] {
        let mut message = Message::default();
        assert_eq!(fill(&mut message, &mut events, true), None);
        assert_eq!((message.events.len(), message.leaves), (count, is_last));
    }
    let mut message = Message::default();
    assert_eq!(fill(&mut message, &mut events, false), None);
    assert!(!message.leaves && message.events.is_empty());
    for _ in 0..1024 + 3 {
        sender.send(event).expect("waits");
    }
    assert_eq!(fill(&mut message, &mut events, true), Some(3));
    assert!(!message.leaves);
}
