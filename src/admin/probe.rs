//! Reachability of the store: asked seldom, answered at once, and not upset by an outage of seconds.
//!
//! Readiness takes a pod out of a Service. A store that is away is away for all pods, and all of them out of the Service
//! would turn clients away that would only have waited, or got a reason. So a good answer stands for [`GOOD_FOR`], and what
//! an outage means that is longer is for `admin.store_outage` to say. A gateway whose store has never answered is another
//! matter: it may be its own configuration, and a rolling update must not go on with it.
//!
//! Invariants: at most one question is under way, and at most one is asked per [`ANSWER_HOLDS`], however many probes come;
//! no probe waits longer than `FIRST_CHECK_TIMEOUT`.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;
use tracing::{info, warn};

/// A good answer makes the store reachable for so long.
pub const GOOD_FOR: Duration = Duration::from_secs(60);

/// Any answer is taken again for so long, so that probes can't load the store.
pub const ANSWER_HOLDS: Duration = Duration::from_secs(5);

/// The longest time that the store may take to answer.
const STORE_TIMEOUT: Duration = Duration::from_secs(5);

/// The longest time that a probe waits for an answer while the last good one still stands.
const RECHECK_TIMEOUT: Duration = Duration::from_millis(500);

/// The longest wait if there is none: less than `cosgate health` gives it.
const FIRST_CHECK_TIMEOUT: Duration = Duration::from_secs(2);

/// The result of the answers so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The last answer was good.
    Reachable,
    /// A good one was heard within the last minute, but the last was not.
    Doubtful(String),
    /// There were good ones, but none within the last minute.
    Unreachable(String),
    /// There was no good one yet.
    NeverReached(String),
}

/// Asks the store, and remembers.
pub struct StoreProbe {
    ask: Box<dyn Fn() -> Asking + Send + Sync>,
    heard: Arc<Heard>,
}

/// One question on its way.
pub type Asking = Pin<Box<dyn Future<Output = Result<(), String>> + Send>>;

#[derive(Default)]
struct Heard {
    answers: Mutex<Answers>,
    /// Notified at each answer.
    news: Notify,
}

#[derive(Debug, Clone, Default)]
struct Answers {
    last_good: Option<Instant>,
    last: Option<Instant>,
    /// The fault, since the last good answer.
    trouble: Option<String>,
    is_asking: bool,
}

impl StoreProbe {
    /// `ask` sends one cheap request; it need not bound its time.
    pub fn new(ask: impl Fn() -> Asking + Send + Sync + 'static) -> Self {
        StoreProbe {
            ask: Box::new(ask),
            heard: Arc::default(),
        }
    }

    /// The state as known now, after a new question if the last answer is old and the store is quick.
    pub async fn verdict(&self) -> Verdict {
        let mut news = std::pin::pin!(self.heard.news.notified());
        // from here on no answer is missed
        news.as_mut().enable();
        let now = Instant::now();
        let answers = self.heard.lock().clone();
        let is_old = answers.last.is_none_or(|at| now >= at + ANSWER_HOLDS);
        if is_old {
            self.ask_unless_asking();
            let within = match answers.verdict(now) {
                Verdict::Unreachable(_) | Verdict::NeverReached(_) => FIRST_CHECK_TIMEOUT,
                Verdict::Reachable | Verdict::Doubtful(_) => RECHECK_TIMEOUT,
            };
            // without an answer in time, what was known holds; the answer is there for the next probe
            let _ = tokio::time::timeout(within, news).await;
        }
        self.known()
    }

    /// True if the last answer was a good one; not before the first.
    pub fn is_answering(&self) -> bool {
        let answers = self.heard.lock();
        answers.last_good.is_some() && answers.trouble.is_none()
    }

    /// The state as known now; nothing is asked.
    pub fn known(&self) -> Verdict {
        self.heard.lock().verdict(Instant::now())
    }

    /// The question is a task of its own, since the probe that had it asked may leave; it ends within its bound.
    fn ask_unless_asking(&self) {
        let mut answers = self.heard.lock();
        if std::mem::replace(&mut answers.is_asking, true) {
            return;
        }
        drop(answers);
        let question = Question(Some(Arc::clone(&self.heard)));
        let asking = (self.ask)();
        tokio::spawn(async move {
            let answer = tokio::time::timeout(STORE_TIMEOUT, asking).await;
            let late = || format!("no answer within {} s", STORE_TIMEOUT.as_secs());
            question.answered(answer.unwrap_or_else(|_| Err(late())));
        });
    }
}

/// A question that is under way. Whatever becomes of it, there is an answer, or nothing would ever be asked again.
struct Question(Option<Arc<Heard>>);

impl Question {
    fn answered(mut self, answer: Result<(), String>) {
        if let Some(heard) = self.0.take() {
            heard.note(answer);
        }
    }
}

impl Drop for Question {
    fn drop(&mut self) {
        if let Some(heard) = self.0.take() {
            heard.note(Err("the question broke off".to_owned()));
        }
    }
}

impl Heard {
    fn lock(&self) -> parking_lot::MutexGuard<'_, Answers> {
        self.answers.lock()
    }

    fn note(&self, answer: Result<(), String>) {
        let mut answers = self.lock();
        // told when it changes: a store that is down for hours is asked every few seconds
        match (&answer, &answers.trouble) {
            (Ok(()), Some(_)) => info!(
                event = "store_reachable",
                "the store answers the probe again"
            ),
            (Err(error), None) => {
                warn!(event = "store_unreachable", %error, "the store does not answer the probe")
            }
            _ => {}
        }
        answers.note(Instant::now(), answer);
        drop(answers);
        self.news.notify_waiters();
    }
}

impl Answers {
    fn note(&mut self, now: Instant, answer: Result<(), String>) {
        self.is_asking = false;
        self.last = Some(now);
        self.trouble = answer.err();
        if self.trouble.is_none() {
            self.last_good = Some(now);
        }
    }

    fn verdict(&self, now: Instant) -> Verdict {
        let stands = self.last_good.is_some_and(|at| now < at + GOOD_FOR);
        match (&self.trouble, stands) {
            (None, true) => Verdict::Reachable,
            (Some(trouble), true) => Verdict::Doubtful(trouble.clone()),
            (trouble, false) if self.last_good.is_some() => {
                let old = "its last answer is more than a minute old";
                Verdict::Unreachable(trouble.as_deref().unwrap_or(old).to_owned())
            }
            (trouble, false) => {
                let none = "it has not answered yet";
                Verdict::NeverReached(trouble.as_deref().unwrap_or(none).to_owned())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

    use super::*;

    /// A store that is up, down, or silent, and counts its questions.
    #[derive(Default)]
    struct Store {
        is_down: AtomicBool,
        is_silent: AtomicBool,
        asked: AtomicUsize,
    }

    fn probe() -> (Arc<Store>, StoreProbe) {
        let store = Arc::new(Store::default());
        let asked = Arc::clone(&store);
        let probe = StoreProbe::new(move || {
            asked.asked.fetch_add(1, Ordering::SeqCst);
            let store = Arc::clone(&asked);
            Box::pin(async move {
                if store.is_silent.load(Ordering::SeqCst) {
                    std::future::pending::<()>().await;
                }
                match store.is_down.load(Ordering::SeqCst) {
                    true => Err("refused".to_owned()),
                    false => Ok(()),
                }
            })
        });
        (store, probe)
    }

    async fn after(seconds: u64) {
        tokio::time::sleep(Duration::from_secs(seconds)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_question_that_breaks_off_is_an_answer_and_the_next_one_is_asked() {
        let asked = AtomicUsize::new(0);
        let probe = StoreProbe::new(move || {
            let before = asked.fetch_add(1, Ordering::SeqCst);
            Box::pin(async move {
                assert!(before > 0, "the first question panics, on purpose");
                Ok(())
            })
        });
        assert!(matches!(probe.verdict().await, Verdict::NeverReached(_)));
        after(6).await;
        assert_eq!(probe.verdict().await, Verdict::Reachable);
    }

    #[tokio::test(start_paused = true)]
    async fn an_outage_of_seconds_is_a_note_and_one_of_a_minute_is_not_ready() {
        let (store, probe) = probe();
        assert_eq!(probe.verdict().await, Verdict::Reachable);
        store.is_down.store(true, Ordering::SeqCst);
        assert_eq!(
            probe.verdict().await,
            Verdict::Reachable,
            "the answer holds"
        );
        let trouble = "refused".to_owned();
        // probed every five seconds, as kubelet does
        for _ in 0..11 {
            after(5).await;
            assert_eq!(probe.verdict().await, Verdict::Doubtful(trouble.clone()));
        }
        after(5).await;
        assert_eq!(probe.verdict().await, Verdict::Unreachable(trouble));
        store.is_down.store(false, Ordering::SeqCst);
        after(5).await;
        assert_eq!(probe.verdict().await, Verdict::Reachable);
    }

    #[tokio::test(start_paused = true)]
    async fn a_store_that_never_answered_well_is_not_reachable() {
        let (store, probe) = probe();
        store.is_down.store(true, Ordering::SeqCst);
        let refused = Verdict::NeverReached("refused".to_owned());
        assert_eq!(probe.verdict().await, refused);
        // however long it takes
        after(600).await;
        assert_eq!(probe.verdict().await, refused);
        assert!(!probe.is_answering());
        store.is_down.store(false, Ordering::SeqCst);
        after(5).await;
        assert_eq!(probe.verdict().await, Verdict::Reachable);
        assert!(probe.is_answering());
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_store_keeps_no_probe_waiting() {
        let (store, probe) = probe();
        assert_eq!(probe.verdict().await, Verdict::Reachable);
        store.is_silent.store(true, Ordering::SeqCst);
        after(6).await;
        let began = Instant::now();
        assert_eq!(probe.verdict().await, Verdict::Reachable, "as known before");
        assert_eq!(began.elapsed(), RECHECK_TIMEOUT);
        after(6).await;
        let late = "no answer within 5 s".to_owned();
        assert_eq!(probe.known(), Verdict::Doubtful(late.clone()));
        after(60).await;
        let began = Instant::now();
        assert_eq!(probe.verdict().await, Verdict::Unreachable(late));
        assert_eq!(began.elapsed(), FIRST_CHECK_TIMEOUT);
    }

    #[tokio::test(start_paused = true)]
    async fn many_probes_are_one_question() {
        let (store, probe) = probe();
        let probe = Arc::new(probe);
        let mut probes = tokio::task::JoinSet::new();
        for _ in 0..100 {
            let probe = Arc::clone(&probe);
            probes.spawn(async move { probe.verdict().await });
        }
        for verdict in probes.join_all().await {
            assert_eq!(verdict, Verdict::Reachable);
        }
        assert_eq!(store.asked.load(Ordering::SeqCst), 1);
        after(4).await;
        probe.verdict().await;
        assert_eq!(store.asked.load(Ordering::SeqCst), 1);
        after(2).await;
        probe.verdict().await;
        assert_eq!(store.asked.load(Ordering::SeqCst), 2);
    }
}
