//! The start of the process, in place of the standard library's, which for a message about an
//! overflown stack reads and takes apart `/proc/self/maps`: docs/decisions/005-own-start.md.

use std::ffi::{CStr, OsStr, OsString, c_char, c_int};
use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::{AsFd, IntoRawFd as _};
use std::os::unix::ffi::OsStrExt as _;
use std::panic::catch_unwind;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::sys::signal::{SigHandler, Signal, signal};

use crate::run::run;

/// What the standard library ends a process with whose main thread has panicked.
const PANICKED: c_int = 101;

/// Where the C library begins.
///
/// # Safety
/// `arguments` points to `count` strings that end with NUL and stay.
// SAFETY: no other function of this name is linked, and its signature is that of C's.
#[cfg_attr(not(test), unsafe(no_mangle))]
#[cfg_attr(test, expect(dead_code, reason = "tests begin elsewhere"))]
unsafe extern "C" fn main(count: c_int, arguments: *const *const c_char) -> c_int {
    let count = usize::try_from(count).unwrap_or_default();
    let arguments = (0..count).map(|index| {
        // SAFETY: the caller gives so many pointers.
        let argument = unsafe { *arguments.add(index) };
        // SAFETY: each is that of a string which ends with NUL and stays.
        let argument = unsafe { CStr::from_ptr(argument) };
        OsStr::from_bytes(argument.to_bytes()).to_owned()
    });
    let arguments: Vec<OsString> = arguments.collect();
    open_standard_streams();
    // SAFETY: no handler runs. To write to a closed pipe is an error then, as everywhere in Rust.
    let _default = unsafe { signal(Signal::SIGPIPE, SigHandler::SigIgn) };
    let code = catch_unwind(|| run(arguments.into_iter()).code());
    let _unheard = io::stdout().flush();
    code.map_or(PANICKED, c_int::from)
}

/// A standard stream that is closed becomes `/dev/null`: whatever is opened next would have its
/// number, and get what is printed.
fn open_standard_streams() {
    fn open_if_closed(stream: impl AsFd) {
        if fcntl(stream, FcntlArg::F_GETFD) == Err(Errno::EBADF) {
            let null = File::options().read(true).write(true).open("/dev/null");
            // The lowest free number is this one, because all below are open by now.
            let _kept_open = null.map(File::into_raw_fd);
        }
    }
    open_if_closed(io::stdin());
    open_if_closed(io::stdout());
    open_if_closed(io::stderr());
}
