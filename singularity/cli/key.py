"""`singularity key`: the keys that sign images, and those whose signatures count."""

import logging
import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from singularity.cli.command import PATH, Commands, option
from singularity.cli.trusting import global_option, keysdir_option, ring, url_option
from singularity.console import escape
from singularity.errors import FileError, SignatureError, UsageError

if TYPE_CHECKING:
    from singularity.trust.keyring import Ring
    from singularity.trust.keyserver import Found

logger = logging.getLogger(__name__)

_LIMIT = 16 << 20  # bytes of a file of keys
_BITS = 2048  # of RSA, at least

command = Commands(
    "key",
    {
        "newpair": "Make a key to sign with",
        "list": "List public keys, or your secret ones",
        "import": "Take keys from a file",
        "export": "Write a key into a file",
        "remove": "Forget a key",
        "search": "Look for keys on a key server",
        "pull": "Take a public key from a key server",
        "push": "Give a public key to a key server",
        "signers": "Print lines for the file whose keys count for launches",
    },
    usage=("singularity key COMMAND [options] ...",),
    description=(
        "Keys of OpenPGP are kept in ~/.singularity/keys, as the whole family keeps them.",
        "pgp-public has those whose signatures count, pgp-secret your own, locked by their passphrases.",
    ),
    examples=("singularity key newpair", "singularity key list", "singularity key import alice.asc"),
)


@command.below("newpair", examples=("singularity key newpair --name Alice --email alice@example.org",))
@option("-N", "--name", default="", metavar="NAME", help="Whose key it is; asked for when not given")
@option("-E", "--email", default="", metavar="ADDRESS", help="The address of mail")
@option("-C", "--comment", default=None, metavar="TEXT", help="A word about the key")
@option("-P", "--password", default=None, metavar="WORD", help="The passphrase, which others on this machine see then")
@option("-b", "--bit-length", default=4096, type=int, metavar="BITS", help="Bits of the RSA key; 4096 when not given")
@option("-U", "--push", is_flag=True, help="Give the public key to the key server")
@url_option
@keysdir_option
def newpair(
    *,
    name: str,
    email: str,
    comment: str | None,
    password: str | None,
    bit_length: int,
    push: bool,
    url: str,
    keysdir: str,
) -> None:
    """Makes a key, and keeps both halves."""
    from singularity.trust import keyserver, openpgp, pipes

    if not _BITS <= bit_length <= 8192:
        raise UsageError(f"--bit-length {bit_length}: from {_BITS} to 8192")
    asked = not name or not email
    name, email = name or _line("your name"), email or _line("your email address")
    comment = (_line("a comment (may be empty)", empty=True) if asked else "") if comment is None else comment
    user = f"{name} ({comment}) <{email}>" if comment else f"{name} <{email}>"
    if any(mark in name + comment for mark in "<>()\n") or "@" not in email or any(mark in email for mark in "<> \n"):
        raise UsageError(f'"{user}" is no name for a key')
    passphrase = pipes.ask("a passphrase", twice=True) if password is None else password
    if not passphrase:
        logger.warning("the secret key is kept without a passphrase: whoever can read it can sign")
    logger.info("Generating Entity and OpenPGP Key Pair")
    public, secret = openpgp.generate(user, bit_length, passphrase)
    ring(keysdir, secret=True).add(secret)
    ((key, _),) = ring(keysdir).add(public)
    click.echo(f"Key with fingerprint {key.fingerprint} made for {escape(key.user)}")
    if push:
        server = keyserver.publish(public, keyserver.named(url))
        logger.info("public key `%s' pushed to server %s successfully", key.fingerprint, server.uri)


@command.below("list", examples=("singularity key list", "singularity key list --secret"))
@option("-s", "--secret", is_flag=True, variables="SECRET", help="Your secret keys")
@global_option
@keysdir_option
def list_(*, secret: bool, everybody: bool, keysdir: str) -> None:
    """The keys of a ring, numbered."""
    which = ring(keysdir, secret=secret, everybody=everybody)
    click.echo(f"{'Private' if secret else 'Public'} key listing ({which.path}):\n")
    for number, key in enumerate(which.listed()):
        click.echo(f"{number})  User:              {escape(key.user)}")
        click.echo(f"    Creation time:     {key.created_at}")
        click.echo(f"    Fingerprint:       {key.fingerprint}")
        click.echo(f"    Length (in bits):  {key.bits}")
        if key.refused:
            click.echo(f"    State:             {key.refused}: its signatures do not count")
        click.echo()


@command.below("import", examples=("singularity key import alice.asc",))
@option("--new-password", is_flag=True, help="Lock secret keys with another passphrase")
@global_option
@keysdir_option
@click.argument("file", type=PATH)
def import_(file: Path, *, new_password: bool, everybody: bool, keysdir: str) -> None:
    """Public and secret keys, as text or as they are."""
    from singularity.trust import keyring, openpgp, pipes

    data = openpgp.dearmored(_read(file))
    blocks = keyring.split(data, str(file))
    if not blocks:
        raise SignatureError(f"{file}: no key of OpenPGP")
    for block in blocks:
        secret = openpgp.is_secret(block)
        if secret and not everybody:
            key = openpgp.keys_in(block)[0]
            if new_password:
                old = pipes.ask(f"key passphrase for {key.user}")
                block = openpgp.relock(block, key.fingerprint, old, pipes.ask("a new passphrase", twice=True))
            _add(ring(keysdir, secret=True), block, "private")
            block = openpgp.public_half(block)
        elif secret:
            raise UsageError("--global is about public keys only")
        _add(ring(keysdir, everybody=everybody), block, "public")


@command.below("export", examples=("singularity key export --armor alice.asc",))
@option("-s", "--secret", is_flag=True, variables="SECRET", help="A secret key, locked as it is")
@option("-a", "--armor", is_flag=True, help="As text")
@option("-k", "--keyidx", type=int, metavar="N", help="The key, as key list counts; needed where there are several")
@global_option
@keysdir_option
@click.argument("file", type=PATH)
def export(file: Path, *, secret: bool, armor: bool, keyidx: int | None, everybody: bool, keysdir: str) -> None:
    """One key, into a new file."""
    from singularity import files
    from singularity.trust import openpgp

    which = ring(keysdir, secret=secret, everybody=everybody)
    blocks = which.blocks()
    if keyidx is None and len(blocks) != 1:
        raise UsageError(f"{which.path}: {len(blocks)} keys", hint="--keyidx N, as singularity key list counts")
    if keyidx is not None and not 0 <= keyidx < len(blocks):
        raise UsageError(f"--keyidx {keyidx}: there is no such key")
    block = blocks[keyidx or 0]
    data = openpgp.armored(block, secret=secret) if armor else block
    files.write(file, data, overwrite=False, mode=0o600 if secret else 0o644)
    fingerprint = openpgp.keys_in(block)[0].fingerprint
    click.echo(
        f"{'Private' if secret else 'Public'} key with fingerprint {fingerprint} correctly exported to file: {file}"
    )


@command.below("remove", examples=("singularity key remove 6E0B23AC2796A947269B299936EF72906FF159CC",))
@option("-p", "--public", is_flag=True, help="The public key; the default")
@option("-s", "--secret", is_flag=True, variables="SECRET", help="The secret key, for good")
@option("-b", "--both", is_flag=True, help="Both")
@global_option
@keysdir_option
@click.argument("fingerprint")
def remove(*, fingerprint: str, public: bool, secret: bool, both: bool, everybody: bool, keysdir: str) -> None:
    """Takes a key out of a ring."""
    for wanted, is_secret in ((public or both or not secret, False), (secret or both, True)):
        if wanted:
            which = ring(keysdir, secret=is_secret, everybody=everybody)
            key = which.remove(fingerprint)
            click.echo(f"Key with fingerprint {key.fingerprint} removed from {which.path}")


@command.below("search", examples=("singularity key search alice@example.org",))
@option("-l", "--long-list", is_flag=True, help="All that the server says")
@url_option
@click.argument("text", nargs=-1, required=True)
def search(*, text: tuple[str, ...], long_list: bool, url: str) -> None:
    """A name, an address or a fingerprint."""
    from singularity.trust import keyserver

    found = keyserver.search(" ".join(text), keyserver.named(url))
    click.echo(f"Showing {len(found)} results\n")
    for each in found:
        for line in _long(each) if long_list else _short(each):
            click.echo(escape(line))


@command.below("pull", examples=("singularity key pull 6E0B23AC2796A947269B299936EF72906FF159CC",))
@url_option
@global_option
@keysdir_option
@click.argument("fingerprint")
def pull(*, fingerprint: str, url: str, everybody: bool, keysdir: str) -> None:
    """Signatures by the key count from then on."""
    from singularity.trust import keyserver

    _add(ring(keysdir, everybody=everybody), keyserver.fetch(fingerprint, keyserver.named(url)), "public")


@command.below("push", examples=("singularity key push 6E0B23AC2796A947269B299936EF72906FF159CC",))
@url_option
@keysdir_option
@click.argument("fingerprint")
def push(*, fingerprint: str, url: str, keysdir: str) -> None:
    """Everybody can find it there."""
    from singularity.trust import keyserver

    key, block = ring(keysdir).find(fingerprint)
    server = keyserver.publish(block, keyserver.named(url))
    logger.info("public key `%s' pushed to server %s successfully", key.fingerprint, server.uri)


@command.below("signers", examples=("singularity key signers alice.asc bob.pub >>/etc/singularity/signers",))
@click.argument("files", type=PATH, nargs=-1)
def signers(files: tuple[Path, ...]) -> None:
    """Of keys in files: of OpenPGP, public ones in PEM or of SSH. Without any those that root keeps for all."""
    from singularity.trust import keyring
    from singularity.trust import signers as lines

    for path in files or (keyring.site().path,):
        for line in lines.lines(path):
            click.echo(line)


def _add(which: "Ring", block: bytes, name: str) -> None:
    for key, is_new in which.add(block):
        done = "successfully added to" if is_new else "renewed in"
        click.echo(f"Key with fingerprint {key.fingerprint} {done} the {name} keyring")


def _read(file: Path) -> bytes:
    with FileError.about(file), file.open("rb") as stream:
        data = stream.read(_LIMIT + 1)
    if len(data) > _LIMIT:
        raise FileError(f"{file}: more than {_LIMIT >> 20} MiB, no file of keys")
    return data


def _line(what: str, *, empty: bool = False) -> str:
    if os.isatty(0):
        click.echo(f"Enter {what}: ", nl=False, err=True)
    line = sys.stdin.readline(1024).strip()
    if not line and not empty:
        raise UsageError(f"{what} is missing", hint="--name and --email")
    return line


def _short(found: "Found") -> list[str]:
    users = found.users or ("",)
    return [f"{found.fingerprint[-16:]:<16}  {found.bits:>5}  {users[0]}", *(f"{'':25}{user}" for user in users[1:])]


def _long(found: "Found") -> list[str]:
    def day(seconds: int | None) -> str:
        return "never" if seconds is None else f"{datetime.fromtimestamp(min(seconds, 1 << 35), UTC):%Y-%m-%d}"

    state = {"r": "revoked", "d": "disabled", "e": "expired"}.get(found.flags[:1], "good")
    return [
        f"{found.fingerprint}  {found.algorithm} {found.bits}",
        f"    made {day(found.created)}, expires {day(found.expires)}, {state}",
        *(f"    {user}" for user in found.users),
    ]
