#define _GNU_SOURCE
#include "interrupt.h"

#include <errno.h>
#include <linux/futex.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* --- what scanner and handlers share ---------------------------------------------------------- */

/* A handler may run long after the scanner has given up waiting: when its thread had no processor,
   say. So all that it touches is static, and a slot changes hands by its state alone. */
enum phase { FREE, SENT, SEARCHING, ANSWERED };

typedef struct {
    _Atomic uint32_t phase; /* the generation of the request, and in the low bits the phase */
    uintptr_t descriptor;
    relib_inside inside;
    int foreign;
} slot;

#define SLOTS 64
static slot slots[SLOTS];
static uint32_t generation;
static _Atomic uint32_t answers; /* a futex */
static relib_search request;     /* this and its map never change while a slot is SEARCHING */
static relib_code_map request_map;

static uint32_t
state(uint32_t of_generation, enum phase phase)
{
    return of_generation << 2 | phase;
}

static int
change(slot *one, uint32_t from, uint32_t to)
{
    return atomic_compare_exchange_strong(&one->phase, &from, to);
}

/* --- in the thread that is interrupted -------------------------------------------------------- */

static relib_inside
search_registers(const relib_code *code, const mcontext_t *machine)
{
#if defined(__x86_64__)
    uintptr_t pc = (uintptr_t)machine->gregs[REG_RIP];
    const uintptr_t *registers = (const uintptr_t *)machine->gregs;
    size_t count = REG_RIP; /* it and what follows are no addresses */
#else
    uintptr_t pc = machine->pc;
    const uintptr_t *registers = (const uintptr_t *)machine->regs;
    size_t count = 31;
#endif
    if (relib_range_holds(code->whole, pc))
        return RELIB_RUNNING;
    /* A function pointer that is going to be called, or the return address of a leaf function. */
    return relib_next_word(registers, 0, count, code->code) < count ? RELIB_STACK : RELIB_OUTSIDE;
}

static void
handle(int number, siginfo_t *info, void *context)
{
    const ucontext_t *interrupted = context;
    uintptr_t piece[128]; /* small: a signal stack may have a few kilobytes only */
    uintptr_t cookie = (uintptr_t)info->si_value.sival_ptr;
    slot *one = &slots[cookie % SLOTS];
    uint32_t of_generation = (uint32_t)(cookie / SLOTS);
    (void)number;
    if (info->si_code != SI_QUEUE ||
        !change(one, state(of_generation, SENT), state(of_generation, SEARCHING)))
        return; /* not from us, or too late */
    int saved = errno;
    relib_search search = request;
    relib_unwind unwind = {.cached = 0};
    search.memory.thread = (pid_t)syscall(SYS_gettid);
    one->foreign = 0;
    one->inside = search_registers(&search.code, &interrupted->uc_mcontext);
    relib_unwind_from_context(&unwind, &interrupted->uc_mcontext);
    if (one->inside == RELIB_OUTSIDE)
        one->inside = relib_search_stack(&search, &unwind, one->descriptor, piece,
                                         sizeof(piece) / sizeof(*piece), &one->foreign);
    atomic_store(&one->phase, state(of_generation, ANSWERED));
    atomic_fetch_add(&answers, 1);
    syscall(SYS_futex, &answers, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
    errno = saved;
}

/* --- in the scanner --------------------------------------------------------------------------- */

/* How long to wait while nobody answers, and in all; in seconds. */
#define PATIENCE 20e-3
#define MOST_PATIENCE 100e-3

static double
now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec * 1e-9;
}

/* A real-time signal that nobody handles, with our handler for it; 0 when there is none. */
static int
take_signal(struct sigaction *before)
{
    struct sigaction ours = {.sa_sigaction = handle};
    /* RESTART: system calls go on. ONSTACK: threads with tiny stacks (Go, Rust) have one. */
    ours.sa_flags = SA_SIGINFO | SA_RESTART | SA_ONSTACK;
    sigfillset(&ours.sa_mask);
    for (int number = SIGRTMAX - 3; number >= SIGRTMIN; number--)
        if (sigaction(number, NULL, before) == 0 && !(before->sa_flags & SA_SIGINFO) &&
            before->sa_handler == SIG_DFL && sigaction(number, &ours, NULL) == 0)
            return number;
    return 0;
}

static void
give_back_signal(int number, const struct sigaction *before, int all_answered)
{
    struct sigaction ignore = {.sa_handler = SIG_IGN}, now;
    /* Somebody has taken the signal meanwhile, as take_signal() does: it is theirs. */
    if (sigaction(number, NULL, &now) != 0 || !(now.sa_flags & SA_SIGINFO) ||
        now.sa_sigaction != handle)
        return;
    /* One that is still pending would end the process by the default action. Ignoring a signal
       discards those that are pending (Linux, kernel/signal.c, do_sigaction). */
    if (!all_answered)
        sigaction(number, &ignore, NULL);
    sigaction(number, before, NULL);
}

static int
send(int number, pid_t tid, uintptr_t cookie)
{
    siginfo_t info;
    memset(&info, 0, sizeof(info));
    info.si_code = SI_QUEUE;
    info.si_pid = getpid();
    info.si_uid = getuid();
    info.si_value.sival_ptr = (void *)cookie;
    return (int)syscall(SYS_rt_tgsigqueueinfo, getpid(), tid, number, &info);
}

static int
answered(relib_interruption *thread, slot *one)
{
    if (thread->inside != RELIB_BUSY || atomic_load(&one->phase) == state(generation, FREE))
        return 1;
    if (atomic_load(&one->phase) != state(generation, ANSWERED))
        return 0;
    thread->inside = one->inside;
    thread->foreign = one->foreign;
    return 1;
}

/* Waits for up to `count` answers. Whether all have come. */
static int
wait_for_answers(relib_interruption *threads, size_t count)
{
    double started = now(), progress = started, time;
    size_t before = 0;
    for (;;) {
        uint32_t seen = atomic_load(&answers);
        size_t done = 0;
        for (size_t i = 0; i < count; i++)
            done += (size_t)answered(&threads[i], &slots[i]);
        if (done == count)
            return 1;
        time = now();
        if (done > before)
            progress = time;
        before = done;
        if (time - progress > PATIENCE || time - started > MOST_PATIENCE)
            return 0;
        struct timespec slice = {0, 1000000};
        if (syscall(SYS_futex, &answers, FUTEX_WAIT_PRIVATE, seen, &slice, NULL, 0) == 0 ||
            errno != ETIMEDOUT)
            continue;
        /* One that has ended will never answer. */
        for (size_t i = 0; i < count; i++)
            if (threads[i].inside == RELIB_BUSY &&
                syscall(SYS_tgkill, getpid(), threads[i].tid, 0) != 0 && errno == ESRCH)
                threads[i] = (relib_interruption){.tid = threads[i].tid};
    }
}

static int
still_searching(void)
{
    for (size_t i = 0; i < SLOTS; i++)
        if ((atomic_load(&slots[i].phase) & 3) == SEARCHING)
            return 1;
    return 0;
}

static void
interrupt_some(int number, relib_interruption *threads, size_t count, int *all_answered)
{
    generation++;
    for (size_t i = 0; i < count; i++) {
        atomic_store(&slots[i].phase, state(generation, FREE));
        if (threads[i].blocked >> (number - 1) & 1)
            continue; /* as the threads of many event loops do */
        slots[i].descriptor = threads[i].descriptor.address;
        atomic_store(&slots[i].phase, state(generation, SENT));
        if (send(number, threads[i].tid, (uintptr_t)(generation & 0x3FFFFFFF) * SLOTS + i) != 0)
            threads[i].inside = errno == ESRCH ? RELIB_OUTSIDE : RELIB_UNKNOWN;
    }
    if (!wait_for_answers(threads, count))
        *all_answered = 0;
    /* Whoever has not begun to search never will. */
    for (size_t i = 0; i < count; i++)
        change(&slots[i], state(generation, SENT), state(generation, FREE));
}

void
relib_interrupt(const relib_search *search, relib_interruption *threads, size_t count)
{
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    struct sigaction before;
    int number, all_answered = 1;
    /* Another interpreter is at it, or a thread has not finished an earlier search: they all
       remain BUSY. */
    if (pthread_mutex_trylock(&lock) != 0)
        return;
    if (!still_searching() && (number = take_signal(&before)) != 0) {
        request = *search;
        request.mappings = NULL; /* a late handler could outlive it */
        request.map = &request_map;
        relib_code_map_fill(&request_map);
        relib_main_stack_end(); /* looks a symbol up the first time: not in a handler */
        for (size_t i = 0; i < count && !still_searching(); i += SLOTS)
            interrupt_some(number, threads + i, count - i < SLOTS ? count - i : SLOTS,
                           &all_answered);
        give_back_signal(number, &before, all_answered);
    }
    pthread_mutex_unlock(&lock);
}
