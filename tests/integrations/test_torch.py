"""torch: `DataLoader` with workers of forkless, tensors in queues, `torch.multiprocessing`."""

from __future__ import annotations

import os
import signal
from typing import Any

import forkless
import pytest
from libraries import needs
from support import PATIENCE, Program, run_program

torch = needs("torch", "./dev integrations --torch")
data = needs("torch.utils.data", "./dev integrations --torch")


class Squares(data.Dataset):  # type: ignore[misc,name-defined]
    """Each item with the process that made it."""

    def __len__(self) -> int:
        return 24

    def __getitem__(self, index: int) -> tuple[Any, int]:
        return torch.full((3,), index * index), os.getpid()


class Numbers(data.IterableDataset):  # type: ignore[misc,name-defined]
    """Every worker has its share of 0 to 19."""

    def __iter__(self) -> Any:
        worker = data.get_worker_info()
        yield from range(worker.id, 20, worker.num_workers)


class Fails(Squares):
    def __getitem__(self, index: int) -> tuple[Any, int]:
        if index == 7:
            raise LookupError("no 7")
        return super().__getitem__(index)


class Dies(Squares):
    def __getitem__(self, index: int) -> tuple[Any, int]:
        if index == 7:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__getitem__(index)


def load(dataset: Any, **options: Any) -> Any:
    context = forkless.get_context(options.pop("method", None))
    return data.DataLoader(dataset, num_workers=2, multiprocessing_context=context, **options)


@pytest.mark.parametrize("method", ["forkserver", "spawn"])
def test_batches_come_in_order_from_workers(method: str) -> None:
    batches = list(load(Squares(), batch_size=4, method=method))
    assert torch.equal(torch.cat([values[:, 0] for values, _ in batches]), torch.arange(24) ** 2)
    pids = {int(pid) for _, found in batches for pid in found}
    assert len(pids) == 2
    assert os.getpid() not in pids


def test_persistent_workers_serve_every_epoch() -> None:
    loader = load(Squares(), batch_size=4, persistent_workers=True, shuffle=True)
    epochs = [{int(pid) for _, found in loader for pid in found} for _ in range(3)]
    assert epochs[0] == epochs[1] == epochs[2]
    del loader


def test_an_iterable_dataset_and_a_worker_init_function() -> None:
    seen = forkless.Array("i", 2)

    def note(worker: int) -> None:
        seen[worker] = os.getpid()

    found = sorted(int(n) for batch in load(Numbers(), batch_size=3, worker_init_fn=note) for n in batch)
    assert found == list(range(20))
    assert os.getpid() not in seen[:]
    assert 0 not in seen[:]


def test_a_dataset_of_tensors() -> None:
    dataset = data.TensorDataset(torch.arange(100.0).reshape(50, 2), torch.arange(50))
    rows = [row for values, _ in load(dataset, batch_size=10) for row in values]
    assert torch.equal(torch.stack(rows), dataset.tensors[0])


def test_an_error_in_a_worker() -> None:
    with pytest.raises(LookupError, match="Caught LookupError in DataLoader worker process") as caught:
        list(load(Fails(), batch_size=4))
    assert "in __getitem__" in str(caught.value)


def test_a_worker_that_dies_is_an_error_and_no_hang() -> None:
    with pytest.raises(RuntimeError, match=r"DataLoader worker \(pid"):
        list(load(Dies(), batch_size=4))


def test_a_loop_that_is_left_early_leaves_nothing() -> None:
    for values, _ in load(Squares(), batch_size=1, prefetch_factor=2):
        assert values[0, 0] == 0
        break


def test_tensors_in_queues() -> None:
    requests: Any = forkless.Queue()
    answers: Any = forkless.Queue()
    child = forkless.Process(target=double, args=(requests, answers))
    child.start()
    for _ in range(3):
        requests.put({"tensor": torch.arange(50_000)})
        assert torch.equal(answers.get(timeout=PATIENCE), torch.arange(50_000) * 2)
    requests.put(None)
    child.join()
    child.close()


def double(requests: Any, answers: Any) -> None:
    while (message := requests.get()) is not None:
        answers.put(message["tensor"] * 2)


class TestSharedByTorch:
    """What `share_memory_` has shared stays shared, in whatever way it travels."""

    def test_a_tensor_and_a_view_of_it(self) -> None:
        shared = torch.zeros(4, 5).share_memory_()
        with forkless.Pool(1) as pool:
            pool.apply(add, (shared, shared[1:3, ::2]))
        expected = torch.ones(4, 5)
        expected[1:3, ::2] += 10
        assert torch.equal(shared, expected)

    def test_through_a_queue(self) -> None:
        queue: Any = forkless.Queue()
        shared = torch.zeros(10).share_memory_()
        for _ in range(2):
            queue.put(shared)
            queue.get().add_(1)
        assert torch.equal(shared, torch.full((10,), 2.0))

    def test_nothing_at_all(self) -> None:
        empty = torch.empty(0, 3).share_memory_()
        with forkless.Pool(1) as pool:
            assert tuple(pool.apply(torch.clone, (empty,)).shape) == (0, 3)
            assert pool.apply(len, (empty.untyped_storage(),)) == 0

    def test_a_model_that_processes_train_together(self) -> None:
        model = torch.nn.Linear(3, 1)
        model.share_memory()
        before = [parameter.detach().clone() for parameter in model.parameters()]
        children = [forkless.Process(target=descend, args=(model,)) for _ in range(2)]
        for child in children:
            child.start()
        for child in children:
            child.join()
            assert child.exitcode == 0
            child.close()
        for parameter, old in zip(model.parameters(), before, strict=True):
            assert torch.allclose(parameter.detach(), old - 2)

    def test_the_strategy_that_has_names_is_left_to_torch(self) -> None:
        source = """
import forkless, torch
torch.multiprocessing.set_sharing_strategy("file_system")
shared = torch.zeros(4).share_memory_()
with forkless.Pool(1) as pool:
    pool.apply(shared.add_, (1,))
print(shared.tolist())
"""
        assert run_program(source).check() == "[1.0, 1.0, 1.0, 1.0]\n"


def add(tensor: Any, view: Any) -> None:
    tensor += 1
    view += 10


def descend(model: Any) -> None:
    for parameter in model.parameters():
        parameter.data -= 1


def test_training_steps_in_pool_tasks() -> None:
    with forkless.Pool(2) as pool:
        losses = pool.map(train, range(4))
    assert all(after < before for before, after in losses)


def train(seed: int) -> tuple[float, float]:
    torch.manual_seed(seed)
    model = torch.nn.Linear(4, 1)
    samples, target = torch.randn(64, 4), torch.ones(64, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    losses = []
    for _ in range(10):
        loss = ((model(samples) - target) ** 2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses[0], losses[-1]


PROGRAM = """
import forkless, torch
from torch.utils.data import DataLoader, Dataset
scale = 10
class Scaled(Dataset):
    def __len__(self): return 8
    def __getitem__(self, index): return torch.tensor([index * scale])
loader = DataLoader(Scaled(), batch_size=4, num_workers=2, multiprocessing_context=forkless.get_context())
print([batch.flatten().tolist() for batch in loader])
"""


def test_a_program_without_a_guard() -> None:
    assert run_program(PROGRAM).check() == "[[0, 10, 20, 30], [40, 50, 60, 70]]\n"


def test_a_killed_program_takes_its_workers_along() -> None:
    source = PROGRAM.replace(
        "return torch.tensor",
        "print('ready', flush=True); import time; time.sleep(1000); return torch.tensor",
    )
    with Program(source) as program:
        program.wait_for("ready\nready")
        program.signal(signal.SIGKILL)
        outcome = program.finish()
    assert (outcome.exit_code, outcome.survivors) == (-signal.SIGKILL, ())
