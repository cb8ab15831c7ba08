#define _GNU_SOURCE
#include "descriptors.h"

#include <dlfcn.h>
#include <linux/futex.h>
#include <pthread.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

/* struct pthread has 2,304 bytes in glibc 2.36 on x86_64, and less elsewhere. */
#define LARGEST 4096
/* Between the stack pointer of a new thread and its descriptor there are the thread's variables. */
#define FARTHEST 262144

/* Offsets into the descriptor; 0 when not known. */
static struct {
    int learnt;
    size_t robust_list, tid, start_routine;
} offsets;

/* glibc describes its private structures to debuggers: size in bits, number, offset (glibc 2.36,
   nptl_db/db_info.c; exported since 2.34). */
static size_t
described(const char *name)
{
    const uint32_t *field = dlvsym(RTLD_DEFAULT, name, "GLIBC_PRIVATE");
    return field != NULL && field[2] <= LARGEST - 16 ? field[2] : 0;
}

static void
learn(void)
{
    struct robust_list_head *head = NULL;
    size_t length;
    offsets.tid = described("_thread_db_pthread_tid");
    offsets.start_routine = described("_thread_db_pthread_start_routine");
    /* Each thread tells the kernel where its list of robust mutexes is, which is a field of the
       descriptor (glibc 2.36, nptl/pthread_create.c, start_thread). Where, our own shows. */
    if (syscall(SYS_get_robust_list, 0, &head, &length) == 0 && head != NULL &&
        (uintptr_t)head - (uintptr_t)pthread_self() < LARGEST)
        offsets.robust_list = (uintptr_t)head - (uintptr_t)pthread_self();
    offsets.learnt = 1;
}

/* Copies the descriptor's first bytes, all that matter. Whether it is that of thread `tid`. */
static int
read_descriptor(const relib_memory *memory, uintptr_t address, pid_t tid, uintptr_t *words)
{
    size_t size = LARGEST;
    if (offsets.tid != 0 && offsets.start_routine != 0)
        size = (offsets.tid > offsets.start_routine ? offsets.tid : offsets.start_routine) + 16;
    size_t got = relib_memory_read(memory, address, words, size);
    memset((char *)words + got, 0, LARGEST - got);
    return offsets.tid == 0 || memcmp((char *)words + offsets.tid, &tid, sizeof(tid)) == 0;
}

/* --- a thread that runs, or has run ----------------------------------------------------------- */

static int
starts_inside(const relib_code *code, const uintptr_t *words)
{
    size_t count = LARGEST / sizeof(*words);
    if (offsets.start_routine != 0)
        return relib_range_holds(code->code, words[offsets.start_routine / sizeof(*words)]);
    /* An older glibc: any field of it that points to code. */
    return relib_next_word(words, 0, count, code->code) < count;
}

/* --- a thread that has not begun to run ------------------------------------------------------- */

/* It has told the kernel nothing yet, but its descriptor is not far above its stack pointer, with
   the number in it that the kernel has given the thread. */
static uintptr_t
search_above(const relib_memory *memory, pid_t tid, uintptr_t sp, uintptr_t *words)
{
    pid_t numbers[1024];
    sp &= ~(uintptr_t)15;
    for (uintptr_t at = sp; offsets.tid != 0 && at < sp + FARTHEST; at += sizeof(numbers)) {
        size_t count = relib_memory_read(memory, at, numbers, sizeof(numbers)) / sizeof(pid_t);
        for (size_t i = 0; i < count; i++) {
            uintptr_t address = at + i * sizeof(pid_t) - offsets.tid;
            if (numbers[i] == tid && address % 16 == 0 && address > sp &&
                read_descriptor(memory, address, tid, words) &&
                words[offsets.start_routine / sizeof(*words)] != 0)
                return address;
        }
        if (count < sizeof(numbers) / sizeof(pid_t))
            break;
    }
    return 0;
}

/* Its function may be someone else's that calls what the argument says, which comes next in the
   descriptor: std::thread passes an object with a table of virtual functions, for example. */
static int
will_start_inside(const relib_code *code, const relib_memory *memory, const uintptr_t *words)
{
    const uintptr_t *start = words + offsets.start_routine / sizeof(*words);
    uintptr_t argument[8];
    if (relib_range_holds(code->code, start[0]) || relib_range_holds(code->whole, start[1]))
        return 1;
    size_t count = relib_memory_read(memory, start[1], argument, sizeof(argument)) / sizeof(*words);
    return relib_next_word(argument, 0, count, code->whole) < count;
}

/* --- both ------------------------------------------------------------------------------------- */

relib_descriptor
relib_descriptor_of(const relib_code *code, const relib_memory *memory, pid_t tid, uintptr_t sp)
{
    relib_descriptor found = {0, 0, 0};
    struct robust_list_head *head = NULL;
    uintptr_t words[LARGEST / sizeof(uintptr_t)], address;
    size_t length;
    if (!offsets.learnt)
        learn();
    if (offsets.robust_list == 0 || syscall(SYS_get_robust_list, tid, &head, &length) != 0)
        return found;
    if (head != NULL) {
        address = (uintptr_t)head - offsets.robust_list;
        if (read_descriptor(memory, address, tid, words))
            found = (relib_descriptor){address, starts_inside(code, words), 0};
    } else if (offsets.tid == 0 || offsets.start_routine == 0) {
        found.unknown = 1;
    } else if (sp != 0 && (address = search_above(memory, tid, sp, words)) != 0) {
        found = (relib_descriptor){address, will_start_inside(code, memory, words), 0};
    }
    return found;
}
