"""The verbs of ``kosmos`` and their options; what they do is in the modules beside this one."""

from __future__ import annotations

from typing import Annotated

import typer

from node.cli import (
    access_verbs,
    admin_codes,
    admin_subscriptions,
    admin_verbs,
    archives_verb,
    audit_verbs,
    client_verbs,
    demo_verb,
    feed_verb,
    keys_verbs,
    kit_verbs,
    load_verb,
    media_verbs,
    node_verbs,
    operation_verbs,
    pki_verbs,
    reports_verb,
    studies_verbs,
    summary_verb,
)
from node.texts import tr


def _frame(
    lang: Annotated[
        str, typer.Option(help=tr("Language of everything printed: en or fr."), metavar="en|fr")
    ] = "",
) -> None:
    """Options before the verb. ``--lang`` was read before anything else (node.cli.main)."""


app = typer.Typer(
    name="kosmos",
    help=tr("Infrastructure for sharing medical imaging: IHE XDS-I.b, complete."),
    callback=_frame,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
config_app = typer.Typer(help=tr("The configuration of a node."), no_args_is_help=True)
kit_app = typer.Typer(help=tr("The conformance kit."), no_args_is_help=True)

app.command(help=tr("Make the folder of a new node."))(node_verbs.init)
app.command(help=tr("Run every actor of a node."))(node_verbs.serve)
app.command(help=tr("Show the whole main job on this machine with real images."))(demo_verb.demo)
app.add_typer(config_app, name="config")
config_app.command("show", help=tr("Print every value as the node understands it."))(
    node_verbs.show
)
app.command(help=tr("Try configuration, databases, folders, certificates and peers."))(
    node_verbs.check
)
app.command(help=tr("Send images by C-STORE, or a document by ITI-41."))(client_verbs.publish)
app.command(help=tr("Find a patient's documents (ITI-18)."))(client_verbs.find)
app.command(help=tr("Fetch documents (ITI-43) and images (RAD-69, WADO-RS)."))(client_verbs.fetch)
app.command(help=tr("Send identity messages (ITI-8, ITI-44)."))(feed_verb.feed)
app.command(help=tr("Load many submissions at once, as from another registry."))(load_verb.load)
app.command(help=tr("Offer a patient's imaging summary on demand (ITI-61)."))(summary_verb.summary)
app.command(help=tr("Write studies to a medium with a DICOMDIR."))(media_verbs.export)
app.command("import", help=tr("Take images of a medium in."))(media_verbs.import_)
app.add_typer(kit_app, name="conformance")
kit_app.command("list", help=tr("Print the cases of the kit, and what each expects."))(
    kit_verbs.list_cases
)
kit_app.command(
    "consumer", help=tr("Judge a consumer of images, given as a command, by a source that lies.")
)(kit_verbs.consumer)
kit_app.command("manifest", help=tr("Judge the content of a manifest file, rule by rule."))(
    kit_verbs.manifest
)
kit_app.command("run", help=tr("Drive actors over the wire and judge what they answer."))(
    kit_verbs.run
)
app.add_typer(access_verbs.app, name="access")
app.add_typer(audit_verbs.app, name="audit")
app.add_typer(keys_verbs.app, name="keys")
app.add_typer(pki_verbs.app, name="pki")
app.add_typer(admin_verbs.admin, name="admin")
admin_verbs.admin.add_typer(admin_codes.codes_app, name="codes")
admin_verbs.admin.add_typer(admin_subscriptions.app, name="subscriptions")
admin_verbs.admin.add_typer(studies_verbs.publications_app, name="publications")
app.add_typer(studies_verbs.studies_app, name="studies")
app.add_typer(reports_verb.reports_app, name="reports")
app.command(
    "check-images", help=tr("Compare images, their index and their manifests in the registry.")
)(studies_verbs.check_images)
app.command(help=tr("Bring the databases up to date."))(operation_verbs.migrate)
app.command(help=tr("Settle what a crash left between repository and registry."))(
    operation_verbs.reconcile
)
app.command(help=tr("Copy a node, serving or not, into a folder of backups."))(
    operation_verbs.backup
)
app.command(help=tr("Make a node from a backup, and prove that everything is there."))(
    operation_verbs.restore
)
app.command(help=tr("Tell how the archives are from which studies are fetched."))(
    archives_verb.archives
)
app.command(help=tr("Print the version of Kosmos and of what it stands on."))(node_verbs.version)
