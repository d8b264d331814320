"""The verb ``demo``: show the whole main job, then keep serving."""

from __future__ import annotations

import shlex
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from node.cli import output
from node.cli.exits import CommandError, Exit, UsageError
from node.texts import tr

if TYPE_CHECKING:
    from node.demo.stage import Stage
    from node.storescu import DicomFile


def demo(
    study: Annotated[
        Path | None, typer.Option(exists=True, help=tr("Your own folder of DICOM files."))
    ] = None,
    stay: Annotated[
        bool, typer.Option("--stay/--no-stay", help=tr("Keep serving until Ctrl-C."))
    ] = True,
    plain: Annotated[bool, typer.Option("--plain", help=tr("Without TLS and assertions."))] = False,
    folder: Annotated[
        Path | None,
        typer.Option(help=tr("Keep the nodes and what was fetched in this new folder.")),
    ] = None,
) -> None:
    """Publish, find and see real studies over the wire, on ports of this machine."""
    from node.demo.display import StepFailed
    from node.demo.run import perform
    from node.demo.stage import NodeFailed, set_up
    from node.demo.studies import choose, sample_folder

    files = choose(study or sample_folder())
    if not files:
        raise UsageError(tr("no image of a named patient and study in {folder}", folder=study))
    console = output.console()
    try:
        with _place(folder) as place, set_up(place, plain=plain) as stage:
            verdict = perform(stage, files, console)
            if stay:
                _show_where(stage, files)
                _until_interrupted()
    except (StepFailed, NodeFailed) as error:
        raise CommandError(str(error)) from None
    if not verdict.ok:
        raise typer.Exit(Exit.FAILED)


@contextmanager
def _place(folder: Path | None) -> Iterator[Path]:
    """The folder asked for, or one that is gone afterwards."""
    if folder is not None:
        if folder.exists():
            raise UsageError(tr("{file} exists already; nothing was changed", file=folder))
        folder.mkdir(parents=True)
        yield folder.resolve()
        return
    with tempfile.TemporaryDirectory(prefix="kosmos-demo-") as temporary:
        yield Path(temporary)


def _show_where(stage: Stage, files: list[DicomFile]) -> None:
    places, image = stage.endpoints, files[0]
    command = _command()
    config = f"--config {stage.config}"
    lines = [
        ("registry", places.registry),
        ("subscriptions", places.subscriptions),
        ("repository", places.repository),
        ("imaging", places.imaging),
        ("DICOMweb", f"{places.dicomweb} {places.wado_uri}"),
        ("MLLP", places.mllp),
        (tr("reports"), places.reports),
        ("DICOM", f"{places.ae_title}@{places.dicom}"),
        (tr("health, metrics"), f"{places.admin}/readyz {places.admin}/metrics"),
    ]
    console = output.console()
    console.print(output.table(["", tr("where")], lines))
    console.print(tr("Try, in another terminal:"))
    host, _, port = (places.dicom or "").rpartition(":")
    for line in (
        f"{command} find {image.patient_id} {config}",
        f"{command} fetch {image.patient_id} --folder fetched {config}",
        f"{command} audit find --transaction RAD-69 {config}",
        f"{command} publish FILE.dcm {config}"
        if stage.tls
        else f"storescu -aec {places.ae_title} {host} {port} FILE.dcm",
        f"{command} {shlex.join(kit_arguments(stage))}",
    ):
        console.print(f"  {line}", soft_wrap=True, markup=False)
    console.print(tr("Serving until Ctrl-C."))


def kit_arguments(stage: Stage) -> list[str]:
    """The arguments with which the conformance kit runs every case against the demonstration."""
    from node.demo.stage import MOVE_TITLE

    options = {
        "config": stage.config,
        "listener": f"127.0.0.1:{stage.listener_port}",
        "broker-restart": f"sh {stage.restart}",
        "move-to": f"{MOVE_TITLE}@127.0.0.1:{stage.move_port}",
        "repository-facing-simulator": stage.simulated_repository,
        "simulator-port": stage.simulator_port,
        "crash": f"sh {stage.crash}",
        "report": "report",
    }
    if stage.tls:
        pki, config = stage.config.parent / "pki", shlex.quote(str(stage.config))
        options |= {
            "tls-authority": pki / "ca.pem",
            "tls-authority-key": pki / "ca.key",
            "treat": f"{_command()} access treat {{patient}} {{who}} --config {config}",
        }
    arguments = [part for name, value in options.items() for part in (f"--{name}", str(value))]
    return ["conformance", "run", *arguments]


def _command() -> str:
    """How this program was called, so that a line can be pasted."""
    called = Path(sys.argv[0])
    return str(called) if called.name == "kosmos" else f"{sys.executable} -m node.cli"


def _until_interrupted() -> None:
    """Wait for Ctrl-C or SIGTERM."""
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda _number, _frame: stop.set())
    stop.wait()
