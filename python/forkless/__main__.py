"""`python -m forkless`: the command `forkless`."""

import sys

from ._cli import main

sys.exit(main())
