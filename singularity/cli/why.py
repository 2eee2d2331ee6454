"""`singularity why IMAGE PATH`: what brought a file into an image."""

import json
import sys
from typing import TYPE_CHECKING

import click

from singularity import console
from singularity.cli.command import option, verb
from singularity.image.tree import Kind

if TYPE_CHECKING:
    from singularity.explain.why import Opened, Step


@verb(
    description=(
        (
            "Says which package a file is of, which line of the definition copied it or installed that, and which "
            "layer it is in, as far as IMAGE itself tells. Nothing of IMAGE is run."
        ),
        "What only looks like it, such as a line of %post with the file's name in it, is marked with a question mark.",
        "IMAGE is a file or directory of any format, or a URI; layers are known of docker:// and oci: and their kin.",
    ),
    examples=(
        "singularity why debian.sif /usr/bin/python3",
        "singularity why docker://python:3.12 /usr/local/bin/pip",
        "singularity why --json tool.sif /opt/tool/bin/run",
    ),
)
@option("-j", "--json", "as_json", is_flag=True, help="As a JSON document")
@click.argument("image")
@click.argument("path")
def command(image: str, path: str, *, as_json: bool) -> None:
    """Prints what is known on standard output."""
    from singularity.cli.checked import available
    from singularity.cli.inspected import identified
    from singularity.console import working
    from singularity.explain import why

    with available(image) as place, working(f"looking for {path} in {image}"):
        steps = why.explain(identified(place), path, layers(image))
    if as_json:
        sys.stdout.write(json.dumps([_document(each) for each in steps], indent=1) + "\n")
    else:
        sys.stdout.write("".join(f"{line}\n" for each in steps for line in _lines(each)))


def layers(image: str) -> "Opened | None":
    """How the layers of what a URI names are opened; None for an image that has none."""
    from singularity import uri
    from singularity.cache import places
    from singularity.sources import fetch, oci

    named = uri.parse(image)
    if named is None or not named.transport.is_oci:
        return None
    asked = fetch.from_options({})
    return oci.find(named, asked, places.find(asked.cache)).opened


def _lines(step: "Step") -> list[str]:
    node = step.node
    what = f"{node.kind.name.lower().replace('_', ' ')}, mode {node.mode:04o}, owner {node.uid}:{node.gid}"
    if node.kind is Kind.FILE:
        what += f", {console.size(node.size)}"
    if node.kind is Kind.LINK:
        what = f"link to {node.target}"
    lines = [f"{console.escape(step.path)}: {console.escape(what)}"]
    lines += [f"  {each.by}{'' if each.certain else '?'}: {console.escape(each.text)}" for each in step.reasons]
    if not any(each.certain for each in step.reasons):
        lines.append("  not known for certain" if step.reasons else "  not known: the image keeps nothing that says it")
    return lines


def _document(step: "Step") -> dict[str, object]:
    node = step.node
    reasons = [{"by": each.by, "text": each.text, "certain": each.certain} for each in step.reasons]
    return {
        "path": step.path,
        "kind": node.kind.name.lower(),
        "mode": f"{node.mode:04o}",
        "uid": node.uid,
        "gid": node.gid,
        "size": node.size,
        "target": node.target,
        "reasons": reasons,
    }
