"""Pickles that try to run something: none does, in any reader that takes pickles.

Each makes a file MARK in the working folder when Python's own pickle loads it: otherwise it would prove nothing.
"""

from __future__ import annotations

import io
import os
import pickle
import struct
import zipfile
from pathlib import Path
from typing import Any, Callable

import numpy as np
import pytest
import torch

from cmg_ref.clips.formats.readers import read_clip
from cmg_ref.clips.formats.writers import write_npz
from cmg_ref.clips.motion_clip import ClipError, MotionClip
from cmg_ref.evaluation.evaluated_motion import read_motion
from cmg_ref.network.checkpoint import CheckpointError
from cmg_ref.network.legacy_checkpoint import import_legacy_checkpoint, load_torch_file
from cmg_ref.robots.robot import load_g1
from cmg_ref.training.training_state import read_saved_config
from envs.learning.policy import PolicyError, read_checkpoint

MARK = "mark"
TOUCH = f"touch {MARK}"
OPEN = f"open({MARK!r}, 'w').close()"


# --- Writing pickles by hand -----------------------------------------------------------------------------------------


def text(value: str) -> bytes:
    """Pushes a text."""
    return pickle.BINUNICODE + struct.pack("<I", len(value.encode())) + value.encode()


def binary(content: bytes) -> bytes:
    """Pushes bytes."""
    return pickle.BINBYTES + struct.pack("<I", len(content)) + content


def name(module: str, function: str) -> bytes:
    """Pushes what a name stands for."""
    return pickle.GLOBAL + f"{module}\n{function}\n".encode()


def dotted(module: str, path: str) -> bytes:
    """The same in the way of protocol 4, which follows dots."""
    return text(module) + text(path) + pickle.STACK_GLOBAL


def call(function: bytes, *arguments: bytes) -> bytes:
    """Calls a function."""
    return function + pickle.MARK + b"".join(arguments) + pickle.TUPLE + pickle.REDUCE


def attribute(owner: bytes, attribute_name: str) -> bytes:
    """Gets an attribute."""
    return call(name("builtins", "getattr"), owner, text(attribute_name))


def number(value: int) -> bytes:
    """Pushes a number below 65536."""
    return pickle.BININT2 + struct.pack("<H", value)


def listed(*values: bytes) -> bytes:
    """Pushes a list."""
    return pickle.MARK + b"".join(values) + pickle.LIST


def dictionary(**values: bytes) -> bytes:
    """Pushes a dictionary."""
    return pickle.MARK + b"".join(text(key) + value for key, value in values.items()) + pickle.DICT


def program(body: bytes, protocol: int = 4) -> bytes:
    """A whole pickle."""
    return (pickle.PROTO + bytes([protocol]) if protocol >= 2 else b"") + body + pickle.STOP


class Reduced:
    """Pickles as a call."""

    def __init__(self, *parts: object) -> None:
        self.parts = parts

    def __reduce_ex__(self, protocol: int) -> tuple[object, ...]:  # type: ignore[override]
        """What pickle is to call."""
        return self.parts


SYSTEM = name("os", "system")
ATTACK = call(SYSTEM, text(TOUCH))
OS = call(name("importlib", "import_module"), text("os"))
CODE = call(name("builtins", "compile"), text(OPEN), text("x"), text("exec"))
MEMMAP = name("numpy", "memmap")
WRITTEN = text(MARK) + text("u1") + text("w+") + number(0) + number(7)
EXEC = name("builtins", "exec")
INNER = pickle.dumps(Reduced(os.system, (TOUCH,)), 2)


def made_up(method: str, function: bytes = SYSTEM) -> bytes:
    """Pushes an object of a class that the pickle makes up, with one method."""
    methods = pickle.EMPTY_DICT + text(method) + function + pickle.SETITEM
    kind = call(name("builtins", "type"), text("T"), name("builtins", "object") + pickle.TUPLE1, methods)
    return kind + pickle.EMPTY_TUPLE + pickle.NEWOBJ


def npy_of_objects(content: bytes) -> bytes:
    """A file of numpy's format with an array of objects, whose pickle is `content`."""
    buffer = io.BytesIO()
    header = {"descr": "|O", "fortran_order": False, "shape": (1,)}
    np.lib.format.write_array_header_1_0(buffer, header)
    return buffer.getvalue() + content


def torch_file_of(value: object) -> bytes:
    """A file of `torch.save`."""
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def in_memory(content: bytes) -> bytes:
    """Pushes a file in memory."""
    return call(name("io", "BytesIO"), binary(content))


TRICKS: dict[str, bytes] = {
    # The same calls in every protocol, as Python itself writes them.
    **{f"os.system, protocol {n}": pickle.dumps(Reduced(os.system, (TOUCH,)), n) for n in range(6)},
    **{f"eval, protocol {n}": pickle.dumps(Reduced(eval, (OPEN,)), n) for n in range(6)},
    # Functions that run something.
    "exec": program(call(EXEC, text(OPEN))),
    "eval of Python 2": program(call(name("__builtin__", "eval"), text(OPEN)), 2),
    "posix.system": program(call(name("posix", "system"), text(TOUCH))),
    "os.popen": program(call(attribute(call(name("os", "popen"), text(TOUCH)), "read"))),
    "os.spawnlp": program(call(name("os", "spawnlp"), number(0), text("touch"), text("touch"), text(MARK))),
    "subprocess.call": program(call(name("subprocess", "call"), listed(text("touch"), text(MARK)))),
    "subprocess.check_output": program(call(name("subprocess", "check_output"), listed(text("touch"), text(MARK)))),
    "subprocess.getoutput": program(call(name("subprocess", "getoutput"), text(TOUCH))),
    "subprocess.Popen": program(
        call(attribute(call(name("subprocess", "Popen"), listed(text("touch"), text(MARK))), "wait"))
    ),
    "timeit.timeit": program(call(name("timeit", "timeit"), text(OPEN))),
    "cProfile.run": program(call(name("cProfile", "run"), text(OPEN), text("profile"))),
    "code.InteractiveInterpreter": program(
        call(attribute(call(name("code", "InteractiveInterpreter")), "runsource"), text(OPEN))
    ),
    "runpy._run_code": program(call(name("runpy", "_run_code"), CODE, pickle.EMPTY_DICT)),
    "types.FunctionType": program(call(call(name("types", "FunctionType"), CODE, call(name("builtins", "globals"))))),
    "ctypes.CDLL": program(
        call(attribute(call(name("ctypes", "CDLL"), pickle.NONE), "system"), binary(TOUCH.encode()))
    ),
    "ctypes.pythonapi": program(
        call(attribute(name("ctypes", "pythonapi"), "PyRun_SimpleString"), binary(OPEN.encode()))
    ),
    # Functions that write files.
    "open": program(call(name("builtins", "open"), text(MARK), text("w"))),
    "io.open": program(call(name("io", "open"), text(MARK), text("w"))),
    "_io.FileIO": program(call(name("_io", "FileIO"), text(MARK), text("w"))),
    "codecs.open": program(call(name("codecs", "open"), text(MARK), text("w"))),
    "os.mkdir": program(call(name("os", "mkdir"), text(MARK))),
    "os.symlink": program(call(name("os", "symlink"), text("."), text(MARK))),
    "shutil.copyfile": program(call(name("shutil", "copyfile"), text("/etc/passwd"), text(MARK))),
    "logging.FileHandler": program(call(name("logging", "FileHandler"), text(MARK))),
    "zipfile.ZipFile": program(call(name("zipfile", "ZipFile"), text(MARK), text("w"))),
    "Path.touch": program(call(dotted("pathlib", "Path.touch"), call(name("pathlib", "Path"), text(MARK)))),
    "Path.write_text": program(
        call(dotted("pathlib", "Path.write_text"), call(name("pathlib", "PosixPath"), text(MARK)), text("x"))
    ),
    "numpy.ndarray.tofile": program(
        call(dotted("numpy", "ndarray.tofile"), call(name("numpy", "zeros"), number(1)), text(MARK))
    ),
    "tofile of an array": program(call(attribute(call(name("numpy", "zeros"), number(1)), "tofile"), text(MARK))),
    "numpy.memmap": program(call(name("numpy", "memmap"), text(MARK), text("u1"), text("w+"), number(0), number(7))),
    "numpy.savetxt": program(call(name("numpy", "savetxt"), text(MARK), listed(number(1)))),
    "torch.save": program(call(name("torch", "save"), pickle.NONE, text(MARK))),
    "torch.from_file": program(call(name("torch", "from_file"), text(MARK), pickle.NEWTRUE, number(1))),
    # Ways round a list of forbidden names.
    "getattr": program(call(attribute(OS, "system"), text(TOUCH))),
    "getattr of builtins": program(
        call(attribute(call(name("builtins", "__import__"), text("builtins")), "eval"), text(OPEN))
    ),
    "__import__": program(call(attribute(call(name("builtins", "__import__"), text("os")), "system"), text(TOUCH))),
    "importlib.__import__": program(
        call(attribute(call(name("importlib", "__import__"), text("os")), "system"), text(TOUCH))
    ),
    "pydoc.locate": program(call(call(name("pydoc", "locate"), text("os.system")), text(TOUCH))),
    "operator.attrgetter": program(call(call(call(name("operator", "attrgetter"), text("system")), OS), text(TOUCH))),
    "operator.methodcaller": program(call(call(name("operator", "methodcaller"), text("system"), text(TOUCH)), OS)),
    "functools.partial": program(call(call(name("functools", "partial"), SYSTEM, text(TOUCH)))),
    "functools.reduce": program(
        call(call(name("functools", "reduce"), name("builtins", "getattr"), listed(OS, text("system"))), text(TOUCH))
    ),
    "map": program(call(name("builtins", "list"), call(name("builtins", "map"), SYSTEM, listed(text(TOUCH))))),
    "itertools.starmap": program(
        call(name("builtins", "list"), call(name("itertools", "starmap"), SYSTEM, listed(text(TOUCH) + pickle.TUPLE1)))
    ),
    "sys.modules": program(
        call(attribute(call(attribute(name("sys", "modules"), "get"), text("os")), "system"), text(TOUCH))
    ),
    "a dot to another module": program(call(dotted("subprocess", "os.system"), text(TOUCH))),
    "a dot out of torch": program(call(dotted("torch.serialization", "os.system"), text(TOUCH))),
    "a dot out of numpy": program(call(dotted("numpy.lib._datasource", "os.system"), text(TOUCH))),
    "a dot to a method": program(call(dotted("os", "system.__call__"), text(TOUCH))),
    "a dot to builtins": program(call(dotted("builtins", "eval.__self__.exec"), text(OPEN))),
    # Every opcode that calls something.
    "INST": program(pickle.MARK + text(TOUCH) + pickle.INST + b"os\nsystem\n", 0),
    "OBJ": program(pickle.MARK + SYSTEM + text(TOUCH) + pickle.OBJ, 1),
    "NEWOBJ": program(MEMMAP + pickle.MARK + WRITTEN + pickle.TUPLE + pickle.NEWOBJ),
    "NEWOBJ_EX": program(
        MEMMAP
        + pickle.EMPTY_TUPLE
        + dictionary(filename=text(MARK), mode=text("w+"), shape=number(7))
        + pickle.NEWOBJ_EX
    ),
    "BUILD": program(made_up("__setstate__") + text(TOUCH) + pickle.BUILD),
    "APPEND": program(made_up("append") + text(TOUCH) + pickle.APPEND),
    "APPENDS": program(made_up("append") + pickle.MARK + text(TOUCH) + pickle.APPENDS),
    "ADDITEMS": program(made_up("add") + pickle.MARK + text(TOUCH) + pickle.ADDITEMS),
    "SETITEM": program(made_up("__setitem__", EXEC) + text(OPEN) + pickle.EMPTY_DICT + pickle.SETITEM),
    "SETITEMS": program(made_up("__setitem__", EXEC) + pickle.MARK + text(OPEN) + pickle.EMPTY_DICT + pickle.SETITEMS),
    "EXT1": program(
        call(name("copyreg", "add_extension"), text("os"), text("system"), number(119))
        + pickle.POP
        + call(pickle.EXT1 + b"\x77", text(TOUCH))
    ),
    "EXT2": program(
        call(name("copyreg", "add_extension"), text("posix"), text("system"), number(0x178))
        + pickle.POP
        + call(pickle.EXT2 + b"\x78\x01", text(TOUCH))
    ),
    # Places where nobody looks.
    "memo": program(
        text(TOUCH)
        + pickle.MEMOIZE
        + pickle.POP
        + SYSTEM
        + pickle.MEMOIZE
        + pickle.BINGET
        + b"\0"
        + pickle.TUPLE1
        + pickle.REDUCE
    ),
    "key of a dictionary": program(pickle.EMPTY_DICT + ATTACK + pickle.NONE + pickle.SETITEM),
    "member of a set": program(pickle.EMPTY_SET + pickle.MARK + ATTACK + pickle.ADDITEMS),
    "thrown away": program(ATTACK + pickle.POP + pickle.EMPTY_DICT),
    "thrown away with a mark": program(pickle.MARK + ATTACK + pickle.POP_MARK + pickle.EMPTY_DICT),
    "in a frame": program(pickle.FRAME + struct.pack("<Q", len(ATTACK) + 1) + ATTACK),
    "after a good field": program(
        pickle.EMPTY_DICT
        + text("fps")
        + pickle.BININT1
        + b"\x1e"
        + pickle.SETITEM
        + text("x")
        + ATTACK
        + pickle.SETITEM
    ),
    "an argument of an array": program(
        call(name("numpy.core.multiarray", "scalar"), call(name("numpy", "dtype"), text("f8")), ATTACK)
    ),
    "the type of an array": program(call(name("numpy", "ndarray"), pickle.EMPTY_TUPLE, ATTACK)),
    "an argument of a tensor": program(call(name("torch._utils", "_rebuild_tensor_v2"), ATTACK)),
    "items of an ordered dictionary": program(
        call(name("collections", "OrderedDict"), listed(listed(text("a"), ATTACK)))
    ),
    "the factory of a dictionary": program(
        call(
            attribute(
                call(name("collections", "defaultdict"), call(name("functools", "partial"), SYSTEM, text(TOUCH))),
                "__missing__",
            ),
            pickle.NONE,
        )
    ),
    # Loaders inside of the loader.
    "pickle.loads": program(call(name("pickle", "loads"), binary(INNER))),
    "_pickle.loads": program(call(name("_pickle", "loads"), binary(INNER))),
    "pickle.Unpickler": program(call(attribute(call(name("pickle", "Unpickler"), in_memory(INNER)), "load"))),
    "numpy.load": program(call(name("numpy", "load"), in_memory(npy_of_objects(INNER)), pickle.NONE, pickle.NEWTRUE)),
    "torch.load": program(
        call(name("torch.storage", "_load_from_bytes"), binary(torch_file_of(Reduced(os.system, (TOUCH,)))))
    ),
    "marshal.loads": program(
        call(
            call(
                name("types", "FunctionType"),
                call(name("marshal", "loads"), call(name("marshal", "dumps"), CODE)),
                call(name("builtins", "globals")),
            )
        )
    ),
}

REFUSED = {
    # What Python's own pickle does not run either, here or without help from the program that loads it.
    "an unknown name": program(name("__main__", "anything")),
    "a name in other letters": program(call(name("оs", "system"), text(TOUCH))),  # noqa: RUF001 (a Cyrillic o)
    "a name in wide letters": program(call(name("ｏｓ", "ｓｙｓｔｅｍ"), text(TOUCH))),  # noqa: RUF001
    "a name with a space": program(call(name("os ", "system"), text(TOUCH))),
    "a name with a line in it": program(call(dotted("numpy.core.multiarray\n_reconstruct", "x"), text(TOUCH))),
    "a dotted module": program(call(dotted("numpy.core", "multiarray._reconstruct.system"), text(TOUCH))),
    "a name that is bytes": program(binary(b"os") + binary(b"system") + pickle.STACK_GLOBAL),
    "PERSID": program(pickle.PERSID + b"os.system\n", 0),
    "BINPERSID": program(text("os.system") + pickle.BINPERSID),
    "EXT4": program(pickle.EXT4 + b"\1\0\0\0"),
    "NEXT_BUFFER": program(pickle.NEXT_BUFFER, 5),
    "READONLY_BUFFER": program(binary(b"x") + pickle.READONLY_BUFFER, 5),
    "a state for a list": program(pickle.EMPTY_LIST + pickle.EMPTY_DICT + pickle.BUILD),
    "a call of a text": program(call(text("os.system"), text(TOUCH))),
    "a call with keywords": program(
        name("numpy", "ndarray")
        + pickle.EMPTY_TUPLE
        + pickle.EMPTY_DICT
        + text("a")
        + pickle.NONE
        + pickle.SETITEM
        + pickle.NEWOBJ_EX
    ),
}

# --- What becomes of them --------------------------------------------------------------------------------------------

LOAD = """
import json, os, pathlib, pickle, sys, warnings
warnings.simplefilter("ignore")
os.environ["TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"] = "1"
ran = []
for folder in sorted(pathlib.Path({folder!r}).iterdir()):
    os.chdir(folder)
    try:
        {load}
    except Exception:
        pass
    if os.path.lexists({mark!r}):
        ran.append(folder.name)
print("\\n" + json.dumps(ran))
"""


def write(kind: str, content: bytes, folder: Path, clip: MotionClip) -> Path:
    """A file with a pickle in the place where files of its kind have one."""
    path = folder / {"torch": "training_state.pt", "npz": "take.npz", "pickle": "take.pkl"}[kind]
    if kind == "pickle":
        path.write_bytes(content)
    elif kind == "torch":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("archive/data.pkl", content)
            archive.writestr("archive/version", "3\n")
    else:
        write_npz(clip, folder / "good.npz")
        with zipfile.ZipFile(folder / "good.npz") as good, zipfile.ZipFile(path, "w") as archive:
            for member in good.namelist():
                archive.writestr(member, npy_of_objects(content) if member == "fps.npy" else good.read(member))
    return path


@pytest.fixture(scope="module")
def dangerous(run_code: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """The tricks that leave their mark when Python's own pickle loads them."""
    folder = tmp_path_factory.mktemp("dangerous")
    for number, content in enumerate(TRICKS.values()):
        (folder / f"{number:03}").mkdir()
        (folder / f"{number:03}" / "take.pkl").write_bytes(content)
    ran = run_code(LOAD.format(folder=str(folder), load="pickle.load(open('take.pkl', 'rb'))", mark=MARK))
    names = list(TRICKS)
    return {names[int(number)] for number in ran}


@pytest.mark.slow
def test_there_are_many_tricks_and_all_are_dangerous(dangerous: set[str]) -> None:
    assert len(TRICKS) >= 70
    assert set(TRICKS) - dangerous == set()


def test_the_same_holds_inside_of_other_files(
    run_code: Callable[..., Any], tmp_path: Path, swinging_clip: MotionClip
) -> None:
    # Older releases know no other way and have no word for it.
    loosely = "" if torch.__version__.startswith("1.12") else ", weights_only=False"
    for kind, load in {
        "torch": f"import torch; torch.load('training_state.pt'{loosely})",
        "npz": "import numpy; numpy.load('take.npz', allow_pickle=True)['fps']",
    }.items():
        folder = tmp_path / kind
        (folder / "0").mkdir(parents=True)
        write(kind, TRICKS["os.system, protocol 2"], folder / "0", swinging_clip)
        assert run_code(LOAD.format(folder=str(folder), load=load, mark=MARK)) == ["0"]


@pytest.mark.parametrize("trick", [*TRICKS, *REFUSED])
def test_no_reader_runs_anything(
    trick: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, swinging_clip: MotionClip
) -> None:
    monkeypatch.chdir(tmp_path)
    content = {**TRICKS, **REFUSED}[trick]
    pickled, packed, state = (write(kind, content, tmp_path, swinging_clip) for kind in ("pickle", "npz", "torch"))
    robot = load_g1()
    before = sorted(tmp_path.iterdir())
    readers: list[tuple[type[ValueError], Path, Callable[[], object]]] = [
        (ClipError, pickled, lambda: read_clip(pickled)),
        (ClipError, pickled, lambda: read_motion(pickled, robot)),
        (ClipError, packed, lambda: read_clip(packed)),
        (ClipError, packed, lambda: read_motion(packed, robot, ignore_root=True)),
        (CheckpointError, state, lambda: load_torch_file(state)),
        (CheckpointError, state, lambda: import_legacy_checkpoint(state)),
        (ValueError, state, lambda: read_saved_config(tmp_path)),
        (PolicyError, state, lambda: read_checkpoint(state)),
    ]
    for kind, path, read in readers:
        with pytest.raises(kind) as error:
            read()
        assert type(error.value) is kind
        message = str(error.value)
        assert message.startswith(f"{path}: ") and "\n" not in message
        assert len(message) < 2 * len(str(path)) + 300
    assert sorted(tmp_path.iterdir()) == before
