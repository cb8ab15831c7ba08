/* Included before every source that tcc compiles for relib.
 *
 * With -std=c11, tcc defines __STDC_NO_ATOMICS__, and then Python.h from CPython 3.13
 * (Include/cpython/pyatomic.h) stops with "no available pyatomic implementation", as Cython does on
 * 3.12 (Utility/ModuleSetupCode.c, ModuleStateLookup). The <stdatomic.h> beside this file supplies
 * what is missing. A tcc that says it has atomics keeps its own.
 *
 * tcc 0.9.28 takes the word _Atomic, but `counter++` is no atomic operation there. Here _Atomic(T)
 * is a struct around T, which makes such an expression an error and not a silent race, and _Atomic
 * without parentheses is an unknown word.
 */
#ifdef __STDC_NO_ATOMICS__
#undef __STDC_NO_ATOMICS__
#define RELIB_TCC_ATOMICS 1
#define _Atomic relib_atomic
#define relib_atomic(T) struct { T relib_value; }
#endif

/* The language's standard, where -std= asked for another than C11, without which tcc knows neither
 * atomics nor _Static_assert; 0 for C89, which had no such macro.
 */
#ifdef RELIB_STDC_VERSION
#undef __STDC_VERSION__
#if RELIB_STDC_VERSION
#define __STDC_VERSION__ RELIB_STDC_VERSION
#endif
#endif
