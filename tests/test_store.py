"""The store: private, whole, bounded, and never pulled away from under a process."""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent

import pytest
from building_project import Project, environ_with_relib, said, start_python, tell

from relib.building import locks
from relib.building.builder import Build
from relib.building.store import Store
from relib.errors import BuildError, BuildGone, StoreRefused

ROOT = os.geteuid() == 0
NOBODY = 65534


@pytest.fixture
def project(tmp_path: Path) -> Project:
    project = Project(tmp_path / "project")
    project.write_c("fast", 1)
    return project


def stored(project: Project) -> set[str]:
    """The unique names of the builds in the store."""
    return {path.stem for path in (project.config.store / "builds").glob("*/*.so")}


# --- private -------------------------------------------------------------------------------------


def test_it_is_private_and_ignored_by_git(project: Project) -> None:
    old = os.umask(0)
    try:
        build = project.build("fast.c")
    finally:
        os.umask(old)
    store = project.config.store
    assert store == project.root / ".relib"
    for path in (store, *store.iterdir(), build.library.parent):
        if path.is_dir():
            assert stat.S_IMODE(path.stat().st_mode) == 0o700, path
    subprocess.run(["git", "init", "-q", project.root], check=True)
    listed = subprocess.run(
        ["git", "-C", project.root, "status", "--porcelain"],
        check=True,
        capture_output=True,
        text=True,
    )
    assert listed.stdout.split() == ["??", "fast.c"]


@pytest.mark.parametrize("mode", [0o770, 0o702, 0o777])
def test_one_that_others_may_write_to_is_refused(project: Project, mode: int) -> None:
    project.config.store.mkdir()
    project.config.store.chmod(mode)
    with pytest.raises(StoreRefused, match="chmod go-w") as caught:
        project.build("fast.c")
    assert caught.value.path == project.config.store
    assert not any(project.config.store.iterdir())


def test_one_that_turned_public_is_refused_though_it_has_the_build(project: Project) -> None:
    project.build("fast.c")
    project.config.store.chmod(0o777)
    with pytest.raises(StoreRefused):
        project.build("fast.c")


@pytest.mark.skipif(not ROOT, reason="only root can give files away")
@pytest.mark.parametrize("owned", ["directory", "link", "link's target"])
def test_one_of_someone_else_is_refused(project: Project, tmp_path: Path, owned: str) -> None:
    store = project.config.store
    if owned == "directory":
        store.mkdir(0o700)
        os.chown(store, NOBODY, -1)
    else:
        target = tmp_path / "target"
        target.mkdir(0o700)
        store.symlink_to(target)
        os.chown(store if owned == "link" else target, NOBODY, -1, follow_symlinks=False)
    with pytest.raises(StoreRefused, match=f"belongs to user {NOBODY}"):
        project.build("fast.c")


def test_a_link_to_a_private_directory_will_do(project: Project, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir(0o700)
    project.config.store.symlink_to(tmp_path / "elsewhere")
    build = project.build("fast.c")
    assert build.library.resolve().is_relative_to(tmp_path / "elsewhere")
    assert project.build("fast.c").cached


def test_a_link_to_a_public_directory_is_refused(project: Project, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere").chmod(0o777)
    project.config.store.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StoreRefused):
        project.build("fast.c")


def test_what_is_no_directory_is_refused(project: Project) -> None:
    project.config.store.touch()
    with pytest.raises(StoreRefused, match="not a directory"):
        project.build("fast.c")
    project.config.store.unlink()
    project.config.store.symlink_to("nowhere")
    with pytest.raises(StoreRefused, match="leads nowhere"):
        project.build("fast.c")


def test_one_that_cannot_be_created_is_refused(project: Project, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    project.options["store"] = str(tmp_path / "file" / "store")
    with pytest.raises(StoreRefused, match="cannot be written to"):
        project.build("fast.c")


# --- whole ---------------------------------------------------------------------------------------


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def edit(**changes: object) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))

    return write


def flip_a_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("pattern", "damage"),
    [
        ("manifest.json", truncate),
        ("manifest.json", lambda path: path.write_bytes(b"")),
        ("manifest.json", lambda path: path.write_bytes(b"\xff\x00")),
        ("manifest.json", lambda path: path.write_text("[]")),
        ("manifest.json", lambda path: path.write_text("{}")),
        ("manifest.json", lambda path: path.write_text("[" * 100_000)),
        ("manifest.json", Path.unlink),
        ("manifest.json", edit(size="1")),
        ("manifest.json", edit(inputs=[])),
        ("manifest.json", edit(inputs={})),
        ("manifest.json", edit(diagnostics=[{"file": 1}])),
        ("manifest.json", edit(unique_name="../../elsewhere")),
        ("manifest.json", edit(number=2)),
        ("manifest.json", edit(unknown=1)),
        ("manifest.json", edit(parts={})),
        ("*.so", truncate),
        ("*.so", flip_a_bit),
        ("*.so", lambda path: path.write_bytes(b"")),
        ("*.so", Path.unlink),
        ("lock", Path.unlink),
        ("", shutil.rmtree),
    ],
)
def test_a_damaged_build_is_made_again(
    project: Project, pattern: str, damage: Callable[[Path], None]
) -> None:
    first = project.build("fast.c")
    (path,) = first.library.parent.glob(pattern) if pattern else [first.library.parent]
    damage(path)
    second = project.build("fast.c")
    assert not second.cached
    assert second.fingerprint == first.fingerprint
    assert second.library != first.library
    third = project.build("fast.c")
    assert third.cached
    assert third.library == second.library


@pytest.mark.parametrize(
    "damage",
    [
        Path.unlink,
        truncate,
        lambda path: path.write_text("null"),
        lambda path: path.write_text('{"number": 1, "recipes": {"x": [{}]}}'),
    ],
)
def test_a_damaged_index_is_made_anew_from_the_builds(
    project: Project, damage: Callable[[Path], None]
) -> None:
    first = project.build("fast.c")
    index = project.config.store / "index" / "fast.json"
    damage(index)
    again = project.build("fast.c")
    assert again.cached
    assert again.library == first.library
    assert json.loads(index.read_text())["number"] == 1
    project.write_c("fast", 2)
    damage(index)
    assert project.build("fast.c").number == 2


def test_numbers_only_grow(project: Project) -> None:
    names = [project.build("fast.c").unique_name]
    project.write_c("fast", 2)
    names.append(project.build("fast.c").unique_name)
    project.write_c("fast", "no such thing")
    with pytest.raises(BuildError):
        project.build("fast.c")
    project.write_c("fast", 3)
    build = project.build("fast.c")
    assert [name.split("_")[2] for name in names] == ["r1", "r2"]
    assert build.unique_name == f"fast__r3_{build.fingerprint[:8]}"
    project.options["store_max_size"] = 0
    Store(project.config).clean()
    assert stored(project) == set()
    assert project.build("fast.c").number == 4


def test_extensions_are_numbered_on_their_own(project: Project) -> None:
    project.write_c("other", 1)
    assert project.build("fast.c").number == 1
    assert project.build("other.c").number == 1
    assert project.build("fast.c", name="pkg.fast").number == 1


def test_two_extensions_of_one_name_are_kept_apart(project: Project) -> None:
    (project.root / "other").mkdir()
    (project.root / "fast.c").rename(project.root / "other" / "fast.c")
    project.write_c("fast", 2)
    one, two = project.build("fast.c"), project.build("other/fast.c")
    assert (one.number, two.number) == (1, 2)
    assert project.build("fast.c").library == one.library
    assert project.build("other/fast.c").library == two.library


def test_a_forced_build_has_a_place_of_its_own(project: Project) -> None:
    first = project.build("fast.c")
    forced = project.build("fast.c", force=True)
    assert not forced.cached
    assert (forced.fingerprint, forced.number) == (first.fingerprint, 2)
    assert first.library.exists()
    assert project.build("fast.c").library == forced.library


def test_a_name_of_any_length_and_script_has_an_index(project: Project) -> None:
    for name in ("größe.fast", ".".join(["package"] * 60 + ["fast"])):
        assert not project.build("fast.c", name=name).cached
        assert project.build("fast.c", name=name).cached


# --- bounded -------------------------------------------------------------------------------------


def build_answers(project: Project, *answers: int) -> list[Build]:
    builds = []
    for answer in answers:
        project.write_c("fast", answer)
        builds.append(project.build("fast.c"))
    return builds


def total_size(project: Project) -> int:
    return sum(p.stat().st_size for p in (project.config.store / "builds").glob("*/*"))


def test_the_longest_unused_goes_first(project: Project) -> None:
    one, two, three = build_answers(project, 1, 2, 3)
    project.write_c("fast", 1)
    assert project.build("fast.c").cached  # now the last used
    project.options["store_max_size"] = total_size(project) + 1000  # manifests differ a little
    (four,) = build_answers(project, 4)
    assert stored(project) == {one.unique_name, three.unique_name, four.unique_name}
    project.write_c("fast", 2)
    assert not project.build("fast.c").cached
    assert two.unique_name not in stored(project)


def test_what_was_not_used_for_too_long_goes(project: Project) -> None:
    one, two = build_answers(project, 1, 2)
    project.options["store_max_age"] = "1d"
    os.utime(one.library.parent / "lock", (0, 0))
    report = Store(project.config).clean()
    assert stored(project) == {two.unique_name}
    assert (report.removed, report.kept, report.held) == (1, 1, 0)
    assert report.freed > 10_000
    assert report.kept_bytes == total_size(project)


def test_the_build_just_made_never_goes(project: Project) -> None:
    project.options["store_max_size"] = 0
    (one,) = build_answers(project, 1)
    assert stored(project) == {one.unique_name}
    (two,) = build_answers(project, 2)
    assert stored(project) == {two.unique_name}


def test_what_is_held_never_goes(project: Project) -> None:
    one, _ = build_answers(project, 1, 2)
    store = Store(project.config)
    with one.hold():
        with one.hold():
            pass
        report = store.clean(everything=True)
        assert (report.removed, report.held) == (1, 1)
        assert stored(project) == {one.unique_name}
    hold = one.hold()
    assert store.clean(everything=True).held == 1
    hold.release()
    hold.release()
    assert store.clean(everything=True).removed == 1
    assert stored(project) == set()


def test_a_build_that_went_cannot_be_held(project: Project) -> None:
    (one,) = build_answers(project, 1)
    store = Store(project.config)
    store.clean(everything=True)
    with pytest.raises(BuildGone, match="build fast again") as caught:
        one.hold()
    assert caught.value.path == str(one.library)
    assert not project.build("fast.c").cached


def test_a_build_that_is_going_cannot_be_held(project: Project) -> None:
    """Whoever asks while the cleaner has the lock waits, and is told that it has gone."""
    (one,) = build_answers(project, 1)
    lock = one.library.parent / "lock"
    answers: list[object] = []
    with locks.exclusively(lock, "removing it"):
        asking = threading.Thread(target=lambda: answers.append(locks.hold(lock)))
        asking.start()
        # with or without the thread having got to the lock by now, the answer is the same
        one.library.parent.rename(project.root / "removed")
    asking.join()
    assert answers == [None]


def test_a_hold_ends_with_its_process(project: Project) -> None:
    one, _ = build_answers(project, 1, 2)
    process = start_python(
        """
        import sys
        from pathlib import Path
        from relib.building import locks
        hold = locks.hold(Path(sys.argv[1]))
        print(hold is not None, flush=True)
        input()
        """,
        one.library.parent / "lock",
    )
    with process:
        assert said(process) == "True"
        store = Store(project.config)
        assert store.clean(everything=True).held == 1
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert store.clean(everything=True).removed == 1


def test_a_forked_child_that_shares_the_mapping_shares_the_hold(project: Project) -> None:
    (one,) = build_answers(project, 1)
    process = start_python(
        """
        import os, sys
        from pathlib import Path
        from relib.building import locks
        hold = locks.hold(Path(sys.argv[1]))
        if os.fork():
            hold.release()
            print("released", flush=True)
            os.wait()
        else:
            input()  # in the child
            os._exit(0)
        """,
        one.library.parent / "lock",
    )
    with process:
        assert said(process) == "released"
        store = Store(project.config)
        assert store.clean(everything=True).held == 1
        tell(process)
        process.wait()
        assert store.clean(everything=True).removed == 1


def test_a_program_that_is_started_meanwhile_does_not_share_the_hold(project: Project) -> None:
    (one,) = build_answers(project, 1)
    hold = one.hold()
    with start_python("print('up', flush=True); input()", close_fds=False) as process:
        assert said(process) == "up"
        hold.release()
        assert Store(project.config).clean(everything=True).removed == 1
        tell(process)


def test_everything_leaves_nothing_behind(project: Project) -> None:
    build_answers(project, 1, 2)
    store = Store(project.config)
    report = store.clean(everything=True)
    assert (report.removed, report.kept, report.kept_bytes) == (2, 0, 0)
    left = [path for path in store.path.rglob("*") if not path.is_dir()]
    assert left == [store.path / ".gitignore"]
    assert project.build("fast.c").number == 1


def test_cleaning_a_store_that_is_not_there_does_nothing(project: Project) -> None:
    report = Store(project.config).clean(everything=True)
    assert (report.removed, report.swept, report.kept) == (0, 0, 0)
    assert not project.config.store.exists()


# --- locks ---------------------------------------------------------------------------------------


def test_who_waits_says_for_whom(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    waiting = threading.Event()
    messages: list[str] = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            messages.append(record.getMessage())
            waiting.set()

    def wait() -> None:
        with locks.exclusively(lock, "building fast"):
            messages.append("got it")

    logger, handler = logging.getLogger("relib"), Handler()
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        with locks.exclusively(lock, "building fast"):
            thread = threading.Thread(target=wait)
            thread.start()
            assert waiting.wait(60)
            messages.append("let go")
        thread.join()
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
    assert messages == [
        f"waiting for process {os.getpid()}, which is building fast",
        "let go",
        "got it",
    ]


def test_a_forked_child_does_not_keep_the_lock_of_a_builder_that_died(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    process = start_python(
        """
        import os, signal, sys
        from pathlib import Path
        from relib.building import locks
        with locks.exclusively(Path(sys.argv[1]), "building fast"):
            if os.fork() == 0:
                input()
                print("child done", flush=True)
                os._exit(0)
            print("forked", flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
        """,
        lock,
    )
    with process:
        assert said(process) == "forked"
        process.wait()
        with locks.exclusively(lock, "building fast"):  # would wait for ever
            tell(process)
            assert said(process) == "child done"


def test_a_lock_file_that_was_removed_is_no_lock(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    with locks.exclusively(lock, "one"):
        lock.unlink()
        with locks.exclusively(lock, "other"), locks.try_exclusively(lock) as mine:
            assert not mine
    with locks.try_exclusively(lock) as mine:
        assert mine
    with locks.try_exclusively(tmp_path / "nowhere" / "lock") as mine:
        assert not mine


# --- bad places ----------------------------------------------------------------------------------


def with_mount(command: str, script: str, *arguments: object) -> list[str]:
    """Run a Python script where `command` has mounted something that nobody else sees."""
    if not ROOT or shutil.which("unshare") is None:
        pytest.skip("only root can mount")
    mounted = subprocess.run(
        ["unshare", "-m", "sh", "-c", f"{command}", "sh", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip(f"cannot mount: {mounted.stderr}")
    ran = subprocess.run(
        [
            *("unshare", "-m", "sh", "-c", f'{command} && exec "$0" -P -c "$SCRIPT" "$@"'),
            *(sys.executable, *map(str, arguments)),
        ],
        capture_output=True,
        text=True,
        check=False,
        env=environ_with_relib({"SCRIPT": dedent(script)}),
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.splitlines()


def test_a_read_only_store_serves_what_it_has(project: Project) -> None:
    project.build("fast.c")
    output = with_mount(
        'mount --bind "$1/.relib" "$1/.relib" && mount -o remount,ro,bind "$1/.relib"',
        """
        import sys
        from pathlib import Path
        from building_project import Project
        from relib.errors import StoreRefused
        project = Project(Path(sys.argv[1]), store=".relib")
        build = project.build("fast.c")
        print(build.cached, not build.hold().released)
        project.write_c("fast", 2)
        try:
            project.build("fast.c")
        except StoreRefused as error:
            print(error)
        """,
        project.root,
    )
    assert output[0] == "True True"
    assert output[1].startswith(f"the store {project.root}/.relib cannot be written to (Read-only")


@pytest.mark.parametrize("source", ["fast.c", "fast.pyx"])
def test_a_full_disk_loses_nothing(project: Project, source: str) -> None:
    """Whatever is left, from nothing to almost enough: the phases fail one after the other."""
    output = with_mount(
        'mkdir -p "$1/.relib" && mount -t tmpfs -o size=8m,mode=0700 none "$1/.relib"',
        """
        import os, sys
        from pathlib import Path
        from building_project import Project
        from relib.errors import DiskFull

        project = Project(Path(sys.argv[1]))
        source = sys.argv[2]
        project.write("fast.pyx", "answer = 1")
        first = project.build(source)
        store = project.config.store
        filler = store / "filler"

        for answer, room in enumerate((0, 4, 8, 12, 16, 24, 32, 64, 128, 256, 400, 7000), 2):
            project.write_c("fast", answer)
            project.write("fast.pyx", f"answer = {answer}")
            free = os.statvfs(store).f_bavail * os.statvfs(store).f_bsize
            with filler.open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, max(1, free - room * 1024))
            try:
                build = project.build(source)
                print(room, "built", build.number)
            except DiskFull as error:
                print(room, "full")
            assert not any((store / "tmp").iterdir())
            project.write_c("fast", 1)
            project.write("fast.pyx", "answer = 1")
            assert project.build(source).library == first.library
            filler.unlink()
        """,
        project.root,
        source,
    )
    outcomes = [line.split()[1] for line in output]
    assert outcomes[0] == "full"
    assert outcomes[-1] == "built"
    assert outcomes == sorted(outcomes, reverse=True)  # first full, then built
    assert output[-1].split()[-1] == str(1 + outcomes.count("built"))


def test_a_copy_that_is_being_loaded_is_not_swept(project: Project) -> None:
    project.write_c("fast", 1)
    project.build("fast.c")
    fresh, forgotten = (project.config.store / "tmp" / name for name in ("copy-ab", "copy-cd"))
    for copy in (fresh, forgotten):
        copy.mkdir()
        (copy / "fast.so").touch()
    os.utime(forgotten, (1, 1))
    project.build("fast.c", force=True)
    assert fresh.exists()
    assert not forgotten.exists()
