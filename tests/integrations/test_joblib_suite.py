"""joblib's own tests of `Parallel`, on our backend in place of its backends with processes."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest
from libraries import needs
from support import run_program

needs("joblib")

# Names of tests, or parts of them, that are left out.
LEFT_OUT = {
    "test_auto_memmap": "arrays are not mapped from files",
    "test_memmapping": "arrays are not mapped from files",
    "loky-forkless": "workers of other backends do not know ours",
    "back_compat_backend-forkless": "workers of other backends do not know ours",
    "test_error_capture": "wants new workers after an error; ours are kept",
}
SCRIPT = "from joblib import Parallel, delayed\n"
CHANGES = {
    'PROCESS_BACKENDS = ["multiprocessing", "loky"]': 'PROCESS_BACKENDS = ["forkless"]',
    'PARALLEL_BACKENDS = PROCESS_BACKENDS + ["threading"]': "PARALLEL_BACKENDS = PROCESS_BACKENDS",
    # The programs that these tests run.
    SCRIPT: SCRIPT + "import forkless.joblib\nforkless.joblib.register()\n",
}

# Makes the backend known before the tests are read, and chooses those that use it.
PLUGIN = f"""
import forkless.joblib

forkless.joblib.register()

def pytest_collection_modifyitems(config, items):
    left_out = {list(LEFT_OUT)!r}
    wanted = [
        item for item in items
        if "forkless" in item.name.lower() and not any(each in item.name for each in left_out)
    ]
    config.hook.pytest_deselected(items=[item for item in items if item not in wanted])
    items[:] = wanted
"""


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_suite_of_joblib(tmp_path: Path) -> None:
    found = importlib.util.find_spec("joblib.test.test_parallel")
    if found is None or found.origin is None:
        pytest.skip("this joblib comes without its tests")
    text = Path(found.origin).read_text()
    for old, new in CHANGES.items():
        assert old in text, f"joblib's tests have changed: they are without {old!r}"
        text = text.replace(old, new)
    (tmp_path / "test_parallel_copy.py").write_text(text)
    (tmp_path / "register.py").write_text(PLUGIN)
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    arguments = ["-p", "register", "-p", "no:cacheprovider", "-q", "--timeout=600", str(tmp_path)]
    source = (
        f"import sys, pytest; sys.path.insert(0, {str(tmp_path)!r}); sys.exit(pytest.main({arguments!r}))"
    )
    outcome = run_program(source, timeout=1500)
    passed = re.search(r"^(\d+) passed", outcome.check(), re.M)
    assert passed is not None, outcome
    assert int(passed[1]) > 80, outcome
