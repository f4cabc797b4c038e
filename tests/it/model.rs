//! Random sequences of FTP operations by several sessions, against a small model of the tree in memory: each reply, each
//! listing, each size, content and time is the model's, and after each step so is all that the store has.
//!
//! A failing sequence is made as short as it can be, and prints its seed; `MODEL_SEED` runs it again. `MODEL_CASES` is how
//! many sequences there are, from that seed on.
//!
//! The model of the fault campaign (`faults/model.rs`) is another one: it keeps what a file may be after a reply, where this
//! one knows what it is.

/// Fails a comparison with a text.
macro_rules! ensure {
    ($holds:expr, $($text:tt)+) => {
        if !$holds {
            return Err(format!($($text)+));
        }
    };
}

mod machine;
mod mounts;
mod pattern;
mod run;
mod step;
mod stored;
mod tree;

use std::cell::{Cell, RefCell};
use std::time::Instant;

use proptest::strategy::BoxedStrategy;
use proptest::test_runner::{Config, RngSeed, TestCaseError, TestError, TestRunner};
use proptest_state_machine::ReferenceStateMachine;
use tokio::runtime::Runtime;

use machine::State;
use run::{Gateways, run};
use step::{Step, initial_state, next_step};

use crate::faults::dice::number;

/// Steps of a sequence.
const STEPS: std::ops::Range<usize> = 1..40;

/// Attempts to make a failing sequence shorter.
const SHRINKS: u32 = 300;

/// The model as proptest knows it.
struct Model;

impl ReferenceStateMachine for Model {
    type State = State;
    type Transition = Step;

    fn init_state() -> BoxedStrategy<State> {
        initial_state()
    }

    fn transitions(state: &State) -> BoxedStrategy<Step> {
        next_step(state)
    }

    fn apply(mut state: State, step: &Step) -> State {
        state.apply(step);
        state
    }
}

#[test]
fn sequences_of_operations_agree_with_the_model() {
    // the same in each run: what new ones find belongs to the long one
    check(1, 40);
}

#[test]
#[ignore = "takes minutes"]
fn many_sequences_of_operations_agree_with_the_model() {
    let now = std::time::SystemTime::now();
    let since = now.duration_since(std::time::UNIX_EPOCH);
    check(since.expect("after 1970").as_secs() * 1_000_000, 2000);
}

/// Runs `cases` sequences from `seed` on, unless the environment has other numbers.
fn check(seed: u64, cases: u64) {
    let given = number("MODEL_SEED");
    let (seed, cases) = (given.unwrap_or(seed), given.map_or(cases, |_| 1));
    let cases = number("MODEL_CASES").unwrap_or(cases);
    let runtime = Runtime::new().expect("a runtime");
    let (began, mut steps) = (Instant::now(), 0);
    let gateways = RefCell::new(Gateways::default());
    for seed in seed..seed + cases {
        steps += sequence(&runtime, &gateways, seed);
    }
    runtime.block_on(gateways.into_inner().stop());
    let seconds = began.elapsed().as_secs();
    eprintln!("{cases} sequences from seed {seed}, {steps} steps, {seconds} s");
}

/// Runs the sequence of a seed; returns the number of its steps.
fn sequence(runtime: &Runtime, gateways: &RefCell<Gateways>, seed: u64) -> usize {
    let config = Config {
        rng_seed: RngSeed::Fixed(seed),
        cases: 1,
        max_shrink_iters: SHRINKS,
        failure_persistence: None,
        ..Config::default()
    };
    let taken = Cell::new(0);
    let sequences = Model::sequential_strategy(STEPS);
    let checked = TestRunner::new(config).run(&sequences, |(state, steps, seen)| {
        taken.set(steps.len());
        let mut gateways = gateways.borrow_mut();
        let checked = runtime.block_on(run(&mut gateways, state, &steps, seen.as_deref()));
        checked.map_err(TestCaseError::fail)
    });
    match checked {
        Ok(()) => taken.get(),
        Err(TestError::Fail(reason, (state, steps, _))) => {
            let rights = state.sessions.iter().map(|session| session.rights.words);
            let rights: Vec<&str> = rights.collect();
            let count = rights.len();
            let steps: Vec<String> = steps
                .into_iter()
                .map(|step| Step {
                    session: step.session % count,
                    ..step
                })
                .map(|step| format!("  {step:?}"))
                .collect();
            panic!(
                "{reason}\nMODEL_SEED={seed} runs it again; the shortest sequence, of sessions with the rights {rights:?}, \
                 with mounts: {}, times set are listed: {}, watched: {}:\n{}",
                state.tree.has_mounts,
                state.has_set_times,
                state.is_watched,
                steps.join("\n")
            );
        }
        Err(error) => panic!("MODEL_SEED={seed}: {error}"),
    }
}
