"""The command ``kosmos``: every verb of the house for a person or a script.

The language is chosen before anything is declared, for help is text too; everything heavy is
imported by the verb that needs it. A person never sees a traceback: each known trouble is one
line and an exit code (``node.cli.exits``), the unknown one too unless KOSMOS_TRACEBACK is set.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Sequence

from node.cli.exits import CommandError, Exit
from node.logs import hush
from node.texts import requested, tr, use

# What a shell reports for a program ended by Ctrl-C.
INTERRUPTED = 130

# Objects made between two looks for garbage. What a verb imports is some 300,000 that stay: at
# Python's 700 the looks among them are a fifth of a short command's time.
COLLECT_EVERY = 100_000


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command and leave with its exit code."""
    gc.set_threshold(COLLECT_EVERY)
    given = list(sys.argv[1:] if arguments is None else arguments)
    use(requested(given, os.environ))
    hush()  # what rooms and libraries log is for `kosmos serve`, which sends it where logs go
    sys.exit(_run(_without_language(given)))


def _without_language(arguments: list[str]) -> list[str]:
    """``--lang`` may stand anywhere; the verbs need not know it."""
    kept: list[str] = []
    rest = iter(arguments)
    for argument in rest:
        if argument == "--lang":
            next(rest, None)
        elif not argument.startswith("--lang="):
            kept.append(argument)
    return kept


def _run(arguments: list[str]) -> int:
    from node.cli.app import app

    try:
        app(arguments, prog_name="kosmos")
    except SystemExit as leaving:
        return leaving.code if isinstance(leaving.code, int) else Exit.FAILED
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # The reader of our output has seen enough; nothing may be flushed to it at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.FAILED
    except CommandError as error:
        return _tell(str(error), error.code)
    except Exception as error:  # noqa: BLE001 - told as one line with an exit code
        return _known(error)
    return Exit.OK


def _known(error: Exception) -> int:
    """The exit code of an error that rooms raise; anything else is told without a traceback."""
    from node.cli.troubles import trouble

    found = trouble(error)
    if found is not None:
        return _tell(*found)
    if os.environ.get("KOSMOS_TRACEBACK"):
        raise error
    return _tell(
        tr("unexpected: {error}. KOSMOS_TRACEBACK=1 shows where", error=type(error).__name__),
        Exit.FAILED,
    )


def _tell(text: str, code: int) -> int:
    sys.stderr.write(f"kosmos: {text}\n" if text else "")
    return code
