/* System calls that a filter could miss: other tables, other numbers, arguments behind upper bits.
 * Each runs in a child and prints its name with the error's name, the signal, or "worked". */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define TRY(name, ...) { name, { __VA_ARGS__ } }

struct attempt { const char *name; long call[7]; };

static char page[4096] __attribute__((aligned(4096)));

static const struct attempt attempts[] = {
    TRY("io_uring_setup", SYS_io_uring_setup, 8, (long)page),
    TRY("io_uring_enter", SYS_io_uring_enter, 0),
    TRY("io_uring_register", SYS_io_uring_register, 0),
    TRY("bpf", SYS_bpf, 0, (long)page, 64),
    TRY("userfaultfd", SYS_userfaultfd, 1),
    TRY("perf_event_open", SYS_perf_event_open, (long)page, 0, -1, -1, 0),
    TRY("keyctl", SYS_keyctl, 0, -4, 1),
    TRY("add_key", SYS_add_key, (long)"user", (long)"x", (long)"y", 1, -4),
    TRY("request_key", SYS_request_key, (long)"user", (long)"x", 0, -4),
    TRY("kexec_load", SYS_kexec_load, 0, 0, 0, 0),
    TRY("kexec_file_load", SYS_kexec_file_load, 0, 0, 0, 0, 0),
    TRY("init_module", SYS_init_module, (long)page, 1, (long)""),
    TRY("finit_module", SYS_finit_module, 0, (long)"", 0),
    TRY("delete_module", SYS_delete_module, (long)"loop", 0),
    TRY("ptrace", SYS_ptrace, 0, 0, 0, 0),
    TRY("process_vm_readv", SYS_process_vm_readv, 1, (long)page, 1, (long)page, 1, 0),
    TRY("process_vm_writev", SYS_process_vm_writev, 1, (long)page, 1, (long)page, 1, 0),
    TRY("pidfd_getfd", SYS_pidfd_getfd, 0, 0, 0),
    TRY("kcmp", SYS_kcmp, 1, 1, 0, 0, 0),
    TRY("setns", SYS_setns, 0, 0),
    TRY("mount", SYS_mount, (long)"x", (long)"/tmp", (long)"tmpfs", 0, 0),
    TRY("fsopen", SYS_fsopen, (long)"tmpfs", 0),
    TRY("open_tree", SYS_open_tree, -100, (long)"/", 1),
    TRY("move_mount", SYS_move_mount, 0, (long)"", 0, (long)"", 0),
    TRY("mount_setattr", SYS_mount_setattr, -100, (long)"/", 0, (long)page, 32),
    TRY("open_by_handle_at", SYS_open_by_handle_at, -100, (long)page, 0),
    TRY("quotactl", SYS_quotactl, 0, 0, 0, 0),
    TRY("swapon", SYS_swapon, (long)"/tmp/x", 0),
    TRY("reboot", SYS_reboot, 0, 0, 0, 0),
    TRY("syslog", SYS_syslog, 3, (long)page, 100),
    TRY("acct", SYS_acct, 0),
    TRY("fanotify_init", SYS_fanotify_init, 0, 0),
    TRY("remap_file_pages", SYS_remap_file_pages, (long)page, 4096, 0, 0, 0),
    TRY("unshare_user", SYS_unshare, 0x10000000),
    TRY("unshare_mount", SYS_unshare, 0x00020000),
    TRY("unshare_pid", SYS_unshare, 0x20000000),
    TRY("unshare_net", SYS_unshare, 0x40000000),
    TRY("unshare_time", SYS_unshare, 0x00000080),
    TRY("clone_user", SYS_clone, 0x10000011, 0, 0, 0, 0),
    TRY("chroot", SYS_chroot, (long)"/tmp"),
    TRY("tiocsti", SYS_ioctl, 0, 0x5412, (long)page),
    TRY("tiocsti_behind_upper_bits", SYS_ioctl, 0, 0x700005412L, (long)page),
    TRY("tioclinux", SYS_ioctl, 0, 0x541c, (long)page),
    TRY("packets", SYS_socket, 17, 3, 0),
    TRY("virtual_machines", SYS_socket, 40, 1, 0),
    TRY("kernel_crypto", SYS_socket, 38, 5, 0),
    TRY("firewall", SYS_socket, 16, 3, 12),
    TRY("new_numbers", 1022, 0),
    TRY("clone3", SYS_clone3, (long)page, 88),
    TRY("memfd_secret", 447, 0),
#ifdef __x86_64__
    TRY("ioperm", SYS_ioperm, 0x80, 1, 1),
    TRY("iopl", SYS_iopl, 3),
    TRY("modify_ldt", SYS_modify_ldt, 0, (long)page, 16),
    TRY("x32_getpid", 0x40000000 | SYS_getpid),
    TRY("x32_ptrace", 0x40000000 | 521),
    TRY("x32_keyctl", 0x40000000 | SYS_keyctl, 0, -4, 1),
#endif
    TRY("personality_no_random", SYS_personality, 0x0040000),
};

#ifdef __x86_64__
/* The table of 32-bit programs: 20 is getpid there. */
static long by_interrupt(void) {
    long done = 20;
    __asm__ volatile("int $0x80" : "+a"(done) : : "memory", "r8", "r9", "r10", "r11");
    return done;
}
#endif

static void tell(const char *name, int status, int error) {
    if (WIFSIGNALED(status))
        printf("%s %s\n", name, WTERMSIG(status) == SIGSYS ? "SIGSYS" : strsignal(WTERMSIG(status)));
    else
        printf("%s %s\n", name, error == 0 ? "worked" : strerrorname_np(error));
    fflush(stdout);
}

static void in_child(const char *name, const long *call) {
    int pipe_ends[2], error = 0, status = 0;
    if (pipe(pipe_ends) != 0) return;
    pid_t child = fork();
    if (child == 0) {
        long done;
#ifdef __x86_64__
        if (!call) done = by_interrupt(); else
#endif
        done = syscall(call[0], call[1], call[2], call[3], call[4], call[5], call[6]);
        error = done == -1 ? errno : 0;
        if (write(pipe_ends[1], &error, sizeof error) < 0) _exit(1);
        _exit(0);
    }
    close(pipe_ends[1]);
    if (read(pipe_ends[0], &error, sizeof error) < 0) error = 0;
    close(pipe_ends[0]);
    waitpid(child, &status, 0);
    tell(name, status, error);
}

int main(void) {
    for (size_t at = 0; at < sizeof attempts / sizeof *attempts; at++)
        in_child(attempts[at].name, attempts[at].call);
#ifdef __x86_64__
    in_child("int80_getpid", NULL);
#endif
    return 0;
}
