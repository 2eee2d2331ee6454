"""`singularity sign`: signing what is in an image."""

import logging
from pathlib import Path

import click

from singularity.cli import trusting
from singularity.cli.command import PATH, option, verb
from singularity.cli.trusting import keysdir_option
from singularity.errors import UsageError

logger = logging.getLogger(__name__)


@verb(
    description=(
        "Each group of objects of a SIF file gets a signature: who verifies it sees that nothing has changed since.",
        "Of another image, or a directory, the signature goes into a file beside it: IMAGE.sig.",
        "Without other options the key is your only secret key of OpenPGP, which singularity key newpair makes.",
        "A passphrase is asked for at the terminal, or else read as a line of standard input.",
    ),
    examples=("singularity sign debian.sif", "singularity sign --ssh ~/.ssh/id_ed25519 debian.sif"),
)
@option("-g", "--group-id", "--groupid", "group", type=int, metavar="N", help="Sign the objects of this group only")
@option("-i", "--sif-id", "--id", "number", type=int, metavar="N", help="Sign this object only")
@option("-k", "--keyidx", type=int, metavar="N", help="The secret key, as key list --secret counts")
@option("-a", "--all", "everything", is_flag=True, hidden=True, help="The default")
@option("--key", default="", metavar="FILE", variables="SIGN_KEY", help="A private key in PEM: RSA, ECDSA or Ed25519")
@option("--ssh", default="", metavar="KEY|agent", help="A key of SSH: its file, or the word agent for the one it has")
@option("--verity", is_flag=True, hidden=True, help="The default")
@option(
    "--no-verity", "plain", is_flag=True, help="Add no hash trees, by which launches check each block as they read it"
)
@keysdir_option
@click.argument("image", type=PATH)
def command(
    image: Path,
    *,
    group: int | None,
    number: int | None,
    keyidx: int | None,
    everything: bool,
    key: str,
    ssh: str,
    verity: bool,
    plain: bool,
    keysdir: str,
) -> None:
    """Signs every group, one, or one object."""
    del everything, verity
    if group is not None and number is not None:
        raise UsageError("--group-id and --sif-id: one of them")
    if not trusting.is_sif(image) and (group is not None or number is not None):
        raise UsageError(f"{image}: --group-id and --sif-id are for SIF files")
    seal = trusting.seal(key=key, ssh=ssh, keyidx=keyidx, keysdir=keysdir)
    trusting.sign(image, seal, group=group, number=number, trees=not plain)
