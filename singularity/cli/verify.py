"""`singularity verify`: whether an image is as somebody has signed it, and who."""

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from singularity.cli import sif_listed, trusting
from singularity.cli.command import PATH, option, verb
from singularity.cli.trusting import Trusted, keysdir_option, url_option
from singularity.console import escape
from singularity.errors import FileError, SignatureError, UsageError
from singularity.image import base
from singularity.image.sif import format as sif
from singularity.trust import detached, provenance
from singularity.trust.pem import PemChecker
from singularity.trust.seals import Checker, Kind, Sealed, Signer
from singularity.trust.verify import Verified, Wanted, verify

logger = logging.getLogger(__name__)


@verb(
    description=(
        "Everything in a SIF file must be signed, and as it was then: only then is the exit status 0.",
        "The signatures of another image, or of a directory, are in a file beside it: IMAGE.sig.",
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
    if group is not None and number is not None:
        raise UsageError("--group-id and --sif-id: one of them")
    wanted = Wanted(group=group, object=number, legacy=legacy_insecure, all_objects=all_objects)
    checkers = [_Counted(each) for each in Trusted(**trusted).checkers()]
    try:
        found, made, on = _found(image, wanted, checkers)
    except SignatureError:
        if as_json:
            _print([], sum(each.count for each in checkers))
        raise
    if as_json:
        _print(found)
        return
    click.echo("\n".join(_told(found)))
    if made is not None:
        logger.info("It says how it was built: singularity inspect --provenance %s", image)
    if on is not None:
        logger.info("It lies on %s, whose signatures are its own: verify that as well", on)
    logger.info("Verified signature(s) from image '%s'", image)


def signatures(image: Path, **trusted: Any) -> "list[_Shown]":
    """The good signatures of all of an image; `trusted` is as for `Trusted`. Raises SignatureError and FileError."""
    return _found(image, Wanted(), [_Counted(each) for each in Trusted(**trusted).checkers()])[0]


def _found(
    image: Path, wanted: Wanted, checkers: "Sequence[_Counted]"
) -> "tuple[list[_Shown], object, base.Base | None]":
    """The good signatures of what is wanted, what the image says of how it was built, and of its base.

    Raises SingularityError.
    """
    inside = trusting.is_sif(image)
    if not inside and wanted != Wanted(all_objects=wanted.all_objects):
        raise UsageError(f"{image}: --group-id, --sif-id and --legacy-insecure are for SIF files")
    try:
        if not inside:
            return (
                [_Shown(number=number, signer=signer) for number, signer in detached.verify(image, checkers)],
                None,
                None,
            )
        with image.open("rb") as file:
            found = [_shown(each) for each in verify(file, wanted, checkers)]
            by_pem = next((each.checker for each in checkers if isinstance(each.checker, PemChecker)), None)
            return found, provenance.check(file, by_pem), base.of_file(file, sif.read(file), image)
    except OSError as error:
        raise FileError.because(image, error) from error
    except SignatureError as error:
        raise SignatureError(f"Failed to verify container: {image}: {error.what}", hint=error.hint) from error


@dataclass(slots=True)
class _Counted:
    """A checker, and how many signatures it was asked about: of a failure the family prints up to which one it came."""

    checker: Checker
    count: int = 0

    @property
    def kind(self) -> Kind:
        """That of the checker."""
        return self.checker.kind

    def check(self, sealed: Sealed, entity: bytes) -> Signer:
        """As the checker does."""
        self.count += 1
        return self.checker.check(sealed, entity)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Shown:
    """A good signature, and what it is of: rows of a table."""

    number: int
    signer: Signer
    rows: tuple[tuple[str, str, str, str], ...] = (("-", "NONE", "NONE", "Image"),)  # of all that is in an image


def _shown(found: Verified) -> _Shown:
    rows = []
    for each in found.objects:
        link = "NONE" if not each.link else f"{each.link} (G)" if each.links_group else str(each.link)
        kind = sif_listed.TYPES.get(each.type, f"Unknown ({each.type:#x})")
        rows.append((str(each.id), str(each.group), link, kind))
    return _Shown(number=found.number, signer=found.signer, rows=tuple(rows))


def _told(found: Sequence[_Shown]) -> list[str]:
    """The signers and their objects, as the family prints them."""
    lines: list[str] = []
    for each in found:
        if each.signer.name or each.signer.fingerprint:
            where = "[LOCAL]" if each.signer.local else "[REMOTE]"
            lines.append(f"{where:<18} Signing entity: {escape(each.signer.name or 'unknown')}")
            lines.append(f"{where:<18} Fingerprint: {escape(each.signer.fingerprint)}")
        lines += ["Objects verified:", "ID  |GROUP   |LINK    |TYPE", "-" * 48]
        lines += [f"{number:<4}|{group:<8}|{link:<8}|{kind}" for number, group, link, kind in each.rows]
    return lines


def _print(found: Sequence[_Shown], failed: int = 0) -> None:
    signers = [
        {
            "Signer": {
                "Partition": kind,
                "Name": each.signer.name or "unknown",
                "Fingerprint": each.signer.fingerprint.lower() if each.signer.is_openpgp else "",
                "KeyLocal": each.signer.is_openpgp and each.signer.local,
                "KeyCheck": each.signer.is_openpgp,
                "DataCheck": True,
            }
        }
        for each in found
        for _, _, _, kind in each.rows
    ]
    document = {"Signatures": failed or len({each.number for each in found}), "SignerKeys": signers or None}
    click.echo(json.dumps(document, indent=2))
