//! Records of TLS, each of up to 16 KiB: a stream under TLS gives one with each read, also where more have arrived.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, ReadBuf};

/// Reads all records that are there, as far as there is room.
#[derive(Debug, Default)]
pub(crate) struct Records {
    /// An error that came behind bytes, for the next call: a socket tells of a reset only once, and what follows looks like an end.
    failed: Option<io::Error>,
}

impl Records {
    /// As [`AsyncRead::poll_read`] of `stream`. An end behind bytes shows again.
    pub fn poll_read(
        &mut self,
        mut stream: Pin<&mut impl AsyncRead>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Some(error) = self.failed.take() {
            return Poll::Ready(Err(error));
        }
        let began = buffer.filled().len();
        loop {
            let before = buffer.filled().len();
            let polled = stream.as_mut().poll_read(context, buffer);
            let read = buffer.filled().len();
            return match polled {
                Poll::Ready(Ok(())) if read > before && buffer.remaining() > 0 => continue,
                Poll::Ready(Err(error)) if read > began => {
                    self.failed = Some(error);
                    Poll::Ready(Ok(()))
                }
                Poll::Pending if read > began => Poll::Ready(Ok(())),
                polled => polled,
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;

    /// Gives these bytes or errors, one for each read, then nothing for now.
    struct Scripted(VecDeque<io::Result<&'static [u8]>>);

    impl AsyncRead for Scripted {
        fn poll_read(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            buffer: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            match self.0.pop_front() {
                Some(Ok(bytes)) => buffer.put_slice(bytes),
                Some(Err(error)) => return Poll::Ready(Err(error)),
                None => return Poll::Pending,
            }
            Poll::Ready(Ok(()))
        }
    }

    /// What reads into a buffer of six bytes say, until nothing is there.
    fn reads(script: impl IntoIterator<Item = io::Result<&'static [u8]>>) -> Vec<String> {
        let mut stream = Scripted(script.into_iter().collect());
        let (mut records, mut said) = (Records::default(), Vec::new());
        let mut context = Context::from_waker(std::task::Waker::noop());
        let mut bytes = [0; 6];
        loop {
            let mut buffer = ReadBuf::new(&mut bytes);
            let Poll::Ready(read) =
                records.poll_read(Pin::new(&mut stream), &mut context, &mut buffer)
            else {
                return said;
            };
            said.push(match read {
                Ok(()) => String::from_utf8_lossy(buffer.filled()).into_owned(),
                Err(error) => error.kind().to_string(),
            });
        }
    }

    #[test]
    fn records_are_read_together_as_far_as_there_is_room() {
        let records: [io::Result<&[u8]>; 4] = [Ok(b"abc"), Ok(b"def"), Ok(b"g"), Ok(b"h")];
        assert_eq!(reads(records), ["abcdef", "gh"]);
    }

    #[test]
    fn a_reset_behind_bytes_is_no_end() {
        let reset = io::Error::from(io::ErrorKind::ConnectionReset);
        let told_once: [io::Result<&[u8]>; 3] = [Ok(b"abc"), Err(reset), Ok(b"")];
        assert_eq!(reads(told_once), ["abc", "connection reset", ""]);
    }

    #[test]
    fn an_end_behind_bytes_shows_again() {
        let ended: [io::Result<&[u8]>; 3] = [Ok(b"abc"), Ok(b""), Ok(b"")];
        assert_eq!(reads(ended), ["abc", ""]);
    }
}
