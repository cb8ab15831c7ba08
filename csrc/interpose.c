#define _GNU_SOURCE
#include "interpose.h"

#include <elf.h>
#include <link.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "created.h"
#include "pins.h"

#if defined(__x86_64__)
#define JUMP_SLOT R_X86_64_JUMP_SLOT
#define GLOB_DAT R_X86_64_GLOB_DAT
#define ABSOLUTE R_X86_64_64
#elif defined(__aarch64__)
#define JUMP_SLOT R_AARCH64_JUMP_SLOT
#define GLOB_DAT R_AARCH64_GLOB_DAT
#define ABSOLUTE R_AARCH64_ABS64
#else
#error "relib knows the relocations of x86_64 and aarch64"
#endif

/* --- what a name means ------------------------------------------------------------------------ */

enum { SAFE = 0 };
#define UNKNOWN (RELIB_USES_SIGNALS | RELIB_USES_KEYS | RELIB_USES_REGISTRIES)

typedef struct {
    const char *name;
    unsigned uses;
    void *hook;
} rule;

/* A function of Python that is not here stores no pointer of its caller's beyond the call, or only
   in an object that the module owns. */
static const rule python_rules[] = {
    {"PyType_Ready", SAFE, relib_hook_type_ready},
    {"PyStructSequence_NewType", SAFE, relib_hook_structseq_type},
    {"PyType_FromSpec", SAFE, relib_hook_type_from_spec},
    {"PyType_FromSpecWithBases", SAFE, relib_hook_type_from_spec_with_bases},
    {"PyType_FromModuleAndSpec", SAFE, relib_hook_type_from_module_and_spec},
#if PY_VERSION_HEX >= 0x030C0000
    {"PyType_FromMetaclass", SAFE, relib_hook_type_from_metaclass},
#endif
    {"PyCFunction_New", SAFE, relib_hook_function},
    {"PyCFunction_NewEx", SAFE, relib_hook_function_in},
    {"PyCMethod_New", SAFE, relib_hook_method},
    {"PyCapsule_New", SAFE, relib_hook_capsule},
    {"PyCapsule_SetDestructor", SAFE, relib_hook_capsule_destructor},
    {"PyMemoryView_FromMemory", SAFE, relib_hook_view_of_memory},
    {"PyMemoryView_FromBuffer", SAFE, relib_hook_view_of_buffer},
    {"PyModule_Create2", SAFE, relib_hook_module},
    {"PyModule_AddFunctions", SAFE, relib_hook_module_functions},
    {"PyDescr_NewMethod", SAFE, relib_hook_method_descriptor},
    {"PyDescr_NewClassMethod", SAFE, relib_hook_class_method_descriptor},
    {"PyDescr_NewMember", SAFE, relib_hook_member_descriptor},
    {"PyDescr_NewGetSet", SAFE, relib_hook_getset_descriptor},
    {"PyDescr_NewWrapper", RELIB_USES_FOR_EVER, NULL},
    {"PyOS_setsig", RELIB_USES_SIGNALS, NULL},
    {"PyOS_InputHook", RELIB_USES_REGISTRIES, NULL},
    {"PyOS_ReadlineFunctionPointer", RELIB_USES_REGISTRIES, NULL},
    {"Py_AtExit", RELIB_USES_REGISTRIES, NULL},
    {"Py_AddPendingCall", RELIB_USES_REGISTRIES, NULL},
    {"PyType_AddWatcher", RELIB_USES_REGISTRIES, NULL},
    {"PyDict_AddWatcher", RELIB_USES_REGISTRIES, NULL},
    {"PyCode_AddWatcher", RELIB_USES_REGISTRIES, NULL},
    {"PyFunction_AddWatcher", RELIB_USES_REGISTRIES, NULL},
    {"PyContext_AddWatcher", RELIB_USES_REGISTRIES, NULL},
    {"PyRefTracer_SetTracer", RELIB_USES_REGISTRIES, NULL},
    {"PyMem_SetAllocator", RELIB_USES_REGISTRIES, NULL},
    {"PyObject_SetArenaAllocator", RELIB_USES_REGISTRIES, NULL},
    {"_PyInterpreterState_SetEvalFrameFunc", RELIB_USES_REGISTRIES, NULL},
    {"PyUnstable_Eval_RequestCodeExtraIndex", RELIB_USES_REGISTRIES, NULL},
    {"_PyEval_RequestCodeExtraIndex", RELIB_USES_REGISTRIES, NULL},
    {"PyImport_FrozenModules", RELIB_USES_REGISTRIES, NULL},
    {"PyImport_Inittab", RELIB_USES_REGISTRIES, NULL},
    {"PyEval_SetProfile", RELIB_USES_REGISTRIES, NULL},
    {"PyEval_SetTrace", RELIB_USES_REGISTRIES, NULL},
    {"PyEval_SetProfileAllThreads", RELIB_USES_REGISTRIES, NULL},
    {"PyEval_SetTraceAllThreads", RELIB_USES_REGISTRIES, NULL},
    {"PySys_AddAuditHook", RELIB_USES_REGISTRIES, NULL},
    {"PyUnstable_AtExit", RELIB_USES_REGISTRIES, NULL},
    /* Kept on the heap, where no search finds them. */
    {"PyImport_AppendInittab", RELIB_USES_FOR_EVER, NULL},
    {"PyImport_ExtendInittab", RELIB_USES_FOR_EVER, NULL},
};

/* Of everything that is not Python's: what keeps no pointer to its caller's code. A thread that is
   started is found by the thread scan, and __cxa_atexit is undone by dlclose itself. */
static const char *const safe_names[] = {
    "__assert_fail", "__cxa_atexit", "__cxa_finalize", "__errno_location", "__fprintf_chk",
    "__gmon_start__", "__gxx_personality_v0", "__longjmp_chk", "__memcpy_chk", "__memmove_chk",
    "__memset_chk", "__printf_chk", "__snprintf_chk", "__sprintf_chk", "__stack_chk_fail",
    "__strcat_chk", "__strcpy_chk", "__strncpy_chk", "__tls_get_addr", "__vfprintf_chk",
    "__vsnprintf_chk", "_ITM_deregisterTMCloneTable", "_ITM_registerTMCloneTable", "_setjmp",
    "abort", "abs", "acos", "aligned_alloc", "asin", "atan", "atan2", "atof", "atoi", "atol",
    "bsearch", "calloc", "cbrt", "ceil", "clock", "clock_gettime", "close", "cos", "cosh", "erf",
    "exp", "exp2", "expf", "expm1", "fabs", "fclose", "fflush", "floor", "fmax", "fmin", "fmod",
    "fopen", "fprintf", "fputc", "fputs", "fread", "free", "fwrite", "getenv", "getpid",
    "gettimeofday", "hypot", "isatty", "labs", "ldexp", "lgamma", "log", "log10", "log1p", "log2",
    "logf", "longjmp", "lround", "lseek", "malloc", "memchr", "memcmp", "memcpy", "memmove",
    "memset", "modf", "nanosleep", "open", "posix_memalign", "pow", "powf", "printf",
    "pthread_cond_broadcast", "pthread_cond_destroy", "pthread_cond_init", "pthread_cond_signal",
    "pthread_cond_timedwait", "pthread_cond_wait", "pthread_create", "pthread_detach",
    "pthread_exit", "pthread_join", "pthread_mutex_destroy", "pthread_mutex_init",
    "pthread_mutex_lock", "pthread_mutex_trylock", "pthread_mutex_unlock", "pthread_self",
    "putchar", "puts", "qsort", "rand", "random", "read", "realloc", "round", "sched_yield",
    "setjmp", "sin", "sinh", "sleep", "snprintf", "sprintf", "sqrt", "sqrtf", "srand", "stderr",
    "stdout", "strcasecmp", "strcat", "strchr", "strcmp", "strcpy", "strcspn", "strdup",
    "strerror", "strlen", "strncasecmp", "strncmp", "strncpy", "strpbrk", "strrchr", "strspn",
    "strstr", "strtod", "strtok", "strtol", "strtoll", "strtoul", "strtoull", "tan", "tanh",
    "tgamma", "time", "tolower", "toupper", "trunc", "usleep", "vfprintf", "vsnprintf", "write",
};

/* What is kept on the heap, in the kernel or in a form that cannot be read, where no search finds
   it (glibc 2.36: exit functions have their address mangled, stdlib/on_exit.c; so do the functions
   of a stream, libio/iofopncook.c). */
static const char *const hidden_names[] = {
    "__register_frame", "aio_fsync", "aio_read", "aio_read64", "aio_write", "aio_write64",
    "fopencookie", "getaddrinfo_a", "lio_listio", "lio_listio64", "mq_notify", "on_exit",
    "register_printf_function", "register_printf_modifier", "register_printf_specifier",
    "register_printf_type", "sigaltstack", "timer_create",
};

/* libstdc++ and libgcc, which take no callbacks but for these. */
static const char *const cxx_prefixes[] = {"_ZNSt", "_ZNKSt", "_ZSt",  "_ZTVN10__cxxabi",
                                           "_Zn",   "_Zd",    "_ZTISt", "__cxa_", "_Unwind_",
                                           "_ZTVSt", "_ZTTSt", "_ZGTt"};
static const char *const cxx_registries[] = {
    "_ZSt13set_terminatePFvvE", "_ZSt14set_unexpectedPFvvE", "_ZSt15set_new_handlerPFvvE",
};

#define SLOTS 1024 /* a power of two, well over the number of names */
static rule table[SLOTS];
static int table_made;

static uint32_t
hash(const char *name)
{
    uint32_t value = 2166136261u; /* FNV-1a */
    for (; *name; name++)
        value = (value ^ (unsigned char)*name) * 16777619u;
    return value;
}

static rule *
slot_of(const char *name)
{
    for (uint32_t i = hash(name);; i++) {
        rule *slot = &table[i % SLOTS];
        if (slot->name == NULL || strcmp(slot->name, name) == 0)
            return slot;
    }
}

static void
make_table(void)
{
    for (size_t i = 0; i < Py_ARRAY_LENGTH(python_rules); i++)
        *slot_of(python_rules[i].name) = python_rules[i];
    for (size_t i = 0; i < Py_ARRAY_LENGTH(safe_names); i++)
        *slot_of(safe_names[i]) = (rule){safe_names[i], SAFE, NULL};
    for (size_t i = 0; i < Py_ARRAY_LENGTH(hidden_names); i++)
        *slot_of(hidden_names[i]) = (rule){hidden_names[i], RELIB_USES_FOR_EVER, NULL};
    if (relib_key_table().size == 0) {
        *slot_of("pthread_key_create") = (rule){"pthread_key_create", RELIB_USES_FOR_EVER, NULL};
        *slot_of("tss_create") = (rule){"tss_create", RELIB_USES_FOR_EVER, NULL};
    }
    for (size_t i = 0; i < Py_ARRAY_LENGTH(cxx_registries); i++)
        *slot_of(cxx_registries[i]) = (rule){cxx_registries[i], RELIB_USES_REGISTRIES, NULL};
    table_made = 1;
}

static rule
rule_of(const char *name)
{
    const rule *known = slot_of(name);
    if (known->name != NULL)
        return *known;
    if (strncmp(name, "Py", 2) == 0 || strncmp(name, "_Py", 3) == 0)
        return (rule){name, SAFE, NULL};
    for (size_t i = 0; i < Py_ARRAY_LENGTH(cxx_prefixes); i++)
        if (strncmp(name, cxx_prefixes[i], strlen(cxx_prefixes[i])) == 0)
            return (rule){name, SAFE, NULL};
    return (rule){name, UNKNOWN, NULL};
}

/* --- the library's imports -------------------------------------------------------------------- */

typedef struct {
    const ElfW(Sym) *symbols;
    const char *strings;
    const ElfW(Rela) *tables[2];
    size_t counts[2];
} imports;

static imports
imports_of(const relib_library *library)
{
    imports found = {0};
    for (const ElfW(Dyn) *entry = library->dynamic; entry->d_tag != DT_NULL; entry++) {
        /* glibc has relocated these pointers in place (elf/get-dynamic-info.h). */
        switch (entry->d_tag) {
        case DT_SYMTAB: found.symbols = (const void *)entry->d_un.d_ptr; break;
        case DT_STRTAB: found.strings = (const void *)entry->d_un.d_ptr; break;
        case DT_JMPREL: found.tables[0] = (const void *)entry->d_un.d_ptr; break;
        case DT_PLTRELSZ: found.counts[0] = entry->d_un.d_val / sizeof(ElfW(Rela)); break;
        case DT_RELA: found.tables[1] = (const void *)entry->d_un.d_ptr; break;
        case DT_RELASZ: found.counts[1] = entry->d_un.d_val / sizeof(ElfW(Rela)); break;
        }
    }
    return found;
}

/* The part of RELRO that the loader has made read-only: whole pages of it
   (glibc 2.36, elf/dl-reloc.c, _dl_protect_relro). */
static int
protect(const relib_library *library, int protection)
{
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    uintptr_t lo = library->relro_lo & ~(page - 1), hi = library->relro_hi & ~(page - 1);
    return hi > lo ? mprotect((void *)lo, hi - lo, protection) : 0;
}

int
relib_interpose(relib_library *library)
{
    if (!table_made)
        make_table();
    if (relib_created_register(library) < 0)
        return -1;
    imports found = imports_of(library);
    int writable = 0;
    for (int t = 0; t < 2; t++) {
        for (size_t i = 0; found.tables[t] != NULL && i < found.counts[t]; i++) {
            const ElfW(Rela) *relocation = &found.tables[t][i];
            unsigned type = ELF64_R_TYPE(relocation->r_info);
            if (type != JUMP_SLOT && type != GLOB_DAT && type != ABSOLUTE)
                continue;
            const ElfW(Sym) *symbol = &found.symbols[ELF64_R_SYM(relocation->r_info)];
            if (symbol->st_name == 0 || symbol->st_shndx != SHN_UNDEF)
                continue;
            const char *name = found.strings + symbol->st_name;
            rule found_rule = rule_of(name);
            library->finalizes |= strcmp(name, "__cxa_finalize") == 0;
            library->uses |= found_rule.uses;
            if (found_rule.hook == NULL)
                continue;
            uintptr_t place = library->base + relocation->r_offset;
            if (!writable && place >= library->relro_lo && place < library->relro_hi) {
                if (protect(library, PROT_READ | PROT_WRITE) != 0) {
                    library->uses |= RELIB_USES_LOOSE;
                    continue;
                }
                writable = 1;
            }
            *(void **)place = (char *)found_rule.hook + (type == ABSOLUTE ? relocation->r_addend : 0);
        }
    }
    if (writable)
        protect(library, PROT_READ);
    return 0;
}
