"""`Fingerprints:` of a definition file: an image to build on must be signed with each of these keys."""

import logging
import os
from collections.abc import Sequence
from pathlib import Path

from singularity import files
from singularity.errors import FileError, ImageError, SignatureError, ToolError, UsageError
from singularity.image.sif import format as sif
from singularity.trust import keyring, keyserver
from singularity.trust.pgp import PgpChecker
from singularity.trust.verify import Wanted, verify

logger = logging.getLogger(__name__)

_DIGITS = 40


def parse(text: str) -> tuple[str, ...]:
    """The fingerprints in a list with commas. Raises UsageError for a word that is none, and for no word."""
    found = tuple(keyring.fingerprint(word) for word in text.split(",") if word.strip())
    short = [each for each in found if len(each) != _DIGITS]
    if short or not found:
        raise UsageError(f'"{short[0] if short else text}" is no fingerprint', hint=f"{_DIGITS} hexadecimal digits")
    return found


def warn_unless_good(image: Path) -> None:
    """Says of a SIF file that is signed whether it is good, by the keys of OpenPGP that are here."""
    try:
        with image.open("rb") as file:
            if not sif.read(file).signed_groups():
                return
            good = verify(file, Wanted(), [PgpChecker((keyring.public(), keyring.site()))])
    except (ImageError, OSError):  # no SIF file: what it is else is not for here to say
        return
    except (SignatureError, ToolError) as error:
        logger.warning("%s is signed, and could not be verified; the build goes on: %s", image, error)
    else:
        logger.info("%s: signed with %s", image, ", ".join(sorted({each.signer.fingerprint for each in good})))


def checked_copy(image: Path, wanted: Sequence[str], target: Path) -> None:
    """Copies a SIF file that is good, and whose root file system is signed with all of these keys.

    What is checked is the copy, which nobody else can change. Raises SignatureError and FileError.
    """
    with FileError.about(image), image.open("rb") as source, target.open("xb") as copy:
        files.copy_data(source.fileno(), copy.fileno())
    os.chmod(target, 0o400)
    checker = PgpChecker((keyring.public(), keyring.site()), lambda each: keyserver.fetch(each, keyserver.configured()))
    with target.open("rb") as file, SignatureError.named(image):
        good = verify(file, Wanted(), [checker])
        primary = sif.read(file).primary()
    signers = {each.signer.fingerprint for each in good if primary in each.objects}
    missing = [each for each in wanted if each not in signers]
    if missing:
        what = f"{image}: not signed with the key {missing[0]}"
        raise SignatureError(what, hint="Fingerprints in the definition file asks for it")
    logger.info("%s: signed with %s", image, ", ".join(wanted))
