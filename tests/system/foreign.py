"""Programs and schemas that nobody here wrote; what is missing skips the test with the reason."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

# Debian's packages, to say what to install.
PACKAGES = {
    "curl": "curl",
    "openssl": "openssl",
    "pdftotext": "poppler-utils",
    "ps": "procps",
    "ss": "iproute2",
    "xmllint": "libxml2-utils",
    "dciodvfy": "dicom3tools",
    **dict.fromkeys(("dcmodify", "dsrdump", "echoscu", "storescu"), "dcmtk"),
}
# Longer than any of them needs; who takes so long hangs.
SECONDS = 30.0


def run(program: str, *arguments: str | Path, send: str = "") -> subprocess.CompletedProcess[str]:
    """Run ``program``, ``send`` as its standard input; standard error joins its output."""
    path = shutil.which(program)
    if path is None:
        pytest.skip(f"{program} is not installed (Debian: {PACKAGES[program]})")
    return subprocess.run(
        [path, *map(str, arguments)],
        input=send,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        timeout=SECONDS,
    )


def standards() -> Path:
    """The folder of official schemas, beside this project."""
    folder = Path(__file__).parents[2].parent / "shared" / "standards"
    if not folder.is_dir():
        pytest.skip("the folder of official schemas is not beside this project")
    return folder
