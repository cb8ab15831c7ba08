"""The settings: where each may be given, which wins, and what is said of a wrong one."""

from __future__ import annotations

import dataclasses
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
from building_project import environ_with_relib

from relib.config import SETTINGS, Config, find_root, load_config
from relib.errors import ConfigError, ProjectError


def write_pyproject(root: Path, text: str) -> Path:
    path = root / "pyproject.toml"
    path.write_text(text)
    return path


def config_error(
    root: Path, environ: dict[str, str] | None = None, **options: object
) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        load_config(root, environ or {}, **options)
    return caught.value


def test_defaults(tmp_path: Path) -> None:
    config = load_config(tmp_path, {})
    assert config.root == tmp_path
    assert config.store == tmp_path / ".relib"
    assert config.store_max_bytes == 2**30
    assert config.store_max_age == 30
    assert (config.cc, config.cxx, config.cflags, config.cppflags, config.ldflags) == (None,) * 5
    assert (config.compile_timeout, config.unload_timeout, config.history) == (600, 10, 20)
    assert config.jobs == len(os.sched_getaffinity(0))
    assert config.directives == ()


def test_every_setting_is_a_field_of_config_and_described() -> None:
    fields = {field.name for field in dataclasses.fields(Config)} - {"root"}
    assert [setting.field for setting in SETTINGS] == [
        field.name for field in dataclasses.fields(Config) if field.name in fields
    ]
    assert {setting.field for setting in SETTINGS} == fields
    for setting in SETTINGS:
        assert setting.description.endswith(".")
        assert setting.default_text
        assert setting.option == "--" + setting.key


def test_options_win_over_environment_over_pyproject_over_defaults(tmp_path: Path) -> None:
    write_pyproject(
        tmp_path, "[tool.relib]\njobs = 2\nhistory = 2\nunload-timeout = 2\nstore_max_size = '2k'\n"
    )
    environ = {"RELIB_JOBS": "3", "RELIB_HISTORY": "3", "RELIB_UNLOAD_TIMEOUT": "3"}
    config = load_config(tmp_path, environ, jobs=4, history=4, unload_timeout=None)
    assert (config.jobs, config.history) == (4, 4)
    assert config.unload_timeout == 3
    assert config.store_max_bytes == 2000
    assert config.compile_timeout == 600


EXAMPLES: dict[str, tuple[str, str, object, object]] = {
    # key: (in TOML, in the environment, as an option, the field's value)
    "store": ("'builds'", "builds", Path("builds"), None),
    "store-max-size": ("'1.5 GiB'", "1.5GiB", 1610612736, 1610612736),
    "store-max-age": ("0.5", "12h", 0.5, 0.5),
    "cc": ("['ccache', 'gcc']", "ccache gcc", "ccache gcc", "ccache gcc"),
    "cxx": ("'g++'", "g++", ["g++"], "g++"),
    "cflags": ("'-O0 -g0'", "-O0 -g0", ["-O0", "-g0"], "-O0 -g0"),
    "cppflags": ("'-DX'", "-DX", "-DX", "-DX"),
    "ldflags": ("['-s', '-lm']", "-s -lm", "-s -lm", "-s -lm"),
    "compile-timeout": ("90", "90s", 90, 90.0),
    "unload-timeout": ("0.25", "250ms", "250 ms", 0.25),
    "history": ("5", "5", 5, 5),
    "jobs": ("5", " 5 ", "5", 5),
    "directives": (
        "{boundscheck = false, optimize.use_switch = true, language_level = 3}",
        "boundscheck=False, optimize.use_switch=true,language_level=3",
        {"boundscheck": False, "optimize.use_switch": True, "language_level": 3},
        (("boundscheck", False), ("optimize.use_switch", True), ("language_level", 3)),
    ),
    "tier": ("'instant'", "instant", " instant", "instant"),
    "events": ("'watchdog'", "watchdog", " watchdog", "watchdog"),
}


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.key)
def test_a_setting_can_be_given_in_each_place(tmp_path: Path, setting: object) -> None:
    key = setting.key  # type: ignore[attr-defined]
    field = setting.field  # type: ignore[attr-defined]
    in_toml, in_environ, as_option, expected = EXAMPLES[key]
    if key == "store":
        expected = tmp_path / "builds"
    for spelling in (key, key.replace("-", "_")):
        write_pyproject(tmp_path, f"[tool.relib]\n{spelling} = {in_toml}\n")
        assert getattr(load_config(tmp_path, {}), field) == expected
    (tmp_path / "pyproject.toml").unlink()
    variable = "RELIB_" + key.upper().replace("-", "_")
    assert getattr(load_config(tmp_path, {variable: in_environ}), field) == expected
    for name in {key.replace("-", "_"), field}:
        assert getattr(load_config(tmp_path, {}, **{name: as_option}), field) == expected


def test_directives_as_json_in_the_environment(tmp_path: Path) -> None:
    text = '{"boundscheck": false, "warn": {"unused": true}}'
    config = load_config(tmp_path, {"RELIB_DIRECTIVES": text})
    assert config.directives == (("boundscheck", False), ("warn.unused", True))


def test_an_empty_variable_is_not_set_except_for_flags(tmp_path: Path) -> None:
    write_pyproject(tmp_path, "[tool.relib]\ncc = 'clang'\ncflags = '-O3'\njobs = 7\n")
    environ = {"RELIB_CC": "", "RELIB_CFLAGS": "", "RELIB_JOBS": ""}
    config = load_config(tmp_path, environ)
    assert (config.cc, config.cflags, config.jobs) == ("clang", "", 7)


def test_the_process_environment_is_read_by_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RELIB_JOBS", "9")
    assert load_config(tmp_path).jobs == 9


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("jobs", "0"),
        ("jobs", "true"),
        ("jobs", "'two'"),
        ("jobs", "[1]"),
        ("jobs", "1.5"),
        ("history", "-1"),
        ("store-max-size", "-5"),
        ("store-max-size", "'-5MB'"),
        ("store-max-size", "'5 apples'"),
        ("store-max-size", "2.5"),
        ("store-max-age", "-1"),
        ("store-max-age", "nan"),
        ("store-max-age", "'3 moons'"),
        ("compile-timeout", "0"),
        ("compile-timeout", "inf"),
        ("unload-timeout", "'soon'"),
        ("unload-timeout", "false"),
        ("cc", "''"),
        ("cc", "3"),
        ("cflags", "'-DX=\"a'"),
        ("cflags", "[1]"),
        ("store", "''"),
        ("store", "3"),
        ("directives", "'boundscheck'"),
        ("directives", "3"),
        ("directives", "'{\"a\"'"),
    ],
)
def test_a_wrong_value_is_refused_with_its_file_and_key(
    tmp_path: Path, key: str, value: str
) -> None:
    path = write_pyproject(tmp_path, f"[tool.relib]\n{key} = {value}\n")
    error = config_error(tmp_path)
    assert str(error).startswith(f"{path}: [tool.relib] {key}: must be ")
    assert (error.key, error.origin) == (key, str(path))


def test_a_wrong_variable_is_refused_by_its_name(tmp_path: Path) -> None:
    error = config_error(tmp_path, {"RELIB_STORE_MAX_SIZE": "-1"})
    assert str(error) == (
        "environment variable RELIB_STORE_MAX_SIZE: must be a size that is not negative: bytes, "
        "or such as '500MB' or '2GiB', not '-1'"
    )
    assert (error.key, error.origin) == ("store-max-size", "RELIB_STORE_MAX_SIZE")


def test_a_wrong_option_is_refused_by_its_name(tmp_path: Path) -> None:
    error = config_error(tmp_path, jobs=-1)
    assert str(error) == "option jobs: must be a whole number, 1 or more, not -1"
    assert (error.key, error.origin) == ("jobs", "option jobs")


def test_an_unknown_key_is_refused_with_the_one_that_was_meant(tmp_path: Path) -> None:
    path = write_pyproject(tmp_path, "[tool.relib]\ncomplie-timeout = 3\n")
    error = config_error(tmp_path)
    assert str(error) == (
        f"{path}: [tool.relib] complie-timeout: there is no such setting; "
        "did you mean 'compile-timeout'?"
    )
    # the field of Config is no key
    write_pyproject(tmp_path, "[tool.relib]\nstore-max-bytes = 3\n")
    assert "it is called 'store-max-size'" in str(config_error(tmp_path))


def test_an_unknown_variable_or_option_is_refused(tmp_path: Path) -> None:
    error = config_error(tmp_path, {"RELIB_STOER": "x"})
    assert "RELIB_STOER" in str(error)
    assert "did you mean 'RELIB_STORE'?" in str(error)
    assert error.origin == "RELIB_STOER"
    assert "did you mean 'cflags'?" in str(config_error(tmp_path, cflag="x"))
    # what relib's own processes tell each other is no setting
    load_config(tmp_path, {"RELIB__WORKER": "1", "RELIBX": "1"})


def test_the_extensions_table_is_no_setting(tmp_path: Path) -> None:
    write_pyproject(tmp_path, "[tool.relib.extensions]\nfast = 'fast.pyx'\n")
    load_config(tmp_path, {})
    config_error(tmp_path, {"RELIB_EXTENSIONS": "x"})


def test_a_pyproject_that_is_no_toml_is_reported_with_its_line(tmp_path: Path) -> None:
    path = write_pyproject(tmp_path, "[tool.relib]\njobs = 2\nhistory = = 3\n")
    with pytest.raises(ProjectError) as caught:
        load_config(tmp_path, {})
    assert caught.value.path == path
    assert caught.value.line == 3
    assert str(caught.value).startswith(f"{path}:3:")


def test_a_pyproject_that_ends_too_soon_is_reported(tmp_path: Path) -> None:
    path = write_pyproject(tmp_path, "[tool.relib]\ncc = 'gcc")
    with pytest.raises(ProjectError, match="is not valid TOML") as caught:
        load_config(tmp_path, {})
    assert caught.value.path == path
    assert caught.value.line == 2


def test_a_pyproject_that_is_not_utf8_is_reported_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "pyproject.toml"
    path.write_bytes(b"[tool.relib]\n# caf\xe9\n")
    with pytest.raises(ProjectError, match="is not UTF-8") as caught:
        load_config(tmp_path, {})
    assert caught.value.line == 2


@pytest.mark.parametrize("text", ["tool = 3", "[tool]\nrelib = 3"])
def test_a_tool_that_is_no_table_is_reported(tmp_path: Path, text: str) -> None:
    path = write_pyproject(tmp_path, text)
    with pytest.raises(ProjectError, match="must be a table, not 3") as caught:
        load_config(tmp_path, {})
    assert caught.value.path == path


def test_a_pyproject_that_is_a_directory_is_reported(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").mkdir()
    with pytest.raises(ProjectError, match="cannot be read"):
        load_config(tmp_path, {})


def test_a_changed_pyproject_is_read_again(tmp_path: Path) -> None:
    for jobs in (1, 2):
        write_pyproject(tmp_path, f"[tool.relib]\njobs = {jobs}\n")
        assert load_config(tmp_path, {}).jobs == jobs


def test_the_store_is_relative_to_the_root_and_knows_the_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir("/")
    monkeypatch.setenv("HOME", "/home/someone")
    assert load_config(tmp_path, {"RELIB_STORE": "a/../b"}).store == tmp_path / "b"
    assert load_config(tmp_path, {"RELIB_STORE": "/a"}).store == Path("/a")
    assert load_config(tmp_path, {"RELIB_STORE": "~/b"}).store == Path("/home/someone/b")
    config_error(tmp_path, {"RELIB_STORE": "~no-such-user-here/b"})


def test_a_relative_root_becomes_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").mkdir()
    monkeypatch.chdir(tmp_path)
    assert load_config(Path("a"), {}).root == tmp_path / "a"
    assert load_config(Path("a"), {}).store == tmp_path / "a" / ".relib"


def test_the_store_of_a_root_that_is_not_writable_is_in_the_users_cache() -> None:
    root = Path("/proc/self")  # not writable for anyone
    in_cache = load_config(root, {"XDG_CACHE_HOME": "/cache", "HOME": "/home/x"}).store
    assert in_cache.parent == Path("/cache/relib")
    at_home = load_config(root, {"XDG_CACHE_HOME": "relative", "HOME": "/home/x"}).store
    assert at_home.parent == Path("/home/x/.cache/relib")
    assert at_home.name == in_cache.name
    assert load_config(Path("/proc/1"), {"HOME": "/home/x"}).store != at_home
    assert load_config(root, {"RELIB_STORE": "/a"}).store == Path("/a")
    # without a home in the environment, the user's
    assert load_config(root, {}).store.is_absolute()


def test_an_age_may_be_endless(tmp_path: Path) -> None:
    assert load_config(tmp_path, {"RELIB_STORE_MAX_AGE": "inf"}).store_max_age == math.inf


def test_the_root_is_the_nearest_directory_with_a_project_file(tmp_path: Path) -> None:
    package = tmp_path / "outer" / "inner" / "src" / "pkg"
    package.mkdir(parents=True)
    source = package / "fast.pyx"
    source.touch()
    (tmp_path / "outer" / "setup.py").touch()
    assert find_root(source) == tmp_path / "outer"
    write_pyproject(tmp_path / "outer" / "inner", "")
    assert find_root(source) == tmp_path / "outer" / "inner"
    assert find_root(package) == tmp_path / "outer" / "inner"
    # a directory of that name is no project file
    (package / "setup.py").mkdir()
    assert find_root(source) == tmp_path / "outer" / "inner"


def test_without_a_project_file_the_root_is_above_the_topmost_package(tmp_path: Path) -> None:
    package = tmp_path / "top" / "sub"
    package.mkdir(parents=True)
    (tmp_path / "top" / "__init__.py").touch()
    (package / "__init__.py").touch()
    assert find_root(package / "fast.pyx") == tmp_path
    alone = tmp_path / "alone"
    alone.mkdir()
    assert find_root(alone / "fast.pyx") == alone


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_project_file_of_another_user_is_not_believed(tmp_path: Path) -> None:
    work = tmp_path / "work"
    work.mkdir()
    source = work / "fast.pyx"
    source.touch()
    script = tmp_path / "setup.py"
    script.touch()
    os.chown(script, 12345, 12345)
    assert find_root(source) == work
    # it is when the source is that user's too: to load it means to trust them
    os.chown(source, 12345, 12345)
    assert find_root(source) == tmp_path


def test_reading_the_configuration_imports_nothing_heavy() -> None:
    code = (
        "import sys; import relib.config, relib.project; relib.config.load_config('/nowhere');"
        "print([m for m in ('Cython', 'setuptools', 'numpy', 'watchdog', 'rich', 'click')"
        " if m in sys.modules])"
    )
    out = subprocess.run(
        [sys.executable, "-P", "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env=environ_with_relib(),
    )
    assert out.stdout.strip() == "[]"
