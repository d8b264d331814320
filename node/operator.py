"""Who runs a command: whom the audit trail names, and in whose name this node asks others."""

from __future__ import annotations

import os
import pwd


def operator_name() -> str:
    """The operating system's user, whatever the environment says: who is held to account."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # a container's user may have no name
        return str(os.getuid())
