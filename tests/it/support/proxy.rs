//! A proxy in front of a store, for stores that break, are far away, or are to be counted.

mod pass;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};

use self::pass::pass;
use super::faults::{Fault, Given, Script, operation};

/// Passes bytes on until it is set to break.
pub struct Proxy {
    address: SocketAddr,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    down: AtomicBool,
    /// Nobody listens.
    away: AtomicBool,
    /// Requests are taken, and nothing comes of them.
    silent: AtomicBool,
    /// Bytes that may still come back from the store; `u64::MAX` for all.
    allowance: AtomicU64,
    /// As many bytes later a bit is flipped on its way from the store; `u64::MAX` for none.
    flip: AtomicU64,
    connections: AtomicU64,
    /// Each connection of this number is closed as soon as it is made; 0 for none.
    refused: AtomicU64,
    /// Bodies in each of which a bit is to be flipped on its way to the store.
    corrupt: AtomicU64,
    /// The answer to the next request whose first line has both is lost.
    lose: Mutex<Option<(&'static str, &'static str)>>,
    lost: AtomicU64,
    /// Milliseconds before a request is passed on.
    latency: AtomicU64,
    /// The heads of all requests.
    requests: Mutex<Vec<String>>,
    /// Which requests are answered here.
    failing: Mutex<Option<Failing>>,
    /// With what; 500 if nothing.
    answer: Mutex<Option<String>>,
    /// Which requests wait here.
    holding: Mutex<Option<(Failing, Arc<Held>)>>,
    /// Which requests' answers wait here.
    holding_answers: Mutex<Option<(Failing, Arc<Held>)>>,
    /// Which requests meet which fault.
    script: Script,
    /// The number of those that have.
    faults: AtomicU64,
}

/// Requests that wait at the proxy.
#[derive(Default)]
struct Held {
    caught: AtomicU64,
    release: tokio_util::sync::CancellationToken,
}

impl Held {
    async fn wait(&self) {
        if !self.release.is_cancelled() {
            self.caught.fetch_add(1, Ordering::SeqCst);
            self.release.cancelled().await;
        }
    }
}

/// See [`Proxy::hold_if`]. Dropping it lets the requests go.
pub struct Hold(Arc<Held>);

impl Hold {
    /// The number of requests that wait, or have waited.
    pub fn caught(&self) -> u64 {
        self.0.caught.load(Ordering::SeqCst)
    }

    /// Waits for the first one.
    pub async fn wait(&self) {
        super::eventually("a request is held", || async { self.caught() > 0 }).await;
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.0.release.cancel();
    }
}

type Failing = Box<dyn FnMut(&str) -> bool + Send>;

impl Proxy {
    pub async fn start(store: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let state = Arc::new(State {
            allowance: AtomicU64::new(u64::MAX),
            flip: AtomicU64::new(u64::MAX),
            ..State::default()
        });
        let shared = Arc::clone(&state);
        tokio::spawn(async move {
            let mut listener = listener;
            loop {
                let accepted = tokio::select! {
                    accepted = listener.accept() => accepted,
                    () = until(&shared.away, true) => {
                        drop(listener);
                        until(&shared.away, false).await;
                        listener = bound_again(address).await;
                        continue;
                    }
                };
                let Ok((client, _)) = accepted else { return };
                let made = shared.connections.fetch_add(1, Ordering::SeqCst);
                let refused = shared.refused.load(Ordering::SeqCst);
                let is_refused = refused > 0 && made.is_multiple_of(refused);
                if is_refused || shared.down.load(Ordering::SeqCst) {
                    continue;
                }
                let state = Arc::clone(&shared);
                tokio::spawn(async move {
                    if let Ok(store) = TcpStream::connect(store).await {
                        pass(client, store, &state).await;
                    }
                });
            }
        });
        Proxy { address, state }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Every connection is closed, at once and from now on; or let through again.
    pub fn set_down(&self, down: bool) {
        self.state.down.store(down, Ordering::SeqCst);
    }

    /// Every connection breaks and new ones are refused by the kernel, as by a machine where nothing listens; or taken again.
    pub fn set_away(&self, away: bool) {
        self.state.away.store(away, Ordering::SeqCst);
    }

    /// Requests are taken and never answered; or passed on again. What is on its way back stops, too.
    pub fn set_silent(&self, silent: bool) {
        self.state.silent.store(silent, Ordering::SeqCst);
    }

    /// A bit of each of the next bodies is flipped on its way.
    pub fn corrupt_next_bodies(&self, bodies: u64) {
        self.state.corrupt.store(bodies, Ordering::SeqCst);
    }

    /// The store gets the next request of this kind, and its answer never comes back.
    pub fn lose_answer_to(&self, method: &'static str, in_target: &'static str) {
        *self.state.lose.lock().expect("not poisoned") = Some((method, in_target));
    }

    /// The number of answers that were lost that way.
    pub fn answers_lost(&self) -> u64 {
        self.state.lost.load(Ordering::SeqCst)
    }

    /// After so many more bytes from the store, its connections break, one after another.
    pub fn cut_after(&self, bytes: u64) {
        self.state.allowance.store(bytes, Ordering::SeqCst);
    }

    /// A bit flips on its way from the store, after so many more bytes.
    pub fn flip_after(&self, bytes: u64) {
        self.state.flip.store(bytes, Ordering::SeqCst);
    }

    /// Each request reaches the store this much later.
    pub fn set_latency(&self, latency: Duration) {
        let latency = latency.as_millis() as u64;
        self.state.latency.store(latency, Ordering::SeqCst);
    }

    /// Each request whose head (`PUT /bucket/key HTTP/1.1` and the header lines) is chosen here is answered with 500.
    pub fn fail_if(&self, choose: impl FnMut(&str) -> bool + Send + 'static) {
        *self.state.failing.lock().expect("no panic") = Some(Box::new(choose));
    }

    /// As [`Self::fail_if`], with an S3 error of this status, code and `Date`.
    pub fn refuse_if(
        &self,
        (status, code, date): (u16, &str, &str),
        choose: impl FnMut(&str) -> bool + Send + 'static,
    ) {
        let body =
            format!("<Error><Code>{code}</Code><Message>as the test has it</Message></Error>");
        *self.state.answer.lock().expect("no panic") = Some(format!(
            "HTTP/1.1 {status} Refused\r\ndate: {date}\r\ncontent-type: application/xml\r\ncontent-length: {}\r\n\
             connection: close\r\n\r\n{body}",
            body.len()
        ));
        self.fail_if(choose);
    }

    /// As [`Self::fail_if`], with an answer of 200 and this XML.
    pub fn answer_if(&self, xml: &str, choose: impl FnMut(&str) -> bool + Send + 'static) {
        *self.state.answer.lock().expect("no panic") = Some(format!(
            "HTTP/1.1 200 OK\r\ncontent-type: application/xml\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{xml}",
            xml.len()
        ));
        self.fail_if(choose);
    }

    /// Each request whose head is chosen here waits until the result is dropped.
    pub fn hold_if(&self, choose: impl FnMut(&str) -> bool + Send + 'static) -> Hold {
        let held = Arc::new(Held::default());
        *self.state.holding.lock().expect("no panic") = Some((Box::new(choose), Arc::clone(&held)));
        Hold(held)
    }

    /// The store gets each request whose head is chosen here, and its answer waits until the result is dropped.
    pub fn hold_answers_if(&self, choose: impl FnMut(&str) -> bool + Send + 'static) -> Hold {
        let held = Arc::new(Held::default());
        let holding = (Box::new(choose) as Failing, Arc::clone(&held));
        *self.state.holding_answers.lock().expect("no panic") = Some(holding);
        Hold(held)
    }

    /// A request of this operation of S3 (`PutObject`, or `*` for any) meets a fault: the next one, unless the result says
    /// otherwise.
    pub fn fault(&self, operation: &'static str, fault: Fault) -> Given<'_> {
        self.state.script.add(operation, fault)
    }

    /// Chooses the fault of each request that no other one is for; see [`Script::choose`].
    pub fn choose_faults(
        &self,
        choose: impl FnMut(&'static str, &str) -> Option<Fault> + Send + 'static,
    ) {
        self.state.script.choose(choose);
    }

    /// One connection in so many is closed as soon as it is made; 0: none.
    pub fn refuse_one_in(&self, connections: u64) {
        self.state.refused.store(connections, Ordering::SeqCst);
    }

    /// Forgets the faults that have not happened.
    pub fn clear_faults(&self) {
        self.state.script.clear();
    }

    /// The number of requests that met a fault of the script.
    pub fn faults_met(&self) -> u64 {
        self.state.faults.load(Ordering::SeqCst)
    }

    /// The operations of all requests since the last call, such as `PutObject f`, by [`Self::take_requests`].
    pub fn take_operations(&self) -> Vec<String> {
        let named = |head: String| {
            let (name, key) = operation(&head);
            format!("{name} {key}").trim_end().to_owned()
        };
        self.take_requests().into_iter().map(named).collect()
    }

    /// The heads of all requests since the last call.
    pub fn take_requests(&self) -> Vec<String> {
        std::mem::take(&mut *self.state.requests.lock().expect("no panic"))
    }
}

impl State {
    /// Flips the bit whose turn it is.
    fn flip_in(&self, bytes: &mut [u8]) {
        let after = self.flip.load(Ordering::SeqCst);
        if after == u64::MAX {
            return;
        }
        match bytes.get_mut(usize::try_from(after).unwrap_or(usize::MAX)) {
            Some(byte) => {
                *byte ^= 1;
                self.flip.store(u64::MAX, Ordering::SeqCst);
            }
            None => self
                .flip
                .store(after - bytes.len() as u64, Ordering::SeqCst),
        }
    }

    async fn while_silent(&self) {
        while self.silent.load(Ordering::SeqCst) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// True for a body that is to be corrupted.
    fn is_corrupted(&self) -> bool {
        let one_less = |bodies: u64| bodies.checked_sub(1);
        let counted = self
            .corrupt
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_less);
        counted.is_ok()
    }

    /// True for the request whose answer is to be lost.
    fn is_doomed(&self, head: &str) -> bool {
        let mut lose = self.lose.lock().expect("not poisoned");
        let line = head.lines().next().unwrap_or_default();
        let found = lose.is_some_and(|(method, in_target)| {
            line.starts_with(method) && line.contains(in_target)
        });
        if found {
            *lose = None;
        }
        found
    }
}

/// The same port, which another program may have had meanwhile for one of its connections.
async fn bound_again(address: SocketAddr) -> TcpListener {
    loop {
        match TcpListener::bind(address).await {
            Ok(listener) => return listener,
            Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
        }
    }
}

/// Waits until a flag is like this; what watches for one looks every few milliseconds.
async fn until(flag: &AtomicBool, value: bool) {
    while flag.load(Ordering::SeqCst) != value {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
