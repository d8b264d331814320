"""The verb ``archives``: how the archives are from which this node fetches studies, and how many
images are with them alone."""

from __future__ import annotations

from dataclasses import asdict

from node.cli import output
from node.cli.exits import CommandError, UsageError
from node.cli.options import DEFAULT_CONFIG, Config, Json
from node.texts import tr


def archives(config: Config = DEFAULT_CONFIG, json: Json = False) -> None:
    """Ask each archive for its studies of the last days, and tell which are missing here."""
    from imaging_source.evicted import figures
    from node.config_file import load
    from node.migrate import open_database
    from node.wiring.dicom import archives as configured

    settings = load(config)
    section = settings.imaging_source
    if not section.enabled or not (section.archives or section.web_archives):
        raise UsageError(tr("this node fetches from no archive (imaging_source.archives)"))
    with open_database(section, "imaging_source", read_only=True) as database:
        found = list(configured(settings, database).conditions())
        with database.read() as connection:
            evicted = figures(connection)
    if json:
        told = {"archives": [asdict(one) for one in found], "evicted": asdict(evicted)}
        output.show_json(told)
    else:
        rows = [
            (one.title, one.address, tr("answers"), one.studies, one.missing)
            if one.answers
            else (one.title, one.address, tr("does not answer"), "", "")
            for one in found
        ]
        headings = [tr("title"), tr("address"), "", tr("studies"), tr("missing here")]
        output.console().print(output.table(headings, rows))
        count, hindered = evicted.instances, evicted.hindered
        output.console().print(
            tr(
                "images with archives alone: {count}, in vain asked for: {hindered}",
                count=count,
                hindered=hindered,
            )
        )
    if silent := [one.title for one in found if not one.answers]:
        raise CommandError(tr("{title} does not answer", title=", ".join(silent)))
