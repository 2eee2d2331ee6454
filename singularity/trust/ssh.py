"""Who signs and whose signatures count, with keys of SSH: by ssh-keygen, which everybody can check with as well.

A signature object is the statement as one line, and below it what `ssh-keygen -Y sign` makes of that line.
"""

import base64
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from singularity import files
from singularity.errors import SignatureError, UsageError
from singularity.process import Finished, call
from singularity.trust.pipes import in_memory
from singularity.trust.seals import SSH_BEGIN, SSH_END, Kind, Sealed, Signer

NAMESPACE = "singularity-image"
AGENT = "agent"
_UNASKED = {"SSH_ASKPASS": "/bin/false", "SSH_ASKPASS_REQUIRE": "force", "DISPLAY": ":none"}  # it asks nobody
_MAGIC = b"SSHSIG"  # version, public key and more follow: PROTOCOL.sshsig
_RSA_BITS = 2048
_LINE = 70  # characters of its armor


@dataclass(frozen=True, slots=True)
class SshChecker:
    """Signatures by keys in a file of allowed signers count, of those that ssh-keygen(1) describes."""

    signers: Path
    kind: Kind = Kind.SSH

    def check(self, sealed: Sealed, entity: bytes) -> Signer:
        """Who has signed; a key for which the file has several names is the first one's."""
        if any(entity):
            raise SignatureError("its description names a key of OpenPGP")
        _check_form(sealed.signature)
        with in_memory(sealed.signature) as signature:
            files_named = ["-f", str(self.signers.absolute()), "-s", f"/proc/self/fd/{signature}"]
            found = _keygen("find-principals", *files_named, keep=signature)
            names = [name for name in found.output.replace(",", "\n").split() if not name.startswith("!")]
            if found.status != 0 or not names:
                raise SignatureError(f"was made with a key that is not in {self.signers}")
            with in_memory(sealed.document) as data:
                words = ["-I", names[0], "-n", NAMESPACE, *files_named]
                checked = _keygen("verify", *words, keep=signature, stdin=data)
            if checked.status != 0 or f'Good "{NAMESPACE}" signature for ' not in checked.output:
                raise SignatureError("does not fit what it is about, or its key does not count for images")
        fingerprint = next((word for word in checked.output.split() if word.startswith("SHA256:")), "")
        return Signer(kind=self.kind, name=names[0], fingerprint=fingerprint)


class SshSeal:
    """Signs with a key in a file, or one that the agent has."""

    kind = Kind.SSH
    entity = b""

    def __init__(self, key: str) -> None:
        self._key: bytes | None = None
        self._path = Path(key)
        if key == AGENT:
            self._key = _of_agent()
        elif not self._path.is_file():
            raise UsageError(f"--ssh {key}: no such file", hint="a private or public key, or the word agent")
        self.sign(b"{}\n")  # a key that cannot be used is told before the work

    def sign(self, document: bytes) -> bytes:
        """The document, which a line of JSON becomes, and the signature below it."""
        line = document.rstrip(b"\n") + b"\n"
        with files.temporary_directory(Path("/tmp")) as directory:  # noqa: S108 - a private one in it
            text = directory / "statement"
            text.write_bytes(line)
            path = self._path.absolute()
            if self._key is not None:
                path = directory / "key.pub"
                path.write_bytes(self._key)
            finished = _keygen("sign", "-n", NAMESPACE, "-f", str(path), str(text))
            made = directory / "statement.sig"
            if finished.status != 0 or not made.exists():
                hint = f"a key with a passphrase goes to the agent first: ssh-add {self._path}"
                said = (finished.complaints.strip().splitlines() or ["no word why"])[-1]
                raise SignatureError(f"ssh-keygen cannot sign with {path}: {said}", hint=hint)
            return line + made.read_bytes()


def _keygen(what: str, *words: str, keep: int | None = None, stdin: int | None = None) -> Finished:
    environment = {"SSH_AUTH_SOCK": os.environ.get("SSH_AUTH_SOCK", ""), "HOME": "/", **_UNASKED}
    return call(
        ["ssh-keygen", "-Y", what, *words], purpose="sign with keys of SSH, or check it",
        environment=environment, keep=[] if keep is None else [keep], stdin=stdin,
    )  # fmt: skip


def _of_agent() -> bytes:
    """The one public key of the agent. Raises UsageError."""
    environment = {"SSH_AUTH_SOCK": os.environ.get("SSH_AUTH_SOCK", "")}
    keys = call(["ssh-add", "-L"], purpose="ask the agent for its keys", environment=environment)
    lines = keys.output.splitlines()
    if keys.status != 0 or len(lines) != 1:
        what = f"the agent has {len(lines)} keys" if keys.status == 0 else "no agent with keys"
        raise UsageError(f"--ssh agent: {what}", hint="name the public key: --ssh ~/.ssh/id_ed25519.pub")
    return lines[0].encode() + b"\n"


def _check_form(signature: bytes) -> None:
    """Raises SignatureError where a signature is not as ssh-keygen writes it, to the letter, or is of a weak key."""
    try:
        lines = signature.decode("ascii").split("\n")
        text = "".join(lines[1:-2])
        blob = base64.b64decode(text, validate=True)
        written = [SSH_BEGIN, *(text[at : at + _LINE] for at in range(0, len(text), _LINE)), SSH_END, ""]
        if lines != written or base64.b64encode(blob).decode() != text or not blob.startswith(_MAGIC):
            raise ValueError
        key = next(_strings(blob[len(_MAGIC) + 4 :]))
        fields = list(_strings(key))
    except (ValueError, struct.error, StopIteration) as error:
        raise SignatureError("is not written as signatures of SSH are") from error
    if fields[0] == b"ssh-dss" or (fields[0] == b"ssh-rsa" and 8 * len(fields[2]) < _RSA_BITS):
        raise SignatureError("was made with a weak key")


def _strings(data: bytes) -> Iterator[bytes]:
    """The strings of SSH in a row (RFC 4251, 5)."""
    while data:
        (length,) = struct.unpack_from(">I", data)
        if 4 + length > len(data):
            raise ValueError
        yield data[4 : 4 + length]
        data = data[4 + length :]
