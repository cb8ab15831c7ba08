/* The floor of loading and unloading: dlopen, dlsym, a call and dlclose, timed in C.

   Compiled twice: as a program of its own (-DPROGRAM), and as a library that a Python process
   calls, for modules that need Python's symbols. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static double
now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec * 1e-9;
}

/* Fills `seconds` with how long each of `count` cycles took. 0, or -1 if one failed. */
int
floor_cycles(const char *path, const char *symbol, int count, double *seconds)
{
    for (int i = 0; i < count; i++) {
        double start = now();
        void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
        void *(*function)(void) = NULL;
        if (library != NULL)
            *(void **)&function = dlsym(library, symbol);
        if (function == NULL) {
            fprintf(stderr, "%s\n", dlerror());
            return -1;
        }
        function();
        dlclose(library);
        seconds[i] = now() - start;
    }
    return 0;
}

#ifdef PROGRAM
/* floor PATH SYMBOL COUNT: prints COUNT numbers. */
int
main(int argc, char **argv)
{
    int count = argc == 4 ? atoi(argv[3]) : 0;
    double *seconds = calloc((size_t)count + 1, sizeof(*seconds));
    if (count <= 0 || seconds == NULL || floor_cycles(argv[1], argv[2], count, seconds) < 0)
        return 1;
    for (int i = 0; i < count; i++)
        printf("%.9f\n", seconds[i]);
    return 0;
}
#endif
