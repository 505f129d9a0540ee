# SPDX-License-Identifier: GPL-2.0-or-later
"""`make fuzz`: inputs that reach new code are kept and broken further (atheris, libFuzzer).

An input is both objects in one: the length of the first in four bytes, then the two. What is found (a crash, a
timeout, too much memory) is written to the folder of the corpus' name; `--only FILE` shows what it does.
"""

from __future__ import annotations

import argparse
import random
import struct
import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["kgbuild"]):
    from tests.fuzz.target import MEMORY, SECONDS, Seed, seeds, use
from tests.fuzz.mutate import Breaker

LENGTH = struct.Struct("<I")


def pack(orig: bytes, patched: bytes) -> bytes:
    """Two objects as one input."""
    return LENGTH.pack(len(orig)) + orig + patched


def unpack(data: bytes) -> tuple[bytes, bytes]:
    """The two objects of an input, whatever it is."""
    body = data[LENGTH.size :]
    size = LENGTH.unpack_from(data)[0] if len(data) >= LENGTH.size else 0
    return body[:size], body[size:]


def try_input(data: bytes) -> None:
    """Anything but a KgbuildError comes out of here and is a fault."""
    use(*unpack(data))


def mutate(data: bytes, max_size: int, seed: int) -> bytes:
    """Break one side or both, with knowledge of ELF where there is enough of it left."""
    rng = random.Random(seed)
    sides = list(unpack(data))
    for side in rng.choice(((0,), (1,), (1,), (0, 1))):
        try:
            if rng.random() < 0.2:
                raise ValueError("as libFuzzer does it")
            sides[side] = Breaker(sides[side]).broken(rng)
        except (struct.error, ValueError, IndexError, OverflowError):
            # the rest is left to libFuzzer, which knows the constants that were compared with
            room = max(max_size - len(sides[1 - side]) - LENGTH.size, 1)
            sides[side] = atheris.Mutate(sides[side][:room] or b"\0", room)
    if rng.random() < 0.1:
        sides[rng.randrange(2)] = sides[rng.randrange(2)]
    return pack(*sides)[:max_size]


def write_corpus(folder: Path, pairs: tuple[Seed, ...]) -> None:
    """The intact pairs as inputs to begin with."""
    folder.mkdir(parents=True, exist_ok=True)
    for seed in pairs:
        (folder / seed.name).write_bytes(pack(seed.orig, seed.patched))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("corpus", type=Path, nargs="?", default=Path("results/fuzz/corpus"))
    parser.add_argument("--seconds", type=int, default=600)
    parser.add_argument("--only", type=Path, help="one input, as it was written")
    args = parser.parse_args()
    if args.only is not None:
        try_input(args.only.read_bytes())
        return
    pairs = seeds()
    write_corpus(args.corpus, pairs)
    longest = max(len(s.orig) + len(s.patched) for s in pairs)
    options = [
        f"-max_total_time={args.seconds}",
        f"-timeout={SECONDS:.0f}",
        f"-rss_limit_mb={MEMORY >> 20}",
        f"-max_len={2 * longest}",
        f"-artifact_prefix={args.corpus.parent}/",
    ]
    atheris.Setup([sys.argv[0], *options, str(args.corpus)], try_input, custom_mutator=mutate)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
