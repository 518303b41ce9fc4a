"""The `test` package of this interpreter; modules imported from here see forkless as multiprocessing."""

import test

from conformance import redirect

__path__ = list(test.__path__)
redirect.install(__name__)
