/* What threads do in a library, or have done there; loaded twice by the scenarios. */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/futex.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

/* Keeps a call from becoming a jump. */
static volatile int sink;

/* --- waiting --- */
int wait_in_read(int fd) { char c; int n = read(fd, &c, 1); sink = n; return n < 0 ? -errno : n; }
int wait_in_poll(int fd) {
    struct pollfd p = {fd, POLLIN, 0}; int n = poll(&p, 1, -1); sink = n; return n < 0 ? -errno : n;
}
int wait_in_nanosleep(const int *stop) {
    struct timespec t = {1000, 0};
    while (!__atomic_load_n(stop, __ATOMIC_SEQ_CST)) {
        int n = nanosleep(&t, NULL);
        if (n < 0) return -errno;
    }
    return 0;
}
int sleep_once(long ms) {
    struct timespec t = {ms / 1000, ms % 1000 * 1000000}; int n = nanosleep(&t, NULL); sink = n;
    return n < 0 ? -errno : n;
}
int call(int (*function)(void *), void *argument) {
    int n = function(argument); sink = n; return n;
}
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
pthread_mutex_t *own_mutex(void) { return &mutex; }
int lock_and_unlock(pthread_mutex_t *m) {
    pthread_mutex_lock(m); pthread_mutex_unlock(m); sink = 1; return 0;
}

/* --- running --- */
int spin(const int *stop) { while (!__atomic_load_n(stop, __ATOMIC_RELAXED)); return 0; }
int spin_deaf(const int *stop) {
    sigset_t all; sigfillset(&all); pthread_sigmask(SIG_BLOCK, &all, NULL);
    return spin(stop) + (sink = 0);
}

/* --- having been there --- */
__attribute__((noinline)) int deep(int n) {
    volatile uintptr_t room[8]; for (int i = 0; i < 8; i++) room[i] = (uintptr_t)n;
    int k = n > 0 ? deep(n - 1) : 0; sink = k; return k + (int)room[n % 8];
}
/* Writes over what the first frames of a visit have left, where others may leave gaps. */
__attribute__((noinline)) int scrub(void) {
    volatile char room[2048]; for (int i = 0; i < 2048; i++) room[i] = 0;
    return room[sink & 2047];
}
struct visit { int (*visited)(int); int fd; };
void *visit_then_wait(void *argument) {
    struct visit *v = argument; v->visited(50); sink = scrub(); wait_in_read(v->fd); sink = 2;
    return NULL;
}

/* --- threads of its own --- */
static void *read_one(void *fd) { wait_in_read((int)(intptr_t)fd); return NULL; }
/* Its function ends in a jump to somewhere else: nothing of it remains on the stack. */
struct leave { void *(*to)(void *); void *argument; };
__attribute__((optimize("O2"))) static void *leave(void *argument) {
    struct leave *l = argument; return l->to(l->argument);
}
void *read_for_ever(void *fd) { for (;;) wait_in_read((int)(intptr_t)fd); return NULL; }
int start_reader(int fd) {
    pthread_t t; int n = pthread_create(&t, NULL, read_one, (void *)(intptr_t)fd);
    return n ? n : pthread_detach(t);
}
int start_leaver(void *(*to)(void *), int fd) {
    static struct leave l; pthread_t t; l = (struct leave){to, (void *)(intptr_t)fd};
    return pthread_create(&t, NULL, leave, &l);
}
int start_visitor(int (*visited)(int), int fd) {
    static struct visit v; pthread_t t; v = (struct visit){visited, fd};
    return pthread_create(&t, NULL, visit_then_wait, &v);
}
static void *nothing(void *argument) { return argument; }
static void *breed(void *stop) {
    while (!__atomic_load_n((int *)stop, __ATOMIC_RELAXED)) {
        pthread_t t; if (pthread_create(&t, NULL, nothing, NULL) == 0) pthread_join(t, NULL);
    }
    return NULL;
}
int start_breeder(int *stop) { pthread_t t; return pthread_create(&t, NULL, breed, stop); }
int start_many(int count, void *(*function)(void *), void *argument) {
    pthread_attr_t a; pthread_t t; pthread_attr_init(&a); pthread_attr_setstacksize(&a, 65536);
    int n = 0;
    for (int i = 0; i < count && n == 0; i++) n = pthread_create(&t, &a, function, argument);
    return n;
}
void *(*address_of_reader(void))(void *) { return read_one; }
void *(*address_of_leaver(void))(void *) { return leave; }

/* --- stacks of its own --- */
static ucontext_t back, there;
static struct { void (*function)(void *); void *argument; } task;
static void enter(void) { task.function(task.argument); }
int on_other_stack(char *stack, size_t size, void (*function)(void *), void *argument) {
    task.function = function; task.argument = argument;
    getcontext(&there); there.uc_stack.ss_sp = stack; there.uc_stack.ss_size = size;
    there.uc_link = &back; makecontext(&there, enter, 0);
    int n = swapcontext(&back, &there); sink = n; return n;
}
struct excursion { int (*run)(char *, size_t, void (*)(void *), void *); char *stack; size_t size;
                   void (*function)(void *); void *argument; };
int call_excursion(struct excursion *e) {
    int n = e->run(e->stack, e->size, e->function, e->argument); sink = n; return n;
}
void read_on_stack(void *fd) { wait_in_read((int)(intptr_t)fd); sink = 3; }

/* --- signals --- */
static int waits_on;
static void handler(int number) { (void)number; wait_in_read(waits_on); }
int wait_in_handler(int number, int fd) {
    struct sigaction a; memset(&a, 0, sizeof(a)); a.sa_handler = handler; waits_on = fd;
    return sigaction(number, &a, NULL);
}
/* --- a thread that is started and has not begun --- */
#if defined(__x86_64__)
#define ARCHITECTURE AUDIT_ARCH_X86_64
#else
#define ARCHITECTURE AUDIT_ARCH_AARCH64
#endif
static int install(int number, unsigned action, unsigned flags) {
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)number, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, action),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {4, code};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)) return -errno;
    int fd = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &program);
    return fd < 0 ? -errno : fd;
}
int forbid(int number) { return install(number, SECCOMP_RET_ERRNO | EPERM, 0); }
int hold(int number) {
    return install(number, SECCOMP_RET_USER_NOTIF, SECCOMP_FILTER_FLAG_NEW_LISTENER);
}
/* glibc lets the new thread wait until its creator has set its processors. */
int start_with_processors(void *(*function)(void *), void *argument) {
    pthread_attr_t a; pthread_t t; cpu_set_t set; pthread_attr_init(&a);
    sched_getaffinity(0, sizeof(set), &set); pthread_attr_setaffinity_np(&a, sizeof(set), &set);
    return pthread_create(&t, &a, function, argument);
}
int let_go(int fd) {
    struct seccomp_notif request; struct seccomp_notif_resp reply;
    memset(&request, 0, sizeof(request)); memset(&reply, 0, sizeof(reply));
    if (ioctl(fd, SECCOMP_IOCTL_NOTIF_RECV, &request)) return -errno;
    reply.id = request.id; reply.flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE;
    return ioctl(fd, SECCOMP_IOCTL_NOTIF_SEND, &reply) ? -errno : 0;
}
