"""``kosmos keys``: the keys that seal documents and images at rest."""

from __future__ import annotations

from dataclasses import asdict

import typer

from node.cli import output
from node.cli.exits import CommandError
from node.cli.options import DEFAULT_CONFIG, Config, Json
from node.texts import tr

app = typer.Typer(help=tr("The keys that seal documents and images."), no_args_is_help=True)


@app.command(help=tr("Make a key; in a file it is the current one from then on."))
def new(config: Config = DEFAULT_CONFIG, json: Json = False) -> None:
    """Make a key where the configuration keeps them, and print its id."""
    from node.config_file import load
    from node.sealing import new_key

    key_id = new_key(load(config))
    if json:
        output.show_json({"key": key_id})
    else:
        output.console().print(
            tr("new key {key}: whoever loses it loses what it seals", key=key_id)
        )


@app.command(help=tr("Wrap every file's key by the current key; then old keys may go."))
def rotate(config: Config = DEFAULT_CONFIG, json: Json = False) -> None:
    """Beside a node that serves; again, it goes on where it broke off."""
    from node.config_file import load
    from node.sealing import rotate as run

    _tell(asdict(run(load(config), output.progress)), json=json)


@app.command(help=tr("Seal the files that lie as they are."))
def seal(config: Config = DEFAULT_CONFIG, json: Json = False) -> None:
    """Beside a node that serves; again, it goes on where it broke off."""
    from node.config_file import load
    from node.sealing import seal as run

    _tell(asdict(run(load(config), output.progress)), json=json)


def _tell(done: dict[str, object], *, json: bool) -> None:
    if json:
        output.show_json(done)
    else:
        rows = [(name, _text(value)) for name, value in done.items()]
        output.console().print(output.table([tr("outcome"), tr("files")], rows))
    if done["damaged"]:
        raise CommandError(tr("files are damaged: see the list"))


def _text(value: object) -> str:
    return ", ".join(value) or "-" if isinstance(value, list) else str(value)
