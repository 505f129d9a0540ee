# SPDX-License-Identifier: GPL-2.0-or-later
"""Which jobs follow from which, and what differs between kernels."""

from __future__ import annotations

from kgbuild.releases.differences import FixEffect, effect_of, sentences
from kgbuild.releases.job_graph import ACQUIRE, AFFECTED, BUILD, DONE, IMPACT, VERIFY, VM, JobGraph, JobId, JobResult


def done(kernel: str, step: str, fix: str = "", status: str = "done", **data: object) -> JobResult:
    return JobResult(JobId(kernel, step, fix), status, data)


def test_a_row_goes_from_step_to_step() -> None:
    graph = JobGraph(["a", "b"], build=True, boot=True)
    assert graph.first() == [JobId("a", ACQUIRE), JobId("b", ACQUIRE)]
    assert graph.finish(done("a", ACQUIRE)) == [JobId("a", AFFECTED)]
    assert graph.finish(done("a", AFFECTED, affected=["x", "y"])) == [JobId("a", IMPACT, "x"), JobId("a", IMPACT, "y")]
    assert graph.finish(done("a", IMPACT, "y")) == []
    assert graph.finish(done("a", IMPACT, "x")) == [JobId("a", BUILD)]
    assert graph.finish(done("a", BUILD)) == [JobId("a", VERIFY)]
    assert graph.finish(done("a", VERIFY)) == [JobId("a", VM)]
    assert graph.finish(done("a", VM)) == []


def test_a_row_that_fails_ends_and_leaves_the_others() -> None:
    graph = JobGraph(["a", "b"], build=True)
    assert graph.finish(done("a", ACQUIRE, status="failed")) == []
    assert graph.finish(done("b", ACQUIRE)) == [JobId("b", AFFECTED)]
    assert graph.finish(done("b", AFFECTED, affected=[])) == []


def test_a_refused_fix_is_not_in_the_module() -> None:
    graph = JobGraph(["a"], build=True)
    graph.finish(done("a", AFFECTED, affected=["x", "y"]))
    graph.finish(done("a", IMPACT, "x", status="refused"))
    assert graph.finish(done("a", IMPACT, "y")) == [JobId("a", BUILD)]
    assert graph.buildable("a") == ["y"]
    graph.finish(done("a", IMPACT, "y", status="nothing"))
    assert graph.buildable("a") == []


def test_without_build_a_row_ends_with_the_impact() -> None:
    graph = JobGraph(["a"])
    graph.finish(done("a", AFFECTED, affected=["x"]))
    assert graph.finish(done("a", IMPACT, "x")) == []


def effect(*replaced: str, why: tuple[tuple[str, str], ...] = (), refusals: tuple[str, ...] = ()) -> FixEffect:
    return FixEffect(frozenset(replaced), refusals=frozenset(refusals), why=why)


def test_kernels_that_do_the_same_are_not_told() -> None:
    assert list(sentences("X", {"debian:a": effect("f"), "debian:b": effect("f")})) == []


def test_what_differs_is_a_sentence() -> None:
    why = (("g", "calls f.isra.0, whose ABI changed"),)
    told = list(
        sentences("X", {"debian:a": effect("f"), "debian:b": effect("f", "g", why=why), "debian:c": effect("f")})
    )
    assert told == ["X replaces 1 function on a, c, 2 functions on b (g() calls f.isra.0, whose ABI changed)"]


def test_refusals_of_one_kernel_are_a_sentence() -> None:
    told = list(sentences("X", {"debian:a": effect("f"), "debian:b": effect("f", refusals=("K3-init",))}))
    assert told == ["X is refused for K3-init on b; nothing of that elsewhere"]


def test_clones_are_the_functions_they_are_made_of() -> None:
    report = {"changed": [{"function": "f.isra.0", "reason": ""}], "pulled": [], "carried": [{"function": "g.part.0"}]}
    found = effect_of(report)
    assert found.replaced == {"f"} and found.carried == {"g"}


def test_short_steps_run_first_and_long_rows_before_short_ones() -> None:
    graph = JobGraph(["debian:1", "debian:2"], build=True)
    for kernel, seconds in (("debian:1", 1.0), ("debian:2", 9.0)):
        graph.finish(JobResult(JobId(kernel, "acquire"), DONE))
        graph.finish(JobResult(JobId(kernel, "affected"), DONE, {"affected": ["a"]}))
        assert graph.finish(JobResult(JobId(kernel, "impact", "a"), DONE, seconds=seconds)) == [JobId(kernel, "build")]
    jobs = [JobId("debian:1", "build"), JobId("debian:2", "build"), JobId("debian:1", "impact", "b")]
    assert [str(job) for job in sorted(jobs, key=graph.urgency)] == [
        "debian:1/impact/b",
        "debian:2/build",
        "debian:1/build",
    ]
