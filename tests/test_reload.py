"""Module.reload(), rollback() and before_unload(): the new version, or exactly the old one."""

from __future__ import annotations

import pytest
from conftest import Project


def test_an_edit_is_answered_and_the_old_code_goes(project: Project) -> None:
    project.write("fast.pyx", "def f(): return 1\nx = 10")
    project.run(
        """
        fast = relib.load("fast.pyx")
        public = fast.module
        assert fast.reload() is None
        open("fast.pyx", "w").write("def f(): return 2")
        report = fast.reload()
        assert public is fast.module is sys.modules["fast"]
        assert public.f() == 2 and not hasattr(public, "x")
        assert (report.version, report.previous, report.unloaded) == (2, 1, True)
        assert {"translate", "compile", "load", "exec", "collect", "unload"} <= set(report.seconds)
        assert fast.version == 2 and [past.number for past in fast.history] == [1, 2]
        assert mapped("fast") == 1 and relib.retired() == []
        json.dumps(report.as_dict())
        """
    )


def test_setting_a_name_reaches_the_code(project: Project) -> None:
    project.write("fast.pyx", "x = 1\ndef f(): return x")
    project.run(
        """
        fast = relib.load("fast.pyx").module
        fast.x = 5
        assert fast.f() == 5
        """
    )


def test_a_loop_follows_without_asking_again(project: Project) -> None:
    project.write("fast.pyx", "def f(): return 1")
    project.run(
        """
        module = relib.load("fast.pyx")
        import fast
        def hot():
            for _ in range(5000): last = fast.f()
            return last
        assert hot() == 1
        open("fast.pyx", "w").write("def f(): return 2")
        module.reload()
        assert hot() == 2
        """
    )


@pytest.mark.parametrize(
    ("broken", "error"),
    [
        ("def f(: return 2", "BuildError"),
        ("cdef int f() except -1: return undeclared_thing", "BuildError"),
        ("raise RuntimeError('at import')", "ExecError"),
        ("", None),
    ],
)
def test_a_bad_edit_changes_nothing_and_the_next_good_one_works(
    project: Project, broken: str, error: str | None
) -> None:
    project.write("fast.pyx", "def f(): return 1\ncalls = []")
    project.run(
        f"""
        fast = relib.load("fast.pyx")
        fast.module.calls.append("kept")
        namespace = dict(vars(fast.module))
        open("fast.pyx", "w").write({broken!r})
        error = {error!r}
        if error is None:
            assert fast.reload().version == 2 and not hasattr(fast.module, "f")
        else:
            try:
                fast.reload()
            except getattr(relib, error) as caught:
                assert "fast" in str(caught)
            else:
                raise AssertionError
            assert fast.version == 1 and fast.module.f() == 1
            assert vars(fast.module) == namespace
        del namespace
        open("fast.pyx", "w").write("def f(): return 3")
        assert fast.reload().version == fast.version and fast.module.f() == 3
        until(lambda: mapped("fast") == 1)
        """
    )


def test_force_loads_the_same_build_anew(project: Project) -> None:
    project.write(
        "fast.pyx",
        """
        import random
        x = random.random()
        def f(): return x
        cdef class C:
            def x(self): return x
        """,
    )
    project.run(
        """
        fast = relib.load("fast.pyx")
        x, thing = fast.module.x, fast.module.C()
        report = fast.reload(force=True)
        assert fast.module.x != x and fast.module.f() == fast.module.x
        assert thing.x() == x         # the retired copy has data of its own
        assert not report.unloaded and mapped("fast") == 2
        del thing
        until(lambda: mapped("fast") == 1)
        """
    )


def test_rollback_runs_the_earlier_build_until_the_next_edit(project: Project) -> None:
    project.write("fast.pyx", "def f(): return 1")
    project.run(
        """
        fast = relib.load("fast.pyx")
        try:
            fast.rollback()
        except relib.NoEarlierBuild:
            pass
        else:
            raise AssertionError
        open("fast.pyx", "w").write("def f(): return 2")
        fast.reload()
        report = fast.rollback()
        assert (report.action, report.version) == ("rollback", 3)
        assert fast.module.f() == 1 and fast.reload() is None
        open("fast.pyx", "w").write("def f(): return 4")
        fast.reload()
        assert fast.module.f() == 4 and mapped("fast") == 1
        """
    )


def test_a_version_in_use_is_retired_named_and_goes_by_itself(project: Project) -> None:
    project.write("fast.pyx", "def g(): return 1\ncdef class C:\n    def m(self): return 1")
    project.run(
        """
        fast = relib.load("fast.pyx")
        before = threads()
        callbacks = [fast.module.g]
        thing = fast.module.C()
        open("fast.pyx", "w").write("def f(): return 2")
        report = fast.reload()
        assert not report.unloaded and "v1 retired" in str(report)
        assert callbacks[0]() == 1 and thing.m() == 1 and fast.module.f() == 2
        [version] = relib.retired()
        assert (version.number, version.state) == (1, "retired")
        words = "; ".join(map(str, version.pins))
        assert "function fast.g" in words and "list" in words, words
        assert "class fast.C" in words and "instance of C" in words, words
        try:
            report.require_unloaded()
        except relib.Pinned as error:
            assert error.pins == report.pins
        else:
            raise AssertionError
        del version, callbacks[0]
        assert relib.reap() == [] and mapped("fast") == 2
        del thing
        until(lambda: mapped("fast") == 1)
        assert relib.retired() == []
        until(lambda: threads() == before)
        """
    )


def test_before_unload_is_called_once_before_the_code_goes(project: Project) -> None:
    project.write("fast.pyx", "import builtins\ndef before_unload(): builtins.said.append(1)")
    project.run(
        """
        import builtins
        builtins.said = []
        fast = relib.load("fast.pyx")
        source = open("fast.pyx").read().replace("append(1)", "append(2)")
        open("fast.pyx", "w").write(source)
        assert fast.reload().unloaded
        assert said == [1]
        assert fast.unload().unloaded
        assert said == [1, 2] and not mapped("fast")
        """
    )


def test_a_before_unload_that_raises_keeps_the_module(project: Project) -> None:
    project.write("fast.pyx", "def before_unload(): raise OSError('busy')\ndef f(): return 1")
    project.run(
        """
        fast = relib.load("fast.pyx")
        open("fast.pyx", "w").write("def f(): return 2")
        for step in (fast.reload, fast.unload):
            try:
                step()
            except relib.BeforeUnloadFailed as error:
                assert isinstance(error.__cause__, OSError)
            else:
                raise AssertionError
            assert fast.version == 1 and fast.module.f() == 1
        until(lambda: mapped("fast") == 1)
        """
    )


def test_a_before_unload_that_hangs_keeps_the_module(project: Project) -> None:
    project.write(
        "fast.pyx",
        "def before_unload():\n    import __main__\n    __main__.gate.wait()\ndef f(): return 1",
    )
    project.run(
        """
        gate = threading.Event()
        fast = relib.load("fast.pyx")
        try:
            fast.unload(timeout=0.05)
        except relib.Timeout as error:
            assert "0.05 s" in str(error)
        else:
            raise AssertionError
        assert fast.module.f() == 1
        gate.set()
        assert fast.unload().version is None
        until(lambda: not mapped("fast"))
        """
    )


def test_threads_use_the_module_while_another_reloads_it(project: Project) -> None:
    project.write("fast.pyx", "def f(x): return (x, 0)")
    project.run(
        """
        module = relib.load("fast.pyx")
        import fast
        stop, failures, done = threading.Event(), [], []
        def use():
            count = 0
            while not stop.is_set():
                x, version = fast.f(count)
                if x != count: failures.append((x, count))
                count += 1
            done.append(count)
        sys.setswitchinterval(1e-4)  # so that what reloads has its turn soon
        workers = [threading.Thread(target=use) for _ in range(4)]
        for worker in workers: worker.start()
        for edit in range(60):
            open("fast.pyx", "w").write(f"def f(x): return (x, {edit % 3})")
            module.reload()
        stop.set()
        for worker in workers: worker.join()
        assert not failures and min(done) > 0
        until(lambda: mapped("fast") == 1)
        """
    )


def test_versions_that_were_pinned_by_each_other_go(project: Project) -> None:
    project.write("fast.pyx", "cdef class C: pass\nclass P:\n    def m(self): pass\nkept = None")
    project.run(
        """
        module = relib.load("fast.pyx")
        fast = module.module
        held = []
        for n in range(3):
            instances = [fast.C(), fast.P(), type("Sub", (fast.P,), {})()]
            held.append(fast.kept)
            module.reload(force=True)
            fast.kept = instances
        assert mapped("fast") == 4
        del held, instances
        module.unload()
        until(lambda: not mapped("fast") or gc.collect() and False)
        """
    )
