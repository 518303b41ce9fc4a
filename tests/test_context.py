"""Contexts, start methods, and how many CPUs there are."""

from __future__ import annotations

import multiprocessing.context
import os
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import forkless
import jobs
import pytest
from forkless import _cpus, process
from support import PATIENCE


@pytest.fixture(autouse=True)
def default_method() -> Iterator[None]:
    before = process.default_method
    process.default_method = None
    yield
    process.default_method = before


# --- start methods ---


def test_the_default_is_forkserver() -> None:
    assert forkless.get_start_method() == "forkserver"
    assert forkless.get_start_method(allow_none=True) is None
    assert forkless.get_all_start_methods() == ["forkserver", "spawn"]
    assert forkless.get_context() is forkless.get_context("forkserver")


def test_setting_a_start_method_any_number_of_times() -> None:
    for method in ("spawn", "spawn", "forkserver", "spawn"):
        forkless.set_start_method(method)
        assert forkless.get_start_method() == method
        assert forkless.get_context().get_start_method() == method
    forkless.set_start_method("spawn", force=True)
    forkless.set_start_method(None)
    assert forkless.get_start_method(allow_none=True) is None


@pytest.mark.parametrize("call", ["get_context", "set_start_method"])
def test_fork_is_refused_and_the_message_says_why_and_what_instead(call: str) -> None:
    with pytest.raises(ValueError, match=r"never forks.*lock.*waits for ever") as caught:
        getattr(forkless, call)("fork")
    assert f"{call}('forkserver')" in str(caught.value)
    assert forkless.get_start_method(allow_none=True) is None


def test_an_unknown_method_is_refused() -> None:
    for call in (forkless.get_context, forkless.set_start_method):
        with pytest.raises(ValueError, match=r"'teleport'.*'forkserver' and 'spawn'"):
            call("teleport")


def test_the_method_of_a_context_does_not_change() -> None:
    with pytest.raises(ValueError, match="concrete context"):
        forkless.get_context("spawn").set_start_method("forkserver")


@pytest.mark.parametrize("method", ["forkserver", "spawn"])
def test_a_child_starts_its_children_the_same_way(method: str) -> None:
    forkless.set_start_method(method)
    queue: forkless.Queue[str] = forkless.Queue()
    child = forkless.Process(target=lambda: queue.put(forkless.get_start_method()))
    child.start()
    child.join()
    assert queue.get(timeout=PATIENCE) == method


# --- contexts ---


@pytest.mark.parametrize("method", ["forkserver", "spawn"])
def test_a_context_offers_what_the_package_offers(method: str) -> None:
    context = forkless.get_context(method)
    assert context.get_start_method() == method
    assert context.get_context() is context
    assert context.get_context("spawn") is forkless.get_context("spawn")
    assert isinstance(context.Queue(3), forkless.Queue)
    assert isinstance(context.Lock(), forkless.Lock)
    assert isinstance(context.Event(), forkless.Event)
    assert issubclass(context.Process, forkless.Process)
    assert context.cpu_count() == forkless.cpu_count()
    assert context.current_process() is forkless.current_process()
    assert context.parent_process() is None
    assert context.get_all_start_methods() == forkless.get_all_start_methods()
    assert isinstance(context.active_children(), list)
    context.freeze_support()
    forkless.freeze_support()
    assert pickle.loads(pickle.dumps(context)) is context
    assert method in repr(context)


@pytest.mark.parametrize("method", ["forkserver", "spawn"])
def test_a_context_is_one_for_libraries_that_check(method: str) -> None:
    """As torch's DataLoader does with `multiprocessing_context`."""
    context = forkless.get_context(method)
    assert isinstance(context, multiprocessing.context.BaseContext)
    assert type(context).__name__.lower() == f"{method}context"
    assert context.Process.__name__.lower() == f"{method}process"
    assert context.ProcessError is forkless.ProcessError
    assert context.get_logger() is forkless.get_logger()


def test_objects_of_one_context_work_under_every_other() -> None:
    for maker in map(forkless.get_context, ("forkserver", "spawn")):
        for user in map(forkless.get_context, ("forkserver", "spawn")):
            event, queue, lock = maker.Event(), maker.Queue(), maker.Lock()

            def use(event: Any = event, queue: Any = queue, lock: Any = lock) -> None:
                with lock:
                    event.set()
                    queue.put("done")

            child = user.Process(target=use)
            child.start()
            assert event.wait(PATIENCE), child
            assert queue.get(timeout=PATIENCE) == "done"
            child.join()
            assert child.exitcode == 0


def test_a_pool_and_an_executor_of_a_context() -> None:
    context = forkless.get_context("spawn")
    with context.Pool(1) as pool:
        assert pool.apply(jobs.add, (1, 2)) == 3
    with context.Executor(1) as executor:
        assert executor.submit(jobs.add, 1, 2).result(PATIENCE) == 3


# --- CPUs ---


def groups(tmp_path: Path, path: str, quotas: dict[str, str]) -> tuple[str, str]:
    """A control group file system and the file that says where in it this process is."""
    for group, quota in quotas.items():
        directory = tmp_path / "cgroup" / group.lstrip("/")
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "cpu.max").write_text(quota)
    table = tmp_path / "table"
    table.write_text(f"1:name=systemd:/elsewhere\n0::{path}\n")
    return str(tmp_path / "cgroup"), str(table)


@pytest.mark.parametrize(
    ("path", "quotas", "expected"),
    [
        ("/", {}, []),
        ("/", {"/": "200000 100000\n"}, [2]),
        ("/a/b", {"/a/b": "max 100000\n", "/a": "150000 100000\n"}, [2]),
        ("/a/b", {"/a/b": "400000 100000\n", "/a": "50000 100000\n"}, [4, 1]),
        ("/a", {"/other": "100000 100000\n"}, []),
        ("/../../outside", {"/": "300000 100000\n"}, [3]),
        ("/a", {"/a": "nonsense\n"}, []),
    ],
)
def test_quotas_of_every_level_rounded_up(
    tmp_path: Path, path: str, quotas: dict[str, str], expected: list[int]
) -> None:
    assert _cpus._quotas(*groups(tmp_path, path, quotas)) == expected


def test_no_control_groups_at_all() -> None:
    assert _cpus._quotas("/nowhere", "/nowhere/table") == []


def test_cpu_count_follows_the_affinity(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FORKLESS_CPU_COUNT", raising=False)
    allowed = os.sched_getaffinity(0)
    assert 1 <= forkless.cpu_count() <= len(allowed)
    os.sched_setaffinity(0, {min(allowed)})
    try:
        assert forkless.cpu_count() == 1
    finally:
        os.sched_setaffinity(0, allowed)


def test_the_least_of_all_limits_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FORKLESS_CPU_COUNT", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(8))
    monkeypatch.setattr(_cpus, "_quotas", lambda: [6, 3])
    assert forkless.cpu_count() == 3


def test_the_environment_overrides_the_cpu_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORKLESS_CPU_COUNT", "17")
    assert forkless.cpu_count() == 17
    for nonsense in ("0", "-1", "many", "1.5"):
        monkeypatch.setenv("FORKLESS_CPU_COUNT", nonsense)
        with pytest.raises(ValueError, match=f"FORKLESS_CPU_COUNT.*{nonsense}"):
            forkless.cpu_count()
