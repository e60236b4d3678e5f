"""``python -m portable_nn`` is the command ``portable-nn``."""

import sys

from .cli import main

sys.exit(main())
