//! The log's way to standard output: a bounded queue and a thread that empties it.
//!
//! Invariant: writing a log line never blocks. When nobody reads standard output (a full pipe, a log driver that hangs),
//! lines are dropped and counted once [`MAX_WAITING_BYTES`] wait; transfers go on. When somebody reads again, a line in
//! the log says how many are missing there, and the last line of the process says how many were lost in all.
//!
//! tracing-appender's `non_blocking` was considered: at the end of the process its guard reports a full queue by `println!`,
//! which blocks on the very pipe that nobody reads; lines whose write fails are not counted; and nothing can be put at the
//! end of a full queue.

use std::borrow::Cow;
use std::fmt::{self, Write as _};
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use tracing::warn;
use tracing_subscriber::field::MakeExt as _;
use tracing_subscriber::fmt::FormatFields;
use tracing_subscriber::fmt::format::debug_fn;

/// Log lines that wait to be written, in bytes: about 10,000 lines.
const MAX_WAITING_BYTES: usize = 4 * 1024 * 1024;

/// Time for the lines that wait when the process ends. Whoever reads at all reads 4 MiB within it.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);

/// There is one standard output in a process, and so one of these.
static DROPPED: AtomicU64 = AtomicU64::new(0);

/// Log lines that were dropped since the start of the process because nobody read them.
pub fn log_lines_dropped() -> u64 {
    DROPPED.load(Ordering::Relaxed)
}

/// The sending end of the queue. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Lines {
    queue: Sender<Vec<u8>>,
    waiting: Arc<AtomicUsize>,
    is_json: bool,
}

impl Lines {
    /// Starts the thread that writes to standard output, lines of JSON or of text.
    pub(super) fn to_stdout(is_json: bool) -> io::Result<Self> {
        // a descriptor of its own: the lock of `std::io::stdout` would be held while the thread is blocked
        let output = File::from(io::stdout().as_fd().try_clone_to_owned()?);
        let (queue, lines) = channel();
        let waiting = Arc::new(AtomicUsize::new(0));
        let still = Arc::clone(&waiting);
        std::thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || write_lines(&lines, &still, output))?;
        Ok(Lines {
            queue,
            waiting,
            is_json,
        })
    }

    /// Waits until all lines are written, within a bound.
    fn flush(&self) {
        // at the end of the process: nobody notices, and it costs nothing
        const LOOK_AGAIN: Duration = Duration::from_millis(5);
        let deadline = Instant::now() + FLUSH_TIMEOUT;
        while self.waiting.load(Ordering::Acquire) > 0 && Instant::now() < deadline {
            std::thread::sleep(LOOK_AGAIN);
        }
    }

    /// Writes what waits, and as the last line how much was lost. Blocks, within a bound.
    pub(super) fn finish(&self) {
        self.flush();
        let lines = log_lines_dropped();
        if lines > 0 {
            warn!(
                event = "log_lines_dropped",
                lines, "since the start, log lines were dropped because nobody read them"
            );
            self.flush();
        }
    }
}

impl Write for Lines {
    /// Takes one line; never blocks and never fails.
    fn write(&mut self, written: &[u8]) -> io::Result<usize> {
        let line = match self.is_json {
            true => without_controls(written),
            false => Cow::Borrowed(written),
        };
        let waiting = self.waiting.fetch_add(line.len(), Ordering::AcqRel);
        let fits = waiting + line.len() <= MAX_WAITING_BYTES;
        if !fits || self.queue.send(line.to_vec()).is_err() {
            self.waiting.fetch_sub(line.len(), Ordering::AcqRel);
            DROPPED.fetch_add(1, Ordering::Relaxed);
        }
        Ok(written.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Ends when the subscriber is gone, which is never before the process.
fn write_lines(lines: &Receiver<Vec<u8>>, waiting: &AtomicUsize, mut output: impl Write) {
    let mut reported = 0;
    while let Ok(line) = lines.recv() {
        let is_written = output.write_all(&line).is_ok();
        if !is_written {
            // a closed pipe, a full disk
            DROPPED.fetch_add(1, Ordering::Relaxed);
        }
        let left = waiting.fetch_sub(line.len(), Ordering::AcqRel) - line.len();
        let dropped = log_lines_dropped();
        // After what waited, which is where the others are missing. Not where nothing can be written: this line would be the next
        // one to be missing, and so on without an end.
        if is_written && left == 0 && dropped > reported {
            let missing = dropped - reported;
            reported = dropped;
            warn!(
                event = "log_lines_dropped",
                lines = missing,
                "log lines are missing here, because nobody read them"
            );
        }
    }
}

/// The fields of a text line, `name=value`. Control characters are escaped in all of them: file names and other words of
/// clients must not steer the terminal of whoever reads the log, nor begin a line of their own.
pub(super) fn text_fields() -> impl for<'w> FormatFields<'w> {
    let fields = debug_fn(|writer, field, value| match field.name() {
        "message" => write!(Escaped(writer), "{value:?}"),
        name => {
            let name = name.strip_prefix("r#").unwrap_or(name);
            write!(writer, "{name}=")?;
            write!(Escaped(writer), "{value:?}")
        }
    });
    fields.delimited(" ")
}

/// True for a character that steers a terminal, or that ends a line for some program.
fn steers(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}' | '\u{2029}')
}

/// A line of JSON in which only its end steers anything: JSON's own writer escapes what stands before the space alone, and a terminal
/// takes U+009B for the beginning of a sequence. All of these stand in strings, where an escape means the same.
fn without_controls(line: &[u8]) -> Cow<'_, [u8]> {
    let is_odd = |c: char| c != '\n' && steers(c);
    match std::str::from_utf8(line) {
        Ok(text) if text.contains(is_odd) => {
            let mut escaped = String::with_capacity(line.len() + 16);
            for c in text.chars() {
                if is_odd(c) {
                    // writing to a String can't fail
                    let _ = write!(escaped, "\\u{:04x}", u32::from(c));
                } else {
                    escaped.push(c);
                }
            }
            Cow::Owned(escaped.into_bytes())
        }
        _ => Cow::Borrowed(line),
    }
}

/// Passes text on with its control characters escaped.
struct Escaped<W>(W);

impl<W: fmt::Write> fmt::Write for Escaped<W> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for plain in text.split_inclusive(steers) {
            let end = plain.char_indices().next_back();
            match end.filter(|(_, last)| steers(*last)) {
                Some((at, control)) => {
                    self.0.write_str(&plain[..at])?;
                    write!(self.0, "{}", control.escape_default())?;
                }
                None => self.0.write_str(plain)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_escaped_and_other_text_stays() {
        let mut text = String::new();
        write!(Escaped(&mut text), "a\x1b[2J\n\r\x07中\u{9b}é").expect("a string takes all");
        assert_eq!(text, "a\\u{1b}[2J\\n\\r\\u{7}中\\u{9b}é");
    }

    #[test]
    fn a_line_of_json_says_the_same_without_a_character_that_steers() {
        let value = "a\u{7f}b\u{9b}31m\u{85}\u{2028}中é";
        let line = format!("{{\"name\":{}}}\n", serde_json::json!(value));
        let written = without_controls(line.as_bytes());
        let written = std::str::from_utf8(&written).expect("UTF-8");
        assert!(!written.trim_end().contains(steers), "{written}");
        let read: serde_json::Value = serde_json::from_str(written).expect("JSON");
        assert_eq!(read["name"], value);
    }

    #[test]
    fn a_full_queue_takes_no_more_and_does_not_block() {
        let (queue, lines) = channel();
        let waiting = Arc::new(AtomicUsize::new(0));
        let mut sender = Lines {
            queue,
            waiting,
            is_json: false,
        };
        let before = log_lines_dropped();
        let line = vec![b'x'; 1024 * 1024];
        for _ in 0..5 {
            assert_eq!(sender.write(&line).expect("never fails"), line.len());
        }
        assert_eq!(lines.try_iter().count(), 4);
        assert_eq!(log_lines_dropped() - before, 1);
    }
}
