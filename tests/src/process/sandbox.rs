//! What Kubernetes' Pod Security level `restricted` takes from a process: a writable root and the
//! system calls that containers need not make. Called between fork and exec: nothing allocates.

use std::io;

use libc::{
    BPF_ABS, BPF_JEQ, BPF_JMP, BPF_JSET, BPF_K, BPF_LD, BPF_RET, BPF_W, c_long, sock_filter,
    sock_fprog,
};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

/// Makes every mount read-only, in a mount namespace of the caller's own.
pub(super) fn make_all_mounts_read_only() -> io::Result<()> {
    unshare(CloneFlags::CLONE_NEWNS)?;
    mount(
        None::<&str>,
        c"/",
        None::<&str>,
        MsFlags::MS_REC | MsFlags::MS_PRIVATE,
        None::<&str>,
    )?;
    let attributes = libc::mount_attr {
        attr_set: libc::MOUNT_ATTR_RDONLY,
        attr_clr: 0,
        propagation: 0,
        userns_fd: 0,
    };
    // SAFETY: the path is a C string, `attributes` lives through the call and its size is passed.
    let outcome = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            libc::AT_FDCWD,
            c"/".as_ptr(),
            libc::AT_RECURSIVE,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    };
    if outcome == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Calls that containerd's and Docker's default profile deny without capabilities. Theirs is a
/// list of what is allowed; this one is the difference a network program could trip over.
const DENIED: [c_long; 39] = [
    libc::SYS_acct,
    libc::SYS_add_key,
    libc::SYS_bpf,
    libc::SYS_chroot,
    libc::SYS_clock_settime,
    libc::SYS_delete_module,
    libc::SYS_fanotify_init,
    libc::SYS_finit_module,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fsopen,
    libc::SYS_get_mempolicy,
    libc::SYS_init_module,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_io_uring_setup,
    libc::SYS_kcmp,
    libc::SYS_kexec_load,
    libc::SYS_keyctl,
    libc::SYS_lookup_dcookie,
    libc::SYS_mbind,
    libc::SYS_mount,
    libc::SYS_mount_setattr,
    libc::SYS_move_mount,
    libc::SYS_move_pages,
    libc::SYS_open_by_handle_at,
    libc::SYS_open_tree,
    libc::SYS_perf_event_open,
    libc::SYS_pivot_root,
    libc::SYS_process_vm_readv,
    libc::SYS_quotactl,
    libc::SYS_reboot,
    libc::SYS_request_key,
    libc::SYS_set_mempolicy,
    libc::SYS_setns,
    libc::SYS_syslog,
    libc::SYS_umount2,
    libc::SYS_unshare,
    libc::SYS_userfaultfd,
];

/// Every flag of clone(2) that asks for a namespace.
const NAMESPACES: u32 = (libc::CLONE_NEWNS
    | libc::CLONE_NEWCGROUP
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET) as u32;

// Offsets in `struct seccomp_data` (linux/seccomp.h).
const NUMBER: u32 = 0;
const FIRST_ARGUMENT: u32 = 16;

const RULES: usize = 3 + 4 + 2 + 2 * DENIED.len() + 1;

/// Installs the filter. The caller must have set `no_new_privs`.
pub(super) fn deny_what_runtimes_deny() -> io::Result<()> {
    const {
        assert!(RULES < 4096, "BPF_MAXINSNS");
    }
    let mut program = filter();
    #[expect(clippy::cast_possible_truncation, reason = "asserted above")]
    let program = sock_fprog {
        len: RULES as u16,
        filter: program.as_mut_ptr(),
    };
    // SAFETY: `program` points to RULES instructions that live through the call, and the kernel
    // checks them.
    let outcome = unsafe {
        libc::prctl(
            libc::PR_SET_SECCOMP,
            libc::SECCOMP_MODE_FILTER,
            &raw const program,
            0,
            0,
        )
    };
    if outcome == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

fn filter() -> [sock_filter; RULES] {
    let allow = step(BPF_RET | BPF_K, libc::SECCOMP_RET_ALLOW);
    let eperm = step(
        BPF_RET | BPF_K,
        libc::SECCOMP_RET_ERRNO | libc::EPERM as u32,
    );
    let enosys = step(
        BPF_RET | BPF_K,
        libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32,
    );
    let load = |offset| step(BPF_LD | BPF_W | BPF_ABS, offset);

    let mut program = [allow; RULES];
    let mut next = 0;
    let mut push = |rule| {
        program[next] = rule;
        next += 1;
    };
    push(load(NUMBER));
    // clone3's flags are behind a pointer: runtimes answer as an old kernel would, so that the C
    // library falls back to clone.
    push(unless_equal(libc::SYS_clone3, 1));
    push(enosys);
    push(unless_equal(libc::SYS_clone, 4));
    push(load(FIRST_ARGUMENT));
    push(unless_any_bit(NAMESPACES, 1));
    push(eperm);
    push(allow);
    for number in DENIED {
        push(unless_equal(number, 1));
        push(eperm);
    }
    push(allow);
    program
}

fn step(code: u32, k: u32) -> sock_filter {
    jump(code, k, 0)
}

/// Skips `skip` instructions unless the accumulator is this system call's number.
fn unless_equal(number: c_long, skip: u8) -> sock_filter {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "numbers are small"
    )]
    jump(BPF_JMP | BPF_JEQ | BPF_K, number as u32, skip)
}

/// Skips `skip` instructions unless the accumulator has one of these bits.
fn unless_any_bit(bits: u32, skip: u8) -> sock_filter {
    jump(BPF_JMP | BPF_JSET | BPF_K, bits, skip)
}

fn jump(code: u32, k: u32, jf: u8) -> sock_filter {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "classic BPF codes have 16 bits"
    )]
    let code = code as u16;
    sock_filter { code, jt: 0, jf, k }
}
