#define _GNU_SOURCE
#include "threads.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "arguments.h"
#include "descriptors.h"
#include "interrupt.h"
#include "waiting.h"

#define PIECE 4096 /* words copied from a stack at a time */

typedef struct {
    relib_search search;
    relib_mappings mappings;
    uintptr_t *piece;
    int directory;               /* /proc/self/task */
    pid_t own;                   /* the calling thread */
    int own_listed;              /* whether the list knows it, under the same number */
    relib_interruption *threads; /* all but the calling one */
    size_t count, room;
    int failed; /* no memory */
} survey;

/* --- judging one thread ----------------------------------------------------------------------- */

static relib_inside
judge(survey *all, relib_interruption *thread, const relib_waiting *state)
{
    const relib_code *code = &all->search.code;
    if (relib_range_holds(code->whole, state->pc))
        return RELIB_RUNNING;
    /* A mutex of the library's, a buffer: it waits for, or with, something that would go. */
    if (relib_waiting_with(state, code->whole))
        return RELIB_STACK;
    if (state->number >= 0 && !relib_caller_on_stack(&all->search.memory, state->pc))
        return RELIB_UNKNOWN;
    thread->descriptor = relib_descriptor_of(code, &all->search.memory, thread->tid, state->sp);
    relib_unwind unwind = {.cached = 1};
    relib_unwind_from(&unwind, state->pc, state->sp);
    return relib_search_stack(&all->search, &unwind, thread->descriptor.address, all->piece, PIECE,
                              &thread->foreign);
}

/* What remains to be looked at when the stack in use holds no call. */
static relib_inside
judge_rest(survey *all, const relib_interruption *thread)
{
    relib_inside inside = RELIB_OUTSIDE;
    if (thread->descriptor.starts_inside || thread->descriptor.unknown)
        return thread->descriptor.unknown ? RELIB_UNKNOWN : RELIB_START;
    /* It runs on the stack of a coroutine or a signal handler, and its own may hold calls that
       are suspended; under valgrind and emulators, too, sp is not that of the program. */
    if (thread->foreign && thread->descriptor.address != 0)
        inside = relib_search_whole_stack(&all->search, thread->descriptor.address, all->piece,
                                          PIECE);
    if (thread->foreign && inside == RELIB_OUTSIDE && thread->tid == getpid() &&
        relib_main_stack_end() != 0)
        inside = relib_search_whole_stack(&all->search, relib_main_stack_end(), all->piece, PIECE);
    return inside;
}

/* --- looking at threads ----------------------------------------------------------------------- */

static relib_inside
examine_open(survey *all, relib_interruption *thread, int file)
{
    char text[256], again[256];
    relib_waiting state;
    for (int attempt = 0; attempt < 4; attempt++) {
        ssize_t size = pread(file, text, sizeof(text) - 1, 0);
        if (size <= 0)
            return size < 0 && errno == ESRCH ? RELIB_OUTSIDE : RELIB_UNKNOWN;
        text[size] = 0;
        int waits = relib_waiting_parse(text, &state);
        if (waits <= 0)
            return waits == 0 ? RELIB_BUSY : RELIB_UNKNOWN;
        if (relib_waiting_for_good(&state))
            return RELIB_OUTSIDE;
        thread->foreign = 0;
        relib_inside inside = judge(all, thread, &state);
        if (inside == RELIB_OUTSIDE)
            inside = judge_rest(all, thread);
        if (inside != RELIB_OUTSIDE && inside != RELIB_UNKNOWN)
            return inside;
        /* Only if it has waited there all the while is that an answer. */
        if (pread(file, again, sizeof(again) - 1, 0) == size && memcmp(text, again, size) == 0)
            return inside;
    }
    return RELIB_BUSY;
}

/* RELIB_BUSY when the thread does not wait. */
static relib_inside
examine(survey *all, relib_interruption *thread)
{
    char name[32];
    snprintf(name, sizeof(name), "%d/syscall", (int)thread->tid);
    int file = openat(all->directory, name, O_RDONLY | O_CLOEXEC);
    if (file < 0 && errno == ENOENT) {
        /* The thread has gone, or this kernel has no such file. */
        *strchr(name, '/') = 0;
        return faccessat(all->directory, name, F_OK, 0) == 0 ? RELIB_UNKNOWN : RELIB_OUTSIDE;
    }
    if (file < 0)
        return errno == ESRCH ? RELIB_OUTSIDE : RELIB_UNKNOWN;
    relib_inside inside = examine_open(all, thread, file);
    close(file);
    return inside;
}

/* Examines those of the threads from threads[from] on that are still busy. How many remain so. */
static size_t
examine_busy(survey *all, size_t from)
{
    size_t busy = 0;
    for (size_t i = from; i < all->count; i++)
        if (all->threads[i].inside == RELIB_BUSY)
            busy += (all->threads[i].inside = examine(all, &all->threads[i])) == RELIB_BUSY;
    return busy;
}

/* --- threads that do not wait ----------------------------------------------------------------- */

/* The signals that a thread blocks; all of them when it cannot be told. */
static uint64_t
blocked_signals(survey *all, pid_t tid)
{
    char name[32], text[4096];
    snprintf(name, sizeof(name), "%d/status", (int)tid);
    int file = openat(all->directory, name, O_RDONLY | O_CLOEXEC);
    if (file < 0)
        return UINT64_MAX;
    ssize_t size = read(file, text, sizeof(text) - 1);
    close(file);
    text[size < 0 ? 0 : size] = 0;
    const char *found = strstr(text, "\nSigBlk:");
    return found != NULL ? strtoull(found + strlen("\nSigBlk:"), NULL, 16) : UINT64_MAX;
}

/* Interrupts the busy threads, `count` of them, from threads[from] on. 0, or -1 without memory. */
static int
interrupt_busy(survey *all, size_t from, size_t count)
{
    size_t next = 0;
    relib_interruption *busy = PyMem_RawMalloc(count * sizeof(*busy));
    if (busy == NULL)
        return -1;
    for (size_t i = from; i < all->count; i++) {
        relib_interruption *thread = &all->threads[i];
        if (thread->inside != RELIB_BUSY)
            continue;
        thread->blocked = blocked_signals(all, thread->tid);
        thread->descriptor =
            relib_descriptor_of(&all->search.code, &all->search.memory, thread->tid, 0);
        busy[next++] = *thread;
    }
    relib_interrupt(&all->search, busy, count);
    next = 0;
    for (size_t i = from; i < all->count; i++) {
        relib_interruption *thread = &all->threads[i];
        if (thread->inside != RELIB_BUSY)
            continue;
        *thread = busy[next++];
        if (thread->inside == RELIB_OUTSIDE)
            thread->inside = judge_rest(all, thread);
    }
    PyMem_RawFree(busy);
    return 0;
}

static void
examine_all(survey *all, size_t from)
{
    const struct timespec moment = {0, 100000};
    size_t busy = examine_busy(all, from);
    if (busy > 0) {
        /* Most run for a moment only. No more patience: to yield among threads that compute can
           take long. */
        sched_yield();
        busy = examine_busy(all, from);
    }
    if (busy > 0 && interrupt_busy(all, from, busy) < 0)
        all->failed = 1;
    /* Those that have not answered may wait by now, or have ended. One that is being started
       blocks all signals for a moment (glibc 2.36, nptl/pthread_create.c). */
    for (int i = 0; busy > 0 && i < 10; i++) {
        if (i > 0)
            nanosleep(&moment, NULL);
        busy = examine_busy(all, from);
    }
    for (size_t i = from; i < all->count; i++)
        if (all->threads[i].inside == RELIB_BUSY)
            all->threads[i].inside = RELIB_UNKNOWN;
}

/* --- all threads ------------------------------------------------------------------------------ */

static int
add_thread(survey *all, pid_t tid)
{
    if (all->count == all->room) {
        size_t room = all->room ? all->room * 2 : 64;
        relib_interruption *more = PyMem_RawRealloc(all->threads, room * sizeof(*more));
        if (more == NULL)
            return -1;
        all->threads = more;
        all->room = room;
    }
    all->threads[all->count++] = (relib_interruption){.tid = tid, .inside = RELIB_BUSY};
    return 0;
}

/* Adds the threads that are not known yet. 0, or -1 when they cannot be listed. */
static int
list_threads(survey *all)
{
    char buffer[8192] __attribute__((aligned(8)));
    size_t known = all->count, expected = 0;
    long size;
    if (lseek(all->directory, 0, SEEK_SET) != 0)
        return -1;
    while ((size = syscall(SYS_getdents64, all->directory, buffer, sizeof(buffer))) > 0) {
        for (long at = 0; at < size;) {
            const struct dirent64 *entry = (const struct dirent64 *)(buffer + at);
            at += entry->d_reclen;
            pid_t tid = (pid_t)strtol(entry->d_name, NULL, 10);
            all->own_listed |= tid == all->own;
            if (tid == 0 || tid == all->own)
                continue;
            /* The order is that in which they were started: mostly the next one of those known. */
            size_t i = expected;
            if (i >= known || all->threads[i].tid != tid)
                for (i = 0; i < known && all->threads[i].tid != tid;)
                    i++;
            expected = i < known ? i + 1 : expected;
            if (i == known && add_thread(all, tid) < 0) {
                all->failed = 1;
                return -1;
            }
        }
    }
    return size < 0 ? -1 : 0;
}

/* 0, or -1 when the threads cannot be listed. */
static int
survey_all(survey *all)
{
    /* A thread that was looked at may have started another meanwhile: until there are no more. */
    for (int round = 0; round < 16; round++) {
        size_t known = all->count;
        if (list_threads(all) < 0)
            return -1;
        if (!all->own_listed) {
            all->count = 0; /* /proc belongs to another pid namespace, with other numbers */
            return -1;
        }
        if (all->count == known)
            return 0;
        examine_all(all, known);
        if (all->failed)
            return -1;
    }
    return -1; /* they start faster than they can be looked at */
}

static int
append(PyObject *list, pid_t tid, relib_inside inside)
{
    const char *how = inside == RELIB_RUNNING ? "running"
                      : inside == RELIB_STACK ? "stack"
                      : inside == RELIB_START ? "start"
                                              : "unknown";
    PyObject *item = Py_BuildValue("(is)", (int)tid, how);
    int result = item == NULL ? -1 : PyList_Append(list, item);
    Py_XDECREF(item);
    return result;
}

/* Whether the calling thread is the only one: a directory has a link for each sub-directory, and
   two more (Linux, fs/proc/base.c, proc_task_getattr). */
static int
alone(void)
{
    struct stat status;
    return stat("/proc/self/task", &status) == 0 && status.st_nlink == 3;
}

PyObject *
relib_threads_inside(PyObject *Py_UNUSED(self), PyObject *args)
{
    relib_range range;
    if (relib_range_argument(args, "KK:threads_inside", &range) < 0)
        return NULL;
    PyObject *list = PyList_New(0);
    if (list == NULL || alone())
        return list;

    survey all = {.own = (pid_t)syscall(SYS_gettid)};
    int listed = -1;
    all.directory = open("/proc/self/task", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    all.piece = PyMem_RawMalloc(PIECE * sizeof(*all.piece));
    all.search.map = PyMem_RawMalloc(sizeof(*all.search.map));
    all.failed = all.piece == NULL || all.search.map == NULL;
    if (all.directory >= 0 && !all.failed) {
        all.search.code = relib_code_at(range);
        all.search.map->count = 0;
        all.search.mappings = &all.mappings;
        relib_memory_open(&all.search.memory);
        relib_mappings_open(&all.mappings);
        listed = survey_all(&all);
        relib_mappings_close(&all.mappings);
        relib_memory_close(&all.search.memory);
    }
    if (all.directory >= 0)
        close(all.directory);
    PyMem_RawFree(all.piece);
    PyMem_RawFree(all.search.map);

    int result = all.failed ? -1 : 0;
    for (size_t i = 0; i < all.count && result == 0; i++)
        if (all.threads[i].inside != RELIB_OUTSIDE)
            result = append(list, all.threads[i].tid, all.threads[i].inside);
    if (listed < 0 && result == 0)
        result = append(list, 0, RELIB_UNKNOWN);
    PyMem_RawFree(all.threads);
    if (result < 0) {
        Py_DECREF(list);
        return all.failed ? PyErr_NoMemory() : NULL;
    }
    return list;
}
