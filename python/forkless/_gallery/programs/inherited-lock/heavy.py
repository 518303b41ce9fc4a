"""A module that takes its time to import, like any numerical library."""

import time

time.sleep(0.5)
