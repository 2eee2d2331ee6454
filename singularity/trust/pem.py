"""Who signs and whose signatures count, with keys in PEM files and certificates of X.509: by the program openssl."""

import base64
import hashlib
import os
import re
import struct
from dataclasses import dataclass
from pathlib import Path

from singularity import files
from singularity.errors import FileError, SignatureError
from singularity.process import Finished, call
from singularity.trust import pipes, seals
from singularity.trust.pipes import in_memory, in_pipe
from singularity.trust.seals import Kind, Sealed, Signer

_LIMIT = 1 << 20  # bytes of a PEM file
_PURPOSE = "work with keys"
_RSA, _ED25519 = bytes.fromhex("06092a864886f70d010101"), bytes.fromhex("06032b6570")  # names of algorithms in DER
_CURVES = {
    bytes.fromhex("06082a8648ce3d030107"): b"nistp256",
    bytes.fromhex("06052b81040022"): b"nistp384",
    bytes.fromhex("06052b81040023"): b"nistp521",
}
_RSA_BITS = 2048
_CERTIFICATE = re.compile(rb"-----BEGIN CERTIFICATE-----\n.*?-----END CERTIFICATE-----\n?", re.DOTALL)
_URL = re.compile(r"https?://[\x21-\x7e]+")


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A public key, as openssl has it."""

    pem: bytes
    der: bytes

    @property
    def is_ed25519(self) -> bool:
        """Whether it signs the bytes, and not their digest."""
        return self._parts()[0].startswith(_ED25519)

    @property
    def key_id(self) -> str:
        """The fingerprint that OpenSSH would show. Raises SignatureError for a kind or a size that proves nothing."""
        return "SHA256:" + base64.b64encode(hashlib.sha256(self._blob()).digest()).decode().rstrip("=")

    @property
    def ssh(self) -> str:
        """The key as a line of SSH has it. Raises SignatureError as above."""
        blob = self._blob()
        return f"{blob[4 : 4 + blob[3]].decode('ascii')} {base64.b64encode(blob).decode()}"

    def _blob(self) -> bytes:
        algorithm, value = self._parts()
        curve = next((name for mark, name in _CURVES.items() if algorithm.endswith(mark)), b"")
        if self.is_ed25519:
            parts = [b"ssh-ed25519", value]
        elif curve:
            parts = [b"ecdsa-sha2-" + curve, curve, value]
        elif algorithm.startswith(_RSA):
            rest, modulus = _der(_der(value)[1])  # two integers: RFC 8017, A.1.1
            if int.from_bytes(modulus, "big").bit_length() < _RSA_BITS:
                raise SignatureError(f"an RSA key of less than {_RSA_BITS} bits")
            parts = [b"ssh-rsa", _der(rest)[1], modulus]
        else:
            raise SignatureError("neither an RSA key nor one of NIST's curves or Ed25519")
        return b"".join(struct.pack(">I", len(part)) + part for part in parts)

    def has_signed(self, data: bytes, signature: bytes) -> bool:
        """Whether a raw signature is of these bytes, by their SHA-256 where the key signs digests."""
        with in_memory(self.pem) as key, in_memory(signature) as signed, in_memory(data) as about:
            key_file, signature_file, data_file = (f"/proc/self/fd/{fd}" for fd in (key, signed, about))
            if self.is_ed25519:
                words = ["pkeyutl", "-verify", "-pubin", "-inkey", key_file, "-rawin", "-in", data_file]
                words += ["-sigfile", signature_file]
            else:
                words = ["dgst", "-sha256", "-verify", key_file, "-signature", signature_file, data_file]
            return call(["openssl", *words], purpose="check a signature", keep=[key, signed, about]).status == 0

    def _parts(self) -> tuple[bytes, bytes]:
        """The algorithm and the key in it (RFC 5280, 4.1: SubjectPublicKeyInfo)."""
        rest, algorithm = _der(_der(self.der)[1])
        return algorithm, _der(rest)[1][1:]


def _der(data: bytes) -> tuple[bytes, bytes]:
    """What is behind a value of DER, and what is in it."""
    length, start = data[1], 2
    if length & 0x80:
        start += length & 0x7F
        length = int.from_bytes(data[2:start], "big")
    return data[start + length :], data[start : start + length]


@dataclass(frozen=True, slots=True)
class PemChecker:
    """Signatures by one public key count."""

    key: PublicKey
    name: str = ""  # whom a certificate says the key to belong to
    kind: Kind = Kind.PEM

    def check(self, sealed: Sealed, entity: bytes) -> Signer:
        """Whether the key has signed."""
        if any(entity):
            raise SignatureError("its description names a key of OpenPGP")
        key_id = self.key.key_id
        if sealed.key_id and sealed.key_id != key_id:
            raise SignatureError("was made with another key")
        if not self.key.has_signed(seals.authenticated(sealed.document), sealed.signature):
            raise SignatureError("does not fit what it is about, or was made with another key")
        return Signer(kind=self.kind, name=self.name, fingerprint=key_id)


class PemSeal:
    """Signs with a private key in a file, which it has opened before anything is to be signed."""

    kind = Kind.PEM
    entity = b""

    def __init__(self, path: Path) -> None:
        self._pem = read(path)
        self._passphrase = ""
        if b"ENCRYPTED" in self._pem:
            self._passphrase = pipes.ask(f"passphrase for {path}")
        elif b"PRIVATE KEY-----" not in self._pem:
            raise SignatureError(f"{path}: no private key in PEM")
        with SignatureError.named(path):
            self._key = self._public()
            self._key_id = self._key.key_id

    def sign(self, document: bytes, kind: str = seals.PAYLOAD_TYPE) -> bytes:
        """A DSSE envelope; `kind` is the type of what is in it."""
        with in_memory(seals.authenticated(document, kind)) as data:
            data_file = f"/proc/self/fd/{data}"
            if self._key.is_ed25519:
                words = ["pkeyutl", "-sign", "-rawin", "-in", data_file, "-inkey"]
                signature = self._openssl(words, keep=data)
            else:
                signature = self._openssl(["dgst", "-sha256", "-sign"], data_file, keep=data)
        return seals.enveloped(document, signature, self._key_id, kind)

    def _public(self) -> PublicKey:
        pem = self._openssl(["pkey", "-pubout", "-in"])
        return public_key(pem)

    def _openssl(self, words: list[str], *more: str, keep: int | None = None) -> bytes:
        """Runs openssl with the key's file after `words`; what it writes."""
        with in_memory(self._pem) as key, in_memory(b"") as out, in_pipe(self._passphrase.encode() + b"\n") as secret:
            named = [f"/proc/self/fd/{key}", "-passin", f"fd:{secret}", "-out", f"/proc/self/fd/{out}"]
            inherited = [key, out, secret, *([] if keep is None else [keep])]
            finished = call(["openssl", *words, *named, *more], purpose=_PURPOSE, keep=inherited)
            if finished.status != 0:
                raise SignatureError("cannot be used: a wrong passphrase, or no private key that openssl knows")
            return os.pread(out, _LIMIT, 0)


def read(path: Path) -> bytes:
    """A PEM file. Raises FileError."""
    with FileError.about(path), path.open("rb") as file:
        data = file.read(_LIMIT + 1)
    if len(data) > _LIMIT:
        raise FileError(f"{path}: more than {_LIMIT >> 20} MiB, no PEM file")
    return data.replace(b"\r\n", b"\n")


def public_key(pem: bytes) -> PublicKey:
    """The public key in PEM. Raises SignatureError."""
    with in_memory(pem) as key, in_memory(b"") as out:
        words = ["pkey", "-pubin", "-in", f"/proc/self/fd/{key}", "-outform", "DER", "-out", f"/proc/self/fd/{out}"]
        if call(["openssl", *words], purpose=_PURPOSE, keep=[key, out]).status != 0:
            raise SignatureError("no public key in PEM")
        return PublicKey(pem, os.pread(out, _LIMIT, 0))


def by_key(path: Path) -> PemChecker:
    """Whoever has the private half of the public key in this file."""
    with SignatureError.named(path):
        checker = PemChecker(public_key(read(path)))
        _ = checker.key.key_id
    return checker


def by_certificate(leaf: Path, intermediates: Path | None, roots: Path | None, *, ocsp: bool) -> PemChecker:
    """Whom a certificate names, which leads to a root, is for signing code, and holds today.

    Without `roots` those of the system. With `ocsp`, whoever issued it is asked, over the network, whether it has been
    revoked, and each certificate between it and the root. Raises SignatureError.
    """
    own = _certificates(leaf)[0]
    between = [each for each in (_certificates(intermediates) if intermediates else []) if _signs_code(each, own=False)]
    if not _signs_code(own, own=True):
        raise SignatureError(f"{leaf}: a certificate that is not for signing code")
    trusted = _certificates(roots) if roots else []
    with files.temporary_directory(Path("/tmp")) as directory:  # noqa: S108 - a private one in it
        chain = _Chain(directory, between, trusted)
        chain.check(own, leaf)
        if ocsp:
            chain.ask(own, leaf)
    subject = _openssl(own, "x509", "-noout", "-subject", "-nameopt", "RFC2253").output
    pem = _openssl(own, "x509", "-noout", "-pubkey").output.encode()
    return PemChecker(public_key(pem), name=subject.strip().removeprefix("subject=").strip())


@dataclass(frozen=True, slots=True)
class _Chain:
    """What leads from a certificate to a root, in files that openssl reads."""

    directory: Path
    between: list[bytes]
    trusted: list[bytes]

    def check(self, own: bytes, leaf: Path) -> None:
        """Raises SignatureError where a certificate does not lead to a root, or not today."""
        words = ["openssl", "verify", "-auth_level", "2", "-purpose", "any", *self._pools(), self._file("leaf", own)]
        finished = call(words, purpose="check a certificate")
        if finished.status != 0:
            said = finished.complaints + finished.output
            reasons = re.findall(r"error \d+ at \d+ depth lookup: (.+)", said)
            raise SignatureError(
                f"{leaf}: a certificate that does not count: {'; '.join(reasons) or said.strip()[-200:]}"
            )

    def ask(self, own: bytes, leaf: Path) -> None:
        """Asks the issuers. Raises SignatureError for an answer that is not good, or none."""
        while not _is_own_issuer(own):
            issuer = self._issuer(own)
            url = _openssl(own, "x509", "-noout", "-ocsp_uri").output.strip().partition("\n")[0]
            if issuer is None or not _URL.fullmatch(url):
                raise SignatureError(f"{leaf}: it cannot be asked whether the certificate was revoked: nobody is named")
            words: list[str | Path] = ["openssl", "ocsp", "-url", url, "-timeout", "15", *self._pools(ocsp=True)]
            words += ["-issuer", self._file("issuer", issuer), "-cert", self._file("asked", own)]
            finished = call(words, purpose="ask whether a certificate was revoked")
            good = f"{self.directory / 'asked'}: good" in finished.output.splitlines()
            if finished.status != 0 or not good or "Response verify OK" not in finished.complaints:
                said = (finished.output or finished.complaints).strip().splitlines()
                reason = said[0].rpartition(": ")[2] if said else "no answer"
                raise SignatureError(f"{leaf}: {url} does not say that the certificate is good: {reason}")
            own = issuer

    def _issuer(self, own: bytes) -> bytes | None:
        for each in (*self.between, *self.trusted):
            alone = ["openssl", "verify", "-partial_chain", "-no-CApath", "-no-CAstore", "-CAfile"]
            if call([*alone, self._file("tried", each), self._file("asked", own)], purpose=_PURPOSE).status == 0:
                return each
        return None

    def _pools(self, *, ocsp: bool = False) -> list[str | Path]:
        words: list[str | Path] = []
        if self.between:
            words += ["-verify_other" if ocsp else "-untrusted", self._file("between", b"".join(self.between))]
        if self.trusted:
            words += ["-no-CApath", "-no-CAstore", "-CAfile", self._file("roots", b"".join(self.trusted))]
        return words

    def _file(self, name: str, data: bytes) -> Path:
        (self.directory / name).write_bytes(data)
        return self.directory / name


def _certificates(path: Path) -> list[bytes]:
    found = [each.rstrip(b"\n") + b"\n" for each in _CERTIFICATE.findall(read(path))]
    if not found:
        raise SignatureError(f"{path}: no certificate in PEM")
    return found


def _signs_code(certificate: bytes, *, own: bool) -> bool:
    """Whether a certificate says that it is for code; one in between may say nothing of it."""
    uses = _openssl(certificate, "x509", "-noout", "-ext", "extendedKeyUsage").output
    may_sign = _openssl(certificate, "x509", "-noout", "-ext", "keyUsage").output
    if own and "X509v3 Key Usage" in may_sign and "Digital Signature" not in may_sign:
        return False
    if "X509v3 Extended Key Usage" not in uses:
        return not own
    return "Code Signing" in uses or "Any Extended Key Usage" in uses


def _is_own_issuer(certificate: bytes) -> bool:
    names = _openssl(certificate, "x509", "-noout", "-subject_hash", "-issuer_hash").output.split()
    return len(set(names)) == 1


def _openssl(certificate: bytes, *words: str) -> Finished:
    with in_memory(certificate) as fd:
        return call(["openssl", *words, "-in", f"/proc/self/fd/{fd}"], purpose="read a certificate", keep=[fd])
