"""Reads XML, as MJCF and URDF are, within bounds that every robot keeps."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from xml.parsers import expat

from cmg_ref.core.shorten import reason, shortened
from cmg_ref.files.input_file import MEBIBYTE, check_input_file

MAX_BYTES = 8 * MEBIBYTE
MAX_ELEMENTS = 20_000
MAX_DEPTH = 200
"""Elements inside one another: readers of robots go through them by recursion."""
MAX_ATTRIBUTES = 64
ENCODINGS = ("utf-8", "utf-16", "us-ascii", "iso-8859-1")
"""Those that every reader of XML knows."""
_COMMENT = re.compile(rb"<!--.*?-->", re.DOTALL)


class _BoundsError(ValueError):
    """Beyond what any robot has."""


def read_xml(path: Path, error: type[Exception]) -> ElementTree.Element:
    """The outermost element of an XML file.

    Args:
        path: The file.
        error: The kind of error to raise for whatever is wrong with it.

    Raises:
        error: The file cannot be read, is not valid XML, or goes beyond the bounds of this module. Entities of its own
            are refused: a few lines of them stand for gigabytes.
    """
    check_input_file(path, error, MAX_BYTES)
    builder = ElementTree.TreeBuilder()
    depth = num_elements = 0

    def start(tag: str, attributes: dict[str, str]) -> None:
        nonlocal depth, num_elements
        depth += 1
        num_elements += 1
        if depth > MAX_DEPTH or num_elements > MAX_ELEMENTS or len(attributes) > MAX_ATTRIBUTES:
            raise _BoundsError(
                f"it has more than {MAX_ELEMENTS} elements, {MAX_DEPTH} of them inside one another, or "
                f"{MAX_ATTRIBUTES} attributes in one"
            )
        builder.start(tag, attributes)

    def end(tag: str) -> None:
        nonlocal depth
        depth -= 1
        builder.end(tag)

    def refuse_entity(name: str, *unused: object) -> None:
        raise _BoundsError(f"it declares the entity {shortened(name)}")

    def check_encoding(version: str, encoding: str | None, standalone: int) -> None:
        if encoding is not None and encoding.lower() not in ENCODINGS:
            raise _BoundsError(f"its encoding is {shortened(encoding)}; save it as UTF-8")

    parser = expat.ParserCreate()
    parser.XmlDeclHandler = check_encoding
    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.CharacterDataHandler = builder.data
    parser.EntityDeclHandler = refuse_entity
    try:
        # MuJoCo takes comments with two dashes in them, which XML does not.
        content = _COMMENT.sub(lambda comment: b"\n" * comment.group().count(b"\n"), path.read_bytes())
        parser.Parse(content, True)
        return builder.close()
    except _BoundsError as problem:
        raise error(f"{path}: is not read: {problem}") from None
    except OSError as problem:
        raise error(f"{path}: cannot be read ({problem.strerror})") from problem
    except (expat.ExpatError, ValueError) as problem:
        raise error(f"{path}: is not valid XML ({reason(problem)})") from problem
