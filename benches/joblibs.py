"""`joblib.Parallel` on forkless beside joblib's own workers, loky's; and scikit-learn on that.

Not part of the default run: `./dev bench --group joblibs`. Workers are warm unless something else is said.
The time that tasks take is slept, and taken off: what is measured is what joblib and its workers add to it.
"""

from __future__ import annotations

import time
from typing import Any

from jobs import nap, nested, nothing, total
from suite import NotThere, benchmark


def seconds(subject: Any, tasks: int, each: float, jobs: int = 2, call: Any = nap, **options: Any) -> float:
    """What a second call of `Parallel` takes beyond its tasks: so many, of so many seconds each."""
    joblib = subject.joblib
    with joblib.parallel_config(subject.backend, n_jobs=jobs):
        joblib.Parallel()(joblib.delayed(nothing)() for _ in range(10 * jobs))
        begin = time.perf_counter()
        results = list(joblib.Parallel(**options)(joblib.delayed(call)(each) for _ in range(tasks)))
        elapsed = time.perf_counter() - begin
    assert len(results) == tasks
    return elapsed - sum(results) / jobs


def measured(name: str, what: str, *arguments: Any, **options: Any) -> None:
    """Adds a benchmark that is a call of `seconds`."""

    def run(subject: Any) -> float:
        return seconds(subject, *arguments, **options)

    run.__name__, run.__doc__ = f"joblib_{name}", what
    benchmark(ours="joblib on forkless", at_most={"joblib on loky": 1.0})(run)


for jobs in (2, 4):
    for count, each in (
        (200, 0.0), (2_000, 0.0), (20_000, 0.0), (100_000, 0.0),
        (200, 1e-5), (2_000, 1e-5), (20_000, 1e-5),
        (200, 1e-4), (2_000, 1e-4),
        (200, 1e-3), (2_000, 1e-3),
    ):  # fmt: skip
        measured(f"{jobs}x{count}x{1e6 * each:.0f}us", "Many tasks.", count, each, jobs)
for count in (200, 2_000, 20_000):
    measured(f"all_{count}", "All dispatched at once.", count, 0.0, pre_dispatch="all")
    measured(f"generator_{count}", "Results as they come.", count, 0.0, return_as="generator")
measured("single_1000", "Batches of one task.", 1000, 0.0, batch_size=1)
measured("nested", "Calls within tasks.", 200, 1e-4, call=nested)


@benchmark(ours="joblib on forkless", at_most={"joblib on loky": 1.0})
def joblib_first_call(subject: Any) -> float:
    """A call that has to start its workers."""
    joblib = subject.joblib
    begin = time.perf_counter()
    with joblib.parallel_config(subject.backend, n_jobs=2):
        assert joblib.Parallel()(joblib.delayed(abs)(n) for n in range(10)) == list(range(10))
    return time.perf_counter() - begin


def array_to_tasks(subject: Any, megabytes: int, tasks: int, distinct: bool, jobs: int = 2) -> float:
    """Seconds of tasks that sum an array of so many megabytes: one array, or one for each task."""
    import numpy

    joblib = subject.joblib
    array = numpy.ones(megabytes * 125_000)
    with joblib.parallel_config(subject.backend, n_jobs=jobs):
        joblib.Parallel()(joblib.delayed(nothing)() for _ in range(10 * jobs))
        begin = time.perf_counter()
        calls = (joblib.delayed(total)(array + n if distinct else array) for n in range(tasks))
        results = joblib.Parallel()(calls)
        elapsed = time.perf_counter() - begin
    assert results == [len(array) * (1.0 + n * distinct) for n in range(tasks)]
    return elapsed


@benchmark(ours="joblib on forkless", at_most={"joblib on loky": 1.0})
def joblib_one_array(subject: Any) -> float:
    """One array of 100 MB for many tasks."""
    return array_to_tasks(subject, 100, 20, distinct=False)


@benchmark(ours="joblib on forkless", at_most={"joblib on loky": 1.0})
def joblib_distinct_arrays(subject: Any) -> float:
    """An array of 10 MB for each task."""
    return array_to_tasks(subject, 10, 20, distinct=True)


@benchmark(ours="joblib on forkless", at_most={"joblib on loky": 1.1}, unit="B")
def joblib_memory(subject: Any) -> float:
    """At most, what this process and 4 workers have with an array of 400 MB that every task reads."""
    from workers import Watch

    with Watch() as watch:
        array_to_tasks(subject, 400, 8, distinct=False, jobs=4)
    return watch.peak


def classification(megabytes: float) -> tuple[Any, Any]:
    """Data of so many megabytes, 50 numbers to a sample, and their classes."""
    import numpy

    generator = numpy.random.default_rng(0)
    samples = generator.random((int(megabytes * 2500), 50))
    return samples, (samples[:, 0] + samples[:, 1] > 1).astype(int)


def fitting(subject: Any, megabytes: float, fit: Any) -> float:
    """Seconds of a fit with two jobs."""
    try:
        import sklearn  # noqa: F401
    except ImportError as error:
        raise NotThere("sklearn") from error
    with subject.joblib.parallel_config(subject.backend, n_jobs=2):
        fit(*classification(0.1))
        data = classification(megabytes)
        begin = time.perf_counter()
        fit(*data)
        return time.perf_counter() - begin


def learned(name: str, fit: Any) -> None:
    """Adds benchmarks of a fit with little data and with much."""
    for megabytes in (1, 100):

        def run(subject: Any, megabytes: int = megabytes) -> float:
            return fitting(subject, megabytes, fit)

        run.__name__, run.__doc__ = f"sklearn_{name}_{megabytes}MB", "scikit-learn with two jobs."
        benchmark(ours="joblib on forkless", at_most={"joblib on loky": 1.0})(run)


def grid_search(samples: Any, target: Any) -> None:
    """Nine fits."""
    from sklearn.model_selection import GridSearchCV
    from sklearn.tree import DecisionTreeClassifier

    tree = DecisionTreeClassifier(max_depth=2, max_features=2, random_state=0)
    GridSearchCV(tree, {"min_samples_leaf": [1, 5, 9]}, cv=3, n_jobs=2).fit(samples, target)


def cross_validation(samples: Any, target: Any) -> None:
    """Five fits."""
    from sklearn.model_selection import cross_val_score
    from sklearn.naive_bayes import GaussianNB

    cross_val_score(GaussianNB(), samples, target, cv=5, n_jobs=2)


def forest(samples: Any, target: Any) -> None:
    """A forest, whose trees are grown in threads by its own wish, in two processes."""
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.model_selection import cross_val_score

    trees = RandomForestClassifier(4, max_depth=2, max_features=2, random_state=0, n_jobs=2)
    cross_val_score(trees, samples, target, cv=2, n_jobs=2)


learned("grid_search", grid_search)
learned("cross_val_score", cross_validation)
learned("forest", forest)
