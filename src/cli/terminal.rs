//! Passwords that are typed: the terminal shows nothing of them, and shows what is typed again afterwards, however the
//! program ends.

use std::io::{self, BufRead, IsTerminal, Write as _};

use rustix::termios::{
    LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcsetattr,
};
use secrecy::zeroize::Zeroizing;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// The byte that a terminal sends for Ctrl-C while it makes no signals.
const CTRL_C: u8 = 3;

/// Terminals have no longer lines.
const MAX_TYPED: usize = 4096;

/// Asks the person at the terminal with `prompt`, or reads a line that a program writes.
///
/// Outside of a runtime: SIGTERM, SIGHUP and SIGINT must not end the program before the terminal is as it was.
pub(super) fn read_password(prompt: &str) -> io::Result<Zeroizing<String>> {
    if !io::stdin().is_terminal() {
        let mut line = Zeroizing::new(String::new());
        io::stdin().lock().read_line(&mut line)?;
        return Ok(line);
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let line = runtime.block_on(async {
        // caught from here on
        let mut signals = [
            signal(SignalKind::terminate())?,
            signal(SignalKind::hangup())?,
            signal(SignalKind::interrupt())?,
        ];
        let hidden = Hidden::begin();
        eprint!("{prompt}");
        io::stderr().flush()?;
        let line = tokio::task::spawn_blocking(|| typed(&mut io::stdin().lock()));
        let line = tokio::select! {
            line = line => line.map_err(io::Error::other)?,
            () = any(&mut signals) => Err(interrupted()),
        };
        drop(hidden);
        eprintln!();
        line
    });
    // after a signal a thread still waits for the line
    runtime.shutdown_background();
    line
}

async fn any([terminate, hangup, interrupt]: &mut [Signal; 3]) {
    tokio::select! {
        _ = terminate.recv() => {}
        _ = hangup.recv() => {}
        _ = interrupt.recv() => {}
    }
}

fn interrupted() -> io::Error {
    io::Error::new(io::ErrorKind::Interrupted, "interrupted")
}

/// A line as it was typed; Ctrl-C, which arrives as a character, is an error.
fn typed(input: &mut impl BufRead) -> io::Result<Zeroizing<String>> {
    let mut line = Zeroizing::new(Vec::new());
    loop {
        let bytes = input.fill_buf()?;
        let end = bytes
            .iter()
            .position(|byte| matches!(*byte, b'\n' | CTRL_C));
        let taken = end.map_or(bytes.len(), |at| at + 1);
        line.extend_from_slice(bytes.get(..taken).unwrap_or_default());
        input.consume(taken);
        if line.last() == Some(&CTRL_C) {
            return Err(interrupted());
        }
        if end.is_some() || taken == 0 || line.len() > MAX_TYPED {
            let text = std::str::from_utf8(&line).map_err(io::Error::other)?;
            return Ok(Zeroizing::new(text.to_owned()));
        }
    }
}

/// The terminal shows nothing of what is typed, until this is dropped; so that this happens, Ctrl-C ends the line and not
/// the program.
struct Hidden(Option<Termios>);

impl Hidden {
    fn begin() -> Self {
        let shown = tcgetattr(io::stdin()).ok();
        if let Some(mut hidden) = shown.clone() {
            hidden
                .local_modes
                .remove(LocalModes::ECHO | LocalModes::ISIG);
            hidden.special_codes[SpecialCodeIndex::VEOL] = CTRL_C;
            let _ = tcsetattr(io::stdin(), OptionalActions::Flush, &hidden);
        }
        Hidden(shown)
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        if let Some(shown) = &self.0 {
            let _ = tcsetattr(io::stdin(), OptionalActions::Now, shown);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_typed_line_ends_with_the_line_or_with_ctrl_c() {
        let line = |mut keys: &[u8]| typed(&mut keys).map(|line| line.to_string());
        assert_eq!(line(b"secret\nmore").expect("typed"), "secret\n");
        assert_eq!(line(b"secret").expect("typed"), "secret");
        for keys in [&b"\x03"[..], b"sec\x03ret\n"] {
            let error = line(keys).expect_err("Ctrl-C");
            assert_eq!(error.kind(), io::ErrorKind::Interrupted);
        }
    }
}
