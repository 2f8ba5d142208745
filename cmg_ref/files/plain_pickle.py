"""A reader of pickles that runs nothing: it knows numbers, text, bytes and plain containers, and has bounds.

A pickle is a program for a small stack machine. It may name any function and call it, and it can ask for gigabytes in a
few bytes. Python's own machine can be kept from the functions, but not from the gigabytes, and it hands over containers
that hold each other so often that nothing which walks through them ever ends. This machine imports no name: a name is
one of those it was given a stand-in for, or the file is refused. What it builds is never much larger than the file.
"""

from __future__ import annotations

import pickle
import struct
from typing import Any, Callable, Iterable, Mapping, Union

from cmg_ref.core.shorten import shortened
from cmg_ref.files.plain_arrays import Unread, kind_of

MAX_STEPS = 4_000_000
"""Steps of the machine that a file of any size may take; a large one gets another for every 16 bytes."""
MAX_DEPTH = 100
"""Containers inside one another."""
MAX_ITEMS = 20_000_000
"""Items in all containers, counted once for every way that leads to them."""
MAX_INTEGER_BYTES = 128
_CONTAINERS = (list, tuple, dict)
_TOO_SHORT = "it ends too early"

StandIn = Union[Callable[..., Any], str, None]


class PickleError(ValueError):
    """A pickle that is damaged, or asks for more than it may; the message says why."""


class RefusedNameError(PickleError):
    """The pickle names something that is not data; the message is the name."""


class NamedStandIn(Unread):
    """A name in a pickle, and what stands in for it."""

    __slots__ = ("call",)

    def __init__(self, name: str, call: StandIn) -> None:
        super().__init__(name)
        self.call = call


class Buildable(Unread):
    """What a stand-in returns if the pickle sets its content later; what `build` returns then takes its place."""

    __slots__ = ("built",)

    def __init__(self, kind: str) -> None:
        super().__init__(kind)
        self.built: Any = None

    def build(self, state: Any) -> Any:
        """What it becomes with the state that the pickle gives."""
        raise NotImplementedError


class PlainUnpickler:
    """Runs one pickle.

    Args:
        data: The pickle.
        stand_ins: For (module, name) as the pickle has them: what is called in place of the function; or, for a kind of
            object that may be there but is not read, what it is, None if its name says so. Such are `Unread` in what is
            loaded.
    """

    def __init__(self, data: bytes, stand_ins: Mapping[tuple[str, str], StandIn]) -> None:
        self.data = data
        self.stand_ins = stand_ins
        self.position = 0
        self.stack: list[Any] = []
        self.marks: list[int] = []  # how high the stack was at each mark
        self.memo: dict[int, Any] = {}
        self.copied_bytes = 0

    def load(self) -> Any:
        """What the pickle describes.

        Raises:
            PickleError: It is damaged, or its containers or sizes go beyond what a file of this size may have.
            RefusedNameError: It names something for which there is no stand-in.
        """
        data = self.data
        for _ in range(MAX_STEPS + len(data) // 16):
            opcode = data[self.position : self.position + 1]
            self.position += 1
            if opcode == pickle.STOP:
                content = self._pop()
                _check_nesting(content)
                return content
            step = _STEPS.get(opcode)
            if step is None:
                raise PickleError(f"the byte {opcode!r} at {self.position - 1} means nothing" if opcode else _TOO_SHORT)
            step(self)
        raise PickleError("it takes more steps than a file of this size should")

    def persistent(self, reference: Any) -> Any:
        """What a reference to something outside of the pickle stands for: there is nothing outside."""
        raise PickleError(f"it refers to {shortened(reference)}, which is not in the file")

    # --- Bytes and stack ---------------------------------------------------------------------------------------------

    def _take(self, count: int) -> bytes:
        start, self.position = self.position, self.position + count
        if self.position > len(self.data):
            raise PickleError(_TOO_SHORT)
        return self.data[start : self.position]

    def _take_counted(self, size: int) -> bytes:
        """Bytes whose number comes before them in `size` bytes."""
        return self._take(int.from_bytes(self._take(size), "little"))

    def _take_line(self) -> bytes:
        end = self.data.find(b"\n", self.position)
        if end < 0:
            raise PickleError(_TOO_SHORT)
        return self._take(end + 1 - self.position)[:-1]

    def _take_number(self, kind: Callable[[bytes], Any]) -> Any:
        """The number in a line of text."""
        line = self._take_line()
        if len(line) > 2 * MAX_INTEGER_BYTES:
            raise PickleError(f"a number of {len(line)} digits")
        try:
            return kind(line)
        except ValueError:
            raise PickleError(f"{shortened(line)} is no number") from None

    def _pop(self) -> Any:
        if len(self.stack) <= (self.marks[-1] if self.marks else 0):
            raise PickleError("it takes from an empty stack")
        return self.stack.pop()

    def _pop_to_mark(self) -> list[Any]:
        if not self.marks:
            raise PickleError("it goes back to a mark that was never set")
        height = self.marks.pop()
        values = self.stack[height:]
        del self.stack[height:]
        return values

    def _top(self) -> Any:
        value = self._pop()
        self.stack.append(value)
        return value

    # --- Steps that need more than a line ----------------------------------------------------------------------------

    def _push_text(self, content: bytes, encoding: str = "utf-8") -> None:
        try:
            text = content.decode(encoding)
            if encoding != "utf-8":
                text.encode("utf-8")  # Half of a surrogate pair is no text.
        except UnicodeError:
            raise PickleError(f"{shortened(content, 40)} is no text") from None
        self.stack.append(text)

    def _push_long(self, size: int) -> None:
        content = self._take_counted(size)
        if len(content) > MAX_INTEGER_BYTES:
            raise PickleError(f"an integer of {len(content)} bytes")
        self.stack.append(int.from_bytes(content, "little", signed=True))

    def _push_integer_or_truth(self) -> None:
        line = self._take_number(bytes)
        self.stack.append({b"00": False, b"01": True}[line] if line in (b"00", b"01") else _parsed(int, line))

    def _push_quoted(self) -> None:
        line = self._take_line().strip()
        if len(line) < 2 or line[:1] != line[-1:] or line[:1] not in (b"'", b'"') or not line.isascii():
            raise PickleError(f"{shortened(line, 40)} is no quoted text")
        self._push_text(line[1:-1], "unicode_escape")

    def _remember(self, index: int) -> None:
        if not 0 <= index < len(self.data):  # They count from 0, and each takes a byte or more.
            raise PickleError(f"it stores something as number {shortened(index)}")
        self.memo[index] = self._top()

    def _recall(self, index: int) -> None:
        if index not in self.memo:
            raise PickleError(f"it recalls {shortened(index)}, which it never stored")
        value = self.memo[index]
        if isinstance(value, Buildable) and value.built is not None:
            value = value.built
        self.stack.append(value)

    def _pop_or_unmark(self) -> None:
        if self.marks and self.marks[-1] == len(self.stack):
            self.marks.pop()
        else:
            self._pop()

    def _push_tuple(self, length: int) -> None:
        values = [self._pop() for _ in range(length)]
        self.stack.append(tuple(reversed(values)))

    def _push_frozenset(self) -> None:
        self._pop_to_mark()
        self.stack.append(Unread("frozenset"))

    def _append(self, values: list[Any]) -> None:
        target = self._top()
        if isinstance(target, list):
            target.extend(values)
        elif not isinstance(target, Unread):
            raise PickleError(f"it appends to a {kind_of(target)}")

    def _set_items(self, values: list[Any]) -> None:
        target = self._top()
        if isinstance(target, dict):
            target.update(_pairs(values))
        elif not isinstance(target, Unread):
            raise PickleError(f"it sets items of a {kind_of(target)}")

    def _name(self, module: Any, name: Any) -> NamedStandIn:
        if not isinstance(module, str) or not isinstance(name, str):
            raise PickleError(f"it names something by a {kind_of(module)} and a {kind_of(name)}")
        module = {"__builtin__": "builtins", "copy_reg": "copyreg"}.get(module, module)
        full_name = f"{module}.{name}"
        if (module, name) not in self.stand_ins:
            raise RefusedNameError(shortened(full_name)[1:-1])
        return NamedStandIn(full_name, self.stand_ins[(module, name)])

    def _push_name_of_lines(self) -> None:
        for line in (self._take_line(), self._take_line()):
            self._push_text(line)
        self._push_name()

    def _push_name(self) -> None:
        name, module = self._pop(), self._pop()
        self.stack.append(self._name(module, name))

    def _call(self, function: Any, arguments: Any) -> None:
        if not isinstance(function, NamedStandIn) or not isinstance(arguments, tuple):
            raise PickleError(f"it calls a {kind_of(function)}")
        if function.call is None or isinstance(function.call, str):
            self.stack.append(Unread(function.call or function.kind))
            return
        try:
            value = function.call(*arguments)
        except (TypeError, ValueError, OverflowError) as error:  # Also of wrong arguments.
            raise PickleError(f"{function.kind}: {error}") from error
        if isinstance(value, bytes):
            self.copied_bytes += len(value)
            if self.copied_bytes > 4 * len(self.data):
                raise PickleError("it copies its content more often than it should")
        self.stack.append(value)

    def _call_top(self) -> None:
        arguments, function = self._pop(), self._pop()
        self._call(function, arguments)

    def _call_with_keywords(self) -> None:
        keywords, arguments, function = self._pop(), self._pop(), self._pop()
        if not isinstance(keywords, dict) or keywords:
            raise PickleError("it calls with keywords")
        self._call(function, arguments)

    def _call_of_lines(self) -> None:
        self._push_name_of_lines()
        function = self._pop()
        self._call(function, tuple(self._pop_to_mark()))

    def _call_to_mark(self) -> None:
        values = self._pop_to_mark()
        if not values:
            raise PickleError("it calls nothing")
        self._call(values[0], tuple(values[1:]))

    def _build(self) -> None:
        state, target = self._pop(), self._pop()
        if isinstance(target, Buildable):
            try:
                target.built = target.build(state)
            except (TypeError, ValueError, OverflowError) as error:
                raise PickleError(str(error)) from error
            target = target.built
        elif not isinstance(target, (dict, Unread)):  # Attributes of a dictionary are none of its items.
            raise PickleError(f"it sets the state of a {kind_of(target)}")
        self.stack.append(target)

    def _refuse(self) -> None:
        raise PickleError("it refers to what is not in the file (an extension or a buffer)")


def _parsed(kind: Callable[[Any], Any], text: bytes) -> Any:
    try:
        return kind(text)
    except ValueError:
        raise PickleError(f"{shortened(text)} is no number") from None


def _pairs(values: list[Any]) -> Iterable[tuple[Any, Any]]:
    if len(values) % 2:
        raise PickleError("a dictionary has a key without a value")
    return zip(map(_key, values[::2]), values[1::2])


def _key(value: Any) -> Any:
    """A key that costs little to look up: integers can be made to collide, and deep tuples take for ever to hash."""
    small = type(value) is int and -(1 << 63) <= value < 1 << 63
    return value if small or isinstance(value, (str, bytes, float, bool, type(None))) else Unread(kind_of(value))


def _check_nesting(content: Any) -> None:
    """Refuses containers that hold themselves, lie too deep, or whose items would be met too often."""
    items: dict[int, int] = {}  # of a container's id: how many there are in it at any depth
    depths: dict[int, int] = {}
    entered: set[int] = set()
    pending = [content] if isinstance(content, _CONTAINERS) else []
    while pending:
        container = pending[-1]
        values = container.values() if isinstance(container, dict) else container
        inside = [value for value in values if isinstance(value, _CONTAINERS)]
        unknown = {id(value): value for value in inside if id(value) not in items}
        if unknown:
            if id(container) in entered:
                raise PickleError("a container holds itself")
            entered.add(id(container))
            pending.extend(unknown.values())
            continue
        pending.pop()
        items[id(container)] = len(container) + sum(items[id(value)] for value in inside)
        depths[id(container)] = 1 + max((depths[id(value)] for value in inside), default=0)
        if items[id(container)] > MAX_ITEMS or depths[id(container)] > MAX_DEPTH:
            raise PickleError("its containers hold one another too often or too deep")


_STEPS: dict[bytes, Callable[[PlainUnpickler], Any]] = {
    # Numbers and constants.
    pickle.NONE: lambda self: self.stack.append(None),
    pickle.NEWTRUE: lambda self: self.stack.append(True),
    pickle.NEWFALSE: lambda self: self.stack.append(False),
    pickle.BINFLOAT: lambda self: self.stack.append(struct.unpack(">d", self._take(8))[0]),
    pickle.BININT1: lambda self: self.stack.append(self._take(1)[0]),
    pickle.BININT2: lambda self: self.stack.append(int.from_bytes(self._take(2), "little")),
    pickle.BININT: lambda self: self.stack.append(int.from_bytes(self._take(4), "little", signed=True)),
    pickle.LONG1: lambda self: self._push_long(1),
    pickle.LONG4: lambda self: self._push_long(4),
    pickle.INT: PlainUnpickler._push_integer_or_truth,
    pickle.LONG: lambda self: self.stack.append(self._take_number(lambda line: int(line.rstrip(b"L")))),
    pickle.FLOAT: lambda self: self.stack.append(self._take_number(float)),
    # Text and bytes; a bytearray is read as bytes.
    pickle.SHORT_BINUNICODE: lambda self: self._push_text(self._take_counted(1)),
    pickle.BINUNICODE: lambda self: self._push_text(self._take_counted(4)),
    pickle.BINUNICODE8: lambda self: self._push_text(self._take_counted(8)),
    pickle.UNICODE: lambda self: self._push_text(self._take_line(), "raw_unicode_escape"),
    pickle.STRING: PlainUnpickler._push_quoted,
    pickle.SHORT_BINSTRING: lambda self: self._push_text(self._take_counted(1), "ascii"),
    pickle.BINSTRING: lambda self: self._push_text(self._take_counted(4), "ascii"),
    pickle.SHORT_BINBYTES: lambda self: self.stack.append(self._take_counted(1)),
    pickle.BINBYTES: lambda self: self.stack.append(self._take_counted(4)),
    pickle.BINBYTES8: lambda self: self.stack.append(self._take_counted(8)),
    pickle.BYTEARRAY8: lambda self: self.stack.append(self._take_counted(8)),
    # Containers.
    pickle.EMPTY_TUPLE: lambda self: self.stack.append(()),
    pickle.TUPLE1: lambda self: self._push_tuple(1),
    pickle.TUPLE2: lambda self: self._push_tuple(2),
    pickle.TUPLE3: lambda self: self._push_tuple(3),
    pickle.TUPLE: lambda self: self.stack.append(tuple(self._pop_to_mark())),
    pickle.EMPTY_LIST: lambda self: self.stack.append([]),
    pickle.LIST: lambda self: self.stack.append(self._pop_to_mark()),
    pickle.APPEND: lambda self: self._append([self._pop()]),
    pickle.APPENDS: lambda self: self._append(self._pop_to_mark()),
    pickle.EMPTY_DICT: lambda self: self.stack.append({}),
    pickle.DICT: lambda self: self.stack.append(dict(_pairs(self._pop_to_mark()))),
    pickle.SETITEM: lambda self: self._set_items([self._pop(), self._pop()][::-1]),
    pickle.SETITEMS: lambda self: self._set_items(self._pop_to_mark()),
    pickle.EMPTY_SET: lambda self: self.stack.append(Unread("set")),
    pickle.ADDITEMS: lambda self: self._append(self._pop_to_mark()),
    pickle.FROZENSET: PlainUnpickler._push_frozenset,
    # The machine itself.
    pickle.PROTO: lambda self: self._take(1),
    pickle.FRAME: lambda self: self._take(8),
    pickle.MARK: lambda self: self.marks.append(len(self.stack)),
    pickle.POP: PlainUnpickler._pop_or_unmark,
    pickle.POP_MARK: PlainUnpickler._pop_to_mark,
    pickle.DUP: lambda self: self.stack.append(self._top()),
    pickle.MEMOIZE: lambda self: self._remember(len(self.memo)),
    pickle.BINPUT: lambda self: self._remember(self._take(1)[0]),
    pickle.LONG_BINPUT: lambda self: self._remember(int.from_bytes(self._take(4), "little")),
    pickle.PUT: lambda self: self._remember(self._take_number(int)),
    pickle.BINGET: lambda self: self._recall(self._take(1)[0]),
    pickle.LONG_BINGET: lambda self: self._recall(int.from_bytes(self._take(4), "little")),
    pickle.GET: lambda self: self._recall(self._take_number(int)),
    # Names, and what is made of them.
    pickle.GLOBAL: PlainUnpickler._push_name_of_lines,
    pickle.STACK_GLOBAL: PlainUnpickler._push_name,
    pickle.REDUCE: PlainUnpickler._call_top,
    pickle.NEWOBJ: PlainUnpickler._call_top,
    pickle.NEWOBJ_EX: PlainUnpickler._call_with_keywords,
    pickle.INST: PlainUnpickler._call_of_lines,
    pickle.OBJ: PlainUnpickler._call_to_mark,
    pickle.BUILD: PlainUnpickler._build,
    pickle.PERSID: lambda self: self.stack.append(self.persistent(self._take_line())),
    pickle.BINPERSID: lambda self: self.stack.append(self.persistent(self._pop())),
    pickle.EXT1: PlainUnpickler._refuse,
    pickle.EXT2: PlainUnpickler._refuse,
    pickle.EXT4: PlainUnpickler._refuse,
    pickle.NEXT_BUFFER: PlainUnpickler._refuse,
    pickle.READONLY_BUFFER: PlainUnpickler._refuse,
}
