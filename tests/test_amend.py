from __future__ import annotations

import json
import re
import subprocess
import sys
import sysconfig
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from relib.building.amend import amend
from relib.building.translate import cython_version, translate
from relib.config import load_config
from relib.extension import Extension

RELOADABLE = {"CYTHON_USE_TYPE_SPECS": 1, "CYTHON_USE_MODULE_STATE": 1, "CYTHON_USE_FREELISTS": 0}

# Loads modules by hand, as relib does: dlopen, exec, no reference of Cython's own, a reference from
# the namespace back to the module. The anchors own the types that Cython modules share.
HARNESS = """
import _ctypes, ctypes, faulthandler, gc, importlib.machinery, importlib.util, itertools, json, os
import shutil, sys, types, weakref
faulthandler.enable()
api = ctypes.pythonapi
api.PyModule_FromDefAndSpec2.restype = ctypes.py_object
api.PyModule_FromDefAndSpec2.argtypes = [ctypes.c_void_p, ctypes.py_object, ctypes.c_int]
api.PyModule_ExecDef.argtypes = [ctypes.py_object, ctypes.c_void_p]
api.Py_DecRef.argtypes = [ctypes.py_object]
number = itertools.count()

class Loaded:
    def __init__(self, library, name, keep=False):
        # a copy of its own: dlopen() would return the same library again
        self.path = f"{library}.{next(number)}"
        shutil.copy(library, self.path)
        self.handle = _ctypes.dlopen(self.path, os.RTLD_NOW)
        os.unlink(self.path)
        init = _ctypes.dlsym(self.handle, "PyInit_" + name)
        definition = ctypes.PYFUNCTYPE(ctypes.c_void_p)(init)()
        loader = importlib.machinery.ExtensionFileLoader(name, self.path)
        spec = importlib.util.spec_from_file_location(name, self.path, loader=loader)
        module = api.PyModule_FromDefAndSpec2(definition, spec, 1013)
        module.__dict__["__relib__"] = module
        self.weak = weakref.ref(module)
        try:
            api.PyModule_ExecDef(module, definition)
        finally:
            if not keep:
                sys.modules.pop(name, None)
        if not keep:
            api.Py_DecRef(module)
        self.module = module

    def drop(self):
        "Let go of the module; whether it died."
        self.module = None
        gc.collect()
        return self.weak() is None

    def close(self):
        _ctypes.dlclose(self.handle)
        with open("/proc/self/maps") as maps:
            assert self.path not in maps.read(), "still mapped"

class Info(ctypes.Structure):
    _fields_ = [(field, ctypes.c_size_t) for field in "a b c d e f g used h i".split()]

libc = ctypes.CDLL(None)
libc.mallinfo2.restype = Info

def memory():
    gc.collect()
    return libc.mallinfo2().used, sys.getallocatedblocks()

def growth(cycle, count=100):
    "Bytes and Python objects that a cycle leaves behind; tables that grew once do not count."
    for _ in range(30):
        cycle()
    samples = [memory()]
    for _ in range(3):
        for _ in range(count):
            cycle()
        samples.append(memory())
    return [min((b[k] - a[k]) / count for a, b in zip(samples, samples[1:])) for k in (0, 1)]

arguments = sys.argv[1:]
for anchor in ("anchor", "async_anchor"):
    Loaded(f"{arguments[0]}/{anchor}.so", anchor, keep=True)
"""

ANCHOR = """
    # cython: language_level=3
    ctypedef fused number:
        int
        double
    def fused(number x): return x
    def generator(): yield 1
    async def coroutine(): return await coroutine()
    def closure(x):
        def inner(): return x
        return inner
    cdef class Class:
        cpdef method(self): return self
"""

USES = """
    # cython: language_level=3
    import array

    cdef object cache = {}
    cdef public object public_object = []
    cdef list instances = []
    cdef type kind = int
    cdef Exporter instance = Exporter()
    cdef Exporter second
    cdef int[:] view
    cdef int[:] part
    cdef double[:] numbers
    cdef Plain plain

    cpdef enum Color:
        RED = 1
        GREEN = 2

    cdef class Exporter:
        cdef public object other
        cdef int[4] data
        cdef Py_ssize_t[1] shape, strides
        def __getbuffer__(self, Py_buffer *b, int flags):
            self.shape[0] = 4; self.strides[0] = 4
            b.buf = self.data; b.obj = self; b.len = 16; b.itemsize = 4; b.ndim = 1
            b.format = 'i'; b.readonly = 0; b.internal = NULL; b.suboffsets = NULL
            b.shape = self.shape; b.strides = self.strides
        def __dealloc__(self): helper(self.shape[0])
        cpdef int method(self): return 1

    cdef class Plain:
        cdef public int x
    cdef class Derived(Plain):
        cdef int y
    cdef class Problem(Exception):
        cdef int code
    cdef class Everything:
        cdef dict __dict__
        cdef object __weakref__
    class InPython(Derived):
        pass

    def helper(x): return x
    def generator():
        try: yield 1
        finally: helper(2)
    async def coroutine(): return 1
    def closure(x):
        def inner(): return x
        return inner
    def divide(x): return 1 / x

    def use_nothing(): pass
    def use_global_object(): cache["f"] = use_global_object; instances.append(Exporter())
    def use_public_object(): global public_object; public_object = use_public_object
    def use_global_type(): global kind; kind = Exporter
    def use_global_instance(): global second; second = Exporter(); second.other = second
    def use_global_plain_instance(): global plain; plain = Derived()
    def use_memoryview(): global view; view = Exporter()
    def use_two_memoryviews(): global view, part; view = Exporter(); part = view[1:3]
    def use_memoryview_of_array(): global numbers; numbers = array.array("d", [1, 2])
    def use_traceback():
        try: divide(0)
        except ZeroDivisionError: pass
    def use_enum(): assert Color.RED + 1 == GREEN
    def use_closure(): global c; c = closure(use_closure)
    def use_generator(): global g; g = generator(); next(g); cache["g"] = generator()
    def use_coroutine():
        try: coroutine().send(None)
        except StopIteration as done: assert done.value == 1
    def use_builtins(): print("", end=""); assert sorted({1: 2}.items())[0] == (1, 2)
    def use_strings(s="abc"): assert f"{s!r:>6} {s.upper()}" == " 'abc' ABC"; "%s" % [s].pop()
    def use_plain_instances(): global some; some = [Plain(), Derived()]
    def use_python_subclass(): global p; p = InPython(); p.itself = p
    def use_dict_and_weakref(): global e; e = Everything(); e.itself = e
    def use_exception():
        try: raise Problem("x")
        except Problem as problem: cache["problem"] = problem
"""

LATE = """
    # cython: language_level=3
    import sys
    log = sys.modules["log"].log
    cdef class Node:
        cdef public object other
        def __dealloc__(self): helper("dealloc")
    cdef class Finalized:
        cdef public object other
        def __del__(self): helper("del")
    def helper(x): log.append(x)
    where = []
"""

OWNER_PXD = """
    cdef class Base:
        cdef int n
    cdef int twice(int x)
    cdef object thing
"""
OWNER = """
    # cython: language_level=3
    cdef class Base: pass
    cdef int twice(int x): return 2 * x
    cdef object thing = "thing"
"""
USER = """
    # cython: language_level=3
    from owner cimport Base, twice, thing
    cdef class Sub(Base):
        cdef public object other
        def __dealloc__(self): self.close()
        def close(self): pass
    def use(x): return twice(x), thing
"""
CALLER = """
    # cython: language_level=3
    from owner cimport twice
    def use(x): return twice(x)
"""

CPLUSPLUS = """
    # distutils: language = c++
    # cython: language_level=3
    from libcpp.string cimport string
    cdef extern from *:
        '''
        #include <stdexcept>
        struct Engine { int go(int x) { if (x < 0) throw std::out_of_range("x"); return x; } };
        '''
        cdef cppclass Engine:
            int go(int) except +
    cdef object cache = {}
    cdef public object public_object = None
    cdef Holder instance
    cdef int[:] view
    cdef class Holder:
        cdef Engine engine
        cdef string *text
        cdef public object other
        def __cinit__(self): self.text = new string(b"x")
        def __dealloc__(self): del self.text
        def go(self, x): return self.engine.go(x)
    def use():
        global instance, view, public_object
        import array
        instance = Holder()
        instance.other = use
        assert instance.go(3) == 3
        try: instance.go(-1)
        except IndexError: pass
        cache["use"] = public_object = use
        view = array.array("i", [1])
"""

FAILING = """
    # cython: language_level=3
    cdef object cache = {}
    def f(): pass
    cdef class A:
        cdef int x
    def fail(): raise ValueError("not today")
    cache[1] = [f, A(), A]
    fail()
"""


@dataclass
class Workshop:
    """Modules that have been made, and processes that use them."""

    root: Path

    def generate(self, name: str, text: str, **others: str) -> Path:
        """The C of a module."""
        for other, content in {f"{name}.pyx": text, **others}.items():
            (self.root / other.replace("_pxd", ".pxd")).write_text(textwrap.dedent(content))
        source = self.root / f"{name}.pyx"
        c_file = self.root / f"{name}{'.cpp' if 'language = c++' in text else '.c'}"
        config = load_config(self.root, {})
        language = "c++" if "language = c++" in text else "c"
        extension = Extension(name, (source,), language=language)
        return translate(extension, source, c_file, config=config, shared=None).c_file

    def compile(
        self, c_file: Path, library: Path, *, macros: dict[str, int], flags: Sequence[str] = ()
    ) -> str:
        """Compile; the warnings."""
        done = subprocess.run(
            [
                "g++" if c_file.suffix == ".cpp" else "gcc",
                *("-O0", "-g0", "-fPIC", "-shared", *flags),
                *(f"-D{name}={value}" for name, value in macros.items()),
                *("-I", sysconfig.get_paths()["include"], str(c_file), "-o", str(library)),
            ],
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stderr

    def make(self, name: str, text: str, **others: str) -> Path:
        """A reloadable module."""
        library = self.root / f"{name}.so"
        if not library.exists():
            c_file = self.generate(name, text, **others)
            amended = amend(c_file.read_text())
            assert amended.missed == ()
            c_file.write_text(amended.text)
            self.compile(c_file, library, macros=RELOADABLE)
        return library

    def run(self, script: str, *arguments: object) -> object:
        """What a process says that has the harness; `arguments` start with this directory."""
        done = subprocess.run(
            [sys.executable, "-c", HARNESS + textwrap.dedent(script), self.root, *arguments],
            capture_output=True,
            text=True,
            timeout=600,
            cwd=self.root,
            check=False,
        )
        assert done.returncode == 0, done.stderr + done.stdout
        assert not done.stderr, done.stderr
        return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    shop = Workshop(tmp_path_factory.mktemp("amend"))
    more = "    async def asynchronous(): yield 1\n"
    for name, text in {"anchor": ANCHOR, "async_anchor": ANCHOR + more}.items():
        c_file = shop.generate(name, text)
        shop.compile(c_file, shop.root / f"{name}.so", macros={"CYTHON_USE_FREELISTS": 0})
    return shop


@pytest.fixture(scope="module")
def uses(workshop: Workshop) -> Path:
    return workshop.make("uses", USES)


def names_of_uses() -> list[str]:
    return re.findall(r"def (use_\w+)\(", USES)


# --- unloading -----------------------------------------------------------------------------------


def test_a_module_dies_whatever_it_was_used_for(workshop: Workshop, uses: Path) -> None:
    script = """
    dead = {}
    for use in arguments[2:]:
        print(use, flush=True)  # the last one, where it crashes
        dead[use] = []
        for _ in range(3):
            loaded = Loaded(arguments[1], "uses")
            getattr(loaded.module, use)()
            dead[use].append(loaded.drop())
            loaded.close()
    print(json.dumps(dead))
    """
    names = names_of_uses()
    assert len(names) > 15
    assert workshop.run(script, uses, *names) == {name: [True, True, True] for name in names}


def test_nothing_is_left_behind(workshop: Workshop, uses: Path) -> None:
    script = """
    def cycle():
        loaded = Loaded(arguments[1], "uses")
        for use in arguments[2:]:
            getattr(loaded.module, use)()
        assert loaded.drop()
        loaded.close()
    print(json.dumps(growth(cycle)))
    """
    size, objects = workshop.run(script, uses, *names_of_uses())  # type: ignore[misc]
    assert size < 64
    assert objects < 1


def test_a_module_that_fails_to_load_leaves_nothing_behind(workshop: Workshop) -> None:
    library = workshop.make("failing", FAILING)
    script = """
    def cycle():
        try:
            Loaded(arguments[1], "failing")
        except ValueError:
            pass
        else:
            raise AssertionError
        gc.collect()
    print(json.dumps(growth(cycle)))
    """
    # The library itself is not closed here: nobody has its handle. dlopen's own bookkeeping for it
    # is what remains; a module's strings, types and functions are ten times that.
    size, objects = workshop.run(script, library)  # type: ignore[misc]
    assert size < 4096
    assert objects < 1


def test_cplusplus(workshop: Workshop) -> None:
    library = workshop.make("engine", CPLUSPLUS)
    script = """
    loaded = Loaded(arguments[1], "engine")
    loaded.module.use()
    print(json.dumps(loaded.drop()))
    """
    assert workshop.run(script, library) is True


def test_what_escapes_goes_on_working(workshop: Workshop, uses: Path) -> None:
    script = """
    loaded = Loaded(arguments[1], "uses")
    module = loaded.module
    module.use_global_object(), module.use_two_memoryviews(), module.use_global_instance()
    escaped = module.use_memoryview, module.use_traceback, module.use_enum, module.Exporter()
    del module
    held = not loaded.drop()
    for function in escaped[:3]:
        function()
    assert escaped[3].method() == 1
    function = escaped = None
    print(json.dumps([held, loaded.drop()]))
    """
    assert workshop.run(script, uses) == [True, True]


def test_without_the_edits_it_would_not_die(workshop: Workshop) -> None:
    c_file = workshop.generate("stubborn", "cdef object keep = None\ndef f(): pass\nkeep = f\n")
    workshop.compile(c_file, workshop.root / "stubborn.so", macros=RELOADABLE)
    script = """
    loaded = Loaded(arguments[1], "stubborn")
    print(json.dumps(loaded.drop()))
    """
    assert workshop.run(script, workshop.root / "stubborn.so") is False


@pytest.mark.parametrize(
    ("where", "calls"),
    [
        ("module.name = module.Node()", ["dealloc"]),
        ("module.where.append(module.Node())", ["dealloc"]),
        ("import functools; module.partial = functools.partial(print, module.Node())", ["dealloc"]),
        ("node = module.Node(); node.other = node; del node", []),
        ("node = module.Finalized(); node.other = node; del node", ["del"]),
    ],
)
def test_instances_that_die_with_their_module(
    workshop: Workshop, where: str, calls: list[str]
) -> None:
    library = workshop.make("late", LATE)
    script = f"""
    sys.modules["log"] = types.ModuleType("log")
    log = sys.modules["log"].log = []
    loaded = Loaded(arguments[1], "late")
    module = loaded.module
    {where}
    del module
    dead = loaded.drop()
    loaded.close()
    print(json.dumps([dead, log]))
    """
    dead, log = workshop.run(script, library)  # type: ignore[misc]
    assert dead
    assert log == calls


def test_an_instance_with_a_base_from_elsewhere_dies_late(workshop: Workshop) -> None:
    owner = workshop.make("owner", OWNER, owner_pxd=OWNER_PXD)
    user = workshop.make("user", USER)
    script = """
    base = Loaded(arguments[1], "owner")
    sys.modules["owner"] = base.module
    loaded = Loaded(arguments[2], "user")
    instance = loaded.module.Sub()
    instance.other = [instance, loaded.module.Sub()]
    del instance, sys.modules["owner"]
    dead = [loaded.drop(), base.drop()]
    loaded.close(), base.close()
    print(json.dumps(dead))
    """
    assert workshop.run(script, owner, user) == [True, True]


def test_a_module_whose_functions_are_cimported_stays(workshop: Workshop) -> None:
    owner = workshop.make("owner", OWNER, owner_pxd=OWNER_PXD)
    caller = workshop.make("caller", CALLER)
    script = """
    base = Loaded(arguments[1], "owner")
    sys.modules["owner"] = base.module
    loaded = Loaded(arguments[2], "caller")
    del sys.modules["owner"]
    kept = not base.drop()
    assert loaded.module.use(4) == 8
    dead = [loaded.drop(), base.drop()]
    loaded.close(), base.close()
    print(json.dumps([kept, *dead]))
    """
    assert workshop.run(script, owner, caller) == [True, True, True]


# --- the edits themselves ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "text", "others", "macros"),
    [
        ("uses", USES, {}, [RELOADABLE, {}]),  # and as usual, without any macros
        ("late", LATE, {}, [RELOADABLE]),
        ("engine", CPLUSPLUS, {}, [RELOADABLE]),
        ("caller", CALLER, {"owner_pxd": OWNER_PXD}, [RELOADABLE]),
        ("nothing", "", {}, [RELOADABLE]),
    ],
    ids=["uses", "late", "engine", "caller", "nothing"],
)
def test_the_edits_bring_no_warnings(
    tmp_path: Path, name: str, text: str, others: dict[str, str], macros: list[dict[str, int]]
) -> None:
    shop = Workshop(tmp_path)
    c_file = shop.generate(name, text, **others)
    flags = ["-c", "-Wall", "-Wextra"]

    def warnings(macros: dict[str, int]) -> set[str]:
        output = shop.compile(c_file, tmp_path / "x", macros=macros, flags=flags)
        return {line.partition(": warning: ")[2] for line in output.splitlines()} - {""}

    before = [warnings(each) for each in macros]
    c_file.write_text(amend(c_file.read_text()).text)
    for known, each in zip(before, macros, strict=True):
        assert warnings(each) <= known


def test_a_module_compiled_as_usual_works_as_usual(workshop: Workshop, tmp_path: Path) -> None:
    shop = Workshop(tmp_path)
    c_file = shop.generate("usual", USES)
    c_file.write_text(amend(c_file.read_text()).text)
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    shop.compile(c_file, tmp_path / f"usual{suffix}", macros={})
    script = """
    sys.path.insert(0, arguments[1])
    import usual
    for use in arguments[2:]:
        getattr(usual, use)()
    print(json.dumps(usual.Exporter().method()), flush=True)
    os._exit(0)
    """
    assert workshop.run(script, tmp_path, *names_of_uses()) == 1


def test_the_edits_are_named(workshop: Workshop, tmp_path: Path) -> None:
    shop = Workshop(tmp_path)
    edits = set(amend(shop.generate("uses", USES).read_text()).edits)
    always = {"state", "namespace", "code cache", "free"}
    older = set() if cython_version() >= "3.3" else {"types", "failure"}
    assert edits == {*always, *older, "globals", "builtins", "locks", "members", "late"}
    edits = set(amend(shop.generate("caller", CALLER, owner_pxd=OWNER_PXD).read_text()).edits)
    assert edits >= {*always, "imports"}
    edits = set(amend(shop.generate("engine", CPLUSPLUS).read_text()).edits)
    assert "late" not in edits  # its __dealloc__ is plain C++


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("globals", lambda text: re.sub("(?i)global_init_code", "global_setup", text)),
        ("builtins", lambda text: text.replace("InitCachedBuiltins", "InitBuiltins")),
        ("state", lambda text: text.replace("MultiPhaseInitModuleState */", "ModuleState */")),
        ("state", lambda text: text.replace("__Pyx_State_AddModule(PyObject* m", "(PyObject *m")),
        ("free", lambda text: text.replace("/* m_clear */", "/* clear */")),
    ],
)
def test_an_edit_without_its_place_is_left_out(
    tmp_path: Path, name: str, damage: Callable[[str], str]
) -> None:
    shop = Workshop(tmp_path)
    text = shop.generate("uses", USES).read_text()
    amended = amend(damage(text))
    assert amended.missed == (name,)
    assert name not in amended.edits
    assert "namespace" in amended.edits


@pytest.mark.parametrize("text", ["", "int main(void) { return 0; }\n"])
def test_other_c_is_left_as_it_is(text: str) -> None:
    amended = amend(text)
    assert amended.text == text
    assert amended.edits == ()
    assert "globals" in amended.missed
