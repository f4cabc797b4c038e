//! One connection through the proxy: requests one way, answers the other.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cosgate::net::reset_on_close;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

use super::{Failing, Held, State, until};
use crate::support::faults::{Answer, Fault, Within};
use crate::support::http::read_head;

/// The way the connection to the client ends when the requests end.
enum End {
    /// It just ends.
    Closed,
    /// With this last answer.
    Answered(Vec<u8>),
    /// In a reset.
    Reset,
}

/// The shared state of the two directions of one connection. There is one request at a time, so one place for its fault.
#[derive(Default)]
struct Exchange {
    /// The answer to come is not to be passed on.
    doomed: AtomicBool,
    /// The answer to come waits for this.
    held: Mutex<Option<Arc<Held>>>,
    /// The treatment of the answer to come, and whether it is that of a HEAD.
    fault: Mutex<Option<(Fault, bool)>>,
}

pub(super) async fn pass(client: TcpStream, store: TcpStream, state: &Arc<State>) {
    let _ = (client.set_nodelay(true), store.set_nodelay(true));
    let (from_client, mut to_client) = client.into_split();
    let (from_store, to_store) = store.into_split();
    let exchange = Exchange::default();
    let upstream = pass_requests(from_client, to_store, state, &exchange);
    let downstream = pass_answers(
        BufReader::with_capacity(64 * 1024, from_store),
        &mut to_client,
        state,
        &exchange,
    );
    let end = tokio::select! {
        end = upstream => end,
        end = downstream => end,
        () = until(&state.down, true) => End::Closed,
        () = until(&state.away, true) => End::Reset,
    };
    match end {
        End::Closed => {}
        End::Answered(answer) => {
            let _ = to_client.write_all(&answer).await;
        }
        End::Reset => {
            reset_on_close(to_client.as_ref());
            // dropping it would send a FIN before
            to_client.forget();
        }
    }
}

/// Passes answers on, byte by byte as they come; one that meets a fault is read as a whole before.
async fn pass_answers(
    mut from_store: BufReader<OwnedReadHalf>,
    to_client: &mut OwnedWriteHalf,
    state: &State,
    exchange: &Exchange,
) -> End {
    loop {
        let read = match from_store.fill_buf().await {
            Ok([]) | Err(_) => return End::Closed,
            Ok(bytes) => bytes.len(),
        };
        if exchange.doomed.load(Ordering::SeqCst) {
            state.lost.fetch_add(1, Ordering::SeqCst);
            return End::Closed;
        }
        let held = exchange.held.lock().expect("no panic").take();
        if let Some(held) = held {
            held.wait().await;
        }
        state.while_silent().await;
        if state.down.load(Ordering::SeqCst) {
            return End::Closed;
        }
        let fault = exchange.fault.lock().expect("no panic").take();
        if let Some((fault, is_of_head)) = fault {
            let Some(mut answer) = read_answer(&mut from_store, is_of_head).await else {
                return End::Closed;
            };
            match fault {
                Fault::Answer(other) | Fault::AnswerAfter(other) => answer = other,
                Fault::Edit(edit) => edit(&mut answer),
                Fault::StallAnswer(time) => {
                    tokio::time::sleep(time).await;
                    return End::Closed;
                }
                Fault::CutAnswer => {
                    let bytes = answer.to_bytes(is_of_head);
                    let _ = to_client.write_all(&bytes[..bytes.len() / 2]).await;
                    return End::Closed;
                }
                Fault::ResetAnswer | Fault::StallWithinAnswer(_) => {
                    let bytes = answer.to_bytes(is_of_head);
                    let _ = to_client.write_all(&bytes[..bytes.len() / 2]).await;
                    let Fault::StallWithinAnswer(time) = fault else {
                        // what is on its way would be lost with the connection
                        tokio::time::sleep(Duration::from_millis(5)).await;
                        return End::Reset;
                    };
                    tokio::time::sleep(time).await;
                    return End::Closed;
                }
                Fault::SlowAnswer(pieces, pause) => {
                    let bytes = answer.to_bytes(is_of_head);
                    let pieces = bytes.chunks(bytes.len().div_ceil(pieces as usize));
                    for (number, piece) in pieces.enumerate() {
                        if number > 0 {
                            tokio::time::sleep(pause).await;
                        }
                        if to_client.write_all(piece).await.is_err() {
                            return End::Closed;
                        }
                    }
                    continue;
                }
                // the others end before the store answers
                _ => return End::Closed,
            }
            if to_client
                .write_all(&answer.to_bytes(is_of_head))
                .await
                .is_err()
            {
                return End::Closed;
            }
            continue;
        }
        let left = state.allowance.load(Ordering::SeqCst);
        let pass_on = read.min(usize::try_from(left).unwrap_or(usize::MAX));
        let mut bytes = from_store.buffer()[..pass_on].to_vec();
        state.flip_in(&mut bytes);
        if to_client.write_all(&bytes).await.is_err() {
            return End::Closed;
        }
        from_store.consume(read);
        if left != u64::MAX {
            state.allowance.fetch_sub(pass_on as u64, Ordering::SeqCst);
            if pass_on < read {
                // one break; the next connection works
                state.allowance.store(u64::MAX, Ordering::SeqCst);
                return End::Closed;
            }
        }
    }
}

async fn read_answer(from: &mut BufReader<OwnedReadHalf>, is_of_head: bool) -> Option<Answer> {
    let mut answer = Answer::parse_head(&read_head(from).await?);
    if is_of_head || answer.status == 204 || answer.status == 304 {
        return Some(answer);
    }
    if answer.header("transfer-encoding").is_some() {
        loop {
            let mut line = String::new();
            from.read_line(&mut line).await.ok()?;
            let length = usize::from_str_radix(line.trim(), 16).ok()?;
            let mut chunk = vec![0; length + 2];
            from.read_exact(&mut chunk).await.ok()?;
            if length == 0 {
                return Some(answer);
            }
            answer.body.extend_from_slice(&chunk[..length]);
        }
    }
    let length: usize = answer.header("content-length")?.parse().ok()?;
    answer.body.resize(length, 0);
    from.read_exact(&mut answer.body).await.ok()?;
    Some(answer)
}

/// The hold of a request that is chosen.
fn chosen(holding: &Mutex<Option<(Failing, Arc<Held>)>>, head: &str) -> Option<Arc<Held>> {
    let mut holding = holding.lock().expect("no panic");
    let (choose, held) = holding.as_mut()?;
    choose(head).then(|| Arc::clone(held))
}

/// Passes one request after another on.
async fn pass_requests(
    from_client: OwnedReadHalf,
    mut to_store: OwnedWriteHalf,
    state: &Arc<State>,
    exchange: &Exchange,
) -> End {
    let mut from_client = BufReader::new(from_client);
    loop {
        let Some(head) = read_head(&mut from_client).await else {
            return End::Closed;
        };
        // at once, not only when the connection is closed
        if state.down.load(Ordering::SeqCst) {
            return End::Closed;
        }
        let header = |name: &str| {
            head.lines()
                .filter_map(|line| line.split_once(": "))
                .find(|(known, _)| known.eq_ignore_ascii_case(name))
                .map(|(_, value)| value)
        };
        let is_chunked = header("transfer-encoding").is_some();
        let length = header("content-length").and_then(|value| value.parse().ok());
        let latency = Duration::from_millis(state.latency.load(Ordering::SeqCst));
        if !latency.is_zero() {
            tokio::time::sleep(latency).await;
        }
        if let Some(held) = chosen(&state.holding, &head) {
            held.wait().await;
        }
        *exchange.held.lock().expect("no panic") = chosen(&state.holding_answers, &head);
        // what watches for this looks every few milliseconds, and a request must not slip through
        if state.down.load(Ordering::SeqCst) {
            return End::Closed;
        }
        state.while_silent().await;
        let fails = {
            let mut failing = state.failing.lock().expect("no panic");
            failing.as_mut().is_some_and(|choose| choose(&head))
        };
        if state.is_doomed(&head) {
            exchange.doomed.store(true, Ordering::SeqCst);
        }
        // where a chunked body ends, nobody here knows; what follows is passed on unseen
        let length = if is_chunked {
            u64::MAX
        } else {
            length.unwrap_or(0)
        };
        let is_of_head = head.starts_with("HEAD ");
        let fault = state.script.take(&head);
        if fault.is_some() {
            state.faults.fetch_add(1, Ordering::SeqCst);
        }
        let mut corrupts = false;
        let refused = match fault {
            None => None,
            Some(Fault::LoseRequest) => Some(End::Closed),
            Some(Fault::StallRequest(time)) => {
                let body = &mut (&mut from_client).take(length);
                let _ = tokio::io::copy_buf(body, &mut tokio::io::sink()).await;
                tokio::time::sleep(time).await;
                return End::Closed;
            }
            Some(Fault::DelayRequest(time)) => {
                let mut request = head.clone().into_bytes();
                let body = &mut (&mut from_client).take(length);
                let (Ok(_), Ok(store)) =
                    (body.read_to_end(&mut request).await, to_store.peer_addr())
                else {
                    return End::Closed;
                };
                tokio::spawn(deliver(request, store, time));
                // the caller gives up before
                tokio::time::sleep(time).await;
                return End::Closed;
            }
            Some(Fault::CutRequest) => {
                let body = &mut (&mut from_client).take(length / 2);
                let _ = tokio::io::copy_buf(body, &mut tokio::io::sink()).await;
                return End::Closed;
            }
            Some(Fault::Reset(Within::Head)) => return End::Reset,
            Some(Fault::Reset(within)) => {
                let length = match within {
                    Within::Body => length / 2,
                    _ => length,
                };
                let body = &mut (&mut from_client).take(length);
                let _ = tokio::io::copy_buf(body, &mut tokio::io::sink()).await;
                return End::Reset;
            }
            Some(Fault::Away(time)) => {
                state.away.store(true, Ordering::SeqCst);
                let state = Arc::clone(state);
                tokio::spawn(async move {
                    tokio::time::sleep(time).await;
                    state.away.store(false, Ordering::SeqCst);
                });
                return End::Reset;
            }
            Some(Fault::CorruptRequest) => {
                corrupts = true;
                None
            }
            // the connection ends with it, so that nobody waits for what the store never got
            Some(Fault::Answer(mut answer)) => {
                answer.set("connection", "close");
                Some(End::Answered(answer.to_bytes(is_of_head)))
            }
            Some(fault) => {
                let told = (fault, is_of_head);
                *exchange.fault.lock().expect("no panic") = Some(told);
                None
            }
        };
        if let Some(end) = refused {
            state.requests.lock().expect("no panic").push(head);
            // a client that is answered before its body is read may meet a reset instead of the answer
            let body = &mut (&mut from_client).take(length);
            let _ = tokio::io::copy_buf(body, &mut tokio::io::sink()).await;
            return end;
        }
        let passed = !fails && to_store.write_all(head.as_bytes()).await.is_ok();
        state.requests.lock().expect("no panic").push(head);
        if !passed {
            let answer = state.answer.lock().expect("no panic").clone();
            let answer = answer.unwrap_or_else(|| INTERNAL_ERROR.to_owned());
            return if fails {
                End::Answered(answer.into_bytes())
            } else {
                End::Closed
            };
        }
        let body = &mut (&mut from_client).take(length);
        if length > 0 && length != u64::MAX && (corrupts || state.is_corrupted()) {
            let Ok(byte) = body.read_u8().await else {
                return End::Closed;
            };
            if to_store.write_all(&[byte ^ 1]).await.is_err() {
                return End::Closed;
            }
        }
        if tokio::io::copy_buf(body, &mut to_store).await.is_err() {
            return End::Closed;
        }
    }
}

/// Sends a request on its own, and waits until the store has begun to answer it.
async fn deliver(request: Vec<u8>, store: SocketAddr, after: Duration) {
    tokio::time::sleep(after).await;
    if let Ok(mut store) = TcpStream::connect(store).await
        && store.write_all(&request).await.is_ok()
    {
        let _ = store.read_u8().await;
    }
}

const INTERNAL_ERROR: &str =
    "HTTP/1.1 500 Internal Server Error\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
