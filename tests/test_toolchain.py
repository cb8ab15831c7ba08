"""Which compiler is found, what it is told, and what becomes of it when there is none."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from compilations import (
    MODULE_C,
    Workplace,
    compile_words,
    forget_environment,
    in_order,
    link_words,
)
from compilers import needs

from relib.building.toolchain import find_toolchain
from relib.errors import CompilerMissing, ConfigError


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workplace:
    forget_environment(monkeypatch)
    return Workplace(tmp_path, {})


def test_without_settings_it_is_the_compiler_and_the_flags_of_python(place: Workplace) -> None:
    toolchain = place.toolchain()
    assert " ".join(toolchain.command) == sysconfig.get_config_var("CC")
    assert in_order(list(toolchain.cflags), *sysconfig.get_config_var("CFLAGS").split())
    assert sysconfig.get_config_var("CCSHARED") in toolchain.cflags
    assert "-shared" in toolchain.ldflags


def test_the_environment_is_honoured_and_settings_win(
    place: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CC", "gcc -m64 '-DQUOTED=a b'")
    monkeypatch.setenv("CFLAGS", "-O1 -DFROM_CFLAGS")
    monkeypatch.setenv("CPPFLAGS", "-DFROM_CPPFLAGS")
    monkeypatch.setenv("LDFLAGS", "-L/from-ldflags")
    toolchain = place.toolchain()
    assert toolchain.command == ("gcc", "-m64", "-DQUOTED=a b")
    assert in_order(list(toolchain.cflags), "-O1", "-DFROM_CFLAGS", "-DFROM_CPPFLAGS")
    assert in_order(list(toolchain.ldflags), "-shared", "-L/from-ldflags", "-O1")

    place.options = {"cc": "gcc", "cflags": "-O0", "ldflags": ""}
    toolchain = place.toolchain()
    assert toolchain.command == ("gcc",)
    assert "-DFROM_CFLAGS" not in toolchain.cflags
    assert "-L/from-ldflags" not in toolchain.ldflags
    assert in_order(list(toolchain.cflags), "-O0", "-DFROM_CPPFLAGS")


def test_another_environment_can_be_given(place: Workplace) -> None:
    environ = {"PATH": os.environ["PATH"], "CC": "gcc -DHERE"}
    assert find_toolchain("c", place.config, environ).command == ("gcc", "-DHERE")


def test_ldshared_replaces_what_links(place: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LDSHARED", "gcc -shared -pthread")
    toolchain = place.toolchain()
    assert link_words(toolchain)[:3] == ["gcc", "-shared", "-pthread"]


def test_cxx_compiles_and_links_cplusplus_with_its_own_flags(
    place: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXX", "g++ -DCXX")
    monkeypatch.setenv("CFLAGS", "-DFROM_CFLAGS")
    toolchain = place.toolchain("c++")
    assert toolchain.command == ("g++", "-DCXX")
    assert "-DFROM_CFLAGS" in toolchain.cflags
    assert link_words(toolchain)[:2] == ["g++", "-DCXX"]
    monkeypatch.setenv("CXXFLAGS", "-DFROM_CXXFLAGS")
    toolchain = place.toolchain("c++")
    assert "-DFROM_CXXFLAGS" in toolchain.cflags
    assert "-DFROM_CFLAGS" not in toolchain.cflags


def test_unique_symbols_are_forbidden_where_the_compiler_knows_how(place: Workplace) -> None:
    assert "-fno-gnu-unique" in place.toolchain("c++").cflags
    assert "-fno-gnu-unique" not in place.toolchain("c").cflags


@needs("clang")
def test_clang_is_not_told_what_it_does_not_know(place: Workplace) -> None:
    place.options = {"cxx": "clang++"}
    toolchain = place.toolchain("c++")
    assert toolchain.family == "clang"
    assert "-fno-gnu-unique" not in toolchain.cflags


def test_every_field_of_the_extension_reaches_the_commands(place: Workplace) -> None:
    fields: dict[str, object] = {
        "define_macros": (("PLAIN", None), ("VALUE", '"a b"')),
        "undef_macros": ("GONE",),
        "include_dirs": ("/inc one", "/inc2"),
        "extra_compile_args": ("-Wextra",),
        "library_dirs": ("/libs",),
        "libraries": ("m",),
        "runtime_library_dirs": ("/run",),
        "extra_objects": ("/o/extra.o",),
        "extra_link_args": ("-Wl,-O1",),
    }
    toolchain = place.toolchain()
    words = compile_words(toolchain, **fields)
    assert in_order(
        words,
        *("-DPLAIN", '-DVALUE="a b"', "-UGONE", "-I/inc one", "-I/inc2"),
        *(f"-I{sysconfig.get_path('include')}", "-Wextra", "-DLAST=1", "-c", "/p/fast.c"),
        *("-o", "/w/0.o"),
    )
    words = link_words(toolchain, **fields)
    assert in_order(
        words,
        *("/w/0.o", "/o/extra.o", "-L/libs", "-Wl,-rpath,/run", "-lm", "-o", "/w/l.so"),
        *("-Wl,-O1", "-Xlinker", "--version-script=/w/e, f"),
    )


def test_a_library_with_a_directory_is_looked_up_there(place: Workplace, tmp_path: Path) -> None:
    archive = tmp_path / "libnear.a"
    archive.touch()
    words = link_words(place.toolchain(), libraries=(str(tmp_path / "near"),))
    assert str(archive) in words


def test_the_words_are_those_of_setuptools(place: Workplace, tmp_path: Path) -> None:
    """What setuptools gives a compiler, relib gives it too, in the same order."""
    record = tmp_path / "record"
    compiler = place.script("cc", f'printf "%s\\n" "$@" "" >> "{record}"\nexec gcc "$@"\n')
    place.write("fast.c", "int x;")
    place.write(
        "setup.py",
        """
        from setuptools import Extension, setup
        setup(name="x", ext_modules=[Extension(
            "pkg.fast", ["fast.c"], define_macros=[("A", None), ("B", "2")], undef_macros=["C"],
            include_dirs=["/inc"], library_dirs=["/libs"], libraries=["m"],
            runtime_library_dirs=["/run"], extra_compile_args=["-Wextra"],
            extra_link_args=["-Wl,-O1"])])
        """,
    )
    environ = {**os.environ, "CC": str(compiler), "LDFLAGS": "-L/given", "CPPFLAGS": "-DPRE"}
    subprocess.run(
        [sys.executable, "setup.py", "build_ext", "--build-lib=out", "--build-temp=tmp"],
        cwd=tmp_path,
        env=environ,
        check=True,
        capture_output=True,
    )
    compiled, linked = (call.split("\n") for call in record.read_text().split("\n\n")[:2])
    fields: dict[str, object] = {
        "define_macros": (("A", None), ("B", "2")),
        "undef_macros": ("C",),
        "include_dirs": ("/inc",),
        "library_dirs": ("/libs",),
        "libraries": ("m",),
        "runtime_library_dirs": ("/run",),
        "extra_compile_args": ("-Wextra",),
        "extra_link_args": ("-Wl,-O1",),
    }
    toolchain = find_toolchain("c", place.config, environ)

    def telling(words: list[str]) -> list[str]:
        return [word for word in words if word.startswith(("-D", "-U", "-I", "-L", "-l", "-W"))]

    def ours(words: list[str]) -> list[str]:
        return [word for word in words if not word.startswith(("-DLAST", "-Wl,-rpath,/run"))]

    assert in_order(ours(telling(compile_words(toolchain, **fields))), *telling(compiled))
    theirs = [word for word in telling(linked) if not word.startswith(("-Wl,--enable", "-Wl,-R"))]
    theirs = [word for word in theirs if word != "-Wl,-rpath,/run"]
    assert in_order(ours(telling(link_words(toolchain, **fields))), *theirs)


@pytest.mark.parametrize(
    ("real", "family"),
    [
        ("gcc", "gcc"),
        pytest.param("clang", "clang", marks=needs("clang")),
        pytest.param("tcc", "tcc", marks=needs("tcc")),
    ],
)
def test_a_wrapper_is_seen_through(place: Workplace, real: str, family: str) -> None:
    wrapper = place.script("my compiler", f'exec {real} "$@"\n')
    place.options = {"cc": f"'{wrapper}'"}
    toolchain = place.toolchain()
    assert toolchain.family == family
    assert (
        toolchain.version == find_toolchain("c", Workplace(place.root, {"cc": real}).config).version
    )


@needs("ccache")
def test_launchers_are_seen_through(place: Workplace) -> None:
    place.options = {"cc": "ccache gcc"}
    toolchain = place.toolchain()
    assert (toolchain.family, toolchain.command) == ("gcc", ("ccache", "gcc"))
    assert "cc1" in toolchain.identity
    link = place.root / "gcc"
    link.symlink_to(str(shutil.which("ccache")))
    place.options = {"cc": str(link)}
    toolchain = place.toolchain()
    assert toolchain.family == "gcc"
    assert "cc1" in toolchain.identity


def test_distcc_is_a_launcher(place: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    """It runs the compiler that is named after it, here or on another machine."""
    distcc = place.script("bin/distcc", f'echo "$@" >>"{place.root}/sent"\nexec "$@"\n')
    monkeypatch.setenv("PATH", str(distcc.parent), prepend=os.pathsep)
    monkeypatch.setenv("CC", "distcc gcc")
    toolchain = find_toolchain("c", place.config, os.environ)
    assert (toolchain.family, toolchain.command) == ("gcc", ("distcc", "gcc"))
    plain = find_toolchain("c", place.config, {**os.environ, "CC": "gcc"})
    assert toolchain.version == plain.version
    place.options = {"cc": "distcc gcc", "cflags": "-O0 -g0"}
    source = place.write("fast.c", MODULE_C.replace("ANSWER", "42"))
    compiled = place.compile(source)
    assert compiled.library.is_file()
    assert f"{source}" in (place.root / "sent").read_text()


def test_the_identity_follows_the_compiler_and_the_flags(place: Workplace) -> None:
    wrapper = place.script("cc", 'exec gcc "$@"\n')
    place.options = {"cc": str(wrapper), "cflags": "-O0"}
    first = place.toolchain().identity
    assert place.toolchain().identity == first
    place.options["cflags"] = "-O1"
    assert place.toolchain().identity != first
    place.options["cflags"] = "-O0"
    assert place.toolchain().identity == first
    place.script("cc", 'exec gcc -DMORE "$@"\n')
    assert place.toolchain().identity != first


@needs("clang")
def test_a_replaced_compiler_is_asked_again(place: Workplace) -> None:
    wrapper = place.script("cc", 'exec gcc "$@"\n')
    place.options = {"cc": str(wrapper)}
    assert place.toolchain().family == "gcc"
    place.script("cc", 'exec clang   "$@"\n')
    assert place.toolchain().family == "clang"


def test_the_identity_for_cplusplus_covers_the_c_compiler(
    place: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = place.toolchain("c++").identity
    monkeypatch.setenv("CC", "gcc -DOTHER")
    assert place.toolchain("c++").identity != first


def test_a_missing_compiler_is_named_with_the_remedy(place: Workplace) -> None:
    place.options = {"cc": "nosuchcc -O2"}
    with pytest.raises(CompilerMissing) as caught:
        place.toolchain()
    message = str(caught.value)
    assert "nosuchcc" in message
    assert "relib's setting cc" in message
    assert "CC=gcc" in message
    assert caught.value.command == ("nosuchcc", "-O2")


def test_without_any_compiler_the_message_says_what_to_install(place: Workplace) -> None:
    with pytest.raises(CompilerMissing, match="apt install"):
        find_toolchain("c", place.config, {"PATH": str(place.root), "CC": "gcc"})


def test_a_launcher_without_its_compiler_is_no_compiler(place: Workplace) -> None:
    launcher = place.script("launcher", 'exec "$@"\n')
    place.options = {"cc": f"{launcher} nosuchcc"}
    with pytest.raises(CompilerMissing, match="nosuchcc"):
        place.toolchain()


def test_unbalanced_quotes_are_an_error_of_the_configuration(
    place: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CFLAGS", "-DX='a")
    with pytest.raises(ConfigError) as caught:
        place.toolchain()
    assert caught.value.key == "cflags"
    assert "CFLAGS" in caught.value.origin


def test_an_unknown_language_is_refused(place: Workplace) -> None:
    with pytest.raises(ValueError, match="fortran"):
        place.toolchain("fortran")


@pytest.mark.parametrize(
    "arguments",
    [
        ("-Wl,--version-script=mine",),
        ("-Wl,--version-script,mine",),
        ("-Wl,-O1,--version-script=mine",),
        ("-Xlinker", "--version-script=mine"),
        ("-Xlinker", "--version-script", "-Xlinker", "mine"),
        ("-Wl,--version-script", "-Wl,mine"),
    ],
)
def test_the_users_version_script_gives_way(place: Workplace, arguments: tuple[str, ...]) -> None:
    words = link_words(place.toolchain(), extra_link_args=(*arguments, "-lm"))
    assert not any("mine" in word for word in words)
    assert sum("--version-script" in word for word in words) == 1
    assert words[-3:] == ["-lm", "-Xlinker", "--version-script=/w/e, f"]
    assert words.count("-Xlinker") == 1
