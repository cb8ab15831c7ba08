"""A save is answered by an instant build, and the optimized one takes its place."""

from __future__ import annotations

from conftest import Project

FAST = "def f(): return 1"


def test_the_optimized_build_follows_the_instant_one(project: Project) -> None:
    project.write("fast.pyx", FAST)
    project.run(
        """
        with relib.watch() as session:
            fast = relib.load("fast.pyx")
            from fast import f
            assert (fast.build.tier, f()) == ("instant", 1)
            event = session.wait(60, "reloaded")
            assert event.report.action == "optimize", event
            assert (fast.build.tier, f(), fast.version) == ("optimized", 1, 2)
            for n in range(2, 4):
                open("fast.pyx", "w").write(f"def f(): return {n}")
                event = session.wait(60, "reloaded")
                assert (event.report.action, fast.build.tier, f()) == ("reload", "instant", n)
                assert "· instant ·" in str(event.report)
                event = session.wait(60, "reloaded")
                assert (event.report.action, fast.build.tier, f()) == ("optimize", "optimized", n)
            # the same contents again are no news in either tier
            open("fast.pyx", "a").close()
            assert fast.reload() is None
            until(lambda: mapped("fast") == 1)
        assert fast.reload() is None
        """
    )


def test_a_newer_save_overtakes_the_optimized_build(project: Project) -> None:
    project.write("fast.pyx", FAST)
    project.run(
        """
        with relib.watch() as session:
            fast = relib.load("fast.pyx")
            for n in range(2, 7):
                open("fast.pyx", "w").write(f"def f(): return {n}")
                while fast.module.f() != n:
                    assert session.wait(60, "reloaded")
            while fast.build.tier != "optimized":
                assert session.wait(60, "reloaded")
            assert fast.module.f() == 6
            until(lambda: mapped("fast") == 1)
        """
    )


def test_a_program_without_a_session_gets_the_optimized_build_at_once(project: Project) -> None:
    project.write("fast.pyx", FAST)
    project.run(
        """
        fast = relib.load("fast.pyx")
        assert fast.build.tier == "optimized"
        assert relib.load("fast.pyx", name="other", config=relib.load_config(
            fast.build.config.root, tier="instant")).build.tier == "instant"
        """
    )


def test_compilers_of_optimized_builds_give_way_also_in_a_program_that_does(
    project: Project,
) -> None:
    project.write("fast.pyx", FAST)
    compiler = project.root / "compiler"
    compiler.write_text('#!/bin/sh\nnice >> niceness\nexec gcc "$@"\n')
    compiler.chmod(0o700)
    project.run(
        """
        niceness = os.nice(1)
        with relib.watch() as session:
            fast = relib.load("fast.pyx")
            open("fast.pyx", "w").write("def f(): return 'nice'")
            while fast.build.tier != "optimized" or fast.module.f() != "nice":
                assert session.wait(60, "reloaded")
            assert int(open("niceness").read().split()[-1]) == min(niceness + 5, 19)
        """,
        CC=str(compiler),
    )


def test_an_optimized_build_takes_those_along_that_cimport_it(project: Project) -> None:
    project.write("base.pxd", "cdef int g(int x)")
    project.write("base.pyx", "cdef int g(int x): return x + 1")
    project.write("top.pyx", "from base cimport g\ndef f(): return g(0)")
    project.run(
        """
        failures, steps = [], []
        with relib.watch(apply="poll") as session:
            session.on("build_failed", failures.append)
            session.on("about_to_reload", lambda event: steps.append(event.modules))
            base, top = relib.load("base.pyx"), relib.load("top.pyx")
            assert (base.build.tier, top.build.tier) == ("instant", "instant")
            until(lambda: session.ready == ("base", "top"), 60)
            while base.build.tier != "optimized" or top.build.tier != "optimized":
                assert session.wait(60, "reloaded")
            assert (("base", "top") in steps, top.module.f(), failures) == (True, 1, []), steps
        """
    )
