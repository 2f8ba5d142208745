"""Zip archives, which npz and torch files are, read within bounds."""

from __future__ import annotations

import struct
import zipfile
import zlib
from pathlib import Path
from types import TracebackType

from cmg_ref.core.shorten import reason, shortened
from cmg_ref.files.input_file import MEBIBYTE, check_input_file

_DAMAGE = (zipfile.BadZipFile, zlib.error, struct.error, EOFError, OSError, ValueError, OverflowError)
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


class Archive:
    """An open archive.

    Args:
        path: The file.
        error: The kind of error to raise for whatever is wrong with it.
        kind: What the file should be, for messages.

    Attributes:
        names: Names of the members.
        max_bytes: What all members may take together; zeros can be packed to a thousandth, motions cannot.

    Raises:
        error: The file cannot be read or is no zip archive, is encrypted or packed in a way that numpy and torch do not
            use, or its members are larger than those of such a file can honestly be. Nothing is unpacked before that is
            known.
    """

    def __init__(self, path: Path, error: type[Exception], kind: str) -> None:
        self.path = path
        self.error = error
        self.max_bytes = 128 * MEBIBYTE + 8 * check_input_file(path, error)
        try:
            self._file = zipfile.ZipFile(path)
        except (*_DAMAGE, NotImplementedError) as problem:
            raise error(f"{path}: truncated, damaged or not {kind} ({reason(problem)})") from problem
        try:
            self._check_members()
        except error:
            self._file.close()
            raise

    def __enter__(self) -> Archive:
        """The archive itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close the file."""
        self._file.close()

    @property
    def names(self) -> list[str]:
        """Names of the members."""
        return self._file.namelist()

    def _check_members(self) -> None:
        for member in self._file.infolist():
            if member.flag_bits & 1:
                raise self.error(f"{self.path}: {shortened(member.filename)} is encrypted")
            if member.compress_type not in _METHODS:
                raise self.error(f"{self.path}: {shortened(member.filename)} is packed by an unusual method")
        total = sum(member.file_size for member in self._file.infolist())
        if total > self.max_bytes:
            raise self.error(
                f"{self.path}: unpacks to {total / MEBIBYTE:.0f} MiB, needs at most {self.max_bytes / MEBIBYTE:.0f} MiB"
            )

    def read(self, name: str) -> bytearray:
        """Content of a member."""
        place = 0
        try:
            member = self._file.getinfo(name)
            content = bytearray(member.file_size)
            with self._file.open(member) as file:
                # A little at a time: zipfile otherwise unpacks all at once, whatever the size that the member claims.
                while chunk := file.read(MEBIBYTE):
                    content[place : place + len(chunk)] = chunk
                    place += len(chunk)
        except KeyError:
            raise self.error(f"{self.path}: has no {shortened(name)}") from None
        except (*_DAMAGE, NotImplementedError) as problem:
            raise self.error(f"{self.path}: {shortened(name)}: truncated or damaged ({reason(problem)})") from problem
        if place != member.file_size:
            raise self.error(f"{self.path}: {shortened(name)}: truncated")
        return content
