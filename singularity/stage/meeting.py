"""How the nodes of a job find each other, and know each other from strangers.

The first process that links a file into a directory of the user's that all nodes see is the root. The file, which
only the user can read, has the root's addresses, and a certificate with its key, made for this once: whoever has it is
let in and believed, by TLS on both sides, and nobody else. It is gone when the root ends.
"""

import fcntl
import json
import logging
import os
import socket
import ssl
import struct
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from singularity import files, locks, paths, process
from singularity.errors import FileError

logger = logging.getLogger(__name__)

PATIENCE = 30.0  # seconds without a byte
_CONNECT = 5.0  # seconds for each address
_SIOCGIFADDR = 0x8915  # netdevice(7)
_NO_CHECK_TIME = 0x200000  # X509_V_FLAG_NO_CHECK_TIME: clocks of nodes differ
_LIMIT = 1 << 16  # bytes of the file
_TRIES, _PAUSE = 50, 0.1


@dataclass(frozen=True, slots=True)
class Meeting:
    """What those who take part know."""

    path: Path
    pem: str  # the certificate and the key
    addresses: tuple[tuple[str, int], ...]

    def server(self) -> ssl.SSLContext:
        """For those who come."""
        return self._context(ssl.PROTOCOL_TLS_SERVER)

    def client(self) -> ssl.SSLContext:
        """For coming."""
        context = self._context(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False  # the key alone says who it is
        return context

    def _context(self, protocol: int) -> ssl.SSLContext:
        context = ssl.SSLContext(protocol)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        fd = os.memfd_create("pem", os.MFD_CLOEXEC)  # OpenSSL takes keys from files alone
        with files.closing(fd):
            files.write_at(fd, self.pem.encode(), 0)
            context.load_cert_chain(f"/proc/self/fd/{fd}")
        context.load_verify_locations(cadata=self.pem)
        if protocol == ssl.PROTOCOL_TLS_SERVER:
            context.verify_mode = ssl.CERT_REQUIRED
        context.verify_flags = ssl.VerifyFlags(context.verify_flags | _NO_CHECK_TIME)
        return context

    def connect(self, addresses: tuple[tuple[str, int], ...]) -> ssl.SSLSocket:
        """A connection to the first of these that answers. Raises OSError."""
        failure: OSError = ConnectionRefusedError("no address")
        for address in addresses:
            try:
                plain = socket.create_connection(address, _CONNECT)
                be_patient(plain)
                return self.client().wrap_socket(plain)
            except OSError as error:
                failure = error
        raise failure


def be_patient(connection: socket.socket) -> None:
    """Limits how long nothing comes, and how long the other machine may be gone before that is noticed."""
    connection.settimeout(PATIENCE)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, seconds in ((socket.TCP_KEEPIDLE, 15), (socket.TCP_KEEPINTVL, 5), (socket.TCP_KEEPCNT, 4)):
        connection.setsockopt(socket.IPPROTO_TCP, option, seconds)


def place() -> Path:
    """The directory that all nodes see; SINGULARITY_STAGE_MEETING names another than the user's own."""
    named = os.environ.get("SINGULARITY_STAGE_MEETING", "")
    return paths.private(Path(named) if named else paths.user_directory() / "stage")


def held(path: Path, port: int) -> Meeting | None:
    """Makes this process the root, which listens on a port; None where there is one already. Raises FileError."""
    pem = _certificate()
    addresses = tuple((each, port) for each in _own_addresses())
    text = json.dumps({"addresses": addresses, "pem": pem})
    new = path.with_name(f".{path.name[:100]}.{os.urandom(6).hex()}")
    with FileError.about(path):
        with files.closing(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)) as fd:
            files.write_at(fd, text.encode(), 0)
        try:
            os.link(new, path)
        except FileExistsError:
            return None
        finally:
            new.unlink(missing_ok=True)
    return Meeting(path, pem, addresses)


def found(path: Path) -> Meeting | None:
    """What the root of this moment has written; None where there is none. Raises FileError."""
    for _ in range(_TRIES):
        try:
            said = json.loads(_read(path))
            return Meeting(path, str(said["pem"]), tuple((str(host), int(port)) for host, port in said["addresses"]))
        except FileNotFoundError:  # gone again, or not seen here yet (NFS)
            time.sleep(_PAUSE)
            if not os.path.lexists(path):
                return None
        except OSError as error:
            raise FileError.because(path, error) from error
        except (ValueError, KeyError, TypeError) as error:
            raise FileError(f"{path}: damaged", hint="remove it") from error
    return None


def _read(path: Path) -> bytes:
    with files.closing(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)) as fd:
        status = os.fstat(fd)
        if status.st_uid != os.geteuid() or status.st_mode & 0o077:
            raise FileError(f"{path}: not yours alone", hint="remove it")
        return os.read(fd, _LIMIT)


def forget(meeting: Meeting) -> None:
    """Takes the file away, where it is still that of this meeting."""
    with locks.locked(meeting.path.with_name(".lock"), "ends a meeting"), suppress(OSError, ValueError, KeyError):
        if json.loads(_read(meeting.path))["pem"] == meeting.pem:
            meeting.path.unlink()


def _certificate() -> str:
    """A new certificate, and its key."""
    words = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    words += ["-days", "30", "-subj", "/CN=stage", "-keyout", "/dev/stdout"]
    return process.run(words, purpose="let the nodes of a job know each other")


def _own_addresses() -> list[str]:
    """Those of this machine's interfaces, loopback last: who asks from elsewhere has another one there."""
    found_ = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as plain:
        for _, name in socket.if_nameindex():
            with suppress(OSError):
                answer = fcntl.ioctl(plain, _SIOCGIFADDR, struct.pack("256s", name.encode()[:15]))
                found_.append(socket.inet_ntoa(answer[20:24]))
    with suppress(OSError):
        found_ += [str(each[4][0]) for each in socket.getaddrinfo(socket.gethostname(), None, type=socket.SOCK_STREAM)]
    return sorted(dict.fromkeys(found_), key=lambda address: address.startswith("127.") or address == "::1")
