"""Tensors of torch: shared, and sent. They are tested where torch can be imported; see CONTRIBUTING.md."""

from __future__ import annotations

import gc
import pickle
import sys
from collections.abc import Callable
from typing import Any

import forkless
import numpy as np
import pytest
from forkless import _forkless, _tensors
from forkless._pickling import dumps, loads
from support import Outcome

torch: Any = pytest.importorskip("torch", reason="torch is too large to be required; install it to run these")

CUBE = torch.arange(24).reshape(2, 3, 4)

TENSORS: dict[str, Callable[[], Any]] = {
    "one dimension": lambda: torch.arange(5000, dtype=torch.float32),
    "C order": lambda: CUBE,
    "permuted": lambda: CUBE.permute(2, 0, 1),
    "channels last": lambda: (
        torch.arange(120.0).reshape(2, 3, 4, 5).contiguous(memory_format=torch.channels_last)
    ),
    "with gaps": lambda: CUBE[:, ::2],
    "expanded": lambda: torch.ones(1).expand(5),
    "a single number": lambda: torch.tensor(5.0),
    "one item": lambda: torch.ones(1, 1, 1),
    "nothing": lambda: torch.zeros(0, 3),
    "half": lambda: torch.ones(10, dtype=torch.half),
    "bfloat16": lambda: torch.arange(10).to(torch.bfloat16),
    "booleans": lambda: torch.tensor([True, False]),
    "bytes": lambda: torch.arange(256).to(torch.uint8),
    "complex": lambda: torch.tensor([1 + 2j, 3]),
    "conjugated": lambda: torch.tensor([1 + 2j, 3]).conj(),
    "negated": lambda: torch.tensor([1 + 2j, 3]).conj().imag,
}


def same(one: Any, other: Any) -> None:
    assert type(one) is type(other)
    assert (one.dtype, one.shape, one.requires_grad) == (other.dtype, other.shape, other.requires_grad)
    assert torch.equal(one, other)


@pytest.mark.parametrize("kind", TENSORS)
def test_they_come_out_equal_and_travel_as_references(kind: str) -> None:
    given = TENSORS[kind]()
    shared = forkless.share(given)
    same(shared, given)
    assert forkless.share(shared) is shared
    payload, handles = dumps({"a": [shared]})
    assert len(handles) == (1 if given.numel() else 0)
    assert len(payload) < 400
    there = loads(payload)["a"][0]
    same(there, given)
    assert there.stride() == shared.stride()
    assert forkless.share(there) is there
    same(pickle.loads(pickle.dumps(shared)), given)


@pytest.mark.parametrize("kind", TENSORS)
def test_others_are_copied_and_can_be_written_to(kind: str) -> None:
    given = TENSORS[kind]()
    queue: forkless.Queue[Any] = forkless.Queue()
    queue.put([given, torch.ones(100_000)])
    back, large = queue.get(writable=True)
    same(back, given)
    assert dumps(given)[1] == []
    for tensor in (back, large):
        if tensor.numel() and kind != "expanded":
            tensor.reshape(-1)[:1] = 0
            assert not tensor.reshape(-1)[0]
    same(TENSORS[kind](), given)


def test_the_order_of_the_dimensions_stays() -> None:
    for kind in ("permuted", "channels last"):
        given = TENSORS[kind]()
        assert forkless.share(given).stride() == given.stride()
        assert loads(dumps(given)[0]).stride() == given.stride()


def test_views_travel_as_references() -> None:
    matrix = forkless.share(torch.rand(300, 200))
    views = [
        matrix[10:20],
        matrix.T,
        matrix[:, ::3],
        matrix[0],
        matrix.view(-1),
        matrix[5, 7],
        matrix.detach(),
    ]
    for view in [*views, matrix.view(torch.int32), matrix.numpy(), matrix.numpy()[::-2]]:
        payload, handles = dumps(view)
        assert len(payload) < 400
        assert len(handles) == 1
        there = loads(payload)
        assert (there == view).all()
        assert isinstance(view, np.ndarray) or there.stride() == view.stride()


def test_ours_win_over_those_that_torch_registers() -> None:
    """Which would make a file in /dev/shm for each of them."""
    from multiprocessing.reduction import ForkingPickler

    reducers: dict[type, Any] = ForkingPickler._extra_reducers  # type: ignore[attr-defined]
    assert torch.Tensor in reducers
    plain = torch.rand(100)
    for tensor in (plain, torch.nn.Parameter(plain), torch.rand(3, requires_grad=True)):
        payload, _ = dumps(tensor)
        assert b"torch.multiprocessing" not in payload
        same(loads(payload), tensor)
    storage = _tensors.storage_of(plain)
    assert b"torch.multiprocessing" not in dumps(storage)[0]
    assert list(loads(dumps(storage)[0])) == list(storage)
    frozen = torch.nn.Parameter(forkless.share(plain), requires_grad=False)
    payload, handles = dumps(frozen)
    assert len(handles) == 1
    same(loads(payload), frozen)


def test_what_has_a_history_is_refused_as_torch_does() -> None:
    with pytest.raises(RuntimeError, match="detach"):
        dumps(torch.rand(3, requires_grad=True) * 2)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: torch.rand(3, requires_grad=True), r"requires a gradient: share tensor.detach\(\)"),
        (lambda: torch.nn.Parameter(torch.rand(3)), r"requires a gradient: share tensor.detach\(\)"),
        (lambda: torch.nn.Parameter(torch.rand(3), requires_grad=False), r"'Parameter': .*as_subclass"),
        (lambda: torch.eye(3).to_sparse(), r"layout torch.sparse_coo: .*to_dense\(\)"),
        (lambda: torch.empty(3, device="meta"), r"on the device 'meta': share tensor.cpu\(\)"),
        (lambda: torch.Size([3]), "'Size' object: of torch, share"),
    ],
)
def test_what_cannot_be_shared_is_named(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(TypeError, match=f"cannot share .*{message}"):
        forkless.share(make())


def test_nobody_is_warned_of_what_is_read_only(recwarn: pytest.WarningsRecorder) -> None:
    """Torch says once that such a tensor must not be written to, at whatever place meets the first one."""
    shared = forkless.share(torch.rand(10))
    same(loads(dumps(shared)[0]), shared)
    assert not recwarn.list


def test_the_last_who_has_it_frees_it() -> None:
    forkless.share(torch.rand(10))
    gc.collect()
    before = _forkless.census()
    tensor = forkless.share(torch.rand(1000))
    part = tensor[10:]
    del tensor
    assert part.sum() > 0
    assert _forkless.census() != before
    del part
    assert _forkless.census() == before


ENVIRONMENT = f"import sys; sys.path[:] = {sys.path!r}\n"


@pytest.mark.parametrize("method", ["forkserver", "spawn"])
def test_other_processes_read_it_without_a_copy(method: str, run_program: Callable[..., Outcome]) -> None:
    run_program(
        ENVIRONMENT
        + f"""
import forkless as mp, torch

def own():
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("RssAnon")) << 10

def look(tensor):
    torch.ones(1000).sum()
    before = own()
    return int(tensor.sum()), own() - before

numbers = mp.share(torch.arange(8_000_000))
with mp.get_context({method!r}).Pool(2) as pool:
    results = pool.map(look, [numbers] * 4) + [pool.apply(lambda: look(numbers))]
    assert all(total == int(numbers.sum()) and grown < 4_000_000 for total, grown in results), results
    part, grown = pool.apply(look, (numbers[10:20],))
    assert part == sum(range(10, 20))
    back = pool.apply(lambda: mp.share(torch.ones(10)))
    assert back.sum() == 10
""",
    ).check()


def test_a_write_is_a_fault_that_names_its_line(run_program: Callable[..., Outcome]) -> None:
    outcome = run_program(
        ENVIRONMENT
        + """
import forkless as mp, torch

def scribble(tensor):
    tensor += 1

numbers = mp.share(torch.zeros(1000))
with mp.Pool(1) as pool:
    try:
        pool.apply(scribble, (numbers,))
    except mp.WorkerDied as error:
        assert "SIGSEGV" in str(error) and "scribble" in str(error), error
    else:
        raise AssertionError("it was written to")
    changed = pool.apply(lambda: numbers.clone().add_(1))
assert not numbers.any() and changed.sum() == 1000
""",
    )
    assert (outcome.exit_code, outcome.survivors) == (0, ()), outcome
