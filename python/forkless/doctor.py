"""What the processes of a tree wait for, and what is wrong with that: `forkless doctor` for programs.

Example:
    >>> import forkless.doctor
    >>> print(forkless.doctor.report())
    Nothing wrong with process 4711 (1 process).
"""

from ._diagnosis import Diagnosis, Finding, report
from ._watchdog import watchdog

__all__ = ["Diagnosis", "Finding", "report", "watchdog"]
