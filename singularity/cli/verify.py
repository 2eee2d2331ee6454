"""`singularity verify`: whether an image is as somebody has signed it, and who."""

import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from singularity.cli import sif_listed
from singularity.cli.command import PATH, Verb, option
from singularity.cli.trusting import Trusted, keysdir_option, url_option
from singularity.console import escape
from singularity.errors import FileError, SignatureError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from singularity.trust.verify import Verified

logger = logging.getLogger(__name__)


@click.command(
    cls=Verb,
    description=(
        "Everything in a SIF file must be signed, and as it was then: only then is the exit status 0.",
        "Signatures by keys of your ring and the site's count; for others key servers are asked, unless --local.",
        "A key from a server tells that nothing was changed, and not who that was: look at its fingerprint.",
    ),
    examples=("singularity verify debian.sif", "singularity verify --local --json debian.sif"),
)
@option("-g", "--group-id", "--groupid", "group", type=int, metavar="N", help="Only the objects of this group")
@option("-i", "--sif-id", "--id", "number", type=int, metavar="N", help="Only this object")
@option(
    "-a",
    "--all",
    "all_objects",
    is_flag=True,
    help="All objects: with --legacy-insecure, not the root file system alone",
)
@option("-j", "--json", "as_json", is_flag=True, help="Print JSON")
@option("-l", "--local", is_flag=True, variables="LOCAL_VERIFY", help="Ask no key server")
@option("--legacy-insecure", is_flag=True, help="Signatures of before 2020, which leave much of the file out")
@option("--key", default="", metavar="FILE", variables="VERIFY_KEY", help="Signatures by this public key in PEM count")
@option("--certificate", default="", metavar="FILE", variables="VERIFY_CERTIFICATE", help="Those by its owner count")
@option(
    "--certificate-intermediates",
    default="",
    metavar="FILE",
    variables="VERIFY_INTERMEDIATES",
    help="Certificates between it and a root",
)
@option(
    "--certificate-roots",
    default="",
    metavar="FILE",
    variables="VERIFY_ROOTS",
    help="The roots that count, in place of the system's",
)
@option(
    "--ocsp-verify",
    is_flag=True,
    variables="VERIFY_OCSP",
    help="Ask whoever issued the certificates whether they were revoked",
)
@option("--ssh", default="", metavar="FILE", help="Signatures by those in this file of allowed signers count")
@url_option
@keysdir_option
@click.argument("image", type=PATH)
def command(
    image: Path,
    *,
    group: int | None,
    number: int | None,
    all_objects: bool,
    as_json: bool,
    legacy_insecure: bool,
    **trusted: Any,
) -> None:
    """Prints who has signed what."""
    from singularity.trust.verify import Wanted, verify

    if group is not None and number is not None:
        raise UsageError("--group-id and --sif-id: one of them")
    wanted = Wanted(group=group, object=number, legacy=legacy_insecure, all_objects=all_objects)
    checkers = Trusted(**trusted).checkers()
    try:
        with image.open("rb") as file:
            found = verify(file, wanted, checkers)
    except OSError as error:
        raise FileError.because(image, error) from error
    except SignatureError as error:
        if as_json:
            _print([])
        raise SignatureError(f"Failed to verify container: {image}: {error.what}", hint=error.hint) from error
    if as_json:
        _print(found)
    else:
        click.echo("\n".join(_told(found)))
    logger.info("Verified signature(s) from image '%s'", image)


def _told(found: "Sequence[Verified]") -> list[str]:
    """The signers and their objects, as the family prints them."""
    lines: list[str] = []
    for each in found:
        if each.signer.name or each.signer.fingerprint:
            where = "[LOCAL]" if each.signer.local else "[REMOTE]"
            lines.append(f"{where:<18} Signing entity: {escape(each.signer.name or 'unknown')}")
            lines.append(f"{where:<18} Fingerprint: {escape(each.signer.fingerprint)}")
        lines += ["Objects verified:", "ID  |GROUP   |LINK    |TYPE", "-" * 48]
        for one in each.objects:
            link = "NONE" if not one.link else f"{one.link} (G)" if one.links_group else str(one.link)
            lines.append(f"{one.id:<4}|{one.group or 'NONE':<8}|{link:<8}|{sif_listed.TYPES.get(one.type, 'Unknown')}")
    return lines


def _print(found: "Sequence[Verified]") -> None:
    signers = [
        {
            "Signer": {
                "Partition": sif_listed.TYPES.get(one.type, "Unknown"),
                "Name": each.signer.name or "unknown",
                "Fingerprint": each.signer.fingerprint.lower() if each.signer.is_openpgp else "",
                "KeyLocal": each.signer.is_openpgp and each.signer.local,
                "KeyCheck": each.signer.is_openpgp,
                "DataCheck": True,
            }
        }
        for each in found
        for one in each.objects
    ]
    document = {"Signatures": len({each.number for each in found}), "SignerKeys": signers or None}
    click.echo(json.dumps(document, indent=2))
