# SPDX-License-Identifier: GPL-2.0-or-later
"""Which units a patch of headers changes: candidates from the text, decided by the preprocessor.

1. A header whose tokens are the same (a changed comment) is dropped.
2. The include graph gives every file that can see a changed header (host/compile/include_index.py).
3. The names that the headers change are followed through the text; what sees none of them is dropped
   (csource/header_impact.py).
4. Each of the units left is preprocessed both ways. Those in which something that the compiler emits can reach a
   changed declaration are compiled (host/compile/preprocess.py, csource/reached_changes.py).

More than `max_units` of them lead to a refusal, as soon as that is known. A patch whose headers also change something
that can't be patched (assembly, the vdso, headers of constants made when the kernel was built) is refused.
"""

from __future__ import annotations

import contextlib
import hashlib
import marshal
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

from kgbuild.arch.platform import Platform
from kgbuild.csource.header_impact import OTHER, changed_names, read_pieces, spread_names
from kgbuild.csource.include_graph import (
    QUOTED,
    IncludeGraph,
    Includers,
    IncluderSearch,
    Resolver,
    folder_of,
    hidden_by,
    read_includes,
)
from kgbuild.csource.token_equality import same_header
from kgbuild.csource.token_pasting import PasteChain, Pastes, read_aliases, read_chains, read_words
from kgbuild.diagnostics.refusals import Refusal
from kgbuild.host.compile.apply_patches import PatchSet, find_includers, why_not_built
from kgbuild.host.compile.candidate_search import MAX_UNITS, CandidateSearch, Selection, UnitLook
from kgbuild.host.compile.header_check import HeaderCheck, check_headers
from kgbuild.host.compile.include_index import (
    find_links,
    left_by_dots,
    load_include_index,
    open_words,
    read_file,
)
from kgbuild.host.kernels.compile_commands import SOURCE, names_in_commands, read_detours
from kgbuild.host.kernels.unit_listing import file_about, file_of_all, read_units
from kgbuild.host.kernels.vmlinux import platform_of
from kgbuild.host.system.cache import Cache
from kgbuild.host.system.sealed import read_sealed, write_sealed
from kgbuild.model import Kernel
from kgbuild.progress import Progress

# Preprocessing this many candidates is faster than following a header's names through the kernel's text.
FEW = 12

# Headers that scripts read while a kernel is built, the lines they read, and what they make of them; beside those of
# the architecture (arch/platform.py).
_SCRIPTED: tuple[tuple[str, bytes, str], ...] = (
    ("include/linux/oid_registry.h", rb"^\s*OID_\w+.*$", "the table of object identifiers"),
    ("include/uapi/linux/capability.h", rb"^#define\s+CAP_.*$", "AppArmor's names of capabilities"),
    ("include/uapi/asm-generic/resource.h", rb"^#\s*define\s+RLIMIT_.*$", "AppArmor's names of limits"),
    ("include/linux/socket.h", rb"^#define\s+AF_.*$", "AppArmor's names of address families"),
    ("security/selinux/include/classmap.h", rb"^.*$", "SELinux's classes"),
    ("security/selinux/include/initial_sid_to_string.h", rb"^.*$", "SELinux's initial SIDs"),
)


def choose_units(
    kernel: Kernel,
    patches: PatchSet,
    cache: Cache,
    progress: Progress,
    jobs: int = 2,
    max_units: int = MAX_UNITS,
    *,
    preprocess: bool = True,
    look: UnitLook | None = None,
) -> Selection:
    """Every unit that a patch changes, with the reasons. The result contains refusals, but not those of `patches`.

    A .c file that is a unit is its own reason; if units include a .c file, these units are selected; headers and new
    files are looked up in the include graph, unless the patch is already refused. Without `preprocess`, every unit that
    may see a difference is selected, whether its tokens differ or not. `look` is given the patch's own units, and then
    one of each header, before the others are examined; what it raises ends the search.
    """
    paths = sorted(patches.files)
    own = read_units(kernel, paths, progress)
    detours = read_detours(file_about(kernel, paths, progress))
    direct = {p: [*([p] if own[p] else []), *detours.get(p, [])] for p in paths}
    rest = [p for p in paths if not direct[p]]
    code = [p for p in rest if p.endswith(".c") and _original(kernel, p) is not None]
    included = find_includers(kernel, code, progress)
    because = {source: "changed" for p in paths for source in direct[p]}
    for path, sources in included.items():
        because |= {s: f"includes {path}" for s in sources if s not in because}
    known = {p for p in paths if direct[p] or included.get(p)}
    if patches.refusals:
        selection = Selection(dict(patches.files))
        selection.refusals += [_not_in_kernel(kernel, p) for p in code if p not in known]
    else:
        selection = _select(kernel, patches.files, known, because, cache, progress, jobs, max_units, preprocess, look)
    selection.because = because | selection.because
    entered = left_by_dots(f"{SOURCE}/{source}" for source in selection.because)
    selection.real = tuple(sorted({*selection.real, *entered}))
    return selection


def _not_in_kernel(kernel: Kernel, path: str) -> Refusal:
    if kernel.outside is not None:
        return Refusal("P6-not-in-kernel", path, f"no unit that {kernel.outside.folder} makes has it")
    option = why_not_built(kernel, path)
    fact = f"this kernel is built without it ({option} is not set)" if option else "no unit of this kernel has it"
    return Refusal("P6-not-in-kernel", path, fact)


def _select(
    kernel: Kernel,
    files: Mapping[str, bytes],
    known: set[str],
    units: Mapping[str, str],
    cache: Cache,
    progress: Progress,
    jobs: int,
    max_units: int,
    preprocess: bool,
    look: UnitLook | None,
) -> Selection:
    """Find the units, in addition to `units`, that the files other than `known` affect."""
    originals = {path: _original(kernel, path) for path in files}
    same = {
        path
        for path, text in originals.items()
        if path not in known and text is not None and same_header(text, files[path])
    }
    selection = Selection({path: text for path, text in files.items() if path not in same})
    changed = sorted(path for path in selection.files if path not in known)
    if not changed:
        if look is not None and units:
            look(Selection(selection.files, dict(units)), 0)
        return selection
    selection.refusals += _check_scripted(platform_of(kernel), originals, selection.files)
    index = load_include_index(kernel, cache, progress)
    new = [path for path, text in originals.items() if text is None]
    resolver = index.resolver(kernel, new)
    graph = _patched_graph(kernel, index.graph, resolver, originals, selection.files)
    hidden = {path: hidden_by(graph, resolver, path, index.folders) for path in new if path in selection.files}
    for path in [path for path, others in hidden.items() if _is_copy(kernel, selection.files[path], others)]:
        # whatever file is found instead, its text is the same
        del hidden[path], selection.files[path]
        changed.remove(path)
    hiding = [
        _in_place_of(path, other) for path, others in hidden.items() for other in others if other.startswith("./")
    ]
    selection.refusals += hiding
    if hiding:
        return selection
    links = find_links(kernel, changed)
    search = IncluderSearch(graph, resolver, index.everywhere)
    reached = {path: search.above([path, *links[path]]) for path in changed}
    selection.refusals += _check_used(kernel, reached, originals)
    climbing = set(index.climbing).union(*(above.climbing for above in reached.values()))
    climbing |= {folder_of(link) for others in links.values() for link in others}
    selection.real = tuple(sorted(f for f in climbing if f and not f.startswith(".")))
    candidates: dict[str, str] = {}
    for path, above in reached.items():
        verb = "includes" if originals[path] is not None else "includes the new"
        for source in sorted(above.files - units.keys()):
            candidates.setdefault(source.removeprefix("./"), f"{verb} {path}")
    if look is not None and units and not selection.refusals:
        # the patch's own units, before names are followed and units examined
        rest = sum(source.endswith(".c") for source in candidates)
        look(Selection(selection.files, dict(units), selection.real), rest)
    check = HeaderCheck({path: above.files for path, above in reached.items() if path.endswith(".h")})
    # Names are followed through the files that units read; an out-of-tree index has none of the kernel's headers.
    every = dict(candidates)
    if len(candidates) > FEW and kernel.outside is None:
        texts = {p: originals[p] or b"" for p in changed}
        for path, others in hidden.items():
            texts[path] = b"\n".join(_original(kernel, other) or b"" for other in others)
        concerned = _by_names(kernel, graph, search, texts, selection.files, reached, check)
        if concerned is not None:
            candidates = {s: why for s, why in candidates.items() if s in concerned}
    if preprocess:
        headers = {path: {f.removeprefix("./") for f in above.files - units.keys()} for path, above in reached.items()}
        CandidateSearch(kernel, selection, candidates, cache, progress, jobs, max_units, look, headers).run()
        if not selection.refusals:
            compiled = {*units, *selection.because}
            found = check_headers(kernel, selection.files, selection.real, check, compiled, cache, jobs)
            selection.refusals += found or []
            if found is None and len(candidates) < len(every):
                CandidateSearch(kernel, selection, every, cache, progress, jobs, max_units, look, headers).run()
    else:
        selection.because |= candidates
    return selection


def _is_copy(kernel: Kernel, text: bytes, hidden: Sequence[str]) -> bool:
    """Whether a new header equals every header that it hides. Headers included in quotes could be different ones."""
    if not hidden or any(include.form == QUOTED for include in read_includes(text)):
        return False
    return all(same_header(_original(kernel, path) or b"", text) for path in hidden)


def _in_place_of(path: str, generated: str) -> Refusal:
    fact = f"it would be read in place of {generated[2:]}, which was generated when the kernel was built"
    return Refusal("P11-generated", path, fact, remedy="give the new header another name")


class _TreeTexts(Mapping[str, bytes]):
    """Texts of the kernel's files, read when they are asked for; b"" for one that is not there."""

    def __init__(self, kernel: Kernel, paths: Sequence[str]) -> None:
        self._kernel = kernel
        self._paths = paths
        self._read: dict[str, bytes] = {}

    def __getitem__(self, path: str) -> bytes:
        if path not in self._read:
            self._read[path] = _original(self._kernel, path) or b""
        return self._read[path]

    def __iter__(self) -> Iterator[str]:
        return iter(self._paths)

    def __len__(self) -> int:
        return len(self._paths)


def _macros(kernel: Kernel, texts: Mapping[str, bytes]) -> tuple[list[PasteChain], list[tuple[bytes, bytes]]]:
    """Pastes and one-word macros of the kernel's own files, read once and stored beside the include graph, since these
    files never change."""
    paths = hashlib.sha256("\n".join(["1", *sorted(texts)]).encode()).hexdigest()
    kept = kernel.units.with_name(f"macros-{paths[:16]}")
    try:
        rows, known = marshal.loads(read_sealed(kept) or b"")
        return [PasteChain(macro, parts) for macro, parts in rows], known
    except (OSError, ValueError, EOFError, TypeError):
        chains = [chain for text in texts.values() for chain in read_chains(text)]
        aliases = [alias for text in texts.values() for alias in read_aliases(text)]
    with contextlib.suppress(OSError):  # made again next time
        write_sealed(kept, marshal.dumps(([(c.macro, c.parts) for c in chains], aliases)))
    return chains, aliases


def _by_names(
    kernel: Kernel,
    graph: IncludeGraph,
    search: IncluderSearch,
    originals: Mapping[str, bytes],
    files: Mapping[str, bytes],
    reached: Mapping[str, Includers],
    check: HeaderCheck,
) -> frozenset[str] | None:
    """The files that see one of the names that the headers change, and those that include a header of which names do
    not describe the change; None if that is true of all. Headers that declare a new name too are added to `check`."""
    names: set[bytes] = set()
    whole: set[str] = set()
    for path, text in originals.items():
        found = changed_names(text, files[path]) if path.endswith(".h") else None
        if found is None:
            whole |= reached[path].files
        else:
            names |= found
    if whole and not names:
        return None
    if names_in_commands(file_of_all(kernel), names):
        return None
    with open_words(kernel) as index_of_words:
        # what the patch adds, and files that it makes units read
        others = sorted(set(graph.includes) - set(index_of_words.paths))
        more = {path: _original(kernel, path) or b"" for path in others} | dict(files)
        added = set[bytes]().union(*map(read_words, more.values()))
        texts = _TreeTexts(kernel, index_of_words.paths)
        chains, aliases = _macros(kernel, texts)
        chains += [chain for text in more.values() for chain in read_chains(text)]
        aliases += [alias for text in more.values() for alias in read_aliases(text)]
        having = index_of_words.having
        pastes = Pastes(chains, aliases, lambda word: word in added or bool(having(word)))
        spread = spread_names(names, texts, more, pastes, having)
        for path, text in originals.items():
            new = names & (read_words(files[path]) - read_words(text))
            for other in _declaring(new, texts, having, files):
                check.conflicts.append(reached[path].files & search.above([other]).files)
    if spread is None:
        return None
    above = search.above(spread.files).files | whole
    return frozenset(path.removeprefix("./") for path in above)


def _declaring(
    names: Collection[bytes],
    texts: Mapping[str, bytes],
    having: Callable[[bytes], Collection[str]],
    changed: Collection[str],
) -> list[str]:
    """Headers, other than the changed ones, that declare one of some new names."""
    out = set[str]()
    for name in names:
        for path in having(name):
            if path.endswith(".h") and path not in changed and path not in out:
                pieces = read_pieces(texts[path])
                if pieces is None or any(
                    name in piece.names or piece.kind == OTHER for piece in pieces if name in piece.tokens
                ):
                    out.add(path)
    return sorted(out)


def _original(kernel: Kernel, path: str) -> bytes | None:
    try:
        return read_file(kernel, path)
    except OSError:
        return None


def _patched_graph(
    kernel: Kernel,
    graph: IncludeGraph,
    resolver: Resolver,
    originals: Mapping[str, bytes | None],
    files: Mapping[str, bytes],
) -> IncludeGraph:
    """The include graph of both versions together, including what new includes lead to."""
    includes = dict(graph.includes)
    queue = list(files)
    while queue:
        path = queue.pop()
        if path in files:
            found = dict.fromkeys([*read_includes(originals[path] or b""), *read_includes(files[path])])
        elif path not in includes:
            text = _original(kernel, path)
            found = dict.fromkeys(read_includes(text or b""))
        else:
            continue
        includes[path] = tuple(found)
        queue += (p for i in found for p in resolver.resolve(path, i) if p not in includes and p not in files)
    return IncludeGraph(includes)


def _check_used(
    kernel: Kernel, reached: Mapping[str, Includers], originals: Mapping[str, bytes | None]
) -> list[Refusal]:
    """Refuse .c files that no file includes. An unused header does no harm."""
    out = []
    for path, above in reached.items():
        if path.endswith(".c") and above.files == {path}:
            refusal = Refusal("P6-not-in-kernel", path, "it is new, and nothing includes it")
            out.append(refusal if originals[path] is None else _not_in_kernel(kernel, path))
    return out


def _check_scripted(
    platform: Platform, originals: Mapping[str, bytes | None], files: Mapping[str, bytes]
) -> list[Refusal]:
    out = []
    for path, pattern, what in (*platform.scripted, *_SCRIPTED):
        lines = [re.findall(pattern, t or b"", re.MULTILINE) for t in (originals.get(path), files.get(path))]
        if path in files and [" ".join(map(str, x)) for x in lines[0]] != [" ".join(map(str, x)) for x in lines[1]]:
            out.append(Refusal("P11-generated", path, f"{what} were made from it when the kernel was built"))
    return out
