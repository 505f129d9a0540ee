# SPDX-License-Identifier: GPL-2.0-or-later
"""The soundness test of the closure: random programs, random changes, patched while they run.

A program of one to three C units is generated from a seed (`generate`), with the shapes that gcc's interprocedural
optimisations take hold of: static functions that become isra, constprop and part clones, cold halves, bodies that are
folded into one, statics with and without writes, static locals of one name, pure and noreturn functions, function
tables, strings, switch tables, functions without __fentry__ or in .sched.text, weak definitions, aliases, and functions
of a header. Some have a module as a second object (`objects`), with the kernel's names. They are compiled as a kernel
is and linked. Then a program is changed (`change`), as patches change source code, and its variables are renamed, moved
or given other types (`refactor`, `retype`).

The live patch is made by the builder's own stages (`patching`): parity, difference, closure with the call graph of a
real index, accounting, extraction, injection. What a kernel would do with it is done by the harness (`loader`), from
the patch's own tables: symbols are found by name and position, relocations and initial values written, and a jump put
where each redirected function calls __fentry__. `machine` and runner.c run what `scenes` describes; `case` says which
runs must be equal, and why nothing else than a fault can make them differ. Refusing is an answer and is counted by code
(`run`); `shrink` makes a case that went wrong small.

    make torture-test                              the cases that CI runs, the same every time
    make torture TORTURE_SEED=7 TORTURE_COUNT=5000 others
    python -m tests.torture.run --case 100004:2    one of them

test_torture.py holds the harness itself to account: a closure that is spoilt on purpose must be found wrong.
"""
