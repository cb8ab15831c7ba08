"""tcc: what it is told, what it does right, and what it is refused for."""

from __future__ import annotations

from pathlib import Path

import pytest
from compilations import (
    MODULE_C,
    Workplace,
    compile_words,
    evaluate,
    forget_environment,
    in_order,
    link_words,
    read_elf,
)
from compilers import needs

from relib.building.toolchain import Toolchain
from relib.errors import BuildError, CompilerMissing

pytestmark = needs("tcc")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workplace:
    forget_environment(monkeypatch)
    return Workplace(tmp_path, {"cc": "tcc", "cflags": ""})


@pytest.fixture
def tcc(place: Workplace) -> Toolchain:
    return place.toolchain()


def module(place: Workplace, answer: str = "42") -> Path:
    return place.write("fast.c", MODULE_C.replace("ANSWER", answer))


def test_it_is_refused_for_cplusplus(place: Workplace) -> None:
    place.options["cxx"] = "tcc"
    with pytest.raises(CompilerMissing, match=r"does not compile C\+\+"):
        place.toolchain("c++")


# --- flags ---------------------------------------------------------------------------------------


def test_flags_that_change_nothing_are_left_out(tcc: Toolchain) -> None:
    idle = ("-fwrapv", "-Wno-unused", "-g3", "-O3", "-pthread", "-std=gnu99", "-march=native")
    words = compile_words(tcc, extra_compile_args=(*idle, "-w", "-Werror", "-MMD"))
    assert not {*idle, "-w", "-Werror", "-MMD"} & set(words)
    assert "-D_REENTRANT" in words


def test_macros_and_directories_are_kept(tcc: Toolchain) -> None:
    given = ("-D", "A=1", "-UB", "-isystem", "/s", "-Wp,-DC", "-include", "x.h", "-I/i")
    words = compile_words(tcc, extra_compile_args=given)
    assert in_order(words, "-DA=1", "-UB", "-DC", "-include", "x.h", "-I/i", "-I/s")


@pytest.mark.parametrize(
    "flag",
    ["-fopenmp", "-m32", "-fsanitize=address", "-fshort-enums", "-ftrapv", "-x c++", "--odd"],
)
def test_what_it_cannot_do_is_refused(tcc: Toolchain, flag: str) -> None:
    with pytest.raises(BuildError) as caught:
        compile_words(tcc, extra_compile_args=tuple(flag.split()))
    assert flag in str(caught.value)
    assert "CC=gcc" in str(caught.value)
    assert caught.value.name == "pkg.fast"


def test_openmp_is_refused_for_the_linker_too(tcc: Toolchain) -> None:
    with pytest.raises(BuildError, match="OpenMP"):
        link_words(tcc, extra_link_args=("-fopenmp",))


def test_the_linkers_options_are_translated(tcc: Toolchain) -> None:
    words = link_words(
        tcc,
        runtime_library_dirs=("/run",),
        libraries=("m",),
        extra_link_args=("-Wl,-z,relro,-rpath,/far", "-Wl,--as-needed", "-s", "-pthread"),
    )
    assert in_order(words, "-Wl,-rpath=/run", "-lm", "-Wl,-rpath=/far", "-lpthread")
    assert not any("relro" in word or "as-needed" in word for word in words)
    assert not any("version-script" in word for word in words)
    with pytest.raises(BuildError, match="--wrap=malloc"):
        link_words(tcc, extra_link_args=("-Wl,--wrap=malloc",))


# --- code ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("typedef int four __attribute__((vector_size(16))); four x;", "vector_size"),
        ("int f(int n) {\n#pragma omp parallel for\nfor (;;) n++; }", "OpenMP"),
        ("int f(int n) { return __builtin_nosuch(n); }", "__builtin_nosuch"),
        ("#include <threads.h>\nthread_local int x;", ""),
        ("static __thread int x;", ""),
        ("#include <complex.h>\ndouble _Complex x;", ""),
    ],
)
def test_code_that_would_mean_something_else_is_refused(
    place: Workplace, text: str, why: str
) -> None:
    with pytest.raises(BuildError) as caught:
        place.compile(place.write("fast.c", text + "\n"))
    assert why in str(caught.value)
    assert any(d.severity == "error" for d in caught.value.diagnostics)


def test_openmp_is_refused(place: Workplace) -> None:
    with pytest.raises(BuildError, match="OpenMP"):
        place.compile(module(place), extra_compile_args=("-fopenmp",))


def test_attributes_hold_after_a_system_header(place: Workplace) -> None:
    main = module(place, "(long)sizeof(struct packed) * 10 + constructed")
    main.write_text(
        "#include <stdio.h>\nstatic int constructed;\n"
        "static void __attribute__((constructor)) start(void) { constructed = 2; }\n"
        "struct __attribute__((packed)) packed { char a; long b; };\n" + main.read_text()
    )
    assert evaluate(place.compile(main).library, "fast.answer()") == "92"


def test_its_own_symbols_are_not_taken_from_the_program(place: Workplace) -> None:
    assert "SYMBOLIC" in read_elf(place.compile(module(place)).library, "-d")


def test_the_loader_knows_where_a_library_with_room_lies(place: Workplace) -> None:
    """Its table of segments survives that the loader clears the pages behind its data."""
    source = module(place)
    text = source.read_text()
    for size in range(256, 4096, 768):  # the data ends in different places of a page
        room = f"char data[{size}] = {{1}}, room[1 << 16]; char *rooms[] = {{data, room}};\n"
        source.write_text(room + text)
        library = place.compile(source).library
        question = "__import__('relib._native')._native.Library(fast.__file__).segments"
        assert evaluate(library, f"[flags for _, _, flags in {question}]") == "['r-x', 'rw-']"


def test_atomics_hold_between_threads(place: Workplace) -> None:
    main = place.write("fast.c", ATOMICS)
    library = place.compile(main, extra_compile_args=("-pthread",)).library
    assert evaluate(library, "fast.check()") == "None"


@pytest.mark.parametrize(
    "text",
    [
        "atomic_int x; int f(void) { x += 1; return 0; }",
        "atomic_int x; int f(void) { return x++; }",
        "atomic_int x; int f(void) { return x; }",
        "int f(int *x) { return atomic_load(x); }",
        "_Atomic(double) x; void f(void) { atomic_store(&x, 1.5); }",
        "_Atomic(const double) x; double f(void) { return atomic_load(&x); }",
        "_Atomic(long double) x; void f(void) { atomic_store(&x, 1.5); }",
        "_Atomic(int *) x; void f(void) { atomic_fetch_add(&x, 1); }",
        "atomic_int x; int f(long *e) { return atomic_compare_exchange_strong(&x, e, 1); }",
        "struct s { char a[3]; }; _Atomic(struct s) x; struct s f(void) {"
        " return atomic_load(&x); }",
        "_Atomic int x;",
    ],
)
def test_atomics_that_would_not_be_atomic_are_refused(place: Workplace, text: str) -> None:
    with pytest.raises(BuildError):
        place.compile(place.write("fast.c", f"#include <stdatomic.h>\n{text}\n"))


ATOMICS = r"""
    #include <Python.h>
    #include <pthread.h>
    #include <stdatomic.h>
    #include <stdint.h>

    enum { THREADS = 4, LOOPS = 50000, ALL = THREADS * LOOPS };

    static atomic_schar one;
    static _Atomic(uint16_t) two;
    static atomic_int four, swapped, flipped, joined;
    static atomic_llong eight;
    static atomic_ulong masked;
    static atomic_long token, passed;
    static atomic_flag lock = ATOMIC_FLAG_INIT;
    static long guarded;

    static void *work(void *number) {
        int me = (int)(long)number;
        for (int i = 0; i < LOOPS; i++) {
            int seen = atomic_load(&swapped);
            atomic_fetch_add(&one, 1);
            atomic_fetch_add_explicit(&two, 1, memory_order_relaxed);
            atomic_fetch_sub(&four, 1u);
            atomic_fetch_sub(&eight, 1u);
            while (!atomic_compare_exchange_weak(&swapped, &seen, seen + 1))
                ;
            atomic_fetch_xor(&flipped, 1 << me);
            atomic_fetch_add(&passed, atomic_exchange(&token, 1));
            while (atomic_flag_test_and_set(&lock))
                ;
            guarded++;
            atomic_flag_clear(&lock);
        }
        atomic_fetch_or(&joined, 1 << me);
        atomic_fetch_and(&masked, ~(1UL << (me + 40)));
        return NULL;
    }

    #define CHECK(x) \
        if (!(x)) return PyErr_Format(PyExc_AssertionError, "line %d: %s", __LINE__, #x)

    static PyObject *check(PyObject *self, PyObject *ignored) {
        pthread_t threads[THREADS];
        atomic_store(&masked, ~0UL);
        for (long i = 0; i < THREADS; i++)
            CHECK(pthread_create(&threads[i], NULL, work, (void *)i) == 0);
        for (int i = 0; i < THREADS; i++)
            pthread_join(threads[i], NULL);
        CHECK(atomic_load(&one) == (signed char)ALL);
        CHECK(atomic_load(&two) == (uint16_t)ALL);
        CHECK(atomic_load(&four) == -ALL);
        CHECK(atomic_load_explicit(&eight, memory_order_acquire) == -(long long)ALL);
        CHECK(atomic_load(&swapped) == ALL);
        CHECK(atomic_load(&flipped) == 0);
        CHECK(atomic_load(&passed) == ALL - 1);
        CHECK(guarded == ALL);
        CHECK(atomic_load(&joined) == (1 << THREADS) - 1);
        CHECK(atomic_load(&masked) == ~(((1UL << THREADS) - 1) << 40));

        /* one width does not touch its neighbours, and values keep their type */
        struct { uint8_t before; _Atomic(uint8_t) at; uint8_t after; } row = {1, {2}, 3};
        CHECK(sizeof row == 3);
        atomic_store(&row.at, 0xff);
        CHECK(atomic_fetch_add(&row.at, 1) == 255 && atomic_load(&row.at) == 0);
        CHECK(row.before == 1 && row.after == 3);
        atomic_bool flag = ATOMIC_VAR_INIT(0);
        atomic_store(&flag, 256);
        CHECK(atomic_load(&flag) == 1);
        atomic_store_explicit(&one, -5, memory_order_release);
        CHECK(atomic_fetch_add(&one, -3) == -5 && atomic_load(&one) == -8);
        const atomic_llong *constant = &eight;
        atomic_store(&eight, 0x123456789abcdefLL);
        CHECK(atomic_load(constant) == 0x123456789abcdefLL);
        int target;
        _Atomic(void *) pointer = {NULL};
        void *wanted = NULL;
        CHECK(atomic_compare_exchange_strong(&pointer, &wanted, (void *)&target));
        CHECK(!atomic_compare_exchange_strong(&pointer, &wanted, NULL) && wanted == &target);
        CHECK(atomic_exchange(&pointer, NULL) == &target && atomic_load(&pointer) == NULL);
        atomic_thread_fence(memory_order_seq_cst);
        Py_RETURN_NONE;
    }
    static PyMethodDef methods[] = {{"check", check, METH_NOARGS, ""}, {0}};
    static PyModuleDef_Slot slots[] = {{0}};
    static PyModuleDef module = {PyModuleDef_HEAD_INIT, "fast", "", 0, methods, slots};
    PyMODINIT_FUNC PyInit_fast(void) { return PyModuleDef_Init(&module); }
"""


def test_headers_in_the_environment_s_directories_are_dependencies(
    place: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    header = place.write("elsewhere/value.h", "#define VALUE 42\n")
    monkeypatch.setenv("C_INCLUDE_PATH", str(header.parent))
    main = module(place, "VALUE")
    main.write_text("#include <value.h>\n" + main.read_text())
    compiled = place.compile(main)
    assert evaluate(compiled.library, "fast.answer()") == "42"
    assert header in compiled.dependencies
