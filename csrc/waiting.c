#define _GNU_SOURCE
#include "waiting.h"

#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>

/* "running"; or the number of a system call, its six arguments, sp and pc; or "-1", sp and pc
   (Linux 6.x, fs/proc/base.c, proc_pid_syscall). */
int
relib_waiting_parse(const char *text, relib_waiting *thread)
{
    char *next;
    memset(thread, 0, sizeof(*thread));
    if (strncmp(text, "running", 7) == 0)
        return 0;
    thread->number = strtol(text, &next, 10);
    if (next == text)
        return -1;
    for (int i = 0; i < 6 && thread->number >= 0; i++)
        thread->arguments[i] = strtoull(next, &next, 16);
    thread->sp = strtoull(next, &next, 16);
    thread->pc = strtoull(next, &next, 16);
    return *next == '\n' ? 1 : -1;
}

int
relib_waiting_for_good(const relib_waiting *thread)
{
    if (thread->number == SYS_exit)
        return 1;
    /* Dead, or one that the kernel has started for itself: io_uring does
       (Linux 6.x, arch/x86/kernel/process.c, copy_thread). */
    return thread->number < 0 && thread->sp == 0 && thread->pc == 0;
}

/* How many arguments a system call has that threads wait in. The registers for the others hold
   what was last in them: a pointer into a library that the thread has long left, perhaps. */
static int
argument_count(long number)
{
    switch (number) {
    case SYS_restart_syscall: /* goes on with a sleep after a stop */
    case SYS_sched_yield:
#ifdef SYS_pause
    case SYS_pause:
#endif
        return 0;
    case SYS_nanosleep:
        return 2;
    case SYS_read:
    case SYS_write:
    case SYS_readv:
    case SYS_writev:
    case SYS_recvmsg:
    case SYS_sendmsg:
    case SYS_connect:
    case SYS_accept:
    case SYS_ioctl:
#ifdef SYS_poll
    case SYS_poll:
#endif
        return 3;
    case SYS_futex: /* the other two are for calls that move waiters, and do not wait */
    case SYS_clock_nanosleep:
    case SYS_rt_sigtimedwait:
    case SYS_wait4:
    case SYS_accept4:
#ifdef SYS_epoll_wait
    case SYS_epoll_wait:
#endif
        return 4;
    case SYS_ppoll:
    case SYS_waitid:
    case SYS_io_getevents:
#ifdef SYS_select
    case SYS_select:
#endif
        return 5;
    default:
        return 6;
    }
}

int
relib_waiting_with(const relib_waiting *thread, relib_range range)
{
    int count = thread->number < 0 ? 0 : argument_count(thread->number);
    for (int i = 0; i < count; i++)
        if (relib_range_holds(range, thread->arguments[i]))
            return 1;
    return 0;
}
