"""Damage to archives: npz, torch files, safetensors, and the pickles inside and outside of them."""

from __future__ import annotations

import io
import json
import pickletools
import random
import struct
import zipfile
import zlib
from functools import lru_cache

from mutators import SHAPES, json_text, mutated_bytes, mutated_tree

# What a pickle may try, as lines of protocol 0: name a function, give its arguments, call it.
PICKLE_TRICKS = (
    b"cos\nsystem\n(S'true'\ntR",
    b"cposix\nsystem\n(S'true'\ntR",
    b"csubprocess\ncheck_output\n(S'true'\ntR",
    b"cbuiltins\neval\n(S'1+1'\ntR",
    b"cbuiltins\nexec\n(S'pass'\ntR",
    b"c__builtin__\neval\n(S'1+1'\ntR",
    b"cbuiltins\ngetattr\n(cbuiltins\ndict\nS'__class__'\ntR",
    b"cbuiltins\nopen\n(S'written_by_a_pickle'\nS'w'\ntR",
    b"cbuiltins\nbytearray\n(I5000000000\ntR",
    b"cbuiltins\nbytearray\n(cbuiltins\nbytearray\n(I5000000000\ntRtR",
    b"cbuiltins\nrange\n(I100000000000\ntR",
    b"cbuiltins\n__import__\n(S'antigravity'\ntR",
    b"cimportlib\nimport_module\n(S'this'\ntR",
    b"cos.path\njoin\n(S'a'\nS'b'\ntR",
    b"c_codecs\nencode\n(S'print(1)'\nS'rot13'\ntR",
    b"c_codecs\nencode\n(Vaaaa\nVlatin1\ntR",
    b"cnumpy\nfromfile\n(S'/etc/passwd'\ntR",
    b"cnumpy\nload\n(S'/etc/passwd'\ntR",
    b"cnumpy\nndarray\n((I100000\nI1000000\ntS'f8'\nS''\ntR",
    b"cnumpy\nndarray\n((I-1\ntS'O'\nS'aaaaaaaa'\ntR",
    b"cnumpy\ndtype\n(S'V1000000000'\nI00\nI01\ntR",
    b"cnumpy\ndtype\n(S'O'\nI00\nI01\ntR",
    b"cnumpy\ndtype\n(S'U1000000000'\nI00\nI01\ntR",
    b"cnumpy._core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR",
    b"cnumpy._core.multiarray\nscalar\n(cnumpy\ndtype\n(S'f8'\ntRS'12345678'\ntR",
    b"cnumpy._core.numeric\n_frombuffer\n(S'aaaaaaaa'\ncnumpy\ndtype\n(S'f8'\ntR(I9999999999\ntS'C'\ntR",
    b"cnumpy.testing._private.utils\nrunstring\n(S'pass'\n(dtR",
    b"ctorch\nload\n(S'/etc/passwd'\ntR",
    b"ctorch._utils\n_rebuild_tensor_v2\n(Nl0\nttR",
    b"ctorch.hub\nload\n(S'x'\nS'y'\ntR",
    b"ccollections\nOrderedDict\n)R",
    b"ccollections\ndefaultdict\n(cbuiltins\nlist\ntR",
    b"cpathlib\nPosixPath\n(S'a'\ntR",
    b"cpickle\nloads\n(S'N.'\ntR",
    b"cwebbrowser\nopen\n(S'http://localhost'\ntR",
    b"csocket\nsocket\n)R",
    b"csys\nexit\n(I3\ntR",
    b"cos\n_exit\n(I3\ntR",
    b"ctime\nsleep\n(I30\ntR",
    b"cfunctools\npartial\n(cos\nsystem\nS'true'\ntR",
    b"coperator\nattrgetter\n(S'__class__'\ntR",
    b"(S'true'\nios\nsystem\n",
    b"(cos\nsystem\nS'true'\no",
    b"cbuiltins\nset\n((lI1\naltR",
    b"\x8f",
    b"(l" * 1200,
    b"(" * 3000,
    b"]q\x01h\x01a",
    b"]" + b"2" * 5000,
    b"N" * 100_000,
    b"r\xff\xff\xff\x10",
    b"p300000000\n",
    b"j\xff\xff\xff\x7f",
    b"h\xff",
    b"L" + b"9" * 6000 + b"L\n",
    b"I" + b"9" * 6000 + b"\n",
    b"\x8b\xff\xff\xff\x7f",
    b"\x8e\xff\xff\xff\xff\xff\xff\xff\x7f",
    b"\x96\x00\x00\x00\x00\x01\x00\x00\x00",
    b"T\xff\xff\xff\x7f",
    b"X\xff\xff\xff\xff",
    b"\x8d\xff\xff\xff\xff\xff\xff\xff\xff",
    b"\x95\xff\xff\xff\xff\xff\xff\xff\x7f",
    b"\x97",
    b"\x98",
    b"\x82\x01",
    b"Pabc\n",
    b"NQ",
    b"(NNNNNNtQ",
    b"S'unfinished",
    b"Fnan\n",
    b"}(NNNNu",
    b"}(]]u",
    b"0" * 50,
)


def doubling_lists(depth: int = 30, width: int = 10) -> bytes:
    """Lists that hold the one before ten times: `width ** depth` entries to whoever visits each place."""
    program = b"]q\x00"
    for level in range(1, depth):
        program += b"]q" + bytes([level]) + b"(" + (b"h" + bytes([level - 1])) * width + b"e"
    return program


def mutated_pickle(data: bytes, rng: random.Random) -> bytes:
    """Operations removed, doubled, exchanged, given other arguments, or tricks put between them."""
    places = [place for _, _, place in pickletools.genops(data) if place is not None]
    spans = list(zip(places, [*places[1:], len(data)], strict=True))
    index = rng.randrange(len(spans))
    start, end = spans[index]
    kind = rng.randrange(10)
    if kind <= 4:
        trick = rng.choice((*PICKLE_TRICKS, doubling_lists()))
        # Before the end, in place of a value, or between: most often as one of the dictionary's values.
        removed = end if rng.random() < 0.5 else start
        return data[:start] + trick + data[removed:]
    if kind == 5:
        return data[:start] + data[end:]
    if kind == 6:
        return data[:start] + data[start:end] * rng.choice((2, 3, 1000)) + data[end:]
    if kind == 7:
        other_start, other_end = rng.choice(spans)
        return data[:start] + data[other_start:other_end] + data[end:]
    if kind == 8:
        return data[:start] + bytes([rng.randrange(256)]) + data[start + 1 :]
    return data[: start + 1] + mutated_bytes(data[start + 1 : end] or b"\x00", rng) + data[end:]


# --- Zip archives ----------------------------------------------------------------------------------------------------


@lru_cache(maxsize=2)
def _zip_of_zeros(megabytes: int) -> tuple[bytes, int]:
    """So many megabytes of zeros, deflated, and their checksum; a full flush lets one piece be repeated."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    zeros = bytes(1 << 20)
    piece = packer.compress(zeros) + packer.flush(zlib.Z_FULL_FLUSH)
    checksum = 0
    for _ in range(megabytes):
        checksum = zlib.crc32(zeros, checksum)
    return piece * megabytes + packer.flush(), checksum


def zip_bomb(name: str, prefix: bytes, megabytes: int = 1500) -> bytes:
    """An archive of some megabytes with one member that unpacks to more than memory should be given to."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    head = packer.compress(prefix) + packer.flush(zlib.Z_FULL_FLUSH)
    body, checksum = _zip_of_zeros(megabytes)
    packed, size, label = head + body, len(prefix) + (megabytes << 20), name.encode()
    fields = struct.pack("<HHHHHIIIHH", 20, 0, 8, 0, 33, checksum, len(packed), size, len(label), 0)
    local = b"PK\x03\x04" + fields + label + packed
    central = b"PK\x01\x02\x14\x00" + fields + struct.pack("<HHHII", 0, 0, 0, 0, 0) + label
    return local + central + b"PK\x05\x06" + struct.pack("<HHHHIIH", 0, 0, 1, 1, len(central), len(local), 0)


def _members(data: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        if sum(member.file_size for member in archive.infolist()) > 1 << 26:
            raise ValueError("made to be too large, and not to be unpacked here")
        return {name: archive.read(name) for name in archive.namelist()}


def _packed(members: list[tuple[str, bytes]], method: int = zipfile.ZIP_STORED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, content in members:
            archive.writestr(zipfile.ZipInfo(name), content, method)
    return file.getvalue()


def _mutated_structure(data: bytes, members: dict[str, bytes], rng: random.Random) -> bytes:
    """What is wrong with the archive itself."""
    name = rng.choice(list(members))
    content = members[name]
    rest = [(other, value) for other, value in members.items() if other != name]
    kind = rng.randrange(8)
    if kind == 0:
        return _packed(rest)
    if kind == 1:
        return _packed(
            [*rest, (rng.choice(("x.npy", "", "../" + name, "/" + name, name + "x", "a" * 60_000)), content)]
        )
    if kind == 2:
        return _packed([*rest, (name, content), (name, content[: len(content) // 2])])
    if kind == 3:
        return _packed(
            [*rest, (name, content)], rng.choice((zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA))
        )
    if kind == 4:
        return zip_bomb(name, content[:128])
    changed = bytearray(data)
    # Flags, method, sizes and places of the first headers of either kind.
    for signature in (b"PK\x01\x02", b"PK\x03\x04"):
        places = [place for place in range(len(data) - 46) if data.startswith(signature, place)]
        if places and rng.random() < 0.8:
            place = rng.choice(places) + (2 if signature == b"PK\x01\x02" else 0)
            offset, values = rng.choice(
                (
                    (6, (1, 8, 0x0800, 0xFFFF)),
                    (8, (1, 9, 12, 14, 93, 99)),
                    (18, (0, 0xFFFF)),
                    (22, (0, 0xFFFF)),
                    (26, (0, 5)),
                )
            )
            changed[place + offset : place + offset + 2] = struct.pack("<H", rng.choice(values))
    return bytes(changed)


NPY_HEADERS = (
    *(
        "{[]: 1}",
        "{'descr': (",
        "descr ()",
        "{}",
        "[]",
        "None",
        "(((",
        "{'descr': '<f8'}",
        "9" * 5000,
        "{1: {2: {}}}",
        "",
    ),
    "{'descr': '<f8', 'fortran_order': False, 'shape': (100000000000,), }",
    "{'descr': '<f8', 'fortran_order': False, 'shape': (100000, 100000), }",
    "{'descr': '<f8', 'fortran_order': False, 'shape': (-1,), }",
    "{'descr': '<f8', 'fortran_order': False, 'shape': (9223372036854775807, 2), }",
    "{'descr': '<f8', 'fortran_order': False, 'shape': (1.5,), }",
    "{'descr': '<f8', 'fortran_order': False, 'shape': ('3',), }",
    "{'descr': '<f8', 'fortran_order': 3, 'shape': (3,), }",
    "{'descr': '|O', 'fortran_order': False, 'shape': (3,), }",
    "{'descr': '<V8', 'fortran_order': False, 'shape': (3,), }",
    "{'descr': '<U1000000000', 'fortran_order': False, 'shape': (1,), }",
    "{'descr': '<M8[ns]', 'fortran_order': False, 'shape': (3,), }",
    "{'descr': [('a', '<f8', (1000000000,))], 'fortran_order': False, 'shape': (1,), }",
    "{'descr': [('a', '|O')], 'fortran_order': False, 'shape': (1,), }",
    "{'descr': '<f8', 'fortran_order': True, 'shape': (), }",
    "{'descr': '<f8', 'fortran_order': False, 'shape': (" + "1, " * 70 + "), }",
    "{'descr': '<f8', 'fortran_order': False, 'shape': (0, 29), }",
    "{'descr': __import__('os').system('true'), 'fortran_order': False, 'shape': (), }",
)


def _npy(header: str, content: bytes, version: int = 1) -> bytes:
    text = (header + "\n").encode()
    if version == 1 and len(text) > 65_535:
        version = 2
    length = struct.pack("<H" if version == 1 else "<I", len(text))
    return b"\x93NUMPY" + bytes([version, 0]) + length + text + content


def mutated_npz(data: bytes, rng: random.Random) -> bytes:
    """Headers, types, shapes and content of arrays, and the archive around them."""
    members = _members(data)
    if rng.random() < 0.35:
        return _mutated_structure(data, members, rng)
    name = rng.choice(list(members))
    array = members[name]
    size = struct.unpack("<H", array[8:10])[0]
    header, content = array[10 : 10 + size].decode("latin-1").strip(), array[10 + size :]
    kind = rng.randrange(8)
    if kind <= 1:
        members[name] = _npy(rng.choice(NPY_HEADERS), content)
    elif kind == 2:
        shape = rng.choice((*SHAPES, [61, 36], [1], [3, 61], [61]))
        written = repr(tuple(shape)) if isinstance(shape, list) else repr(shape)
        members[name] = _npy(header[: header.index("'shape':")] + f"'shape': {written}, }}", content)
    elif kind == 3:
        types = ("<f4", ">f8", "<i8", "|b1", "<c16", "|S8", "<U2", "|O", "<f2", "<M8[s]", "|V8", "|i1", "<u8")
        start = header.index("'descr': ") + 9
        members[name] = _npy(header[:start] + repr(rng.choice(types)) + header[header.index(", ", start) :], content)
    elif kind == 4:
        numbers = bytearray(content)
        value = rng.choice((float("nan"), float("inf"), -1e308, 1e300, 0.0, 1e-320, 7.0))
        for place in range(0, len(numbers) - 7, 8 * rng.choice((1, 3, len(numbers)))):
            numbers[place : place + 8] = struct.pack("<d", value)
        members[name] = array[: 10 + size] + bytes(numbers)
    elif kind == 5:
        members[name] = members[rng.choice(list(members))]
    elif kind == 6:
        members[name] = _npy(header, mutated_bytes(content, rng), rng.choice((1, 2, 3, 9)))
    else:
        members[
            rng.choice(("joint_pos.npy", "dof_positions.npy", "root_quat_xyzw.npy", "joint_names.npy", "fps.npy"))
        ] = array
    return _packed(list(members.items()))


def mutated_torch(data: bytes, rng: random.Random) -> bytes:
    """The pickle, the storages and the archive of a torch file."""
    members = _members(data)
    pickled = next(name for name in members if name.endswith("/data.pkl"))
    kind = rng.randrange(10)
    if kind <= 5:
        members[pickled] = mutated_pickle(members[pickled], rng)
    elif kind == 6:
        return zip_bomb(pickled, b"")
    elif kind == 7:
        name = rng.choice(list(members))
        members[name] = mutated_bytes(members[name], rng)
    else:
        return _mutated_structure(data, members, rng)
    return _packed(list(members.items()))


# --- Safetensors -----------------------------------------------------------------------------------------------------


def mutated_safetensors(data: bytes, rng: random.Random) -> bytes:
    """Fields of the header, the JSON inside its metadata, and the length before it."""
    (size,) = struct.unpack("<Q", data[:8])
    header, content = json.loads(data[8 : 8 + size]), data[8 + size :]
    kind = rng.randrange(10)
    if kind <= 4:
        # Metadata are texts, most of which are JSON of their own.
        metadata = header["__metadata__"]
        key = rng.choice(list(metadata))
        try:
            metadata[key] = json_text(mutated_tree(json.loads(metadata[key]), rng))
        except ValueError:
            metadata[key] = rng.choice(("", "{}", "[]", "null", "nan", "[" * 100_000, "9" * 5000))
    elif kind <= 6:
        header = mutated_tree(header, rng)
    elif kind == 7:
        tensors = [name for name in header if name != "__metadata__"]
        entry = header[rng.choice(tensors)]
        entry["dtype"] = rng.choice(("F64", "F16", "BF16", "I64", "U8", "BOOL", "F8_E4M3", "X", "C64"))
        if rng.random() < 0.5:
            entry["shape"] = rng.choice(SHAPES)
    elif kind == 8:
        numbers = bytearray(content)
        place = 4 * rng.randrange(max(1, len(numbers) // 4))
        numbers[place : place + 4] = struct.pack("<f", rng.choice((float("nan"), float("inf"), -1.0, 0.0, 1e38)))
        content = bytes(numbers)
    else:
        length = rng.choice((0, 1, size - 1, size + 1, 2**31, 2**63 - 1, 2**64 - 1))
        return struct.pack("<Q", length) + data[8:]
    text = json_text(header).encode()
    return struct.pack("<Q", len(text)) + text + content
