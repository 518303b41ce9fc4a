"""Programs that know nothing of forkless, under `python -m forkless`: the libraries' own ways are on it."""

from __future__ import annotations

import re
import sys
from typing import NamedTuple

import pytest
from libraries import needs
from support import run_program


class Case(NamedTuple):
    """A program and what it prints, a regular expression."""

    modules: str
    text: str
    expected: str


# What a task says of the process that it runs in: that it is a child of forkless.
WHERE = """
import multiprocessing
def where(_=None):
    return type(multiprocessing.current_process()).__module__, multiprocessing.parent_process() is not None
"""
OURS = r"\('forkless\.process', True\)"

CASES = {
    "joblib, its own backend": Case(
        "joblib",
        # It starts processes in a way of its own; they are not ours, but have to work.
        """
import os
from joblib import Parallel, delayed
print(Parallel(n_jobs=2, backend="loky")(delayed(pow)(n, 2) for n in range(4)))
print(os.getpid() in Parallel(n_jobs=2, backend="loky")([delayed(os.getpid)()] * 4))
""",
        r"\[0, 1, 4, 9\]\nFalse\n",
    ),
    "joblib, the default backend": Case(
        "joblib",
        WHERE
        + """
from joblib import Parallel, delayed
print(*set(Parallel(n_jobs=2)([delayed(where)()] * 4)))
import forkless, joblib.parallel
forkless.uninstall()
print(joblib.parallel.DEFAULT_BACKEND)
""",
        rf"{OURS}\nloky\n",
    ),
    "joblib, the backend multiprocessing": Case(
        "joblib",
        WHERE
        + """
from joblib import Parallel, delayed
print(*set(Parallel(n_jobs=2, backend="multiprocessing")([delayed(where)()] * 4)))
""",
        rf"{OURS}\n",
    ),
    "scikit-learn": Case(
        "sklearn",
        """
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
print(cross_val_score(LogisticRegression(max_iter=1000), *load_iris(return_X_y=True), n_jobs=2).mean() > 0.9)
""",
        "True\n",
    ),
    "tqdm": Case(
        "tqdm",
        WHERE
        + """
from tqdm.contrib.concurrent import process_map
print(*set(process_map(where, range(10), max_workers=2)))
""",
        rf"{OURS}\n",
    ),
    "scipy": Case(
        "scipy",
        WHERE
        + """
import numpy as np
from scipy.integrate import quad_vec
from scipy.optimize import brute, differential_evolution
def bowl(place):
    assert where()[1]
    return float(((place - 1) ** 2).sum())
options = {"updating": "deferred", "polish": False, "seed": 1}
print(differential_evolution(bowl, [(-2, 3)] * 2, workers=2, **options).x.round(2))
print(brute(bowl, [(-2, 2)] * 2, Ns=9, workers=2, finish=None))
print(round(quad_vec(np.sin, 0, np.pi, workers=2)[0], 6))
""",
        r"\[1\. 1\.\]\n\[1\. 1\.\]\n2\.0\n",
    ),
    "emcee": Case(
        "emcee",
        WHERE
        + """
from multiprocessing import Pool
import emcee, numpy
def log_probability(place):
    assert where()[1]
    return -0.5 * float((place ** 2).sum())
with Pool(2) as pool:
    sampler = emcee.EnsembleSampler(8, 2, log_probability, pool=pool)
    sampler.run_mcmc(numpy.random.default_rng(1).normal(size=(8, 2)), 20)
print(sampler.get_chain().shape)
""",
        r"\(20, 8, 2\)\n",
    ),
    "dask": Case(
        "dask",
        WHERE
        + """
import dask.bag
bag = dask.bag.from_sequence(range(4), npartitions=4)
print(*set(bag.map(where).compute(scheduler="processes", num_workers=2)))
""",
        rf"{OURS}\n",
    ),
    "torch, a DataLoader": Case(
        "torch",
        WHERE
        + """
import torch
from torch.utils.data import DataLoader, Dataset
class Squares(Dataset):
    def __len__(self):
        return 6
    def __getitem__(self, index):
        assert where()[1]
        return torch.tensor(index ** 2)
loader = DataLoader(Squares(), batch_size=3, num_workers=2)
print([batch.tolist() for batch in loader], type(iter(loader)._workers[0]).__module__)
""",
        r"\[\[0, 1, 4\], \[9, 16, 25\]\] forkless\.process\n",
    ),
    "torch, spawn": Case(
        "torch",
        WHERE
        + """
import torch
import torch.multiprocessing as mp
def train(index, shared):
    assert where()[1]
    shared[index] = index + 1
shared = torch.zeros(2).share_memory_()
mp.spawn(train, args=(shared,), nprocs=2)
print(shared.tolist())
""",
        r"\[1\.0, 2\.0\]\n",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_an_unmodified_program(name: str) -> None:
    case = CASES[name]
    needs(case.modules, "./dev integrations --torch" if case.modules == "torch" else "./dev integrations")
    # Without the guard that each of these would need elsewhere.
    outcome = run_program(case.text, python=(sys.executable, "-m", "forkless"))
    assert re.fullmatch(case.expected, outcome.check()), outcome
    assert "Traceback" not in outcome.stderr, outcome
