//! Pipes through which the bulk of plaintext streams goes from socket to socket (splice(2)): the
//! kernel hands pages over, and this process never sees a byte.
//!
//! A pipe belongs to a stream only while there are bytes in it. It is filled only when it is empty,
//! so that "would block" can mean nothing but an empty socket.

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, SpliceFFlags, fcntl, splice};
use nix::unistd::pipe2;
use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::OwnedFd;
use std::task::{Context, Poll, ready};
use tokio::io::Interest;
use tokio::net::TcpStream;

/// Bytes that a pipe should hold. All unprivileged pipes of a user share
/// `fs.pipe-user-pages-soft`, 64 MiB by default.
const WANTED: i32 = 256 * 1024;

/// A pipe that holds less costs more system calls than copying. The kernel makes pipes of two
/// pages where the user's share is used up (pipe(7)).
const LEAST: i32 = 64 * 1024;

/// Pipes that a worker has at most, and how many of them it keeps while they are empty.
const OPEN: usize = 64;
const KEPT: usize = 4;

/// The pipes of a worker.
#[derive(Debug, Default)]
pub(crate) struct Pipes {
    kept: RefCell<Vec<Pipe>>,
    open: Cell<usize>,
}

#[derive(Debug)]
struct Pipe {
    read: OwnedFd,
    write: OwnedFd,
}

/// A pipe that a stream uses. Given back when it is dropped, unless bytes are left in it.
#[derive(Debug)]
pub(super) struct Taken<'a> {
    pipes: &'a Pipes,
    pipe: Option<Pipe>,
    held: usize,
}

impl Pipes {
    /// An empty pipe, if one can be had that is worth it.
    pub(super) fn take(&self) -> Option<Taken<'_>> {
        let kept = self.kept.borrow_mut().pop();
        let pipe = match kept {
            Some(pipe) => pipe,
            None if self.open.get() < OPEN => {
                let pipe = Pipe::open()?;
                self.open.set(self.open.get() + 1);
                pipe
            }
            None => return None,
        };
        Some(Taken {
            pipes: self,
            pipe: Some(pipe),
            held: 0,
        })
    }

    fn give_back(&self, pipe: Pipe, empty: bool) {
        let mut kept = self.kept.borrow_mut();
        if empty && kept.len() < KEPT {
            kept.push(pipe);
        } else {
            self.open.set(self.open.get() - 1);
        }
    }
}

impl Pipe {
    fn open() -> Option<Self> {
        let (read, write) = pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK).ok()?;
        // Refused where the user's share is used up: then it stays as it is.
        let _as_it_is = fcntl(&write, FcntlArg::F_SETPIPE_SZ(WANTED));
        let size = fcntl(&write, FcntlArg::F_GETPIPE_SZ).ok()?;
        (size >= LEAST).then_some(Self { read, write })
    }
}

impl Taken<'_> {
    /// Bytes in it.
    pub(super) fn held(&self) -> usize {
        self.held
    }

    /// Take in what has come, where it is empty; 0 at the end of the stream.
    pub(super) fn poll_fill(
        &mut self,
        cx: &mut Context<'_>,
        from: &TcpStream,
    ) -> Poll<io::Result<usize>> {
        let write = self.pipe.as_ref().map(|pipe| &pipe.write);
        let moved = ready!(poll_move(cx, from, Interest::READABLE, || {
            write.map_or(Ok(0), |write| {
                splice(from, None, write, None, WANTED as usize, flags())
            })
        }))?;
        self.held += moved;
        Poll::Ready(Ok(moved))
    }

    /// Hand over some of what it holds.
    pub(super) fn poll_drain(
        &mut self,
        cx: &mut Context<'_>,
        to: &TcpStream,
    ) -> Poll<io::Result<usize>> {
        let (read, held) = (self.pipe.as_ref().map(|pipe| &pipe.read), self.held);
        let moved = ready!(poll_move(cx, to, Interest::WRITABLE, || {
            read.map_or(Ok(0), |read| splice(read, None, to, None, held, flags()))
        }))?;
        self.held -= moved;
        Poll::Ready(Ok(moved))
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        if let Some(pipe) = self.pipe.take() {
            self.pipes.give_back(pipe, self.held == 0);
        }
    }
}

fn flags() -> SpliceFFlags {
    SpliceFFlags::SPLICE_F_MOVE | SpliceFFlags::SPLICE_F_NONBLOCK
}

/// Move bytes from or to a socket when it is ready.
fn poll_move(
    cx: &mut Context<'_>,
    socket: &TcpStream,
    interest: Interest,
    mut moving: impl FnMut() -> nix::Result<usize>,
) -> Poll<io::Result<usize>> {
    loop {
        if interest.is_readable() {
            ready!(socket.poll_read_ready(cx))?;
        } else {
            ready!(socket.poll_write_ready(cx))?;
        }
        let moved = socket.try_io(interest, || {
            loop {
                match moving() {
                    Err(Errno::EINTR) => {}
                    moved => return moved.map_err(io::Error::from),
                }
            }
        });
        match moved {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            moved => return Poll::Ready(moved),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pipe_is_kept_for_the_next_stream_unless_bytes_are_left_in_it() {
        let pipes = Pipes::default();
        drop(pipes.take().unwrap());
        assert_eq!((pipes.open.get(), pipes.kept.borrow().len()), (1, 1));
        let mut taken = pipes.take().unwrap();
        assert_eq!((pipes.open.get(), pipes.kept.borrow().len()), (1, 0));
        taken.held = 1;
        drop(taken);
        assert_eq!((pipes.open.get(), pipes.kept.borrow().len()), (0, 0));
    }

    #[test]
    fn there_are_so_many_pipes_and_no_more_and_few_of_them_are_kept() {
        let pipes = Pipes::default();
        let taken: Vec<_> = (0..OPEN).map(|_| pipes.take().unwrap()).collect();
        assert!(pipes.take().is_none());
        drop(taken);
        assert_eq!((pipes.open.get(), pipes.kept.borrow().len()), (KEPT, KEPT));
    }
}
