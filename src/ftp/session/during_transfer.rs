//! The control connection while something else runs: what a client may say during a transfer.

use std::collections::VecDeque;
use std::pin::pin;

use crate::ftp::codec::{Control, Line};
use crate::ftp::reply::Reply;
use crate::ftp::session::edge::SessionEnd;
use crate::ftp::transfer::Transfer;
use crate::store::Interruption;

/// Commands that a client may send ahead during a transfer; then its socket is left to fill up, and an ABOR behind them waits like the
/// rest. Far more than clients that pipeline do send.
const MAX_QUEUE: usize = 256;

/// Bytes of such commands: as many with short paths, or eight lines of the greatest length.
const MAX_QUEUED_BYTES: usize = 64 * 1024;

/// Runs `work` and attends to the control connection meanwhile: ABOR, NOOP and STAT are answered now, the rest is kept
/// for later, up to a bound.
pub(super) async fn attend<F: Future>(
    control: &mut Control,
    queue: &mut VecDeque<Line>,
    end: &SessionEnd,
    transfer: &Transfer,
    work: F,
) -> F::Output {
    let mut work = pin!(work);
    let mut listening = has_room(queue);
    let mut late_abort = false;
    // sent ahead with the transfer's own command
    if queue.iter().any(is_quit) {
        transfer.quit();
    }
    let (mut ended, mut overdue) = (false, false);
    loop {
        let line = tokio::select! {
            done = &mut work => {
                if late_abort {
                    // too late to abort anything: the transfer's own reply goes first, then this one is answered
                    queue.push_front(Line::Text("ABOR".to_owned()));
                }
                return done;
            }
            line = control.next(), if listening => line,
            () = transfer.control_missed(), if !overdue => {
                overdue = true;
                transfer.interrupt(Interruption::ControlLost);
                continue;
            }
            reason = end.reached(), if !ended => {
                ended = true;
                transfer.interrupt(reason);
                continue;
            }
        };
        let answer = match line {
            Ok(Line::Text(text)) => match text.trim().to_ascii_uppercase().as_str() {
                "ABOR" => {
                    late_abort |= !transfer.interrupt(Interruption::Abort);
                    None
                }
                "NOOP" if queue.is_empty() => Some(Reply::new(200, "OK")),
                "STAT" if queue.is_empty() => {
                    let text = format!("Transfer in progress, {} bytes so far", transfer.bytes());
                    Some(Reply::new(213, text))
                }
                _ => {
                    let line = Line::Text(text);
                    if is_quit(&line) {
                        transfer.quit();
                    }
                    queue.push_back(line);
                    listening = has_room(queue);
                    None
                }
            },
            Ok(line @ (Line::Legacy(_) | Line::TooLong | Line::Malformed)) => {
                queue.push_back(line);
                listening = has_room(queue);
                None
            }
            // a client that leaves with a reply unread makes it a reset
            Ok(Line::End) | Err(_) => {
                transfer.control_ended();
                listening = false;
                None
            }
            Ok(Line::Flood) => {
                transfer.interrupt(Interruption::ControlLost);
                listening = false;
                None
            }
        };
        // the storage has its own end, so this doesn't end here
        if let Some(reply) = answer
            && control.send(&reply).await.is_err()
        {
            transfer.control_ended();
            listening = false;
        }
    }
}

/// True if one more line may wait.
fn has_room(queue: &VecDeque<Line>) -> bool {
    let bytes = |line: &Line| match line {
        Line::Text(text) => text.len(),
        Line::Legacy(bytes) => bytes.len(),
        Line::TooLong | Line::Malformed | Line::Flood | Line::End => 0,
    };
    queue.len() < MAX_QUEUE && queue.iter().map(bytes).sum::<usize>() < MAX_QUEUED_BYTES
}

pub(super) fn is_quit(line: &Line) -> bool {
    matches!(line, Line::Text(text) if text.trim().eq_ignore_ascii_case("QUIT"))
}
