"""Keys to encrypted images: a passphrase, or a key of RSA, which locks a passphrase of the image's own.

What is locked by RSA (OAEP, SHA-256) lies in the SIF file as a cryptographic message that is linked to the primary
partition: PEM of the type MESSAGE around an octet string of DER. Source: Apptainer's documentation and its files.
"""

import base64
import binascii
import os
import re
import secrets
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from singularity.errors import ImageError, SignatureError, UsageError
from singularity.process import call
from singularity.trust import pem, pipes
from singularity.trust.pipes import in_memory, in_pipe
from singularity.variables import ENCRYPTION, PREFIXES, variable

HINT = "--passphrase asks for one, --pem-path names a key; so do SINGULARITY_ENCRYPTION_PASSPHRASE and ..._PEM_PATH"
_MESSAGE = re.compile(rb"\s*-----BEGIN MESSAGE-----\n([A-Za-z0-9+/=\n]+)-----END MESSAGE-----\s*")
_OAEP = ("rsa_padding_mode:oaep", "rsa_oaep_md:sha256", "rsa_mgf1_md:sha256")
_LIMIT = 4096  # bytes of a secret, open or locked
_OCTETS = 0x04
_ENVIRONMENT_FIELD = 50 - 3  # env_start of proc_pid_stat(5), whose third field is the first behind the name


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """A passphrase, or a key of RSA in PEM, public or private."""

    passphrase: str = ""
    pem: bytes = b""
    name: str = ""  # of what it is from, for messages


def chosen(*, ask: bool, pem_path: str, new: bool = False) -> Key | None:
    """The key that options and variables name; None where they name none. A `new` passphrase is asked for twice.

    Raises UsageError and FileError.
    """
    passphrase, data = (_exactly(f"ENCRYPTION_{name}") for name in ("PASSPHRASE", "PEM_DATA"))
    forget()
    if ask and pem_path:
        raise UsageError("--passphrase and --pem-path: one of them")
    if ask:
        return _passphrase(pipes.ask("encryption passphrase", twice=new), "--passphrase")
    path = pem_path or variable("ENCRYPTION_PEM_PATH")
    if path:
        return Key(pem=pem.read(Path(path)), name=path)
    if passphrase:
        return _passphrase(passphrase, "SINGULARITY_ENCRYPTION_PASSPHRASE")
    if data:
        return Key(pem=data.encode(), name="SINGULARITY_ENCRYPTION_PEM_DATA")
    return None


def _exactly(key: str) -> str:
    """A variable with the blanks around it."""
    return next((value for prefix in PREFIXES if (value := os.environ.get(prefix + key))), "")


def forget() -> None:
    """Takes the keys out of this process's environment, also as `/proc` shows it of this process and its forks."""
    for name in ENCRYPTION:
        os.environ.pop(name, None)
    with suppress(OSError, ValueError, IndexError):
        fields = Path("/proc/self/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
        start, at = int(fields[_ENVIRONMENT_FIELD]), 0
        with open("/proc/self/mem", "r+b", buffering=0) as memory:
            for entry in Path("/proc/self/environ").read_bytes().split(b"\0"):
                key, equals, value = entry.partition(b"=")
                if os.fsdecode(key) in ENCRYPTION:
                    memory.seek(start + at + len(key) + len(equals))
                    memory.write(bytes(len(value)))
                at += len(entry) + 1


def _passphrase(text: str, name: str) -> Key:
    if not text or len(text.encode()) >= _LIMIT or re.search(r"[\r\n\0]", text):
        raise UsageError(f"{name}: an encryption passphrase is one line of 1 to {_LIMIT - 1} bytes")
    return Key(passphrase=text, name=name)


def begin(key: Key) -> tuple[bytes, bytes]:
    """For a new image: the passphrase that gocryptfs gets, and the message that only the key can open, if there is one.

    Raises ImageError.
    """
    if key.passphrase:
        return key.passphrase.encode(), b""
    secret = secrets.token_hex(16).encode()
    public = key.pem
    if b"PRIVATE KEY-----" in public:
        public = _openssl(["rsa", "-pubout"], key, purpose="take its public half")
    elif b"BEGIN RSA PUBLIC KEY-----" in public:  # which openssl before 3.0 takes nowhere else
        public = _openssl(["rsa", "-RSAPublicKey_in", "-pubout"], key, purpose="read a key")
    elif b"BEGIN PUBLIC KEY-----" not in public:
        raise ImageError(f"{key.name}: no RSA key in PEM", hint="openssl genrsa makes one, openssl rsa its public half")
    locked = _transform(["-encrypt", "-pubin"], Key(pem=public, name=key.name), secret)
    size = len(locked).to_bytes(2, "big")
    data = bytes([_OCTETS, 0x82]) + size + locked
    lines = base64.encodebytes(data).replace(b"\n", b"")
    body = b"".join(lines[at : at + 64] + b"\n" for at in range(0, len(lines), 64))
    return secret, b"-----BEGIN MESSAGE-----\n" + body + b"-----END MESSAGE-----\n"


def opened(key: Key, message: bytes | None, image: Path) -> bytes:
    """The passphrase that gocryptfs gets for an image with this message. Raises ImageError."""
    if key.passphrase:
        return key.passphrase.encode()
    if message is None:
        raise ImageError(f"{image}: encrypted by a passphrase, and not by a key in PEM", hint=HINT)
    if b"PRIVATE KEY-----" not in key.pem:
        raise ImageError(f"{key.name}: no private RSA key in PEM", hint="the public half only encrypts")
    try:
        return _transform(["-decrypt"], key, _octets(message, image))
    except SignatureError as error:
        raise ImageError(f"{image}: {key.name} does not open it", hint="encrypted for another key?") from error


def _octets(message: bytes, image: Path) -> bytes:
    """What was locked, from PEM around DER: an octet string and nothing behind it."""
    found = _MESSAGE.fullmatch(message)
    try:
        data = base64.b64decode(found[1].replace(b"\n", b""), validate=True) if found else b""
    except binascii.Error:
        data = b""
    if len(data) > 4 and data[0] == _OCTETS and data[1] == 0x82 and int.from_bytes(data[2:4], "big") == len(data) - 4:
        return data[4:]
    if len(data) > 3 and data[0] == _OCTETS and data[1] == 0x81 and data[2] == len(data) - 3:
        return data[3:]
    raise ImageError(f"{image}: the key in it is malformed")


def _transform(words: list[str], key: Key, data: bytes) -> bytes:
    options = [word for option in _OAEP for word in ("-pkeyopt", option)]
    with in_memory(data) as given:
        named = ["-in", f"/proc/self/fd/{given}"]
        return _openssl(["pkeyutl", *words, *options, *named], key, option="-inkey", keep=[given])


def _openssl(
    words: list[str], key: Key, *, option: str = "-in", keep: list[int] | None = None, purpose: str = "use a key"
) -> bytes:
    """What openssl writes with the key's file after `option`. Raises SignatureError."""
    passphrase = pipes.ask(f"passphrase for {key.name}") if b"ENCRYPTED" in key.pem else ""
    with in_memory(key.pem) as file, in_memory(b"") as out, in_pipe(passphrase.encode() + b"\n") as secret:
        named = [option, f"/proc/self/fd/{file}", "-passin", f"fd:{secret}", "-out", f"/proc/self/fd/{out}"]
        finished = call(["openssl", *words, *named], purpose=purpose, keep=[file, out, secret, *(keep or [])])
        if finished.status != 0:
            raise SignatureError(f"{key.name}: cannot be used: a wrong passphrase, or no RSA key that openssl knows")
        return os.pread(out, _LIMIT, 0)


def without(environment: dict[bytes, bytes]) -> dict[bytes, bytes]:
    """An environment without keys to images."""
    return {name: value for name, value in environment.items() if os.fsdecode(name) not in ENCRYPTION}


def needed(image: Path) -> ImageError:
    """That there is no key."""
    return ImageError(f"{image}: encrypted, and no key was given", hint=HINT)
