# SPDX-License-Identifier: GPL-2.0-or-later
"""A source file, a fix of it as a patch, the file with the fix, and a tree of such files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

FILE = "net/x.c"
BEFORE = """\
#include <linux/x.h>

static int check(struct x *x)
{
\tif (!x)
\t\treturn -EINVAL;
\treturn 0;
}

int run(struct x *x, int size)
{
\tint ret = check(x);

\tif (ret)
\t\treturn ret;
\tprepare(x);
\tcopy(x->data, size);
\tfinish(x);
\treturn 0;
}
"""
FIX = """\
--- a/net/x.c
+++ b/net/x.c
@@ -13,5 +13,7 @@ int run(struct x *x, int size)
 \tif (ret)
 \t\treturn ret;
 \tprepare(x);
+\tif (size > x->most)
+\t\treturn -E2BIG;
 \tcopy(x->data, size);
 \tfinish(x);
"""
FIXED = BEFORE.replace("\tcopy(", "\tif (size > x->most)\n\t\treturn -E2BIG;\n\tcopy(")


@dataclass
class SourceInMemory:
    """A source tree in memory."""

    files: Mapping[str, str]
    left_out: Mapping[str, str] = field(default_factory=dict)

    def read(self, path: str) -> bytes | None:
        return self.files[path].encode() if path in self.files else None

    def is_built(self, path: str) -> bool:
        return path not in self.left_out

    def option(self, path: str) -> str:
        return self.left_out[path]

    def of_name(self, name: str) -> Sequence[str]:
        return [path for path in self.files if path.rpartition("/")[2] == name]
