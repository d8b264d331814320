"""Options that several verbs share, declared once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from node.texts import tr

Config = Annotated[
    Path,
    typer.Option("--config", envvar="KOSMOS_CONFIG", help=tr("Configuration file of the node.")),
]
Json = Annotated[bool, typer.Option("--json", help=tr("Print data as JSON."))]
DEFAULT_CONFIG = Path("kosmos.toml")
