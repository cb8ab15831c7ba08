"""Unloading while something else goes on: another thread's unload, a fork, an interrupt."""

from __future__ import annotations

from conftest import Project

FINALIZED = """
    # cython: language_level=3
    class Del:
        def __init__(self, call): self.call = call
        def __del__(self): self.call()
    kept = None
    def keep(o):
        global kept
        kept = o
    def f(): return 1
    hook = None
    def before_unload():
        if hook: hook()
"""


def test_a_finalizer_may_unload_while_another_thread_does(project: Project) -> None:
    for name in "abc":
        project.write(f"{name}.pyx", FINALIZED)
    outcome = project.run(
        """
        a, b, c = (relib.load(f"{name}.pyx") for name in "abc")
        finalizing, changing, reports = threading.Event(), threading.Event(), []
        def finalize():
            finalizing.set()
            changing.wait()
            reports.append(b.unload())  # wants the lock that c.unload() has
        def hook():
            finalizing.wait()
            changing.set()
        c.module.hook = hook
        a.module.keep(a.module.Del(finalize))
        held = a.module.f
        assert not a.unload().unloaded
        del held
        reports.append(c.unload())      # and that waits for the reaper
        until(lambda: not any(mapped(name) for name in "abc"))
        assert len(reports) == 2 and relib.retired() == []
        """
    )
    assert not outcome.errors


def test_a_fork_in_the_midst_leaves_the_child_a_working_collector(project: Project) -> None:
    project.write("mod.pyx", FINALIZED)
    project.run(
        """
        module = relib.load("mod.pyx")
        finalizing, forked = threading.Event(), threading.Event()
        def finalize():
            finalizing.set()
            forked.wait()
        module.module.keep(module.module.Del(finalize))
        thread = threading.Thread(target=module.unload)
        thread.start()
        finalizing.wait()
        child = os.fork()
        if not child:
            os._exit(0 if gc.isenabled() else 3)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        forked.set()
        thread.join()
        assert gc.isenabled() and not mapped("mod")
        """
    )


def test_a_version_that_is_being_unloaded_is_left_alone(project: Project) -> None:
    project.write("mod.pyx", FINALIZED)
    outcome = project.run(
        """
        module = relib.load("mod.pyx")
        m = module.module
        seen = []
        m.keep(m.Del(lambda: seen.append(([str(p) for v in relib.retired() for p in v.pins],
                                          mapped("mod")))))
        del m
        assert module.unload().unloaded
        [(pins, count)] = seen
        assert count == 1, seen
        """
    )
    assert not outcome.errors


def test_an_interrupt_loses_no_version(project: Project) -> None:
    project.write(
        "mod.pyx",
        """
        class Odd:
            interrupts = 1
            def __getattr__(self, name):
                if Odd.interrupts:
                    Odd.interrupts = 0
                    raise KeyboardInterrupt
                raise RuntimeError(name)
        odd = Odd()
        """,
    )
    outcome = project.run(
        """
        module = relib.load("mod.pyx")
        held = module.module.odd
        try:
            module.unload()
        except KeyboardInterrupt:
            pass
        else:
            raise AssertionError
        [version] = relib.retired()
        assert len(version.pins) == 1, version.pins
        [pin] = version.pins
        assert pin.kind == "object" and pin.what == "a Odd", pin
        del held, version
        until(lambda: not mapped("mod"))
        assert relib.retired() == []
        """
    )
    assert not outcome.errors
