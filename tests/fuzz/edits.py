# SPDX-License-Identifier: GPL-2.0-or-later
"""Objects edited at random: each edit is in the ledger, and none is passed over.

    python -m tests.fuzz.edits [--count N] [--seed N]

tests/ledger/test_edits.py makes the edits of seeds 0 and 1; these are those of other seeds, the same ones every time.
"""

from __future__ import annotations

import argparse
import sys

from tests.support.ledger.check import editors, run


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=2)
    options = parser.parse_args()
    wrong, counts = run(editors(), options.count, options.seed)
    ends = ", ".join(f"{counts[name]} {name}" for name in ("changed", "refused", "nothing", "unreadable"))
    print("\n".join([*wrong, f"{options.count} edits: {ends}; {len(wrong)} wrong answers"]))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
