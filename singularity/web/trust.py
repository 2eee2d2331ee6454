"""How servers prove who they are: the system's certificates, and those that a `certs.d` directory has for one host.

The directories are those of Docker and of podman: `certs.d/HOST[:PORT]` with authorities in `*.crt`, and, where the
server wants to know us, a certificate in `*.cert` with its key in `*.key`.
"""

import os
import ssl
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from singularity.errors import FileError, NetworkError
from singularity.paths import user_place

_SYSTEM = (Path("/etc/containers/certs.d"), Path("/etc/docker/certs.d"))


def context(host: str, *, verified: bool, known: bool = True) -> ssl.SSLContext:
    """What is asked of a server, `HOST[:PORT]`; SSL_CERT_FILE and SSL_CERT_DIR stand for the system's certificates.

    Only where we are to be `known` the server gets a certificate of ours.
    Raises FileError and NetworkError for certificates that cannot be used.
    """
    made = ssl.create_default_context()
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    if not verified:
        made.check_hostname = False
        made.verify_mode = ssl.CERT_NONE
    directory = next((path for place in _places() if (path := place / host).is_dir()), None) if host else None
    for path in sorted(directory.iterdir()) if directory else ():
        try:
            if path.suffix == ".crt":
                made.load_verify_locations(cafile=path)
            elif path.suffix == ".cert" and known:
                made.load_cert_chain(path, path.with_suffix(".key"))
        except ssl.SSLError as error:
            raise NetworkError(f"{path}: no certificate that can be used") from error
        except OSError as error:
            raise FileError.because(path, error) from error
    return made


def _places() -> Iterator[Path]:
    """The user's own before the system's."""
    yield user_place() / "certs.d"
    with suppress(RuntimeError):  # no home
        yield Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "containers/certs.d"
    yield from _SYSTEM
