"""The floor: what the same save costs with relib's tools and without relib."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from relib.bench.conversation import Child, NotMeasured
from relib.bench.subject import Subject
from relib.bench.ways import Sample
from relib.building.elf import forbid_executable_stack
from relib.building.tiers import plans
from relib.building.toolchain import Toolchain
from relib.building.translate import DEFAULT_SHARED, cython_version
from relib.config import Config
from relib.errors import RelibError
from relib.extension import Extension

__all__ = ["Floor"]

_EXPORTS = "{ global: PyInit_*; local: *; };\n"


class Floor:
    """Cython in a warm process, the quickest compiler that can do it, and Python's import."""

    def __init__(
        self, subject: Subject, extension: Extension, config: Config, timeout: float
    ) -> None:
        self._subject = subject
        self._config = config
        self._extension = extension
        self._work = subject.root / ".floor"
        self._timeout = timeout
        self._child: Child | None = None
        self._toolchain: Toolchain | None = None

    @property
    def compiler(self) -> str:
        """The compiler that is used, once it has been."""
        return self._toolchain.family if self._toolchain is not None else ""

    def begin(self) -> None:
        """Start the process that has Cython imported."""
        self._work.mkdir()
        (self._work / "exports").write_text(_EXPORTS)
        root = self._subject.root
        paths = (self._subject.importable_from,)
        self._child = Child("relib.bench.floor", root, paths=paths, timeout=self._timeout)

    def edit(self, edition: int) -> dict[str, Sample]:
        """Save, translate, compile and import."""
        assert self._child is not None
        self._subject.save(edition)
        extension = self._in_the_copy()
        cplus = extension.language == "c++"
        sources = [
            self._work / f"{source.stem}.{'cpp' if cplus else 'c'}"
            if source.suffix in (".pyx", ".py")
            else source
            for source in extension.sources
        ]
        phases = {}
        if sources[0] != extension.main:
            phases["translate"] = self._child.ask(
                "translate",
                source=str(extension.main),
                name=extension.name,
                c_file=str(sources[0]),
                cplus=cplus,
                include_path=[*extension.cython_include_path, str(self._subject.root)],
                directives=dict((*self._config.directives, *extension.directives)),
                shared=DEFAULT_SHARED.format(version=cython_version().replace(".", "_")),
            )
        library = self._work / f"floor{edition}.so"
        phases["compile"] = self._compile(extension, sources, library)
        phases["load"] = self._child.ask("load", name=extension.name, library=str(library))
        return {"floor": Sample(sum(phases.values()), phases)}

    def _in_the_copy(self) -> Extension:
        def moved(path: Path) -> Path:
            root = self._config.root
            return self._subject.root / path.relative_to(root) if root in path.parents else path

        extension = self._extension
        return replace(
            extension,
            sources=tuple(map(moved, extension.sources)),
            include_dirs=tuple(str(moved(Path(each))) for each in extension.include_dirs),
            cython_include_path=tuple(
                str(moved(Path(each))) for each in extension.cython_include_path
            ),
        )

    def _compile(self, extension: Extension, sources: list[Path], library: Path) -> float:
        assert self._child is not None
        reason = "there is no compiler"
        for toolchain in self._toolchains(extension):
            try:
                commands = self._commands(toolchain, extension, sources, library)
                seconds: float = self._child.ask(
                    "run", commands=commands, directory=str(self._subject.root)
                )
            except RelibError as error:
                reason = str(error)
                continue
            self._toolchain = toolchain
            if toolchain.family == "tcc":  # glibc from 2.41 on would not open it
                forbid_executable_stack(library)
            return seconds
        raise NotMeasured(reason)

    def _toolchains(self, extension: Extension) -> Iterator[Toolchain]:
        if self._toolchain is not None:
            yield self._toolchain
            return
        for plan in plans(extension, self._config, "instant"):
            if plan.toolchain is not None:
                yield plan.toolchain

    def _commands(
        self, toolchain: Toolchain, extension: Extension, sources: list[Path], library: Path
    ) -> list[list[str]]:
        depfile = self._work / "floor.d"
        if toolchain.family == "tcc" and len(sources) == 1:
            return [toolchain.whole_command(sources[0], library, depfile, extension, ())]
        objects = [self._work / f"{number}.o" for number, _ in enumerate(sources)]
        return [
            *(
                toolchain.compile_command(source, object_, depfile, extension, ())
                for source, object_ in zip(sources, objects, strict=True)
            ),
            toolchain.link_command(objects, library, extension, self._work / "exports"),
        ]

    def end(self) -> None:
        """Stop the process."""
        if self._child is not None:
            self._child.__exit__()
            self._child = None
