"""An authority of one build's own: certificates with which the recorder answers in the name of servers of https.

Its key lies in the working directory of the build and is gone with it. Who trusts it is told by variables and by mounts
that only programs of the build see: nothing of it comes into an image.
"""

import ssl
import threading
from pathlib import Path

from singularity import process
from singularity.errors import FileError

_PURPOSE = "note what is fetched by https"
_DAYS = ("-days", "30")
_CONFIGURATION = """[req]
distinguished_name = dn
x509_extensions = authority
prompt = no
[dn]
CN = authority of a build
[authority]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
"""
_OF_SERVER = """basicConstraints = critical, CA:FALSE
extendedKeyUsage = serverAuth
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
subjectAltName = %s:%s
"""


class Authority:
    """Makes certificates in `directory`, which is private; used by several threads. Raises ToolError and FileError."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._key, self.certificate = directory / "authority.key", directory / "authority.pem"
        self._contexts: dict[str, ssl.SSLContext] = {}
        self._lock = threading.Lock()
        configuration = self._written("authority.cnf", _CONFIGURATION)
        words: list[str | Path] = ["req", "-x509", "-config", configuration, *_DAYS, "-out", self.certificate]
        self._openssl(*words, "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", self._key)
        self.certificate.chmod(0o644)  # for users of the image; the directory above it is private

    def context(self, host: str) -> ssl.SSLContext:
        """What a server of this name or address proves itself with."""
        with self._lock:
            if host not in self._contexts:
                self._contexts[host] = self._made(host, f"server-{len(self._contexts)}")
            return self._contexts[host]

    def _made(self, host: str, name: str) -> ssl.SSLContext:
        request, certificate = (self._directory / f"{name}.{end}" for end in ("csr", "pem"))
        kind = "IP" if ":" in host or host.replace(".", "").isdigit() else "DNS"
        extensions = self._written(f"{name}.cnf", _OF_SERVER % (kind, host))
        own = self._directory / "authority.cnf"
        self._openssl("req", "-new", "-config", own, "-key", self._key, "-subj", f"/CN={name}", "-out", request)
        words: list[str | Path] = ["x509", "-req", "-in", request, "-CA", self.certificate, "-CAkey", self._key]
        number = f"0x{int.from_bytes(name.encode()):x}"
        self._openssl(*words, "-set_serial", number, *_DAYS, "-extfile", extensions, "-out", certificate)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, self._key)
        return context

    def _written(self, name: str, text: str) -> Path:
        path = self._directory / name
        with FileError.about(path):
            path.write_text(text, encoding="ascii")
        return path

    @staticmethod
    def _openssl(*words: str | Path) -> None:
        process.run(["openssl", *words], purpose=_PURPOSE)
