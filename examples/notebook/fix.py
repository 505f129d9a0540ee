# SPDX-License-Identifier: GPL-2.0-or-later
"""A fix looked at, built, verified and booted from Python, cell by cell.

    python examples/notebook/fix.py [KERNEL] [PATCH]

Jupyter and editors that know cells (# %%) run it piece by piece; as a program it runs to its end.
"""

# %% Which kernel, and which fix
import sys
import tempfile
from pathlib import Path

import kgbuild

name = sys.argv[1] if len(sys.argv) > 1 else "debian:newest-6.1-cloud"
patch = Path(sys.argv[2]) if len(sys.argv) > 2 else Path(__file__).parent.parent / "proc-version" / "fix.patch"
kernel = kgbuild.open_kernel(name)
print(kernel.kernel.id, "exports", len(kernel.exports), "symbols")

# %% What would it touch? Nothing is compiled.
estimate = kgbuild.estimate([patch], kernel)
print("estimated:", [row["function"] for row in estimate.to_json()["changed"]])

# %% And compiled: everything that is in the module, each with its reason
impact = kgbuild.impact([patch], kernel)
for row in impact.to_json()["changed"]:
    print("changed:", row["function"], "-", row["reason"])
for refusal in impact.refusals:
    print("refused:", refusal)

# %% Why is one of them in it?
function = impact.to_json()["changed"][0]["function"]
print("why:", kgbuild.why(function, [patch], kernel).to_json()["chains"])

# %% The module, and what a second reader finds in it
built = kgbuild.build([patch], kernel, name="livepatch-notebook")
module = Path(tempfile.mkdtemp()) / "livepatch-notebook.ko"
module.write_bytes(built.assembled.module)
verified = kgbuild.verify(module, kernel)
print("module:", len(built.assembled.module), "bytes,", len(verified.findings), "findings")

# %% Does it work in the kernel it is for?
run = kgbuild.boot([module], kernel, checks=["grep -q kgbuild /proc/version"])
print("verdict:", run.outcome, "in", round(run.seconds), "s")
