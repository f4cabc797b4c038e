//! Bytes from one socket to another by way of a pipe, without a copy through this process: splice(2).

use std::io;
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::pipe::{PipeFlags, SpliceFlags, pipe_with, splice};
use tokio::io::Interest;
use tokio::net::TcpStream;

/// The pipe between the two sockets.
#[derive(Debug)]
pub(super) struct Pipe {
    read: OwnedFd,
    write: OwnedFd,
}

/// The default size of a pipe (16 pages). Larger ones count against a limit of all of a user's pipes
/// (fs.pipe-user-pages-soft), beyond which new ones get a single page.
const PIPE_BYTES: usize = 64 << 10;

impl Pipe {
    pub(super) fn new() -> io::Result<Self> {
        let (read, write) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        Ok(Pipe { read, write })
    }

    /// Moves bytes until the end of data, true; or until the kernel won't splice these sockets, false, with an empty pipe.
    pub(super) async fn pass(
        &self,
        from: &TcpStream,
        to: &TcpStream,
        moved: impl Fn(usize),
    ) -> io::Result<bool> {
        let flags = SpliceFlags::MOVE | SpliceFlags::NONBLOCK;
        loop {
            // The pipe is empty here, so "would block" is about the socket. The error is one of the socket, too, and may be a reset.
            let taken = from.async_io(Interest::READABLE, || {
                Ok(splice(from, None, &self.write, None, PIPE_BYTES, flags)?)
            });
            let mut left = match taken.await {
                Ok(0) => return Ok(true),
                Ok(bytes) => bytes,
                Err(error) if is_unsupported(&error) => return Ok(false),
                Err(error) => return Err(error),
            };
            while left > 0 {
                let given = to.async_io(Interest::WRITABLE, || {
                    Ok(splice(&self.read, None, to, None, left, flags)?)
                });
                match given.await? {
                    0 => return Err(io::ErrorKind::WriteZero.into()),
                    bytes => {
                        moved(bytes);
                        left -= bytes;
                    }
                }
            }
        }
    }
}

/// True for the errors of sandboxes and other kernels that have no splice for sockets. Of what was taken out of the socket nothing is lost: one that can
/// be spliced from can be spliced to.
fn is_unsupported(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw_os_error);
    matches!(
        errno,
        Some(Errno::INVAL | Errno::NOSYS | Errno::PERM | Errno::OPNOTSUPP)
    )
}
