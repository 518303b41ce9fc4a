"""A library with a lock of its own, like thousands of others."""

import threading

ledger = threading.Lock()
