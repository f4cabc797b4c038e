//! Bytes of the control connection to lines.

use super::input::choice;
use crate::ftp::codec::{Line, MAX_LINE, Received};

/// The telnet command that a byte 0xFF begins.
const IAC: u8 = 255;

/// The first byte says how the rest is cut into reads, and how often each of its bytes is repeated, so that a short input is a long line.
///
/// - The lines don't depend on how the bytes are cut into reads.
/// - There is a line for each line end, no line has one in it, and none is longer than the limit.
/// - A name that is written as RFC 854 has it, with each 0xFF twice, arrives as it was.
pub fn control_line(input: &[u8]) {
    let (choice, sent) = choice(input);
    let sent = match choice / 16 {
        0 => repeated(sent),
        _ => sent.to_vec(),
    };
    let read = match choice % 16 {
        // each byte on its own takes long for a long line
        0 if choice >= 16 => 1,
        sixteenth => 64 + sixteenth * 128,
    };
    let lines = lines_of(&sent, read);
    assert_eq!(lines, lines_of(&sent, 2048), "reads of {read} bytes");
    let ends = sent.iter().filter(|byte| **byte == b'\n').count();
    assert_eq!(lines.len(), ends);
    lines.iter().for_each(check);
    round_trip(&sent);
}

/// Each byte of a line many times, long enough for a line that is thrown away in two pieces, and one behind it.
fn repeated(line: &[u8]) -> Vec<u8> {
    let mut long = Vec::new();
    for byte in line {
        let times = if *byte < b' ' { 1 } else { 700 };
        long.extend_from_slice(&[*byte; 700][..times]);
        if long.len() > 2 * MAX_LINE + 2048 {
            break;
        }
    }
    long
}

fn lines_of(sent: &[u8], read: usize) -> Vec<Line> {
    let mut received = Received::default();
    let mut lines = Vec::new();
    for bytes in sent.chunks(read) {
        received.push(bytes);
        lines.extend(std::iter::from_fn(|| received.take_line()));
    }
    lines
}

fn check(line: &Line) {
    let bytes = match line {
        Line::Text(text) => text.as_bytes(),
        Line::Legacy(bytes) => {
            assert!(std::str::from_utf8(bytes).is_err(), "{bytes:?} is text");
            bytes
        }
        Line::TooLong | Line::Malformed => return,
        Line::Flood | Line::End => panic!("{line:?} of so few bytes"),
    };
    assert!(bytes.len() < MAX_LINE);
    assert!(!b"\r\n\0".iter().any(|end| bytes.contains(end)));
}

fn round_trip(name: &[u8]) {
    let name: Vec<u8> = name
        .iter()
        .copied()
        .filter(|byte| !matches!(byte, b'\r' | b'\n' | b'\0'))
        .take(MAX_LINE / 2 - 8)
        .collect();
    let mut sent = b"STOR ".to_vec();
    for byte in &name {
        sent.push(*byte);
        if *byte == IAC {
            sent.push(IAC);
        }
    }
    sent.extend(b"\r\n");
    let bytes = match &lines_of(&sent, 512)[..] {
        [Line::Text(text)] => text.clone().into_bytes(),
        [Line::Legacy(bytes)] => bytes.clone(),
        other => panic!("{other:?}"),
    };
    assert_eq!(bytes, [b"STOR ", &name[..]].concat());
}
