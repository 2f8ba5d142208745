"""Damage to texts: bytes, tables, JSON, XML, command lines. `archive_mutators` does the same to archives and pickles.

A mutator takes sound content and a seeded `random.Random`, and gives content that is wrong in a way that files really
are: cut, mistyped, from another program, or made to harm. It never looks at the clock or at anything but its arguments.
"""

from __future__ import annotations

import copy
import csv
import io
import json
import math
import random
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from typing import Any

Mutator = Callable[[bytes, random.Random], bytes]

NUMBERS = (
    *("nan", "inf", "-inf", "1e400", "-1e308", "1e-400", "0", "-1", "-0.0", "3.5", "1e9", "2147483648", "1e3000000"),
    *("9" * 400, "9" * 5000, "0x10", "1_000", "1,5", "١٢", "", " ", "+", "--1", "1e", "None", "True", "abc", "\x00"),
)
TEXTS = ("", " ", "\x00", "é" * 40, "a" * 140_000, "'\"\\", "\n", "../../../etc/passwd", "%s%n", "\ud7ff", "{}", "[]")
SHAPES: tuple[Any, ...] = (
    [],
    [0],
    [-1],
    [10**12],
    [2**31, 2**31],
    [2**63 - 1],
    [2**70],
    [1.5],
    ["3"],
    [[3]],
    None,
    3,
    "3",
    [True],
)
FOREIGN_FILES = (
    b"",
    b"\n",
    b"\x00" * 4096,
    b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935c943f9e0ff69d22e\nsize 12345\n",
    b"<!DOCTYPE html><html><body>404: Not Found</body></html>",
    b"\x89PNG\r\n\x1a\n" + b"\x00\x00\x00\rIHDR" * 20,
    b"PK\x05\x06" + b"\x00" * 18,
    b"PK\x03\x04" + b"\xff" * 26,
    b"\x80\x04.",
    b"\x80\x04}r" + (300_000_000).to_bytes(4, "little") + b".",
    b"\xff\xfe" + "time,vx,vy,wz\n0,0,0,0\n".encode("utf-16-le"),
    b"{" * 100_000,
    b"[" * 100_000,
    b"(" * 100_000,
)


def mutated_bytes(data: bytes, rng: random.Random) -> bytes:
    """One to four flips, cuts, insertions, repetitions and overwritten numbers, anywhere."""
    content = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        place = rng.randrange(len(content) + 1)
        length = min(rng.choice((1, 1, 2, 4, 8, 64, 1024)), len(content) - place)
        kind = rng.randrange(7)
        if kind == 0 and length:
            content[place] ^= 1 << rng.randrange(8)
        elif kind == 1:
            del content[place:]
        elif kind == 2:
            del content[place : place + length]
        elif kind == 3:
            content[place:place] = rng.randbytes(rng.choice((1, 4, 16, 300)))
        elif kind == 4:
            content[place:place] = content[place : place + length] * rng.choice((1, 2, 50))
        elif kind == 5:
            content[place : place + length] = bytes([rng.choice((0, 0xFF, 0x7F, 0x80))]) * length
        elif length >= 4:
            number = rng.choice((0, 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, rng.getrandbits(32)))
            content[place : place + 4] = number.to_bytes(4, rng.choice(("little", "big")))[:length]
    return bytes(content)


def mutated(data: bytes, rng: random.Random, structured: Mutator) -> bytes:
    """Mostly what the mutator of the format does, up to three times; else damaged bytes, or a file of another kind."""
    choice = rng.random()
    if choice < 0.04:
        return rng.choice(FOREIGN_FILES)
    if choice < 0.2:
        return mutated_bytes(data, rng)
    data = structured(data, rng)
    for _ in range(rng.choice((0, 0, 0, 1, 2))):
        try:
            data = structured(data, rng)
        except Exception:  # It is no longer of the format, and that is what is tried.
            break
    return mutated_bytes(data, rng) if choice > 0.95 else data


# --- Tables ----------------------------------------------------------------------------------------------------------


def mutated_csv(data: bytes, rng: random.Random) -> bytes:
    """Cells, rows, columns, the header, separators, quotes, encodings."""
    rows = list(csv.reader(io.StringIO(data.decode())))
    row, column = rng.randrange(len(rows)), rng.randrange(max(1, len(rows[0])))
    separator, ending = ",", "\n"
    kind = rng.randrange(14)
    if kind <= 4:
        rows[row][column:][:1] and rows[row].__setitem__(column, rng.choice((*NUMBERS, *TEXTS)))
    elif kind == 5:
        rows[row].append(rng.choice(NUMBERS))
    elif kind == 6:
        del rows[row][column:]
    elif kind == 7:
        for cells in rows:
            del cells[column : column + 1]
    elif kind == 8:
        rows.insert(row, rng.choice((rows[row], list(rows[0][::-1]), ["time", "vx", "vy", "wz"], ["root_x"] * 36, [])))
    elif kind == 9:
        del rows[row : row + rng.choice((1, len(rows)))]
    elif kind == 10:
        separator = rng.choice((";", "\t", " ", ", ", "|"))
    elif kind == 11:
        ending = rng.choice(("\r\n", "\r", "\x0b", "\n\n", "\u2028"))
    elif kind == 12:
        for cells in rows:
            if column < len(cells):
                cells[column] = rng.choice(NUMBERS)
    else:
        rows[row] = [f'"{rng.choice(NUMBERS)}']
    text = ending.join(separator.join(cells) for cells in rows) + ending
    return _encoded(text, rng)


def _encoded(text: str, rng: random.Random) -> bytes:
    encoding = rng.choice(("utf-8",) * 12 + ("utf-8-sig", "utf-16", "utf-32", "latin-1"))
    return text.encode(encoding, errors="replace")


def mutated_yaml(data: bytes, rng: random.Random) -> bytes:
    """Lines, numbers and indentation of a flat YAML file, and what only a whole YAML reader could run or expand."""
    lines = data.decode().split("\n")
    row = rng.randrange(len(lines))
    key = lines[row].partition(":")[0]
    lines[row] = rng.choice(
        (
            f"- {rng.choice(NUMBERS)}",
            f"{key}: {rng.choice(NUMBERS)}",
            f"{key}: [{rng.choice(NUMBERS)}, {rng.choice(NUMBERS)}]",
            f"{key}: [" + "[" * rng.choice((1, 3000)),
            "a: &a [1, 1, 1]\nb: [*a, *a, *a]",
            "!!python/object/apply:os.system ['true']",
            "  " + lines[row],
            lines[row] * 3,
            rng.choice(TEXTS),
        )
    )
    if rng.random() < 0.2:
        del lines[rng.randrange(len(lines)) :]
    return _encoded("\n".join(lines), rng)


# --- JSON ------------------------------------------------------------------------------------------------------------


_RAW = "\ue000"


def raw(text: str) -> str:
    """A text that `json_text` writes as it stands, without quotes."""
    return f"{_RAW}{text}{_RAW}"


def json_values(rng: random.Random) -> Any:
    """A value that a field of a JSON file hardly expects."""
    return rng.choice(
        (
            *(None, True, False, 0, -1, 1, 2, 3, 10**6, 10**7, 10**12, 10**30, 2**63, 1.5, -1e308, math.nan, math.inf),
            *(raw("9" * 400), raw("9" * 5000), raw("1e999"), raw("[" * 200 + "]" * 200), raw("[" * 5000 + "]" * 5000)),
            *("", "x", "1", "nan", "a" * 20_000, "é", "\x00", "\ud7ff", "__class__", "../../etc/passwd"),
            *([], [[]], {}, {"a": {}}, [1, "2", None], [1.0] * 5000, ["x"] * 29, {"__class__": "os"}, *SHAPES),
        )
    )


def places_of(tree: Any) -> list[tuple[Any, Any]]:
    """Every place of a tree of dictionaries and lists, as container and key."""
    found: list[tuple[Any, Any]] = []
    pending = [tree]
    while pending:
        container = pending.pop()
        keys = list(container) if isinstance(container, dict) else range(len(container))
        for key in keys:
            found.append((container, key))
            if isinstance(container[key], (dict, list)):
                pending.append(container[key])
    return found


def mutated_tree(tree: Any, rng: random.Random) -> Any:
    """A tree of dictionaries and lists with one place changed, renamed, removed, doubled or swapped with another."""
    places = places_of(tree) if isinstance(tree, (dict, list)) else []
    if not places or rng.random() < 0.03:
        return json_values(rng)
    # Lists of numbers hold most of the places; half of the time what has a name is chosen.
    named = [place for place in places if isinstance(place[0], dict)]
    container, key = rng.choice(named if named and rng.random() < 0.6 else places)
    kind = rng.randrange(10)
    if kind <= 4:
        container[key] = json_values(rng)
    elif kind == 5:
        del container[key]
    elif kind == 6:
        other, other_key = rng.choice(places)
        container[key] = copy.deepcopy(other[other_key])
    elif kind == 7 and isinstance(container, dict):
        container[rng.choice((f"{key}x", "", "__init__", "format_version", "a" * 5000))] = container.pop(key)
    elif kind == 8 and isinstance(container, list):
        container.insert(key, container[key])
    elif isinstance(container[key], (int, float)):
        container[key] = rng.choice(
            (container[key] * -1, container[key] + 1, container[key] * 10**6, str(container[key]))
        )
    else:
        container[key] = [container[key]]
    return tree


def json_text(tree: Any) -> str:
    """The tree as JSON, with what `raw` made as it stands."""
    return re.sub(f'"{_RAW}(.*?){_RAW}"', r"\1", json.dumps(tree, ensure_ascii=False))


def mutated_json(data: bytes, rng: random.Random) -> bytes:
    """Values, names and nesting, and texts that only look like JSON."""
    text = data.decode()
    kind = rng.randrange(12)
    if kind == 0:
        depth = rng.choice((900, 2000, 100_000))
        return ("[" * depth + text + "]" * depth).encode()
    if kind == 1:
        return text.replace(":", rng.choice(("=", "", "::", ":,")), 1).encode()
    if kind == 2:
        return _encoded(text + rng.choice(("\n//", ",", "{}", "\x00")), rng)
    if kind == 3:
        place = rng.randrange(len(text))
        return (text[:place] + rng.choice((*NUMBERS, '"', "}", "]", "{", ",")) + text[place + 1 :]).encode()
    return _encoded(json_text(mutated_tree(json.loads(text), rng)), rng)


# --- XML -------------------------------------------------------------------------------------------------------------

_ENTITY_BOMB = (
    "<!DOCTYPE x [<!ENTITY a0 'aaaaaaaaaa'>"
    + "".join(f"<!ENTITY a{n} '{f'&a{n - 1};' * 10}'>" for n in range(1, 10))
    + "]>"
)
_OUTSIDE_ENTITY = "<!DOCTYPE x [<!ENTITY a9 SYSTEM 'file:///etc/passwd'>]>"


def mutated_xml(data: bytes, rng: random.Random) -> bytes:
    """Attributes, elements, nesting, entities, encodings."""
    text = data.decode()
    kind = rng.randrange(16)
    if kind == 0:
        encoding = rng.choice(("foo", "utf-16", "utf-7", "ascii", "cp037", "idna", "hex", ""))
        return f'<?xml version="1.0" encoding="{encoding}"?>{text}'.encode()
    if kind == 1:
        end = text.index(">")
        return (rng.choice((_ENTITY_BOMB, _OUTSIDE_ENTITY)) + text[:end] + ' model="&a9;"' + text[end:]).encode()
    root = ElementTree.fromstring(text)
    parents = {child: parent for parent in root.iter() for child in parent}
    element = rng.choice(list(root.iter()))
    parent = parents.get(element)
    if kind == 2 and parent is not None:
        depth = rng.choice((50, 990, 5000, 60_000))
        nest = f"<{element.tag} name='n'>" * depth + f"</{element.tag}>" * depth
        element.text = "NESTED"
        return ElementTree.tostring(root, encoding="unicode").replace("NESTED", nest, 1).encode()
    if kind == 3 and parent is not None:
        parent.remove(element)
    elif kind == 4 and parent is not None:
        parent.append(element)
    elif kind == 5:
        rng.choice(list(root.iter())).append(ElementTree.fromstring(ElementTree.tostring(element)))
    elif kind == 6:
        element.tag = rng.choice(
            ("body", "joint", "link", "robot", "mujoco", "geom", "include", "frame", "x", "freejoint")
        )
    elif kind == 7:
        element.append(
            ElementTree.Element(rng.choice(("include", "mesh", "body", "joint", "inertial", "origin", "limit")))
        )
    else:
        _mutate_attribute(element, rng)
    # The attributes of ElementTree cannot hold what no XML may hold; such bytes come from `mutated_bytes`.
    return ElementTree.tostring(root, encoding="unicode").replace("\x00", "").encode(errors="replace")


def _mutate_attribute(element: ElementTree.Element, rng: random.Random) -> None:
    names = list(element.attrib) or ["name"]
    name = rng.choice(names)
    value = element.get(name, "")
    kind = rng.randrange(6)
    words = value.split() or [""]
    if kind <= 1:
        words[rng.randrange(len(words))] = rng.choice(NUMBERS)
        element.set(name, " ".join(words))
    elif kind == 2:
        element.attrib.pop(name, None)
    elif kind == 3:
        element.set(name, rng.choice((*TEXTS, *NUMBERS, value + " 0", " ".join(words[:-1]), "0 " * 50_000)))
    elif kind == 4:
        element.set(
            rng.choice(("class", "childclass", "type", "range", "size", "quat", "euler", "file", "name")), value
        )
    else:
        choices = (
            "mesh",
            "ball",
            "slide",
            "free",
            "plane",
            "floating",
            "planar",
            "fixed",
            "hfield",
            "0 0 0",
            "0 0 0 0",
        )
        element.set(name, rng.choice(choices))


# --- Command lines ---------------------------------------------------------------------------------------------------

LITERALS = (
    *(
        "{[]:1}",
        "{1:[]}",
        "(" * 300,
        "[" * 20_000,
        "-" * 100_000 + "1",
        "9" * 5000,
        "1e999",
        "nan",
        "9**9**9",
        "1_0",
        "0x",
    ),
    *(
        "__import__('os').system('true')",
        "lambda: 0",
        "[1,",
        "'",
        "\x00",
        "b'x'",
        "1j",
        "...",
        "{}",
        "()",
        "{1}",
        "None",
    ),
    *(
        "true",
        "null",
        "f'{1}'",
        "'a' 'b'",
        "-1",
        "0",
        "1.5",
        "1e308",
        "(1, 2",
        "'" + "a" * 100_000 + "'",
        "=",
        "==1",
        "é",
    ),
    *("10**12", "1000000000", "[0.0] * 9", "[[], [[]]]", "{'a': {'b': 1}}", "\\", "#", "\n", "\t", "cuda", "mps:7"),
)


def mutated_arguments(data: bytes, rng: random.Random) -> bytes:
    """Words of a command line, kept as a JSON list: values, names, order, number."""
    words = json.loads(data)
    place = rng.randrange(len(words) + 1)
    word = words[place] if place < len(words) else ""
    name, equals, _ = word.partition("=")
    kind = rng.randrange(9)
    if kind <= 3 and equals:
        word = f"{name}={rng.choice((*LITERALS, *NUMBERS))}"
    elif kind <= 3:
        word = rng.choice((*NUMBERS, *LITERALS, *TEXTS))
    elif kind == 4 and len(word) > 1:
        cut = rng.randrange(len(word))
        word = word[:cut] + rng.choice(("", ".", "..", "x", "__class__", ".__dict__", "=", " ")) + word[cut + 1 :]
    elif kind == 5:
        words[place:place] = [rng.choice(("--", "-", "--help-me", "a.b=1", "=", ".=1", "..=1", "--seed", "-1", "@x"))]
    elif kind == 6:
        words[place : place + 1] = []
    elif kind == 7:
        rng.shuffle(words)
    else:
        word = name + "." + rng.choice(("x", "__init__", "0", "__class__.__name__")) + equals + "1"
    if place < len(words) and kind not in (5, 6, 7):
        words[place] = word
    return json.dumps(words).encode()
