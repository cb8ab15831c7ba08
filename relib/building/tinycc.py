"""What tcc needs to be told, must not be told, and cannot be trusted with.

tcc translates in milliseconds, but it knows few of gcc's options, drops in silence what it does not
implement, and has no C11 atomics, which Python.h wants from CPython 3.13 on. It must refuse rather
than miscompile, so whatever could change what a program does is an error here, and what merely
makes it faster, smaller or better checked is left out.
"""

from __future__ import annotations

import functools
import os
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from relib.errors import BuildError

__all__ = [
    "HEADERS",
    "WEIGHTY_ATTRIBUTES",
    "added_compile_flags",
    "added_link_flags",
    "compile_flags",
    "compile_flags_of_python",
    "judge",
    "link_flags",
    "link_flags_of_python",
    "listed_directories",
]

HEADERS = Path(__file__).parent / "tcc"

_WITH_VALUE = ("-D", "-U", "-I", "-L", "-l")
_WITH_SEPARATE_VALUE = {
    *("-include", "-isystem", "-iquote", "-idirafter", "-x", "-Xlinker", "-u", "-T", "-z"),
    *("-MF", "-MT", "-MQ", "--param", "-arch", "-imacros", "-Xpreprocessor", "-Xassembler"),
}

# Options that make no difference to what the code does, only to how well: tcc can do without.
_HARMLESS = re.compile(
    r"""
    -O.* | -g.* | -W(?![lpa],).* | -w | -pedantic.* | -pipe | -s | -v
    | -save-temps.* | -M(?:M?D|P|F|T|Q) | --param.* | -static-lib(?:gcc|stdc\+\+)
    | -f(?!
        # more threads, other layouts or calls, checks that must stop the program, other constants
        openmp | openacc | short-enums | short-wchar | pack-struct | reg-struct-return
        | pcc-struct-return | sanitize | instrument-functions | profile | coverage | test-coverage
        | gnu-tm | cilkplus | trapv | exceptions | non-call-exceptions | split-stack | plugin
        | single-precision-constant | (?:wide-)?exec-charset | input-charset | blocks
        | leading-underscore | unsigned-char | no-signed-char | unsigned-bitfields
        | no-signed-bitfields ).*
    | -m(?!
        32$ | x32$ | 16$ | abi= | regparm | long-double | 96bit-long-double | 128bit-long-double
        | ms-bitfields | no-sse$ | soft-float | no-red-zone ).*
    """,
    re.VERBOSE,
)
_UNDERSTOOD = re.compile(
    r"-(?:nostdinc|rdynamic|funsigned-char|fsigned-char|fno-signed-char|fno-unsigned-char"
    r"|mms-bitfields)"
)
# What tests of the standard see. tcc compiles one language, whatever it is told.
_STANDARDS = {
    **dict.fromkeys(("89", "90", "9899:1990", "9899:199409"), "0"),
    **dict.fromkeys(("99", "9x", "9899:1999", "9899:199x"), "199901L"),
    **dict.fromkeys(("11", "1x", "9899:2011"), "201112L"),
    **dict.fromkeys(("17", "18", "9899:2017", "9899:2018"), "201710L"),
}
# Of the linker's options the same: how the library is laid out and checked.
_HARMLESS_LINK = re.compile(
    r"""
    -O.* | --?(?:no-)?as-needed | --?(?:no-)?gc-sections | --?build-id.* | --?hash-style.*
    | --?sort-common.* | --?no-undefined | --?disable-new-dtags | --?(?:push|pop)-state
    | -Bsymbolic.* | --?strip-.* | -[sS] | --?version-script.* | --?exclude-libs.* | --?warn-.*
    | --?no-copy-dt-needed-entries | --?compress-debug-sections.* | --?package-metadata.*
    | -z(?:,?(?:relro|now|noexecstack|defs|separate-code|noseparate-code|pack-relative-relocs))?
    """,
    re.VERBOSE,
)
_UNDERSTOOD_LINK = re.compile(
    r"--?(?:rpath[=,].*|soname[=,].*|enable-new-dtags|export-dynamic|(?:no-)?whole-archive)"
)

# tcc only warns about these, and goes on as if they were not there.
_IGNORED_ATTRIBUTE = re.compile(r"warning: '(_*)(\w+?)\1' attribute ignored")
WEIGHTY_ATTRIBUTES = {
    *("vector_size", "ext_vector_type", "constructor", "destructor", "init_priority", "ifunc"),
    *("weakref", "symver", "transparent_union", "scalar_storage_order", "ms_struct", "gcc_struct"),
    *("ms_abi", "sysv_abi", "vectorcall", "thiscall", "naked", "tls_model", "cleanup", "packed"),
    *("aligned", "mode", "alias", "weak", "target_clones", "may_throw", "interrupt"),
}
"""Attributes that change what code does. tcc knows some of them, others only in some places."""

_IGNORED_PRAGMA = re.compile(
    r"warning: #pragma (scalar_storage_order|weak|redefine_extname) (?:is )?ignored"
)
_UNKNOWN_MODE = "warning: __mode__("
_IGNORED_OPENMP = re.compile(r"warning: #pragma omp (?:is )?ignored")
# gcc 14 refuses this too: the result of an unknown function is taken for an int.
_IMPLICIT = "warning: implicit declaration of function "
_IDLE = re.compile(
    r"warning: (?:'\w+' attribute ignored|#pragma \w+ (?:is )?ignored|unsupported option )"
)


def added_compile_flags() -> list[str]:
    """What every C file is compiled with, before the project's own flags."""
    flags = [
        "-std=c11",
        "-Wall",
        "-Wunsupported",
        "-Wimplicit-function-declaration",
        "-include",
        str(HEADERS / "prelude.h"),
        f"-I{HEADERS}",
        # One interpreter, one GIL: a Cython module's state need not be looked up under a lock.
        "-DCYTHON_MODULE_STATE_LOOKUP_THREAD_SAFE=0",
    ]
    if sys.version_info >= (3, 15):
        # Include/pyport.h stops where the compiler has no thread-local variables, though nothing in
        # the public headers uses one (outside of Py_STATS builds). Whoever does gets an error.
        flags.append("-Dthread_local=tcc_has_no_thread_local")
    return flags


def listed_directories() -> list[str]:
    """The directories that come after the project's own, and may well have other headers later.

    tcc lists no header in its depfile that it finds in a directory of the system's, and takes these
    for such.
    """
    places = [*os.environ.get("C_INCLUDE_PATH", "").split(os.pathsep), "/usr/local/include"]
    return [f"-I{place}" for place in places if place and Path(place).is_dir()]


def added_link_flags() -> list[str]:
    """What every library is linked with.

    tcc knows no version scripts and exports everything; -Bsymbolic keeps a library's references to
    its own symbols from being bound to namesakes in the program.
    """
    return ["-Wl,-Bsymbolic"]


def compile_flags_of_python(flags: Iterable[str]) -> list[str]:
    """What holds for tcc of the flags that Python was built with, by another compiler."""
    return _only(flags, ("-D", "-U", "-I"))


def link_flags_of_python(flags: Iterable[str]) -> list[str]:
    """The same for the linker's flags."""
    return ["-shared", *link_flags(_only(flags, ("-L", "-l", "-Wl,-rpath")), name="Python")]


def _only(flags: Iterable[str], options: tuple[str, ...]) -> list[str]:
    return [
        flag if value is None else option + value
        for option, value, flag in _options(flags)
        if option.startswith(options) and not (value or "").startswith("_FORTIFY_SOURCE")
    ]


def compile_flags(flags: Iterable[str], *, name: str) -> list[str]:
    """The project's compiler flags in tcc's terms.

    >>> compile_flags(["-O3", "-D", "N=1", "-isystem", "/inc", "-fwrapv"], name="fast")
    ['-DN=1', '-I/inc']

    Raises:
        BuildError: tcc cannot do what a flag asks for.
    """
    kept: list[str] = []
    last: list[str] = []
    for option, value, flag in _options(flags):
        if flag.startswith("-Wp,"):
            kept += compile_flags(flag.split(",")[1:], name=name)
        elif option in ("-D", "-U", "-I") and value is not None:
            if not value.startswith("_FORTIFY_SOURCE"):  # it wants an optimiser
                kept.append(option + value)
        elif option in ("-isystem", "-iquote", "-idirafter") and value is not None:
            # as -I, since tcc lists what it finds in system directories in no depfile
            (kept if option == "-iquote" else last).append(f"-I{value}")
        elif option == "-include" and value is not None:
            kept += [option, value]
        elif option == "-x" and value == "c":
            pass
        elif option == "-pthread":
            kept.append("-D_REENTRANT")
        elif _UNDERSTOOD.fullmatch(flag):
            kept.append(flag)
        elif option == "-ansi" or option.startswith("-std="):
            kept += _standard("-std=c89" if option == "-ansi" else option, name)
        elif option.startswith(("-L", "-l", "-Wl,", "-Xlinker")) or _HARMLESS.fullmatch(option):
            pass
        else:
            raise _refused(flag if value is None or flag != option else f"{flag} {value}", name)
    return kept + last


def link_flags(flags: Iterable[str], *, name: str) -> list[str]:
    """The project's linker flags in tcc's terms.

    >>> link_flags(["-Lx", "-Wl,-rpath,/x,-z,relro", "-g", "-pthread"], name="fast")
    ['-Lx', '-Wl,-rpath=/x', '-lpthread']

    Raises:
        BuildError: tcc cannot do what a flag asks for.
    """
    kept: list[str] = []
    linker: list[str] = []
    for option, value, flag in _options(flags):
        if flag.startswith("-Wl,"):
            linker += flag.split(",")[1:]
        elif option == "-Xlinker" and value is not None:
            linker.append(value)
        elif option == "-z" and value is not None:
            linker += [option, value]
        elif option in ("-L", "-l") and value is not None:
            kept.append(option + value)
        elif option == "-pthread":
            kept.append("-lpthread")
        elif option in ("-shared", "-rdynamic") or not option.startswith(("-", "@")):
            kept.append(flag)
        elif option in ("-D", "-U", "-I", "-include", "-isystem", "-iquote", "-idirafter"):
            pass  # CFLAGS are given to the linker too
        elif not (
            _UNDERSTOOD.fullmatch(flag)
            or _HARMLESS.fullmatch(option)
            or option.startswith(("-std=", "-ansi"))
        ):
            raise _refused(flag if value is None or flag != option else f"{flag} {value}", name)
        linker = _linker_options(linker, kept, name)
    if linker:
        raise _refused("-Wl," + ",".join(linker), name)
    return kept


def _linker_options(words: list[str], kept: list[str], name: str) -> list[str]:
    """Take the linker's options from `words` into `kept`; what is still without its value stays."""
    while words:
        word = words[0]
        if re.fullmatch(r"--?(?:rpath|soname|version-script|hash-style|exclude-libs)|-[zR]", word):
            if len(words) < 2:
                return words
            option = "-rpath" if word == "-R" else word
            word = f"{option}{',' if option == '-z' else '='}{words[1]}"
            del words[1]
        del words[0]
        if _UNDERSTOOD_LINK.fullmatch(word):
            kept.append(f"-Wl,{word.replace('--', '-', 1) if word.startswith('--') else word}")
        elif not _HARMLESS_LINK.fullmatch(word):
            raise _refused(f"-Wl,{word}", name)
    return []


def _standard(flag: str, name: str) -> list[str]:
    """The macros that tell a program its standard: a strict one has no extensions.

    >>> _standard("-std=c99", "fast"), _standard("-std=gnu17", "fast")
    (['-DRELIB_STDC_VERSION=199901L', '-D__STRICT_ANSI__=1'], ['-DRELIB_STDC_VERSION=201710L'])
    """
    found = re.fullmatch(r"-std=(gnu|c|iso)(.*)", flag)
    version = _STANDARDS.get(found[2]) if found else None
    if found is None or version is None:
        raise _refused(flag, name)
    macros = [f"-DRELIB_STDC_VERSION={version}"]
    return macros if found[1] == "gnu" else [*macros, "-D__STRICT_ANSI__=1"]


def _options(flags: Iterable[str]) -> Iterator[tuple[str, str | None, str]]:
    """Each option with its value, and the word that it began with."""
    words = iter(flags)
    for word in words:
        joined = next((o for o in _WITH_VALUE if word.startswith(o) and word != o), None)
        if joined is not None:
            yield joined, word[len(joined) :], word
        elif word in _WITH_VALUE or word in _WITH_SEPARATE_VALUE:
            yield word, next(words, ""), word
        else:
            yield word, None, word


def _refused(flag: str, name: str) -> BuildError:
    what = "tcc has no OpenMP" if "openmp" in flag else "tcc cannot do what it asks for"
    return BuildError(
        f"{name} is built with {flag}: {what}. Leave the flag out, or build with gcc or clang "
        "(set CC=gcc).",
        name=name,
    )


def judge(output: str) -> tuple[str, bool]:
    """Make errors of the warnings that mean other code than was written, and drop the idle ones.

    >>> judge("a.c:1: warning: 'cold' attribute ignored")
    ('', False)
    >>> judge("a.c:2: warning: 'vector_size' attribute ignored")
    ("a.c:2: error: tcc ignores the attribute 'vector_size': build with gcc or clang", True)

    Returns:
        The compiler's messages, and whether there are such errors among them.
    """
    kept: list[str] = []
    inclusions: list[str] = []
    refused = False
    for line in output.splitlines():
        if line.startswith("In file included from "):
            inclusions.append(line)  # they belong to the message that follows
            continue
        place, warning, message = line.partition("warning: ")
        reason, idle = _verdict(warning + message) if warning else (None, False)
        if reason is not None:
            kept += [*inclusions, f"{place}error: {reason or message}"]
            refused = True
        elif not idle:
            kept += [*inclusions, line]
        inclusions = []
    return "\n".join(kept), refused


@functools.lru_cache(maxsize=1024)
def _verdict(warning: str) -> tuple[str | None, bool]:
    # remembered, as Python's own headers bring a hundred of these in every build
    return _weighty(warning), _IDLE.search(warning) is not None


def _weighty(line: str) -> str | None:
    """Why a warning must be an error, in our words or (empty) in tcc's; None if it need not."""
    ignored = _IGNORED_ATTRIBUTE.search(line)
    if ignored is not None and ignored[2] in WEIGHTY_ATTRIBUTES:
        return f"tcc ignores the attribute '{ignored[2]}': build with gcc or clang"
    if _IGNORED_OPENMP.search(line):
        return "tcc ignores OpenMP: build with gcc or clang"
    pragma = _IGNORED_PRAGMA.search(line)
    if pragma is not None:
        return f"tcc ignores #pragma {pragma[1]}: build with gcc or clang"
    return "" if _IMPLICIT in line or _UNKNOWN_MODE in line else None
