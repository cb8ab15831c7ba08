"""Modules that cimport one another: bare pointers from one library into another."""

from __future__ import annotations

from conftest import Project

A_PXD = """
    cdef class Base:
        cdef public int n
        cdef int get(self)
    cdef int twice(int x) noexcept
    cdef int shared
"""
A = """
    # cython: language_level=3
    cdef class Base:
        def __init__(self, n=1): self.n = n
        cdef int get(self): return self.n
    cdef int twice(int x) noexcept: return 2 * x
    cdef int shared = 5
    def number(): return 1
"""
B = """
    # cython: language_level=3
    from a cimport Base, twice, shared
    cdef class Derived(Base):
        cdef int get(self): return 10 * self.n
    def use(int x): return twice(x) + shared
    def get(Base o): return o.get()
    def make(n): return Base(n), Derived(n)
"""


def write(project: Project) -> None:
    project.write("a.pxd", A_PXD)
    project.write("a.pyx", A)
    project.write("b.pyx", B)


def test_what_is_cimported_stays_as_long_as_it_is_used(project: Project) -> None:
    write(project)
    outcome = project.run(
        """
        for cycle in range(3):
            a = relib.load("a.pyx")
            b = relib.load("b.pyx")
            use, get, things = b.module.use, b.module.get, b.module.make(3)
            assert use(4) == 13 and [get(t) for t in things] == [3, 30]
            report = a.unload()
            assert not report.unloaded and mapped("a") == 1
            for _ in range(3):
                relib.reap()
                assert use(4) == 13 and [get(t) for t in things] == [3, 30]
            del use, get, things
            assert mapped("a") == 1 and b.module.use(4) == 13
            assert b.unload().unloaded
            until(lambda: not mapped("a") and not mapped("b"))
        """
    )
    assert not outcome.errors


def test_both_go_in_the_right_order_too(project: Project) -> None:
    write(project)
    outcome = project.run(
        """
        for cycle in range(3):
            a, b = relib.load("a.pyx"), relib.load("b.pyx")
            assert b.module.use(4) == 13
            assert b.unload().unloaded and not mapped("b")
            assert a.unload().unloaded and not mapped("a")
        """
    )
    assert not outcome.errors


def test_reloading_what_others_cimport_leaves_them_working(project: Project) -> None:
    write(project)
    outcome = project.run(
        """
        a, b = relib.load("a.pyx"), relib.load("b.pyx")
        thing = b.module.make(2)
        for edit in range(4):
            text = open("a.pyx").read()
            open("a.pyx", "w").write(text + f"\\ndef edit{edit}(): return {edit}")
            a.reload()
            assert getattr(a.module, f"edit{edit}")() == edit
            assert b.module.use(4) == 13
            assert b.module.get(b.module.make(5)[1]) == 50
            try:
                b.module.get(thing[0])
            except TypeError:
                pass  # an instance of the Base that was
            else:
                raise AssertionError
            relib.reap()
        del thing
        b.unload()
        until(lambda: mapped("a") <= 1 and not mapped("b") or gc.collect() and False)
        assert a.module.number() == 1
        """
    )
    assert not outcome.errors


def test_a_failed_cimport_leaves_nothing(project: Project) -> None:
    write(project)
    project.run(
        """
        try:
            relib.load("b.pyx")
        except relib.RelibError as error:
            assert "a" in str(error)
        else:
            raise AssertionError
        until(lambda: not mapped("b") or gc.collect() and False)
        relib.load("a.pyx")
        assert relib.load("b.pyx").module.use(1) == 7
        """
    )


def test_the_process_ends_in_any_state(project: Project) -> None:
    write(project)
    for state in ("", "a.unload()", "a.unload(); b.unload()", "a.reload(force=True)"):
        outcome = project.run(
            f"""
            a, b = relib.load("a.pyx"), relib.load("b.pyx")
            held = b.module.make(3), b.module.use
            {state}
            """
        )
        assert not outcome.errors
