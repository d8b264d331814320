"""``python -m tests.fuzz``: see ``tests.fuzz.play``."""

import sys

from tests.fuzz.play import main

sys.exit(main())
