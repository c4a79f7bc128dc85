# -*- test-case-name: tests.cli.test_apply -*-
"""C{qvd export}: the farm as a document that C{qvd apply} reads."""

from __future__ import annotations

import click

from qvd.cli.apply import Reads
from qvd.cli.output import yaml_of
from qvd.cli.session import Session, output_options
from qvd.declarative import reading
from qvd.declarative.export import document_of
from qvd.declarative.kinds import KINDS, fields_of

HEAD = """\
# A QVD farm: qvd apply -f THIS-FILE makes another one like it. Passwords, other secrets and the files of images are
# not in it.
"""


@click.command(
    "export",
    short_help="Write the farm down, for qvd apply.",
    epilog="""\b
qvd export > farm.yaml                         everything
qvd export --kind user --kind vm               users and VMs alone
qvd --profile a export | qvd --profile b apply -f -
""",
)
@click.option(
    "--kind",
    "kinds",
    multiple=True,
    type=click.Choice([kind.name for kind in KINDS]),
    help="Only objects of that kind, with the names of what they belong to. May be given several times.",
)
@click.option(
    "--defined-only",
    is_flag=True,
    help="Without properties that have no definition (qvd.*): faster where there are thousands of users and VMs.",
)
@output_options
@click.pass_obj
def command(session: Session, kinds: tuple[str, ...], defined_only: bool) -> None:
    """Write down tenants, users, OSFs, what is known of images, VMs, nodes, roles, administrators, properties and
    configuration, by names, in YAML (or JSON: -o json). Secrets are left out.
    """
    openapi = session.api.openapi()
    fields = {kind.name: fields_of(openapi, kind) for kind in KINDS}
    farm = reading.read(Reads(session), fields, whole=not defined_only)
    document = document_of(farm, kinds)
    if farm.withheld:
        session.screen.say(f"Left out, as you may not see it: {', '.join(sorted(farm.withheld))}.")
    if session.screen.format in ("json", "ndjson"):
        session.screen.document(document)
        return
    session.screen.out.write(HEAD + yaml_of(document))
