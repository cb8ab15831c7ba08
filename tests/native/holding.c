/* A library whose data points where it is told to. */
#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>

uintptr_t first = 1;
uintptr_t held[100] = {2};
uintptr_t later;
static uintptr_t room[1 << 15];                 /* .bss */
static char guarded[3 * 65536] = {0};
/* As the unwinder of an older libgcc remembers a library that an exception went through. */
uintptr_t unwinder[6] = {3};

void hold(int i, uintptr_t value) { held[i] = value; }
void hold_in_room(int i, uintptr_t value) { room[i] = value; }
uintptr_t room_at(int i) { return (uintptr_t)&room[i]; }
int guard(uintptr_t before, uintptr_t after) {
    uintptr_t page = ((uintptr_t)guarded + 65535) & ~(uintptr_t)65535;
    ((uintptr_t *)page)[-1] = before;
    *(uintptr_t *)(page + 65536) = after;
    *(uintptr_t *)page = before; /* so that there is a page */
    return mprotect((void *)page, 65536, PROT_NONE);
}
