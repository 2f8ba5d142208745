"""The library, the configurations and the TWIST plug-in stay valid on Python 3.8, which Isaac Gym's users have."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def python38_files() -> list[Path]:
    """The files for which pyproject.toml gives ruff Python 3.8 as target; setup.py has nothing to annotate."""
    settings = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    section = settings.partition("[tool.ruff.per-file-target-version]")[2].partition("\n[")[0]
    patterns = re.findall(r'^"(.+)" = "py38"$', section, re.MULTILINE)
    files = {file for pattern in patterns for file in ROOT.glob(pattern.replace("/**", "/**/*.py"))}
    return sorted(files - {ROOT / "setup.py"})


FILES = python38_files()

# What exists only in later versions, by the module it is imported from.
LATER_NAMES = {
    "functools": {"cache"},
    "itertools": {"pairwise", "batched"},
    "math": {"lcm", "nextafter", "ulp", "cbrt"},
    "importlib": {"resources"},  # `files` came in 3.9; the older functions are gone from 3.13
    "typing": {
        *("Annotated", "Concatenate", "ParamSpec", "TypeAlias", "TypeGuard", "LiteralString", "Never", "NotRequired"),
        *("Required", "Self", "TypeVarTuple", "Unpack", "assert_never", "override"),
    },
    "types": {"EllipsisType", "NoneType", "NotImplementedType", "UnionType"},
    "dataclasses": {"KW_ONLY"},
    "contextlib": {"aclosing", "chdir"},
    "enum": {"StrEnum"},
}
LATER_MODULES = {"zoneinfo", "graphlib", "tomllib"}
LATER_METHODS = {"removeprefix", "removesuffix", "is_relative_to", "readlink", "hardlink_to", "with_stem", "bit_count"}
LATER_KEYWORDS = {
    "zip": {"strict"},
    "dataclass": {"slots", "kw_only", "match_args"},
    "field": {"kw_only"},
    "glob": {"root_dir"},
    "write_text": {"newline"},
}
BUILTIN_GENERICS = {"list", "dict", "tuple", "set", "frozenset", "type"}
# Of collections and collections.abc: generic only from 3.9 on.
COLLECTION_GENERICS = {
    *("Callable", "Iterable", "Iterator", "Generator", "Mapping", "MutableMapping", "Sequence", "MutableSequence"),
    *("Collection", "Container", "Hashable", "Set", "MutableSet", "OrderedDict", "defaultdict", "deque", "Counter"),
}


def evaluated_nodes(tree: ast.AST) -> Iterator[ast.AST]:
    """All nodes that run; annotations do not, under ``from __future__ import annotations``."""
    for name, value in ast.iter_fields(tree):
        if name in ("annotation", "returns"):
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST):
                yield child
                yield from evaluated_nodes(child)


def called_name(node: ast.Call) -> str:
    return node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")


def is_typelike(node: ast.AST, typing_imports: set[str]) -> bool:
    """Whether an operand of ``|`` can only be a type (or a dictionary display, which has no ``|`` in 3.8 either)."""
    if isinstance(node, ast.Constant):
        return node.value is None
    if isinstance(node, ast.Name):
        plain = {"int", "float", "str", "bytes", "bool", "complex", "object"}
        return node.id in plain | BUILTIN_GENERICS | typing_imports
    if isinstance(node, ast.Subscript):
        return is_typelike(node.value, typing_imports)
    if isinstance(node, ast.Call):
        return called_name(node) in ("dict", "vars", "defaultdict", "OrderedDict")
    if isinstance(node, ast.Attribute):
        return node.attr in ("Tensor", "ndarray", "Path")
    return isinstance(node, (ast.Dict, ast.DictComp))


def problems(source: str) -> list[str]:
    """What Python 3.8 would refuse in ``source``, as ``line: reason``."""
    try:
        tree = ast.parse(source, feature_version=(3, 8))
    except SyntaxError as error:
        return [f"{error.lineno}: {error.msg}"]
    found: list[str] = []
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    postponed = any(
        node.module == "__future__" and any(n.name == "annotations" for n in node.names) for node in imports
    )
    # A file of nothing but a docstring has nothing to annotate.
    if not postponed and any(not isinstance(node, ast.Expr) for node in tree.body):
        found.append("1: lacks 'from __future__ import annotations'")
    abc_imports = {
        name.asname or name.name
        for node in imports
        if node.module in ("collections", "collections.abc")
        for name in node.names
    } & COLLECTION_GENERICS
    type_imports = {
        n.asname or n.name for node in imports if node.module in ("typing", "torch", "pathlib") for n in node.names
    }
    dict_names = {
        target.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and is_dictionary(node.value)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    for node in evaluated_nodes(tree):
        line = getattr(node, "lineno", 0)
        if isinstance(node, ast.ImportFrom):
            later = LATER_NAMES.get(node.module or "", set()) & {name.name for name in node.names}
            found += [f"{line}: {node.module}.{name} is newer" for name in sorted(later)]
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            names = [name.name for name in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            found += [f"{line}: module {name} is newer" for name in names if name.split(".")[0] in LATER_MODULES]
        elif isinstance(node, ast.Attribute):
            if node.attr in LATER_METHODS:
                found.append(f"{line}: .{node.attr} is newer")
            if isinstance(node.value, ast.Name) and node.attr in LATER_NAMES.get(node.value.id, set()):
                found.append(f"{line}: {node.value.id}.{node.attr} is newer")
        elif isinstance(node, ast.Call):
            later = LATER_KEYWORDS.get(called_name(node), set()) & {keyword.arg or "" for keyword in node.keywords}
            found += [f"{line}: {called_name(node)}({name}=) is newer" for name in sorted(later)]
        elif isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name):
            if node.value.id in BUILTIN_GENERICS | abc_imports:
                found.append(f"{line}: {node.value.id}[...] outside an annotation")
        elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
            both = (node.left, node.right)
            if any(is_typelike(side, type_imports) or getattr(side, "id", "") in dict_names for side in both):
                found.append(f"{line}: '|' of types or dictionaries")
        elif isinstance(node, ast.AugAssign) and isinstance(node.op, ast.BitOr):
            if is_dictionary(node.value) or getattr(node.target, "id", "") in dict_names:
                found.append(f"{line}: '|=' of dictionaries")
        elif isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            found += [
                f"{decorator.lineno}: decorator must be a dotted name or a call of one"
                for decorator in node.decorator_list
                if not is_dotted(decorator.func if isinstance(decorator, ast.Call) else decorator)
            ]
    return found


def is_dictionary(node: ast.AST) -> bool:
    return isinstance(node, (ast.Dict, ast.DictComp)) or (isinstance(node, ast.Call) and called_name(node) == "dict")


def is_dotted(node: ast.AST) -> bool:
    return isinstance(node, ast.Name) or (isinstance(node, ast.Attribute) and is_dotted(node.value))


def test_files_are_found() -> None:
    names = {str(file.relative_to(ROOT)) for file in FILES}
    assert {
        "cmg_ref/__init__.py",
        "configs/twist_cmg_config.py",
        "envs/hosts/twist.py",
        "envs/hosts/twist_mimic.py",
    } <= names
    assert {str(file.relative_to(ROOT)) for file in ROOT.glob("cmg_ref/**/*.py")} <= names


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_file_is_valid(path: Path) -> None:
    found = problems(path.read_text(encoding="utf-8"))
    assert not found, f"{path.relative_to(ROOT)} is not valid on Python 3.8:\n" + "\n".join(found)


FUTURE = "from __future__ import annotations\n"


@pytest.mark.parametrize(
    "snippet",
    [
        "x = 1",
        FUTURE + "match x:\n    case 1:\n        pass",
        FUTURE + "with (open(a) as f, open(b) as g):\n    pass",
        FUTURE + "@x[0].y\ndef f(): pass",
        FUTURE + "X = list[int]",
        FUTURE + "class A(dict[str, int]): pass",
        FUTURE + "from collections.abc import Callable\nF = Callable[[int], int]",
        FUTURE + "X = int | None",
        FUTURE + "import torch\nX = torch.Tensor | float",
        FUTURE + "isinstance(x, int | str)",
        FUTURE + "a = zip(x, y, strict=True)",
        FUTURE + "a = name.removeprefix('x')",
        FUTURE + "a = name.removesuffix('x')",
        FUTURE + "from functools import cache",
        FUTURE + "import functools\n@functools.cache\ndef f(): pass",
        FUTURE + "from itertools import pairwise",
        FUTURE + "from typing import Self",
        FUTURE + "from importlib import resources",
        FUTURE + "import tomllib",
        FUTURE + "c = {'a': 1} | other",
        FUTURE + "a = dict(x=1)\nb = a | c",
        FUTURE + "a = {}\na |= c",
        FUTURE + "@dataclass(slots=True)\nclass A: pass",
        FUTURE + "@dataclasses.dataclass(frozen=True, kw_only=True)\nclass A: pass",
        FUTURE + "def f[T](x: T) -> T: return x",
        FUTURE + "type X = int",
        FUTURE + "try:\n    pass\nexcept* ValueError:\n    pass",
    ],
)
def test_check_catches(snippet: str) -> None:
    assert problems(snippet), "this snippet is not valid on Python 3.8, and the check did not see it"


@pytest.mark.parametrize(
    "snippet",
    [
        '"""A docstring."""\n',
        FUTURE + "def f(x: int | None, *y: list[int]) -> dict[str, int] | None: pass",
        FUTURE + "class A:\n    x: tuple[int, ...] | None = None",
        FUTURE + "from typing import Callable, Dict\nX = Dict[str, int]\nF = Callable[[int], int]",
        FUTURE + "from collections.abc import Sequence\ndef f(x: Sequence[int]) -> None: pass",
        FUTURE + "mask = (a > 1) | (b < 2) | bad\nmask |= other",
        FUTURE + "if (n := len(a)) > 3: pass",
        FUTURE + "with open(a) as f, open(b) as g:\n    pass",
        FUTURE + "@functools.lru_cache(maxsize=None)\ndef f(): pass",
    ],
)
def test_check_allows(snippet: str) -> None:
    assert problems(snippet) == []


def python38() -> str | None:
    """An interpreter of Python 3.8 that really starts, if this machine has one."""
    installed = [str(path) for path in sorted(Path.home().glob(".pyenv/versions/3.8*/bin/python"))]
    on_path = shutil.which("python3.8")
    for candidate in [*installed, *([on_path] if on_path else [])]:
        version = subprocess.run([candidate, "--version"], capture_output=True, text=True, check=False)
        if version.returncode == 0 and version.stdout.startswith("Python 3.8."):
            return candidate
    return None


def test_python38_compiles_the_files() -> None:
    interpreter = python38()
    if interpreter is None:
        pytest.skip("no Python 3.8 on this machine")
    compile_all = (
        "import sys\nfor name in sys.argv[1:]:\n    compile(open(name, encoding='utf-8').read(), name, 'exec')"
    )
    result = subprocess.run(
        [interpreter, "-c", compile_all, *map(str, FILES)], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
