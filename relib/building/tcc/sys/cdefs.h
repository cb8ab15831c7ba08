/* glibc (2.36 does, 2.43 no longer) defines __attribute__(x) as nothing for compilers that are
 * neither gcc nor clang. tcc knows attributes: without this it would silently lay out a packed
 * struct as any other, and not run constructors. Every header of glibc comes by here first.
 */
#include_next <sys/cdefs.h>
#ifdef __attribute__
#undef __attribute__
#endif
