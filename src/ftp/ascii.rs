//! Text on the wire (RFC 959, section 3.1.1.1): lines end in CR LF there, and in LF in the store.
//!
//! A lone CR is data and stays. A file whose lines end in CR LF in the store (written by other means, or in TYPE I) goes out
//! as it is, as proftpd and vsftpd do: another CR would show as empty lines. What is stored is what the conversion gives,
//! so lengths, checksums and limits are those of the store's bytes.
//!
//! Conversion is the default (`ascii: convert`), and takes place only after `TYPE A`:
//!
//! - Clients on Unix and macOS that send `TYPE A` put a CR before each LF on their own and count on the server to take it
//!   off: FileZilla, whose default "auto" takes files without extension for text, PHP's `FTP_ASCII`, Perl's Net::FTP,
//!   Python's `storlines`, mainframes. Without conversion what they send is damaged, and with it even a binary is not,
//!   where the client puts a CR before every LF. proftpd, pure-ftpd and pyftpdlib (in which Tencent's own FTP server was
//!   written) convert, too.
//! - Clients on Windows send files as they are in either type: with conversion their text gets LF, and a binary that is
//!   sent in `TYPE A` loses bytes, as with those servers. Where that is what the clients do, `as_is` is for them.
//! - Windows' ftp.exe, and cameras, scanners and Java programs that never say TYPE, would be in ASCII by the RFC. Most of
//!   what they send are pictures and documents, so that without a word bytes stay as they are. curl, lftp, ncftp, tnftp,
//!   rclone and WinSCP say `TYPE I`.

use crate::store::{Interruption, Sink, Source};

/// Bytes that are read or written at a time.
const CHUNK: usize = 16 * 1024;

const CR: u8 = b'\r';
const LF: u8 = b'\n';

/// Takes the CR off CR LF. A CR at the end of a piece waits for the next one.
#[derive(Debug, Default)]
struct Decoder {
    has_cr: bool,
}

impl Decoder {
    fn decode(&mut self, piece: &[u8], out: &mut Vec<u8>) {
        for &byte in piece {
            if self.has_cr && byte != LF {
                out.push(CR);
            }
            self.has_cr = byte == CR;
            if !self.has_cr {
                out.push(byte);
            }
        }
    }

    /// The CR with which everything ended.
    fn finish(&mut self, out: &mut Vec<u8>) {
        if std::mem::take(&mut self.has_cr) {
            out.push(CR);
        }
    }
}

/// Puts a CR before each LF that has none.
#[derive(Debug, Default)]
struct Encoder {
    after_cr: bool,
}

impl Encoder {
    fn encode(&mut self, piece: &[u8], out: &mut Vec<u8>) {
        for &byte in piece {
            if byte == LF && !self.after_cr {
                out.push(CR);
            }
            self.after_cr = byte == CR;
            out.push(byte);
        }
    }
}

/// An upload of text.
pub(super) struct AsciiSource<S> {
    inner: S,
    decoder: Decoder,
    chunk: Vec<u8>,
    /// Bytes of the file that nobody has taken yet.
    decoded: Vec<u8>,
    taken: usize,
    has_ended: bool,
}

impl<S: Source> AsciiSource<S> {
    pub(super) fn new(inner: S) -> Self {
        AsciiSource {
            inner,
            decoder: Decoder::default(),
            chunk: vec![0; CHUNK],
            decoded: Vec::with_capacity(CHUNK),
            taken: 0,
            has_ended: false,
        }
    }
}

impl<S: Source> Source for AsciiSource<S> {
    async fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Interruption> {
        // a piece may decode to nothing, and 0 bytes would be the end
        while self.taken == self.decoded.len() {
            if self.has_ended {
                return Ok(0);
            }
            let read = self.inner.read(&mut self.chunk).await?;
            self.decoded.clear();
            self.taken = 0;
            self.has_ended = read == 0;
            match read {
                0 => self.decoder.finish(&mut self.decoded),
                read => self.decoder.decode(&self.chunk[..read], &mut self.decoded),
            }
        }
        let left = &self.decoded[self.taken..];
        let length = left.len().min(buffer.len());
        buffer[..length].copy_from_slice(&left[..length]);
        self.taken += length;
        Ok(length)
    }

    async fn commit(&mut self) -> Result<(), Interruption> {
        self.inner.commit().await
    }

    async fn interrupted(&self) -> Interruption {
        self.inner.interrupted().await
    }
}

/// A download of text.
pub(super) struct AsciiSink<'a, S> {
    inner: &'a mut S,
    encoder: Encoder,
    encoded: Vec<u8>,
}

impl<'a, S: Sink> AsciiSink<'a, S> {
    pub(super) fn new(inner: &'a mut S) -> Self {
        AsciiSink {
            inner,
            encoder: Encoder::default(),
            encoded: Vec::with_capacity(2 * CHUNK),
        }
    }
}

impl<S: Sink + Sync> Sink for AsciiSink<'_, S> {
    async fn write(&mut self, bytes: &[u8]) -> Result<(), Interruption> {
        for piece in bytes.chunks(CHUNK) {
            self.encoded.clear();
            self.encoder.encode(piece, &mut self.encoded);
            self.inner.write(&self.encoded).await?;
        }
        Ok(())
    }

    async fn interrupted(&self) -> Interruption {
        self.inner.interrupted().await
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    fn decode(pieces: &[&[u8]]) -> Vec<u8> {
        let (mut decoder, mut out) = (Decoder::default(), Vec::new());
        for piece in pieces {
            decoder.decode(piece, &mut out);
        }
        decoder.finish(&mut out);
        out
    }

    fn encode(pieces: &[&[u8]]) -> Vec<u8> {
        let (mut encoder, mut out) = (Encoder::default(), Vec::new());
        for piece in pieces {
            encoder.encode(piece, &mut out);
        }
        out
    }

    #[test]
    fn only_the_cr_of_a_line_end_is_taken_off() {
        for (wire, file) in [
            (&b"a\r\nb\r\n"[..], &b"a\nb\n"[..]),
            (b"a\rb\r\r\n\r", b"a\rb\r\n\r"),
            (b"\n\r", b"\n\r"),
            (b"", b""),
        ] {
            assert_eq!(decode(&[wire]), file);
        }
        assert_eq!(decode(&[b"a\r", b"\nb\r", b"\r", b""]), b"a\nb\r\r");
    }

    #[test]
    fn a_line_end_gets_one_cr() {
        assert_eq!(
            encode(&[b"a\nb\r\nc\r", b"\n\n\r"]),
            b"a\r\nb\r\nc\r\n\r\n\r"
        );
    }

    /// A client whose bytes arrive in these pieces.
    struct Pieces(VecDeque<Vec<u8>>);

    impl Source for Pieces {
        async fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Interruption> {
            let Some(mut piece) = self.0.pop_front() else {
                return Ok(0);
            };
            let length = piece.len().min(buffer.len());
            buffer[..length].copy_from_slice(&piece[..length]);
            if length < piece.len() {
                self.0.push_front(piece.split_off(length));
            }
            Ok(length)
        }

        async fn commit(&mut self) -> Result<(), Interruption> {
            Ok(())
        }

        async fn interrupted(&self) -> Interruption {
            std::future::pending().await
        }
    }

    /// Text with many line ends and lone CRs, in pieces of which none is empty.
    fn pieces() -> impl Strategy<Value = Vec<Vec<u8>>> {
        let byte = prop_oneof![Just(CR), Just(LF), Just(b'a')];
        prop::collection::vec(prop::collection::vec(byte, 1..5), 0..8)
    }

    proptest! {
        #[test]
        fn any_chunking_gives_the_same(pieces in pieces(), room in 1usize..4) {
            let whole = pieces.concat();
            let slices: Vec<&[u8]> = pieces.iter().map(Vec::as_slice).collect();
            prop_assert_eq!(decode(&slices), decode(&[&whole]));
            prop_assert_eq!(encode(&slices), encode(&[&whole]));

            let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
            let read = runtime.block_on(async {
                let mut source = AsciiSource::new(Pieces(pieces.into()));
                let (mut read, mut buffer) = (Vec::new(), vec![0; room]);
                while let Ok(length @ 1..) = source.read(&mut buffer).await {
                    read.extend_from_slice(&buffer[..length]);
                }
                assert_eq!(source.read(&mut buffer).await, Ok(0), "the end stays the end");
                read
            });
            prop_assert_eq!(read, decode(&[&whole]));
        }

        #[test]
        fn what_has_no_cr_comes_back_as_it_was(text in "[\na ]{0,40}") {
            prop_assert_eq!(decode(&[&encode(&[text.as_bytes()])]), text.as_bytes());
        }

        #[test]
        fn a_binary_of_a_client_that_puts_a_cr_before_every_lf_is_stored_whole(pieces in pieces()) {
            let file = pieces.concat();
            let wire: Vec<u8> = file
                .iter()
                .flat_map(|byte| if *byte == LF { vec![CR, LF] } else { vec![*byte] })
                .collect();
            prop_assert_eq!(decode(&[&wire]), file);
        }
    }
}
