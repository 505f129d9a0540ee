# SPDX-License-Identifier: GPL-2.0-or-later
"""Decompressing what somebody else packed: never more than a limit, whatever the packed bytes say.

A few kilobytes can be made that grow to terabytes. So every reader of compressed bytes comes here: output is made
piece by piece and counted, and both its size and its ratio to the input are limited (kgbuild/limits.py). Damaged or
cut-off input, and every other fault of a decompressor, is one kind of error.
"""

from __future__ import annotations

import bz2
import lzma
import re
import zlib
from collections.abc import Callable, Iterator
from typing import Any, Protocol

from kgbuild.errors import UserError
from kgbuild.limits import MIB, UNPACKED_BYTES, UNPACKED_RATIO, Limit

MAGIC = {b"\xfd7zXZ\0": "xz", b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd"}
"""How a compressed file begins, and what it is compressed with."""
_ALWAYS = 16 * MIB  # this much is taken whatever the ratio: little input may be all zeros
_MEMORY = 256 * MIB  # what a decompressor may use for itself
_PIECE = 1 << 16
_SOME = 1 << 11  # of input at a time: zstd does not limit what comes of it, and 4 bytes can be 128 KiB
_PADDING = re.compile(rb"\0*")


class DamagedError(UserError):
    """Compressed bytes that can't be decompressed: damaged, cut off, or not what they are said to be (exit 2)."""


def packed_with(data: bytes | memoryview) -> str:
    """ "xz", "gzip" or "zstd", by the first bytes; "" for what is not compressed in one of these ways."""
    return next((kind for magic, kind in MAGIC.items() if bytes(data[: len(magic)]) == magic), "")


def decompress(data: bytes | memoryview, kind: str, place: str, limit: Limit = UNPACKED_BYTES) -> bytes:
    """The bytes that were compressed.

    kind    one of READERS; "zlib" is RFC 1950, as in sections of an ELF file
    place   what messages call the input
    limit   the largest size of the output; its ratio to the input is limited by unpacked-ratio besides
    Several streams one after the other are taken as one, as xz(1), gzip(1) and zstd(1) do. Raises LimitError where
    there is more, DamagedError for what can't be decompressed.
    """
    by_ratio = max(UNPACKED_RATIO.most * len(data), _ALWAYS)
    out = bytearray()
    for piece in decompress_pieces(data, kind, place):
        out += piece
        if len(out) > limit.most:
            raise limit.exceeded(place)
        if len(out) > by_ratio:
            raise UNPACKED_RATIO.exceeded(place, remedy="give it as it is, not compressed")
    return bytes(out)


def decompress_pieces(data: bytes | memoryview, kind: str, place: str) -> Iterator[bytes]:
    """What `decompress` gives, in pieces of at most some MiB and without a limit: for who stops when it has enough."""
    try:
        yield from READERS[kind](bytes(data))
    except (lzma.LZMAError, zlib.error, EOFError, MemoryError, OSError, ValueError) as error:
        raise _damaged(place, kind, str(error) or type(error).__name__) from error
    except Exception as error:
        # zstandard has an error of its own, which is derived from none of these
        if type(error).__module__.partition(".")[0] != "zstandard":
            raise
        raise _damaged(place, kind, str(error)) from error


def _damaged(place: str, kind: str, fact: str) -> DamagedError:
    return DamagedError(f"can't be decompressed ({kind}: {fact})", place=place, remedy="give an intact file")


class _Stream(Protocol):
    """One compressed stream, as the standard library's decompressors and zstandard's have it."""

    @property
    def eof(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...


def _buffered(begin: Callable[[], _Stream]) -> Callable[[bytes], Iterator[bytes]]:
    """A reader by a decompressor that keeps what does not fit into one piece (lzma, bz2)."""

    def step(stream: Any, piece: bytes) -> Iterator[bytes]:
        yield stream.decompress(piece, _PIECE)
        while not stream.eof and not stream.needs_input:
            yield stream.decompress(b"", _PIECE)

    return lambda data: _streams(data, begin, step)


def _deflate(window: int) -> Callable[[bytes], Iterator[bytes]]:
    def step(stream: Any, piece: bytes) -> Iterator[bytes]:
        yield stream.decompress(piece, _PIECE)
        while stream.unconsumed_tail and not stream.eof:
            yield stream.decompress(stream.unconsumed_tail, _PIECE)
        # what the window still holds comes with no input at all
        while not stream.eof and (more := stream.decompress(b"", _PIECE)):
            yield more

    return lambda data: _streams(data, lambda: zlib.decompressobj(window), step)


def _zstd(data: bytes) -> Iterator[bytes]:
    import zstandard  # most commands need none

    def step(stream: Any, piece: bytes) -> Iterator[bytes]:
        yield stream.decompress(piece)

    window = _MEMORY // 2
    return _streams(data, lambda: zstandard.ZstdDecompressor(max_window_size=window).decompressobj(), step)


def _streams(
    data: bytes, begin: Callable[[], _Stream], step: Callable[[Any, bytes], Iterator[bytes]]
) -> Iterator[bytes]:
    """What comes of all streams in `data`, in pieces. `step` gives a stream some input and yields all that comes."""
    at = 0
    while at < len(data):
        stream = begin()
        while not stream.eof:
            if at >= len(data):
                raise EOFError("it is cut off")
            piece = data[at : at + _SOME]
            at += len(piece)
            yield from step(stream, piece)
        at -= len(stream.unused_data)
        padding = _PADDING.match(data, at)
        at = padding.end() if padding else at


READERS: dict[str, Callable[[bytes], Iterator[bytes]]] = {
    "xz": _buffered(lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_MEMORY)),
    "lzma": _buffered(lambda: lzma.LZMADecompressor(lzma.FORMAT_ALONE, memlimit=_MEMORY)),
    "bzip2": _buffered(bz2.BZ2Decompressor),
    "gzip": _deflate(16 + zlib.MAX_WBITS),
    "zlib": _deflate(zlib.MAX_WBITS),
    "zstd": _zstd,
}
