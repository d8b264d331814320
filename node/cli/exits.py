"""How a command ends: exit codes that scripts hold on to, and the errors behind them."""

from __future__ import annotations

from enum import IntEnum


class Exit(IntEnum):
    """The exit codes of ``kosmos``."""

    OK = 0
    FAILED = 1
    USAGE = 2
    CONFIGURATION = 3
    UNREACHABLE = 4


class CommandError(Exception):
    """The command cannot go on; the text is for the person who typed it."""

    code = Exit.FAILED


class UsageError(CommandError):
    """The command was typed in a way that has no meaning."""

    code = Exit.USAGE


class Unreachable(CommandError):
    """A peer could not be reached."""

    code = Exit.UNREACHABLE
