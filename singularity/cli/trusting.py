"""What the verbs of signatures have in common: which keys count, and which ring is meant."""

import logging
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from singularity import files
from singularity.cli.command import option
from singularity.errors import UsageError
from singularity.image.identify import open_path
from singularity.image.sif import format as sif
from singularity.trust import keyring
from singularity.trust.keyring import Ring

if TYPE_CHECKING:
    from singularity.trust.seals import Checker, Seal

logger = logging.getLogger(__name__)

_HEAD = 256  # bytes of a key's file, in which it says what it is
_Decorated = TypeVar("_Decorated", bound=Callable[..., object])


def keysdir_option(function: _Decorated) -> _Decorated:
    """`--keysdir`."""
    return option(
        "-d", "--keysdir", default="", metavar="DIRECTORY", variables="KEYSDIR", help="Where your key rings are"
    )(function)


def global_option(function: _Decorated) -> _Decorated:
    """`--global`."""
    return option(
        "-g", "--global", "everybody", is_flag=True, help="The public ring that root keeps for all, not your own"
    )(function)


def url_option(function: _Decorated) -> _Decorated:
    """`--url`."""
    return option(
        "-u",
        "--url",
        default="",
        metavar="URL",
        variables="URL",
        help="The key server, in place of the configured ones",
    )(function)


def ring(keysdir: str, *, secret: bool = False, everybody: bool = False) -> Ring:
    """The ring that the options mean. Raises UsageError."""
    if everybody and secret:
        raise UsageError("--global is about public keys only")
    if everybody:
        return keyring.site()
    return keyring.secret(keysdir) if secret else keyring.public(keysdir)


def seal(*, key: str, ssh: str, keyidx: int | None, keysdir: str) -> "Seal":
    """What signs, by the options; says what that is. Raises SingularityError where it cannot."""
    if (bool(key) + bool(ssh) + (keyidx is not None)) > 1:
        raise UsageError("--key, --ssh and --keyidx: one of them")
    if key:
        from singularity.trust.pem import PemSeal

        logger.info("Signing image with key material from '%s'", key)
        return PemSeal(existing(key, "--key"))
    if ssh:
        from singularity.trust.ssh import SshSeal

        logger.info("Signing image with the SSH key of %s", "the agent" if ssh == "agent" else f"'{ssh}'")
        return SshSeal(ssh)
    from singularity.trust.pgp import PgpSeal

    logger.info("Signing image with PGP key material")
    return PgpSeal(keyring.secret(keysdir), keyidx)


def seal_of(word: str) -> "Seal":
    """The same for `build --sign=WORD`: a number of `key list --secret`, a file of PEM or SSH, the word agent, or
    nothing for the only key of OpenPGP.
    """
    if not word or word.isdecimal():
        return seal(key="", ssh="", keyidx=int(word) if word else None, keysdir="")
    if word != "agent":
        from singularity.trust import pem

        head = pem.read(existing(word, "--sign"))[:_HEAD]
        if b"PRIVATE KEY-----" in head and b"OPENSSH" not in head:
            return seal(key=word, ssh="", keyidx=None, keysdir="")
    return seal(key="", ssh=word, keyidx=None, keysdir="")


def sign(image: Path, seal: "Seal", *, group: int | None = None, number: int | None = None, trees: bool = True) -> None:
    """Signs a SIF file, or any other image beside it; says so."""
    if is_sif(image):
        from singularity.trust import sign as signing

        signing.sign(image, seal, group=group, number=number, trees=trees)
        logger.info("Signature created and applied to image '%s'", image)
    else:
        from singularity.trust import detached

        logger.info("Signature of '%s' put into %s", image, detached.sign(image, seal))


def is_sif(image: Path) -> bool:
    """Whether an image has room for signatures. Raises FileError where there is none."""
    with files.closing(open_path(image)) as fd:
        return not stat.S_ISDIR(os.fstat(fd).st_mode) and os.pread(fd, len(sif.MAGIC), sif.MAGIC_OFFSET) == sif.MAGIC


@dataclass(frozen=True, slots=True, kw_only=True)
class Trusted:
    """The options that say whose signatures count, as they were typed."""

    key: str = ""
    certificate: str = ""
    certificate_intermediates: str = ""
    certificate_roots: str = ""
    ocsp_verify: bool = False
    ssh: str = ""
    url: str = ""
    local: bool = False
    keysdir: str = ""

    def checkers(self) -> "list[Checker]":
        """What checks signatures by them; says what that is. Raises SingularityError."""
        found: list[Checker] = []
        if self.key and self.certificate:
            raise UsageError("--key and --certificate: one of them")
        if (self.certificate_intermediates or self.certificate_roots or self.ocsp_verify) and not self.certificate:
            raise UsageError("--certificate-intermediates, --certificate-roots and --ocsp-verify go with --certificate")
        if self.key or self.certificate:
            found.append(self._pem())
        if self.ssh:
            from singularity.trust.ssh import SshChecker

            logger.info("Verifying image with the allowed signers of '%s'", self.ssh)
            found.append(SshChecker(existing(self.ssh, "--ssh")))
        if not found:
            logger.info("Verifying image with PGP key material")
            found.append(self._pgp())
        return found

    def _pem(self) -> "Checker":
        from singularity.trust import pem

        if self.key:
            logger.info("Verifying image with key material from '%s'", self.key)
            return pem.by_key(existing(self.key, "--key"))
        logger.info("Verifying image with key material from certificate '%s'", self.certificate)
        between, roots = self.certificate_intermediates, self.certificate_roots
        return pem.by_certificate(
            existing(self.certificate, "--certificate"),
            existing(between, "--certificate-intermediates") if between else None,
            existing(roots, "--certificate-roots") if roots else None,
            ocsp=self.ocsp_verify,
        )

    def _pgp(self) -> "Checker":
        from singularity.trust import keyserver

        def fetch(fingerprint: str) -> bytes:
            return keyserver.fetch(fingerprint, keyserver.named(self.url))

        return pgp(self.keysdir, None if self.local else fetch)


def pgp(keysdir: str = "", fetch: "Callable[[str], bytes] | None" = None) -> "Checker":
    """What checks signatures of OpenPGP by the keys that are here, and by those that `fetch` gets."""
    from singularity.trust.pgp import PgpChecker

    return PgpChecker((keyring.public(keysdir), keyring.site()), fetch)


def existing(text: str, name: str) -> Path:
    """A file that an option names. Raises UsageError where there is none to read."""
    path = Path(text)
    if not path.is_file() or not os.access(path, os.R_OK):
        raise UsageError(f"{name}: {text}: no file that can be read")
    return path
