/* Functions whose frames are laid out in different ways; each calls `f` once and is then on the
   stack as many times as its name says. */
#include <alloca.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>

#ifdef __TINYC__
#define PER_THREAD
#else
#define PER_THREAD __thread
#endif

typedef int (*function)(void *);

/* Keeps a call from becoming a jump. */
static volatile int sink;

static void touch(volatile void *memory, int size) {
    volatile char *bytes = memory;
    for (int i = 0; i < size; i++) bytes[i] = (char)i;
}

int plain_1(function f, void *a) { int n = f(a); sink = n; return n; }
int large_1(function f, void *a) {
    char v[5000]; touch(v, 5000); int n = f(a); sink = n + v[3]; return n;
}
int alloca_1(function f, void *a) {
    int size = 16 + (int)((uintptr_t)a & 127); void *p = alloca(size);
    touch(p, size); int n = f(a); sink = n; touch(p, size); return n;
}
int variable_1(function f, void *a) {
    int size = 8 + (int)((uintptr_t)a & 63), v[size];
    touch(v, size); int n = f(a); sink = n + v[size - 1]; return n;
}
/* Compilers align the stack for these, and say in DWARF expressions where the frame is. */
int aligned_1(function f, void *a) {
    char v[128] __attribute__((aligned(64)));
    touch(v, 128); int n = f(a); sink = n + v[3]; touch(v, 128); return n;
}
int aligned_alloca_1(function f, void *a) {
    char v[128] __attribute__((aligned(64))); int size = 10 + (int)((uintptr_t)a & 63);
    void *p = alloca(size); touch(v, 128); touch(p, size);
    int n = f(a); sink = n + v[3]; touch(p, size); return n;
}
__attribute__((noinline)) int many(function f, void *a, long b, long c, long d, long e, long g,
                                   long h, double x, double y) {
    int n = f(a); sink = n + (int)(b + c + d + e + g + h + x + y); return n;
}
int arguments_2(function f, void *a) { return many(f, a, 1, 2, 3, 4, 5, 6, 1, 2) + (sink = 0); }
__attribute__((noinline)) int any(int count, ...) {
    va_list list; va_start(list, count);
    function f = va_arg(list, function); void *a = va_arg(list, void *); va_end(list);
    int n = f(a); sink = n; return n;
}
int variadic_2(function f, void *a) { return any(2, f, a) + (sink = 0); }

/* With a frame of the C library's between two of its own. */
struct task { function f; void *a; int n, done; };
static PER_THREAD struct task *current;
static int compare(const void *x, const void *y) {
    (void)x; (void)y;
    if (!current->done) {
        struct task *own = current; own->done = 1; own->n = own->f(own->a); current = own;
    }
    return 0;
}
int sorting_2(function f, void *a) {
    int v[2] = {1, 2}; struct task own = {f, a, 0, 0}, *before = current;
    current = &own; qsort(v, 2, sizeof(int), compare); current = before; sink = 1; return own.n;
}

/* Leaves return addresses all over the stack below. */
__attribute__((noinline)) int deep(int n) {
    volatile uintptr_t room[8]; for (int i = 0; i < 8; i++) room[i] = (uintptr_t)n;
    int k = n > 0 ? deep(n - 1) : 0; sink = k; return k + (int)room[n % 8];
}
