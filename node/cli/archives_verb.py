"""The verb ``archives``: how the archives are from which this node fetches studies, what becomes
here of what they have, and how many images are with them alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from node.cli import output
from node.cli.exits import CommandError, UsageError
from node.cli.options import DEFAULT_CONFIG, Config, Json
from node.operator import operator_name
from node.texts import tr

if TYPE_CHECKING:
    from imaging_source.archive_commitment import Tally
    from imaging_source.archives import Condition
    from imaging_source.evicted import Figures
    from node.config_imaging import Mode


def archives(config: Config = DEFAULT_CONFIG, json: Json = False) -> None:
    """Ask each archive for its studies of the last days: which are missing here, and what of ours
    it has committed to."""
    from imaging_source.archive_commitment import Tally, tallies
    from imaging_source.evicted import figures
    from node.config_file import load
    from node.migrate import open_database
    from node.wiring.commands import asking_archives
    from node.wiring.dicom import archives as configured
    from node.wiring.dicom import staying_archives

    settings = load(config)
    section = settings.imaging_source
    if not section.enabled or not section.archives:
        raise UsageError(tr("this node fetches from no archive (imaging_source.archives)"))
    with (
        open_database(section, "imaging_source", read_only=True) as database,
        asking_archives(settings, operator_name()) as ledger,
    ):
        stay = staying_archives(settings, database, ledger)
        found = list(configured(settings, database, stay).conditions())
        with database.read() as connection:
            said, evicted = tallies(connection), figures(connection)
    modes = {one.title: section.mode_of(one) for one in section.archives}
    vouched = [said.get(one.title, Tally()) for one in found]
    if json:
        told = [
            asdict(one) | {"mode": modes[one.title], "commitment": asdict(tally)}
            for one, tally in zip(found, vouched, strict=True)
        ]
        output.show_json({"archives": told, "evicted": asdict(evicted)})
    else:
        _print(found, modes, vouched, evicted)
    if silent := [one.title for one in found if not one.answers]:
        raise CommandError(tr("{title} does not answer", title=", ".join(silent)))


def _print(
    found: Sequence[Condition],
    modes: Mapping[str, Mode],
    vouched: Sequence[Tally],
    evicted: Figures,
) -> None:
    rows = [
        (
            one.title,
            one.address,
            modes[one.title],
            tr("answers") if one.answers else tr("does not answer"),
            one.studies if one.answers else "",
            one.missing if one.answers else "",
            tally.committed,
            tally.asked,
            tally.refused,
        )
        for one, tally in zip(found, vouched, strict=True)
    ]
    headings = [tr("title"), tr("address"), tr("mode"), "", tr("studies"), tr("missing here")]
    headings += [tr("images committed"), tr("images asked for"), tr("images refused")]
    output.console().print(output.table(headings, rows))
    output.console().print(
        tr(
            "images with archives alone: {count}, in vain asked for: {hindered}",
            count=evicted.instances,
            hindered=evicted.hindered,
        )
    )
