# SPDX-License-Identifier: GPL-2.0-or-later
"""Rewrites a patch without what a live patch can't have: new structure members move into shadow variables, new values
of data and changes of init code into callbacks.

What the author must decide is left in comments of the generated code and in the notes: where objects are freed, whether
a value may be overwritten, what the init code's change means on a running system. Source of the interfaces:
Documentation/livepatch/shadow-vars.rst and callbacks.rst.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from kgbuild.csource.text_spans import (
    DeclarationSpan,
    Definition,
    StructBody,
    closing,
    find_function,
    find_variable,
    line_of,
    mask,
    postfix_start,
    split_values,
    struct_body,
)
from kgbuild.diagnostics.refusals import Refusal, Refused

TYPE, DATA, INIT = "K9-type-layout", "K1-data", "K3-init"
CONTINUED = "\t" * 5 + " "


@dataclass(frozen=True)
class Source:
    """One file that the patch changes: its two texts (the original is "" for a new file), the lines (from 0) of
    `patched` that the patch adds, and the object of the kernel that it is part of ("" if unknown)."""

    path: str
    orig: str
    patched: str
    added: frozenset[int] = frozenset()
    target: str = ""


@dataclass(frozen=True)
class RewrittenPatch:
    """The rewritten texts of the patched files, by path, and notes on what the author must decide."""

    texts: dict[str, str]
    notes: tuple[str, ...]


@dataclass
class _EditedFile:
    source: Source
    text: str
    shadows: list[str] = field(default_factory=list)
    accessors: list[tuple[str, str]] = field(default_factory=list)
    post_patch: list[str] = field(default_factory=list)
    post_unpatch: list[str] = field(default_factory=list)


def write_remedy(sources: Sequence[Source], refusals: Sequence[Refusal], codes: Sequence[str]) -> RewrittenPatch:
    """Rewrite a patch to avoid the refusals with these codes.

    Raises Refused, with the same code and the place in the patched text, for everything that can't be rewritten.
    """
    return _PatchWriter(sources).write([r for r in refusals if r.code in codes])


def find_grown(sources: Sequence[Source]) -> list[str]:
    """Names of the structures whose members differ between the two texts: the structures that K9-type-layout would be
    reported for, when a header has too many units to compile them all."""
    names: dict[str, None] = {}
    for source in sources:
        orig_text, patched_text = mask(source.orig), mask(source.patched)
        for found in re.finditer(r"\bstruct\s+(\w+)\s*\{", patched_text):
            name = found.group(1)
            orig, patched = (
                struct_body(source.orig, orig_text, name),
                struct_body(source.patched, patched_text, name),
            )
            if (
                orig is not None
                and patched is not None
                and [m.normal for m in orig.members] != [m.normal for m in patched.members]
            ):
                names[name] = None
    return sorted(names)


class _PatchWriter:
    def __init__(self, sources: Sequence[Source]) -> None:
        self.files = {s.path: _EditedFile(s, s.patched) for s in sources}
        self.refused: list[Refusal] = []
        self.notes: list[str] = []
        self.code = TYPE  # code of the current refusal

    def refuse(self, code: str, path: str, line: int, fact: str, remedy: str, symbol: str = "") -> None:
        place = f"{path}:{line}" if line else path
        self.refused.append(Refusal(code, place, fact, symbol=symbol, remedy=remedy))

    def write(self, refusals: Sequence[Refusal]) -> RewrittenPatch:
        places = sorted({r.place.rpartition(": ")[2] for r in refusals if r.code == TYPE})
        for variable in (place for place in places if " " not in place):
            fact = f"{variable} is a variable, and its type changes"
            self.refuse(TYPE, next(iter(self.files)), 0, fact, "keep the type as it is", variable)
        self._types([place for place in places if " " in place])
        for refusal in sorted({replace(r, section="", fact="") for r in refusals if r.code != TYPE}):
            self._revert(refusal)
            self.code = refusal.code
        if not self.refused:
            self._callbacks()
        if self.refused:
            raise Refused(self.refused)
        return RewrittenPatch(
            {path: self._assembled(f) for path, f in self.files.items()}, tuple(dict.fromkeys(self.notes))
        )

    # -- types ---------------------------------------------------------------------------------------------------

    def _types(self, types: Sequence[str]) -> None:
        """The types to rewrite: a type whose own text does not change only contains one that does."""
        added: dict[str, list[DeclarationSpan]] = {}
        for kind, _, name in (t.partition(" ") for t in types):
            for path, file in self.files.items():
                if kind == "struct" and (members := self._new_members(name, path, file)):
                    added[name] = members
        if types and not added and not self.refused:
            first = next(iter(self.files))
            fact = f"the text of {', '.join(types)} does not change; a macro, or an enumeration, changes it"
            self.refuse(TYPE, first, 0, fact, "keep the type as it is", types[0].split()[-1])
        owners = [(n, name) for name, members in added.items() for m in members for n in m.names]
        for member in sorted({n for n, _ in owners}):
            names = sorted({name for n, name in owners if n == member})
            if len(names) > 1:
                fact = f"{' and '.join(names)} both get a member {member}, and which one is meant can't be told"
                self.refuse(TYPE, next(iter(self.files)), 0, fact, "give the members different names", names[0])
        if self.refused:
            return
        for path, file in self.files.items():
            for member, name in owners:
                self._uses(path, file, member, name)
        for name, members in added.items():
            self._shadow(name, members)

    def _new_members(self, name: str, path: str, file: _EditedFile) -> list[DeclarationSpan]:
        orig, patched = _body(file.source.orig, name), _body(file.text, name)
        if orig is None or patched is None or [m.normal for m in orig.members] == [m.normal for m in patched.members]:
            return []
        remaining = [m.normal for m in orig.members]
        added = []
        for member in patched.members:
            if remaining and member.normal == remaining[0]:
                remaining.pop(0)
            else:
                added.append(member)
        remedy, line = "keep the members as they are and add new ones only", line_of(file.text, patched.start)
        if remaining:
            self.refuse(TYPE, path, line, f"struct {name} loses or changes `{remaining[0]}`", remedy, name)
        elif orig.directives != patched.directives or any(m.conditional for m in added):
            self.refuse(TYPE, path, line, f"struct {name} changes inside an #if", remedy, name)
        elif unclear := [m for m in added if not m.names]:
            fact = f"which member `{unclear[0].normal}` adds to struct {name} is not clear"
            self.refuse(TYPE, path, line, fact, "give it a name of its own", name)
        return added

    def _uses(self, path: str, file: _EditedFile, member: str, name: str) -> None:
        """Rewrite `EXPR->member` on the lines that the patch adds; other lines use another structure's member."""
        pattern = re.compile(rf"(->|\.)\s*{re.escape(member)}\b")
        here = 0
        while True:
            masked = mask(file.text)
            found = pattern.search(masked, here)
            if found is None:
                return
            here = found.end()
            line = line_of(file.text, found.start())
            if line - 1 not in file.source.added:
                continue
            start = postfix_start(masked, found.start())
            expression = file.text[start : found.start()].rstrip()
            if expression.startswith("kgbuild_shadow_"):
                continue
            if not expression:
                fact = f"sets `.{member}` of struct {name} in an initial value"
                self.refuse(TYPE, path, line, fact, "set it by an assignment", name)
            elif path.endswith(".h"):
                fact = f"`{member}` of struct {name} is used in a header"
                self.refuse(TYPE, path, line, fact, "move this code into the .c files", name)
            else:
                argument = _unwrapped(expression) if found.group(1) == "->" else f"&({_unwrapped(expression)})"
                text = f"kgbuild_shadow_{name}({argument})->{member}"
                file.text = file.text[:start] + text + file.text[found.end() :]
                here = start + len(text)
                if name not in file.shadows:
                    file.shadows.append(name)

    def _shadow(self, name: str, members: Sequence[DeclarationSpan]) -> None:
        users = [f for f in self.files.values() if name in f.shadows]
        for file in self.files.values():
            orig, patched = _body(file.source.orig, name), _body(file.text, name)
            if orig is not None and patched is not None:
                file.text = (
                    file.text[: patched.start] + file.source.orig[orig.start : orig.end] + file.text[patched.end :]
                )
        code = _accessor(name, members)
        for file in users:
            file.accessors.append((name, code))
        free = f"klp_shadow_free_all(KGBUILD_SHADOW_{name}, NULL);"
        where = sorted({f.source.target for f in users})
        if len(where) > 1 and "vmlinux" not in where:
            fact = f"the new members of struct {name} are used in several modules: {', '.join(where)}"
            remedy = "free the shadow variables in a callback of the one whose objects they belong to"
            self.refuse(TYPE, users[0].source.path, 0, fact, remedy, name)
        elif users:
            home = next((f for f in users if f.source.target == "vmlinux"), users[0])
            home.post_unpatch += ["/* With replace, this does not run when a newer patch takes over. */", free]
            freed = f"klp_shadow_free(obj, KGBUILD_SHADOW_{name}, NULL)"
            self.notes.append(f"where the kernel frees a struct {name}, call {freed}: another object may come there")
            self.notes.append(f"kgbuild_shadow_{name} allocates with GFP_ATOMIC and gives zeros: see its comment")

    # -- data and init code --------------------------------------------------------------------------------------

    def _revert(self, refusal: Refusal) -> None:
        """Remove the changed definition of a variable or init function from the patch, and do its work in a
        callback."""
        code, name = refusal.code, refusal.symbol
        path = refusal.place.removesuffix(f": {name}")
        candidates = [path] if path in self.files else []
        candidates += [p for p in self.files if p not in candidates]
        same = ""
        for path in candidates:
            file = self.files[path]
            orig_text, patched_text = file.source.orig, file.text
            name = _behind_alias(refusal.symbol, mask(patched_text))
            for is_variable in (True, False):
                if is_variable:
                    orig, patched = (
                        find_variable(orig_text, mask(orig_text), name),
                        find_variable(patched_text, mask(patched_text), name),
                    )
                else:
                    orig, patched = find_function(mask(orig_text), name), find_function(mask(patched_text), name)
                if orig is None or patched is None:
                    continue
                orig_part, patched_part = orig_text[orig.start : orig.end], patched_text[patched.start : patched.end]
                if orig_part == patched_part:
                    same = path
                    continue
                line = line_of(file.source.patched, max(file.source.patched.find(patched_part), 0))
                if is_variable and (why := _fixed(orig, patched, code)):
                    self.refuse(code, path, line, f"{name} {why}", "change what reads it instead", name)
                    return
                if path.endswith(".h"):
                    fact = f"{name} is defined in a header"
                    self.refuse(code, path, line, fact, "do its work in a callback of a .c file", name)
                    return
                file.text = patched_text[: patched.start] + orig_part + patched_text[patched.end :]
                self._work(file, name, orig, patched, (orig_part, patched_part), is_variable and code == DATA)
                return
        fact = f"{name} has no definition of its own in the patch: it is static in a function, made by a macro, or new"
        if same:
            fact = f"the text of {name} does not change, but what it uses does, such as a macro or the size of a type"
        remedy = "take it out of the patch, and do its work in a callback"
        self.refuse(code, same or candidates[0], 0, fact, remedy, name)

    def _work(
        self, file: _EditedFile, name: str, orig: Definition, patched: Definition, texts: tuple[str, str], is_data: bool
    ) -> None:
        values = _assignments(name, orig, patched) if is_data else None
        if values is None:
            file.post_patch += _todo(name, *texts)
            what = f"{file.source.path}: what is to be done on a running system for {name} (TODO in the callback)"
            self.notes.append(what)
            return
        for place, orig_value, patched_value in values:
            file.post_patch += [f"if ({place} == {orig_value})", f"\t{place} = {patched_value};"]
            file.post_unpatch += [f"if ({place} == {patched_value})", f"\t{place} = {orig_value};"]
        self.notes.append(f"{name} is set only where it still has the old value: see the callbacks")

    # -- callbacks -----------------------------------------------------------------------------------------------

    def _callbacks(self) -> None:
        """Write one callback of each kind for each object; if several files need one, the first calls the others."""
        for kind in ("post_patch", "post_unpatch"):
            wanted = [f for f in self.files.values() if getattr(f, kind)]
            for target in sorted({f.source.target for f in wanted}):
                self._callback(kind, [f for f in wanted if f.source.target == target], target)

    def _callback(self, kind: str, files: Sequence[_EditedFile], target: str) -> None:
        macro = f"{kind.upper()}_CALLBACK"
        for path, file in self.files.items():
            patched = file.source.patched
            found = re.search(rf"^(?:KLP|KPATCH)_{macro}\(\w+\)", patched, re.MULTILINE)
            if found and file.source.target == target:
                fact = f"the patch has a {kind} callback for {target} already"
                work = "; ".join(" ".join(getattr(f, kind)) for f in files)
                self.refuse(self.code, path, line_of(patched, found.start()), fact, f"do this in it: {work}")
                return
        family = "KPATCH" if any("kpatch-" in f.text for f in self.files.values()) else "KLP"
        header = "<kpatch-macros.h>" if family == "KPATCH" else "<linux/livepatch_helpers.h>"
        home, *others = files
        calls = []
        for number, file in enumerate(others):
            helper = f"kgbuild_remedy_{kind}_{number}"
            calls.append(helper)
            body = "".join(f"\t{line}\n" for line in getattr(file, kind))
            file.text += f"\nvoid {helper}(void);\nvoid {helper}(void)\n{{\n{body}}}\n"
        lines = [*getattr(home, kind), *(f"{helper}();" for helper in calls)]
        declared = "".join(f"void {helper}(void);\n" for helper in calls)
        body = "".join(f"\t{line}\n" if line else "\n" for line in lines)
        function = f"kgbuild_remedy_{kind}"
        home.text = (
            home.text.rstrip("\n") + f"\n\n{declared}static void {function}(struct klp_object *obj)\n{{\n{body}}}\n"
        )
        home.text += f"{family}_{macro}({function});\n"
        home.text = _with_include(home.text, header)

    def _assembled(self, file: _EditedFile) -> str:
        text = file.text
        for name, code in file.accessors:
            body = _body(text, name)
            end = text.find(";", body.end) if body is not None else -1
            end = text.find("\n", end) + 1 if end >= 0 else _after_includes(text)
            text = text[:end] + "\n" + code + text[end:]
        return _with_include(text, "<linux/livepatch.h>") if file.accessors else text


def _body(text: str, name: str) -> StructBody | None:
    return struct_body(text, mask(text), name)


def _unwrapped(expression: str) -> str:
    """The expression without parentheses around all of it."""
    whole = expression.startswith("(") and closing(mask(expression), 0) == len(expression) - 1
    return expression[1:-1] if whole else expression


def _behind_alias(name: str, masked: str) -> str:
    """The function that module_init() or module_exit() aliases to `init_module` or `cleanup_module`."""
    macro = {"init_module": "module_init", "cleanup_module": "module_exit"}.get(name, "")
    found = re.search(rf"^{macro}\s*\(\s*(\w+)\s*\)", masked, re.MULTILINE) if macro else None
    return found.group(1) if found else name


def _fixed(orig: Definition, patched: Definition, code: str) -> str:
    """Why a variable's value can't be changed while the kernel runs; "" if it can."""
    if code == DATA and " ".join(mask(orig.head).split()) != " ".join(mask(patched.head).split()):
        return "gets another type, size or place, not only another value"
    specifiers = orig.head.rpartition("*")[2] if "*" in orig.head else orig.head
    if code == DATA and re.search(r"\bconst\b|\b__ro_after_init\b", specifiers):
        return "is read-only in the running kernel"
    return ""


def _assignments(name: str, orig: Definition, patched: Definition) -> list[tuple[str, str, str]] | None:
    """(place, original value, patched value) for each value that differs; None if the text does not tell."""
    if not mask(orig.value + patched.value).strip("{} \t\n,") or "{" not in orig.value + patched.value:
        simple = not re.search(r"[\[\"]", orig.head + orig.value + patched.value)
        return [(name, _value(orig.value), _value(patched.value))] if simple else None
    orig_values, patched_values = split_values(orig.value or "{}"), split_values(patched.value or "{}")
    if (
        orig_values is None
        or patched_values is None
        or ("[" in orig.head and any(k.startswith(".") for k in {**orig_values, **patched_values}))
    ):
        return None
    if orig.head.count("[") > 1 or (
        "[" not in orig.head and any(k.startswith("[") for k in {**orig_values, **patched_values})
    ):
        return None
    keys = dict.fromkeys([*orig_values, *patched_values])
    return [
        (name + k, _value(orig_values.get(k, "")), _value(patched_values.get(k, "")))
        for k in keys
        if orig_values.get(k) != patched_values.get(k)
    ]


def _value(text: str) -> str:
    """An initial value as an operand; 0 if there is none."""
    plain = text.strip()
    return plain if re.fullmatch(r"-?\w+", plain) else f"({plain})" if plain else "0"


def _todo(name: str, orig: str, patched: str) -> list[str]:
    import difflib

    lines = ["/*", f" * TODO: do on a running system what the patch changes in {name}:", " *"]
    for line in list(difflib.unified_diff(orig.splitlines(), patched.splitlines(), n=0, lineterm=""))[2:]:
        if not line.startswith("@@"):
            lines.append(f" * {line.replace('*/', '* /').replace('/*', '/ *')}".rstrip())
    return [*lines, " */"]


def _accessor(name: str, members: Sequence[DeclarationSpan]) -> str:
    text = " ".join([name, *(m.normal for m in members)])
    number = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
    fields = "".join(f"\t{m.text}\n" for m in members)
    return f"""\
#ifndef KGBUILD_SHADOW_{name}
#define KGBUILD_SHADOW_{name} 0x{number:016x}UL

/*
 * What the patch adds to struct {name}, kept beside it: objects of the running kernel have no room
 * (Documentation/livepatch/shadow-vars.rst). To decide:
 * - An object gets them at first use, as zeros. Locks and lists need a constructor, in place of the first NULL.
 * - GFP_ATOMIC never sleeps and may fail; where all uses may sleep, take GFP_KERNEL. Neither is for NMIs.
 * - Where the kernel frees such an object, call
 *   klp_shadow_free(obj, KGBUILD_SHADOW_{name}, NULL), or the next object at its address has the old values.
 */
struct kgbuild_shadow_{name} {{
{fields}}};

static struct kgbuild_shadow_{name} *kgbuild_shadow_{name}(const struct {name} *obj)
{{
	static struct kgbuild_shadow_{name} none;
	struct kgbuild_shadow_{name} *shadow;

	shadow = klp_shadow_get_or_alloc((void *)obj, KGBUILD_SHADOW_{name}, sizeof(*shadow),
{CONTINUED}GFP_ATOMIC, NULL, NULL);
	if (WARN_ONCE(!shadow, "no memory for a shadow variable of struct {name}\\n")) {{
		none = (struct kgbuild_shadow_{name}){{}};
		return &none;
	}}
	return shadow;
}}
#endif
"""


def _after_includes(text: str) -> int:
    """The offset of the line after the last #include that is outside of every #if."""
    depth = end = 0
    for found in re.finditer(r"^[ \t]*#[ \t]*(if|ifdef|ifndef|endif|include)\b.*\n", mask(text), re.MULTILINE):
        depth += {"if": 1, "ifdef": 1, "ifndef": 1, "endif": -1}.get(found.group(1), 0)
        if found.group(1) == "include" and depth == 0:
            end = found.end()
    return end


def _with_include(text: str, header: str) -> str:
    if f"#include {header}" in text:
        return text
    at = _after_includes(text)
    return f"{text[:at]}#include {header}\n{text[at:]}"


def render_diff(originals: Mapping[str, str], texts: Mapping[str, str]) -> str:
    """A unified diff of all files, by path; a file whose original is "" is new."""
    import difflib

    out = []
    for path in sorted(texts):
        orig, patched = originals.get(path, ""), texts[path]
        if orig == patched:
            continue
        orig_label = f"a/{path}" if orig else "/dev/null"
        for line in difflib.unified_diff(_lines(orig), _lines(patched), orig_label, f"b/{path}"):
            out.append(line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n")
    return "".join(out)


def _lines(text: str) -> list[str]:
    """Lines as in the diff format, which only newlines end."""
    return [line for line in re.split(r"(?<=\n)", text) if line]
