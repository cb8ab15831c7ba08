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
