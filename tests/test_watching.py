"""Watching: what editors and tools do to files arrives, and nothing is lost."""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import Project
from privileges import without_privileges

from relib.watching import Watcher, inotify
from relib.watching.alarm import Alarm
from relib.watching.file_systems import file_system_of
from relib.watching.observed import Observed
from relib.watching.quiet import Quiet
from relib.watching.sources import open_source
from relib.watching.trails import Trails

LONG = 20.0
"""Seconds after which a test that waits has failed."""


@pytest.fixture(params=["inotify", "watchdog", "polling"])
def watcher(request: pytest.FixtureRequest) -> Iterator[Watcher]:
    """A watcher of each kind."""
    if request.param == "polling":
        made = Watcher(polling=0.02)
    else:
        made = Watcher(polling=False, events=request.param)
    with made:
        yield made


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "pkg" / "fast.pyx"
    path.parent.mkdir()
    path.write_text("old")
    return path


def seen(watcher: Watcher, *wanted: Path) -> None:
    """Wait until all of these have been told of."""
    missing = set(wanted)
    end = time.monotonic() + LONG
    while missing:
        assert time.monotonic() < end, f"never told of {missing}"
        missing -= watcher.batch(1.0)


def settled(watcher: Watcher) -> None:
    """Take what is still to come of what has been done."""
    # watchdog holds back for half a second what comes after a file that was renamed away
    pause = 0.6 if isinstance(watcher._source, Observed) else 0.2
    while watcher.batch(pause):
        pass


# --- how files are saved -------------------------------------------------------------------------


def in_place(path: Path) -> None:
    path.write_text("new")  # VS Code, nano, sublime


def in_several_writes(path: Path) -> None:
    with path.open("w") as file:
        for part in ("n", "e", "w"):
            file.write(part)
            file.flush()
            os.fsync(file.fileno())


def by_rename(path: Path) -> None:
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text("new")
    temporary.replace(path)


def as_vim(path: Path) -> None:
    probe = path.with_name("4913")
    probe.touch()
    probe.unlink()
    backup = path.with_name(path.name + "~")
    path.rename(backup)
    path.write_text("new")
    path.chmod(0o644)
    backup.unlink()


def as_emacs(path: Path) -> None:
    lock = path.with_name(f".#{path.name}")
    lock.symlink_to("user@host.1234:1700000000")
    backups = path.parent.parent / "backups"  # backup-directory-alist
    backups.mkdir(exist_ok=True)
    path.rename(backups / (path.name + "~"))
    path.write_text("new")
    lock.unlink()


def as_pycharm(path: Path) -> None:
    new = path.with_name(path.name + "___jb_tmp___")
    old = path.with_name(path.name + "___jb_old___")
    new.write_text("new")
    path.rename(old)
    new.rename(path)
    old.unlink()


def deleted_and_made_again(path: Path) -> None:
    path.unlink()
    path.write_text("new")


def by_hard_link(path: Path) -> None:
    other = path.with_name("other")
    other.write_text("new")
    path.unlink()
    path.hardlink_to(other)
    other.unlink()


SAVES = [
    in_place,
    in_several_writes,
    by_rename,
    as_vim,
    as_emacs,
    as_pycharm,
    deleted_and_made_again,
    by_hard_link,
]


@pytest.mark.parametrize("save", SAVES)
def test_a_save_is_told_of_however_it_is_made(
    watcher: Watcher, source: Path, save: Callable[[Path], None]
) -> None:
    watcher.watch([source])
    for _ in range(2):  # what is watched afterwards is the new file
        save(source)
        seen(watcher, source)
        assert source.read_text() == "new"
        settled(watcher)


def test_other_files_of_the_directory_are_not_told_of(watcher: Watcher, source: Path) -> None:
    watcher.watch([source])
    source.with_name("other.txt").write_text("x")
    source.with_name("other.txt").unlink()
    source.write_text("new")
    assert watcher.batch(LONG) == {source}


def test_a_file_that_goes_and_one_that_comes(watcher: Watcher, source: Path) -> None:
    absent = source.with_suffix(".pxd")
    watcher.watch([source, absent])
    absent.write_text("cdef int f()")
    seen(watcher, absent)
    settled(watcher)
    source.unlink()
    seen(watcher, source)


def test_a_file_in_directories_that_are_not_there_yet(watcher: Watcher, tmp_path: Path) -> None:
    header = tmp_path / "include" / "deep" / "vec.h"
    watcher.watch([header])
    header.parent.mkdir(parents=True)
    header.write_text("#define N 3")
    seen(watcher, header)
    settled(watcher)
    header.write_text("#define N 4")
    seen(watcher, header)


def test_a_watched_directory_is_deleted_and_made_again(watcher: Watcher, source: Path) -> None:
    watcher.watch([source])
    for text in ("one", "two", "three"):
        source.unlink()
        source.parent.rmdir()
        source.parent.mkdir()
        source.write_text(text)
        seen(watcher, source)
        settled(watcher)
    source.write_text("four")
    seen(watcher, source)


def test_directories_above_are_renamed_and_made_again(watcher: Watcher, tmp_path: Path) -> None:
    source = tmp_path / "src" / "pkg" / "sub" / "fast.pyx"
    source.parent.mkdir(parents=True)
    source.write_text("one")
    watcher.watch([source], roots=[tmp_path])
    (tmp_path / "src").rename(tmp_path / "old")
    seen(watcher, source)
    source.parent.mkdir(parents=True)
    source.write_text("two")
    seen(watcher, source)
    settled(watcher)
    source.write_text("three")
    seen(watcher, source)


def test_a_tree_that_is_renamed_and_made_again_at_once(watcher: Watcher, tmp_path: Path) -> None:
    source = tmp_path / "src" / "pkg" / "sub" / "fast.pyx"
    source.parent.mkdir(parents=True)
    source.write_text("one")
    watcher.watch([source], roots=[tmp_path])
    (tmp_path / "src").rename(tmp_path / "old")
    source.parent.mkdir(parents=True)  # nobody has looked at the events yet
    source.write_text("two")
    seen(watcher, source)
    settled(watcher)
    source.write_text("three")
    seen(watcher, source)


def test_the_target_of_a_symlink_is_watched_and_so_is_the_link(
    watcher: Watcher, tmp_path: Path
) -> None:
    first, second = tmp_path / "a" / "fast.pyx", tmp_path / "b" / "fast.pyx"
    for target in (first, second):
        target.parent.mkdir()
        target.write_text("one")
    link = tmp_path / "pkg" / "fast.pyx"
    link.parent.mkdir()
    link.symlink_to(first)
    watcher.watch([link])
    by_rename(first)
    seen(watcher, link)
    settled(watcher)
    other = tmp_path / "pkg" / "link"
    other.symlink_to(second)
    other.replace(link)
    seen(watcher, link)
    settled(watcher)
    second.write_text("two two")
    seen(watcher, link)


def test_a_symlinked_directory_that_leads_elsewhere_later(watcher: Watcher, tmp_path: Path) -> None:
    for name in ("v1", "v2"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "fast.pyx").write_text(name)
    current = tmp_path / "current"
    current.symlink_to("v1")
    watcher.watch([current / "fast.pyx"])
    (tmp_path / "new").symlink_to("v2")
    (tmp_path / "new").replace(current)
    seen(watcher, current / "fast.pyx")
    settled(watcher)
    (tmp_path / "v2" / "fast.pyx").write_text("changed")
    seen(watcher, current / "fast.pyx")


def test_links_in_a_circle_are_a_file_that_is_not_there(watcher: Watcher, tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    one.symlink_to(two)
    two.symlink_to(one)
    watcher.watch([one])
    two.unlink()
    two.write_text("x")
    seen(watcher, one)


def test_entries_of_a_watched_directory_come_and_go(watcher: Watcher, tmp_path: Path) -> None:
    directory = tmp_path / "include"
    watcher.watch([], [directory])
    directory.mkdir()
    seen(watcher, directory)
    settled(watcher)
    header = directory / "vec.h"
    header.write_text("1")
    seen(watcher, header)
    settled(watcher)
    header.unlink()
    seen(watcher, header)


# --- batches -------------------------------------------------------------------------------------


def test_a_burst_arrives_whole(watcher: Watcher, tmp_path: Path) -> None:
    paths = [tmp_path / f"p{n % 8}" / f"m{n}.pyx" for n in range(200)]
    for path in paths:
        path.parent.mkdir(exist_ok=True)
        path.write_text("old")
    watcher.watch(paths)
    for path in paths:
        path.write_text("new and longer")
    seen(watcher, *paths)


def test_fifty_saves_and_the_last_is_told_of_after_it_was_made(
    watcher: Watcher, source: Path
) -> None:
    watcher.watch([source])
    script = (
        "import os, sys, time\n"
        "for n in range(50):\n"
        "    open(sys.argv[1] + '.tmp', 'w').write(str(n)); os.replace(sys.argv[1] + '.tmp', "
        "sys.argv[1])\n"
        "    time.sleep(0.01)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script, str(source)]) as saving:
        last = ""
        end = time.monotonic() + LONG
        while last != "49":
            assert time.monotonic() < end
            if watcher.batch(LONG):
                last = source.read_text()
        saving.wait()


def test_what_changes_before_it_is_asked_for_is_not_lost(watcher: Watcher, source: Path) -> None:
    watcher.watch([source])
    source.write_text("while a round runs")
    watcher.wake()
    seen(watcher, source)


def test_wake_ends_a_wait_at_once(watcher: Watcher, source: Path) -> None:
    watcher.watch([source])
    watcher.wake()
    assert watcher.batch() == frozenset()


def test_what_is_no_longer_watched_is_not_told_of(watcher: Watcher, tmp_path: Path) -> None:
    one, two = tmp_path / "a" / "one.pyx", tmp_path / "b" / "two.pyx"
    for path in (one, two):
        path.parent.mkdir()
        path.write_text("old")
    watcher.watch([one, two])
    watcher.watch([two])
    one.write_text("new and longer")
    two.write_text("new and longer")
    assert watcher.batch(LONG) == {two}
    assert watcher.files == {two}


def test_lost_events_are_made_up_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limit = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    if limit > 100_000:
        pytest.skip("the kernel's queue is too long to fill")
    notices: list[inotify.Notice] = []
    read = inotify.Inotify.read

    def noted(queue: inotify.Inotify) -> list[inotify.Notice]:
        got = read(queue)
        notices.extend(got)
        return got

    monkeypatch.setattr(inotify.Inotify, "read", noted)
    source = tmp_path / "fast.pyx"
    noise = [tmp_path / "a", tmp_path / "b"]
    for path in (source, *noise):
        path.write_text("old")
    with Watcher(polling=False) as watcher:
        watcher.watch([source, *noise])
        for n in range(limit + 10):  # two names in turn: the kernel joins equal events
            noise[n % 2].chmod(0o600)
        source.write_text("new")  # there was no room for this
        seen(watcher, source)
    assert any(notice.mask & inotify.Q_OVERFLOW for notice in notices)


# --- where events come from ----------------------------------------------------------------------


def test_watchdog_is_used_where_there_is_no_inotify(monkeypatch: pytest.MonkeyPatch) -> None:
    with contextlib.closing(open_source("auto")) as source:
        assert isinstance(source, inotify.Inotify)

    def without_inotify(name: None, **_: object) -> object:
        return object()  # the C library of another system

    monkeypatch.setattr(ctypes, "CDLL", without_inotify)
    with contextlib.closing(open_source("auto")) as source:
        assert isinstance(source, Observed)
    with pytest.raises(ValueError, match="does not have"):
        open_source("inotify")
    with pytest.raises(ValueError, match="fanotify"):
        open_source("fanotify")


def test_watchdogs_threads_end_with_the_watcher(source: Path) -> None:
    before = set(threading.enumerate())
    with Watcher(polling=False, events="watchdog") as watcher:
        watcher.watch([source])
        started = set(threading.enumerate()) - before
        assert started
        assert all(thread.daemon for thread in started)
    assert set(threading.enumerate()) == before


def test_watchdog_says_nothing_of_a_directory_that_is_left_with_events_to_come(
    source: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with Watcher(polling=False, events="watchdog") as watcher:
        for _ in range(2):
            watcher.watch([source])
            source.rename(source.parent.parent / "elsewhere")  # watchdog waits for what follows
            watcher.batch(0.05)
            watcher.watch([])
            source.write_text("new")
    assert not caplog.records


def test_a_program_ends_although_watchdog_still_watches(project: Project) -> None:
    outcome = project.run(
        """
        from pathlib import Path
        from relib.watching import Watcher
        watcher = Watcher(events="watchdog")
        watcher.watch([Path("fast.pyx").absolute()])
        say(threading.active_count() > 1)
        """
    )
    assert outcome.value is True


def test_an_alarm_where_there_is_no_eventfd(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "eventfd")
    alarm = Alarm()

    def rings() -> bool:
        return bool(select.select([alarm], [], [], 0)[0])

    for _ in range(2):
        assert not rings()
        for _ in range(100_000):  # more than a pipe holds
            alarm.ring()
        assert rings()
        alarm.clear()


# --- how long a save takes -----------------------------------------------------------------------


def test_a_single_save_is_passed_on_after_a_few_milliseconds() -> None:
    quiet = Quiet()
    quiet.note("fast.pyx", 1.0)
    assert quiet.due() < 1.008


def test_a_file_that_has_gone_is_given_time_to_come_back() -> None:
    quiet = Quiet()
    quiet.note("fast.pyx", 1.0, finished=False)
    assert quiet.due() > 1.03
    quiet.note("fast.pyx", 1.01)
    assert quiet.due() < 1.02


def test_events_that_keep_coming_are_one_batch_but_not_for_ever() -> None:
    quiet = Quiet()
    now = 1.0
    for n in range(200):
        quiet.note(f"m{n}.pyx", now)
        if n > 5:
            assert quiet.due() > now + 0.018  # pauses of a busy disk
        now += 0.002
    assert quiet.due() < now + 0.1
    while quiet.due() > now:
        assert now < 2.0
        quiet.note("endless", now)
        now += 0.003
    assert len(quiet.take()) == 201
    assert not quiet


# --- polling -------------------------------------------------------------------------------------


def test_polling_sees_a_change_that_leaves_size_and_times_as_they_were(source: Path) -> None:
    with Watcher(polling=0.01) as watcher:
        watcher.watch([source])
        status = source.stat()
        source.write_text("OLD")
        os.utime(source, ns=(status.st_atime_ns, status.st_mtime_ns))
        seen(watcher, source)


def test_polling_is_silent_while_nothing_changes(source: Path) -> None:
    with Watcher(polling=0.01) as watcher:
        watcher.watch([source], [source.parent])
        assert watcher.polled == {source}
        assert watcher.batch(0.2) == frozenset()


MOUNTS = r"""
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
23 22 0:40 / /home/me/src rw,relatime - 9p drvfs rw,aname=drvfs
24 22 0:41 / /mnt/with\040space rw - nfs4 host:/x rw
25 22 0:42 / /over rw - ext4 /dev/sdb rw
26 25 0:43 / /over rw - fuse.sshfs host: rw
"""


@pytest.mark.parametrize(
    ("directory", "kind"),
    [
        ("/usr/include", "ext4"),
        ("/home/me/src", "9p"),
        ("/home/me/src/pkg", "9p"),
        ("/home/me/src2", "ext4"),
        ("/mnt/with space/a", "nfs4"),
        ("/over/there", "fuse.sshfs"),
    ],
)
def test_the_file_system_of_a_directory_is_found(directory: str, kind: str) -> None:
    assert file_system_of(directory, MOUNTS) == kind


def test_where_events_may_be_missing_files_are_looked_at_as_well(
    source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("relib.watching.watcher.all_changes_give_events", lambda _: False)
    with Watcher() as watcher:
        watcher.watch([source])
        assert watcher.polled == {source}
        source.write_text("new")
        seen(watcher, source)


def test_the_limit_of_watches_leads_to_polling_and_is_told_once(project: Project) -> None:
    outcome = project.run(
        """
        import ctypes, logging
        from pathlib import Path
        from relib.watching import Watcher
        libc = ctypes.CDLL(None)
        faulthandler.cancel_dump_traceback_later()   # its thread is in the way
        if libc.unshare(0x10000000) != 0:   # CLONE_NEWUSER: limits of our own
            say("not permitted")
            raise SystemExit
        try:
            Path("/proc/sys/user/max_inotify_watches").write_text("3")
        except OSError:
            say("not permitted")
            raise SystemExit
        records = []
        class Keep(logging.Handler):
            def emit(self, record): records.append(record.getMessage())
        logging.getLogger("relib.watching").addHandler(Keep())
        files = [Path(f"d{n}/x.pyx").absolute() for n in range(8)]
        for file in files:
            file.parent.mkdir()
            file.write_text("old")
        with Watcher() as watcher:
            watcher.watch(files)
            assert 5 <= len(watcher.polled) < 8, watcher.polled
            for file in files: file.write_text("newer")
            told = set()
            while len(told) < 8: told |= watcher.batch()
        assert len(records) == 1 and "max_user_watches" in records[0], records
        say("polled")
        """
    )
    if outcome.value == "not permitted":
        pytest.skip("no user namespaces")
    assert outcome.value == "polled"


@without_privileges
@pytest.mark.parametrize("events", ["inotify", "watchdog"])
def test_a_directory_that_cannot_be_listed_is_looked_into(project: Project, events: str) -> None:
    directory = project.root / "secret"
    directory.mkdir()
    file = directory / "x.pyx"
    file.write_text("old")
    directory.chmod(0o300)
    try:
        with Watcher(events=events) as watcher:
            watcher.watch([file])
            file.write_text("newer")
            seen(watcher, file)
    finally:
        directory.chmod(0o700)


def test_descriptors_are_given_back(source: Path) -> None:
    def descriptors() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    before = descriptors()
    for polling, events in ((None, "auto"), (True, "auto"), (False, "auto"), (None, "watchdog")):
        with Watcher(polling=polling, events=events) as watcher:
            watcher.watch([source])
        watcher.wake()  # too late, and harmless
    assert descriptors() == before


def test_only_what_leads_to_a_file_is_watched(tmp_path: Path) -> None:
    source = tmp_path / "src" / "pkg" / "fast.pyx"
    source.parent.mkdir(parents=True)
    directories = [step.directory for step in Trails([tmp_path]).of(str(source))]
    real = str(tmp_path.resolve())
    assert directories == [real, f"{real}/src", f"{real}/src/pkg"]
    assert [step.name for step in Trails().of(str(source))] == ["fast.pyx"]


def test_a_woken_watcher_writes_to_no_file_that_has_its_number_by_then(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is closed in another thread while this one is about to write."""
    watcher = Watcher()
    files: list[int] = []
    write = os.eventfd_write

    def write_late(descriptor: int, value: int) -> None:
        watcher.close()
        files.append(os.memfd_create("somebody's"))
        write(descriptor, value)

    monkeypatch.setattr(os, "eventfd_write", write_late)
    watcher.wake()
    assert os.fstat(files[0]).st_size == 0
    os.close(files[0])
