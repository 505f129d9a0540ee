# SPDX-License-Identifier: GPL-2.0-or-later
"""The registry of what `verify` can find in a module: code, rule, remedy.

Codes are stable, because scripts match them. A finding in a module that kgbuild has just built is a bug in kgbuild.
"""

from __future__ import annotations

from kgbuild.diagnostics.rule import Rule
from kgbuild.model import Finding

_BUILD = "build the module again; if that does not help, it is a bug in kgbuild, please report it"
_KERNEL = "build the module for this kernel, or name with --kernel the one it was built for"
_RECORD = "give the record that was written with this module (kgbuild build --proof), or build both again"

_TABLE = [
    Rule(
        "V1-identity",
        "Note, build-id and table name this kernel, the note its modules too, and the running one's notes are bound.",
        _KERNEL,
    ),
    Rule("V2-vermagic", "The module's vermagic is the kernel's.", _KERNEL),
    Rule("V3-sympos", "A kernel symbol is in kallsyms, at its position; position 0 means its name is unique.", _KERNEL),
    Rule(
        "V4-modinfo",
        "modinfo has livepatch=Y, license=GPL, the file's name, no dependency and no alias.",
        "rename the file to the module's name, or build the module again",
    ),
    Rule("V5-crc", "Every export the module uses has an entry in __versions with the kernel's CRC.", _KERNEL),
    Rule("V6-undefined", "Every undefined symbol is exported by vmlinux.", _KERNEL),
    Rule("V7-namespace", "The namespace of every export that has one is imported.", _BUILD),
    Rule(
        "V8-livepatch-symbol",
        "Livepatch symbols are SHN_LIVEPATCH and named .klp.sym.OBJECT.NAME,POSITION.",
        _BUILD,
    ),
    Rule("V9-object", "What is patched and referred to is vmlinux or a module of this kernel.", _KERNEL),
    Rule("V10-init-memory", "Nothing refers to or patches memory that is freed after boot.", _BUILD),
    Rule(
        "V11-function",
        "The table of functions is complete, ends with zeros, names each function once and leads to functions.",
        _BUILD,
    ),
    Rule("V12-not-traceable", "A patched function begins with a call to __fentry__ in the kernel.", _KERNEL),
    Rule("V13-reloc-type", "Relocations are of the types that the kernel's loader applies.", _BUILD),
    Rule(
        "V14-reloc-place",
        "A relocation's field lies in its section, holds zeros and is no other relocation's.",
        _BUILD,
    ),
    Rule(
        "V15-livepatch-section",
        "Livepatch relocations are in .klp.rela.OBJECT.SECTION, one for each, with the flags that the kernel checks.",
        _BUILD,
    ),
    Rule(
        "V16-reloc-symbol",
        "Livepatch relocations name livepatch symbols of their object; other relocations name none.",
        _BUILD,
    ),
    Rule("V17-section-flags", "Code is not writable, constants are neither writable nor code.", _BUILD),
    Rule("V18-section-name", "Sections that the kernel looks up have their exact name; no name repeats.", _BUILD),
    Rule("V19-leftover", "Nothing of the unit is left that acts at load: exports, initcalls, parameters.", _BUILD),
    Rule("V20-special", "Special sections contain complete entries that point to instructions.", _BUILD),
    Rule("V21-site", "Each entry points to the instruction that the kernel will rewrite.", _BUILD),
    Rule("V22-unlisted-site", "Every site that the kernel must know of has an entry.", _BUILD),
    Rule("V23-symbol", "Symbols have sections, no global is defined twice, init and exit are there.", _BUILD),
    Rule("V24-name-length", "Names are no longer than the kernel's buffers.", "choose a shorter name with -o"),
    Rule(
        "V25-this-module",
        "struct module is there once, has the size of the kernel's, and holds the module's name, init and exit only.",
        _KERNEL,
    ),
    Rule(
        "V26-module-reference",
        "Livepatch relocations kept for a module name its own symbols and those of modules it needs, none of vmlinux.",
        _BUILD,
    ),
    Rule(
        "V27-late-special",
        "What the kernel acts on when the patch loads needs no relocation of a module that may come later.",
        _BUILD,
    ),
    Rule(
        "V28-note-digest",
        "The note has the digest of each function that the module replaces or is bound to, and no other.",
        _KERNEL,
    ),
    Rule(
        "V29-proof-binding",
        "A proof record is of this kernel and names all that the module replaces and is bound to, and nothing else.",
        _RECORD,
    ),
    Rule(
        "V30-proof-digest",
        "Digest, address and size in a proof record are those of the kernel's own files.",
        _RECORD,
    ),
    Rule(
        "V38-proof-contents",
        "Header, symbols and each section with its relocations are those of the module that the record is of.",
        _RECORD,
    ),
    Rule(
        "V39-proof-origin",
        "Record and note name the same tool, kernel, patches and options, and the note has the record's digest.",
        _RECORD,
    ),
    Rule(
        "V40-file",
        "Every byte of the file belongs to its header, a section or a signature behind it, or is a zero between them.",
        _BUILD,
    ),
    Rule(
        "V41-reloc-field",
        "A relocation is of the kind of the field that holds it, leads to where something is, and no field is "
        "without one.",
        _BUILD,
    ),
    Rule(
        "V42-wrapper",
        "The code that checks the build-id and registers the patch is what data/livepatch compiles to for this kernel.",
        _BUILD,
    ),
    Rule(
        "V31-constant",
        "Code that holds a value which the kernel writes when it boots has a row in kgbuild_constants.",
        _BUILD,
    ),
    Rule(
        "V32-endbr",
        "With IBT, pointers lead to functions that begin with endbr64, in the module and in the kernel, none sealed.",
        _BUILD,
    ),
    Rule(
        "V33-kallsyms",
        "With the back end kallsyms, every row, site, stub, slot and digest of its tables is whole and of this kernel.",
        _KERNEL,
    ),
    Rule(
        "V34-module-reach",
        "Code and data that wait for a module are reached only from code of that module and of modules that need it.",
        _BUILD,
    ),
    Rule(
        "V36-module-memory",
        "Sections are aligned to a page at most and none is for vmlinux only; per-CPU data fits and has no relocation.",
        _BUILD,
    ),
    Rule(
        "V37-initial-value",
        "Variables that only patched code of a target module leads to are in kgbuild_initial, whose rows are whole.",
        _BUILD,
    ),
    Rule(
        "V35-literal",
        "The note lists each string and constant of the kernel without a symbol that the module is bound to, with the "
        "digest of the bytes that are there.",
        _KERNEL,
    ),
    Rule(
        "V60-stripped",
        "The module has its livepatch relocations: strip and objcopy turn them into ordinary ones, which no kernel can "
        "apply. Nothing else of such a module is looked at.",
        "take the module as kgbuild build wrote it; keep dh_strip, brp-strip and INSTALL_MOD_STRIP away from it",
    ),
    Rule(
        "V61-signature",
        "The module's signature is whole, and where a certificate is given it is by the key of that certificate, over "
        "these very bytes; where a kernel's keys are given, that key is among them.",
        "sign it again: kgbuild sign PATCH.ko --sign-key KEY --sign-cert CERT; do not change it after that",
    ),
]

RULES: dict[str, Rule] = {rule.code: rule for rule in _TABLE}
_ORDER = {code: position for position, code in enumerate(RULES)}


def finding(code: str, place: str, fact: str) -> Finding:
    """A finding with its registered remedy. Raises KeyError for a code that is not in the registry."""
    return Finding(code, place, fact, RULES[code].remedy)


def in_order(findings: list[Finding]) -> list[Finding]:
    """Findings without repetitions, in the order of the registry, then by place."""
    return sorted(set(findings), key=lambda f: (_ORDER[f.code], f.place, f.fact))
