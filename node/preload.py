"""What the processes of a node need, imported by the one process that they are forked from.

None of it is ever garbage. Out of the collector's sight it is not looked through while it is
imported (a quarter of the time) nor in any later collection, and stays in memory that the
processes share. ``node.process.enter`` turns the collector on again.
"""

from __future__ import annotations

import gc
import importlib

gc.disable()
# The command line, because a process begins by reading the main module of its supervisor.
for _module in ("node.web", "node.dicom", "node.cli.app"):
    importlib.import_module(_module)
gc.freeze()
