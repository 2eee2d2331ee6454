"""Signatures by keys in PEM, with certificates of X.509, and by keys of SSH."""

from __future__ import annotations

import base64
import http.server
import json
import os
import subprocess
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import machine
import pytest
from key_server import PATIENCE, free_port
from signers import Person, check, descriptors

from singularity.errors import SignatureError, SingularityError, UsageError
from singularity.image.sif import format as sif
from singularity.trust import pem, seals
from singularity.trust import signed as statements
from singularity.trust.pem import PemSeal
from singularity.trust.sign import sign
from singularity.trust.ssh import NAMESPACE, SshChecker, SshSeal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

KINDS = {
    "rsa": ["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"],
    "p256": ["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"],
    "p384": ["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384"],
    "p521": ["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-521"],
    "ed25519": ["-algorithm", "ed25519"],
}


@pytest.fixture(scope="session")
def openssl() -> Callable[..., str]:
    machine.require("openssl")

    def run(*words: str | Path) -> str:
        argv = ["openssl", *map(str, words)]
        done = subprocess.run(argv, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


@pytest.fixture(scope="session")
def pems(openssl: Callable[..., str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """KIND.pem and KIND.pub of each kind."""
    place = tmp_path_factory.mktemp("pems")
    for name, words in KINDS.items():
        openssl("genpkey", *words, "-out", place / f"{name}.pem")
        openssl("pkey", "-in", place / f"{name}.pem", "-pubout", "-out", place / f"{name}.pub")
    return place


@pytest.mark.parametrize("kind", KINDS)
def test_a_key_in_pem_signs(kind: str, pems: Path, fresh: Callable[[str], Path]) -> None:
    path = fresh("image.sif")
    sign(path, PemSeal(pems / f"{kind}.pem"))
    (good,) = check(path, pem.by_key(pems / f"{kind}.pub"))
    assert {each.id for each in good.objects} == {1, 2, 3}
    assert good.signer.fingerprint.startswith("SHA256:")
    for other in set(KINDS) - {kind}:
        with pytest.raises(SignatureError, match="another key"):
            check(path, pem.by_key(pems / f"{other}.pub"))
    assert not any(descriptors(path)[3].extra[4:])


@pytest.mark.parametrize("kind", ["rsa", "p256", "ed25519"])
def test_the_name_of_a_key_is_the_one_of_openssh(kind: str, pems: Path) -> None:
    machine.require("ssh-keygen")
    if kind == "ed25519":  # which older versions of it do not import
        der = subprocess.run(
            ["openssl", "pkey", "-pubin", "-in", pems / "ed25519.pub", "-outform", "DER"],
            capture_output=True,
            check=True,
        ).stdout
        blob = b"\0\0\0\x0bssh-ed25519\0\0\0\x20" + der[-32:]
        text = f"ssh-ed25519 {base64.b64encode(blob).decode()}\n"
    else:
        argv = ["ssh-keygen", "-i", "-m", "PKCS8", "-f", str(pems / f"{kind}.pub")]
        text = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
    shown = subprocess.run(
        ["ssh-keygen", "-l", "-f", "-"], input=text, capture_output=True, text=True, check=True
    ).stdout
    assert shown.split()[1] == pem.by_key(pems / f"{kind}.pub").key.key_id


def test_no_bit_of_an_envelope_can_change(pems: Path, fresh: Callable[[str], Path]) -> None:
    """JSON has many spellings of one document: only that of the family counts."""
    path = fresh("image.sif")
    sign(path, PemSeal(pems / "ed25519.pem"))
    checker = pem.by_key(pems / "ed25519.pub")
    data = path.read_bytes()
    place = descriptors(path)[3]
    assert check(path, checker)
    step = 1 if os.environ.get("EXHAUSTIVE") else 29
    wrong = []
    for at in [*range(place.offset, place.offset + 80), *range(place.offset, place.end - 1, step)]:
        changed = bytearray(data)
        changed[at] ^= 1 << at % 7
        path.write_bytes(changed)
        try:
            check(path, checker)
        except SingularityError:
            continue
        wrong.append(at - place.offset)
    assert wrong == []


def test_a_locked_key_in_pem(
    pems: Path, openssl: Callable[..., str], alice: Person, fresh: Callable[[str], Path]
) -> None:
    locked = alice.home / "locked.pem"
    openssl("pkey", "-in", pems / "p256.pem", "-aes256", "-passout", "pass:word", "-out", locked)
    path = fresh("image.sif")
    assert "wrong passphrase" in alice.types("sign", "--key", locked, path, stdin="other\n", status=255).stderr
    alice.types("sign", "--key", locked, path, stdin="word\n")
    done = alice.types("verify", "--key", pems / "p256.pub", path)
    assert done.stdout.splitlines()[-1] == "3   |1       |NONE    |FS"
    signer = json.loads(alice.types("verify", "--json", "--key", pems / "p256.pub", path).stdout)["SignerKeys"][0][
        "Signer"
    ]
    assert signer == {
        "Partition": "Def.FILE",
        "Name": "unknown",
        "Fingerprint": "",
        "KeyLocal": False,
        "KeyCheck": False,
        "DataCheck": True,
    }


def test_weak_keys_in_pem_are_refused(
    openssl: Callable[..., str], tmp_path: Path, fresh: Callable[[str], Path]
) -> None:
    openssl("genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:1024", "-out", tmp_path / "weak.pem")
    openssl("pkey", "-in", tmp_path / "weak.pem", "-pubout", "-out", tmp_path / "weak.pub")
    openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:secp256k1", "-out", tmp_path / "odd.pem")
    for name, why in (("weak", "less than 2048"), ("odd", "NIST")):
        with pytest.raises(SignatureError, match=why):
            sign(fresh("image.sif"), PemSeal(tmp_path / f"{name}.pem"))
    with pytest.raises(SignatureError, match="less than 2048"):
        pem.by_key(tmp_path / "weak.pub")
    (tmp_path / "none").write_text("x")
    with pytest.raises(SignatureError, match="no public key"):
        pem.by_key(tmp_path / "none")
    with pytest.raises(SignatureError, match="no private key"):
        PemSeal(tmp_path / "none")


# ---- certificates ----------------------------------------------------------------------------------------------------
class Authority:
    """A root, an intermediate, and certificates of the key p256."""

    def __init__(self, place: Path, pems: Path, openssl: Callable[..., str]) -> None:
        self.place, self.pems, self.openssl = place, pems, openssl
        ca = "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign,cRLSign,digitalSignature\n"
        self.issue("root", "", ca, key="rsa")
        self.issue("other", "", ca, key="p384")
        self.issue("middle", "root", ca, key="p521")
        self.issue("web", "root", ca + "extendedKeyUsage=serverAuth\n", key="p521")

    def issue(self, name: str, issuer: str, extensions: str, *, key: str = "p256", more: tuple[str, ...] = ()) -> Path:
        request, config = self.place / f"{name}.csr", self.place / f"{name}.ext"
        config.write_text(extensions + "subjectKeyIdentifier=hash\n")
        private = self.pems / f"{key}.pem"
        self.openssl("req", "-new", "-key", private, "-subj", f"/CN={name}", "-out", request)
        target = self.place / f"{name}.crt"
        signed_by: list[str | Path] = ["-key", private]
        if issuer:
            signed_by = ["-CA", self.place / f"{issuer}.crt", "-CAkey", self.pems / f"{self.key_of(issuer)}.pem"]
            signed_by.append("-CAcreateserial")
        words = ["x509", "-req", "-in", request, "-extfile", config, "-out", target, *signed_by]
        self.openssl(*words, *(more or ("-days", "3")))
        return target

    @staticmethod
    def key_of(name: str) -> str:
        return {"root": "rsa", "other": "p384", "middle": "p521", "web": "p521"}[name]


CODE = "keyUsage=critical,digitalSignature\nextendedKeyUsage=codeSigning\n"


@pytest.fixture(scope="session")
def authority(pems: Path, openssl: Callable[..., str], tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"), pems, openssl)


def test_a_certificate_says_whose_signature_it_is(
    authority: Authority, fresh: Callable[[str], Path], alice: Person
) -> None:
    leaf = authority.issue("leaf", "middle", CODE)
    path = fresh("image.sif")
    sign(path, PemSeal(authority.pems / "p256.pem"))
    place = authority.place
    words = ["--certificate-intermediates", place / "middle.crt", "--certificate-roots", place / "root.crt"]
    done = alice.types("verify", "--certificate", leaf, *words, path)
    assert done.stdout.startswith("[LOCAL]            Signing entity: CN=leaf\n")
    variables = {f"APPTAINER_VERIFY_{key}": str(value) for key, value in
                 (("CERTIFICATE", leaf), ("INTERMEDIATES", words[1]), ("ROOTS", words[3]))}  # fmt: skip
    Person(alice.home, variables).types("verify", path)
    for wrong in (
        ["--certificate-roots", place / "root.crt"],
        ["--certificate-intermediates", place / "middle.crt"],
        ["--certificate-intermediates", place / "middle.crt", "--certificate-roots", place / "other.crt"],
    ):
        failed = alice.types("verify", "--certificate", leaf, *wrong, path, status=255)
        assert "a certificate that does not count" in failed.stderr


@pytest.mark.parametrize(
    ("extensions", "issuer", "more", "why"),
    [
        ("keyUsage=critical,digitalSignature\n", "root", (), "not for signing code"),
        ("extendedKeyUsage=serverAuth\n", "root", (), "not for signing code"),
        ("keyUsage=keyEncipherment\nextendedKeyUsage=codeSigning\n", "root", (), "not for signing code"),
        (CODE, "root", ("-days", "-1"), "expired"),
        (CODE, "web", (), "does not count"),
    ],
)
def test_certificates_that_do_not_count(
    extensions: str, issuer: str, more: tuple[str, ...], why: str, authority: Authority
) -> None:
    leaf = authority.issue("wrong", issuer, extensions, more=more)
    with pytest.raises(SignatureError, match=why):
        pem.by_certificate(leaf, authority.place / "web.crt", authority.place / "root.crt", ocsp=False)


@contextmanager
def responder(authority: Authority, leaf: Path, port: int, state: str) -> Iterator[None]:
    """Gives what openssl answers for the root about certificate 0x77: good, revoked, or what it answered long ago."""
    place = authority.place
    row = "R\t300101000000Z\t250101000000Z" if state == "revoked" else "V\t300101000000Z\t"
    (place / "index").write_text(f"{row}\t77\tunknown\t/CN=asked\n")
    root = place / "root.crt"
    authority.openssl("ocsp", "-issuer", root, "-cert", leaf, "-no_nonce", "-reqout", place / "request")
    argv = ["openssl", "ocsp", "-index", place / "index", "-CA", root, "-rsigner", root, "-nmin", "5"]
    argv += ["-rkey", authority.pems / "rsa.pem", "-reqin", place / "request", "-respout", place / "answer"]
    if state == "stale":
        argv = ["faketime", "-f", "-1d", *argv]
    subprocess.run(argv, check=True, capture_output=True)
    answer = (place / "answer").read_bytes()

    class Responder(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.send_header("Content-Type", "application/ocsp-response")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *about: object) -> None:
            del about

    with http.server.ThreadingHTTPServer(("127.0.0.1", port), Responder) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize(
    ("state", "why"), [("good", ""), ("revoked", "good: revoked"), ("stale", "Status times invalid")]
)
def test_issuers_are_asked_about_revocation(state: str, why: str, authority: Authority) -> None:
    machine.require("faketime")
    port = free_port()
    extensions = f"{CODE}authorityInfoAccess=OCSP;URI:http://127.0.0.1:{port}\n"
    leaf = authority.issue("asked", "root", extensions, more=("-days", "3", "-set_serial", "0x77"))
    root = authority.place / "root.crt"
    with responder(authority, leaf, port, state):
        if state == "good":
            assert pem.by_certificate(leaf, None, root, ocsp=True).name == "CN=asked"
            return
        with pytest.raises(SignatureError, match=why):
            pem.by_certificate(leaf, None, root, ocsp=True)


def test_no_answer_about_revocation_is_a_failure(authority: Authority) -> None:
    root = authority.place / "root.crt"
    extensions = f"{CODE}authorityInfoAccess=OCSP;URI:http://127.0.0.1:{free_port()}\n"
    with pytest.raises(SignatureError, match="does not say that the certificate is good"):
        pem.by_certificate(authority.issue("deaf", "root", extensions), None, root, ocsp=True)
    with pytest.raises(SignatureError, match="nobody is named"):
        pem.by_certificate(authority.issue("silent", "root", CODE), None, root, ocsp=True)


# ---- SSH -------------------------------------------------------------------------------------------------------------
@pytest.fixture(scope="session")
def ssh(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Keys of SSH of several kinds, one of them locked, and a file of allowed signers for each."""
    machine.require("ssh-keygen")
    place = tmp_path_factory.mktemp("ssh")
    for name, words in {
        "ed25519": ["-t", "ed25519"], "rsa": ["-t", "rsa", "-b", "2048"], "ecdsa": ["-t", "ecdsa"],
        "weak": ["-t", "rsa", "-b", "1024"],
    }.items():  # fmt: skip
        argv = ["ssh-keygen", "-q", *words, "-N", "", "-C", name, "-f", place / name]
        subprocess.run(argv, check=True, stdin=subprocess.DEVNULL)
        (place / f"{name}.allowed").write_text(f"{name}@example.org {(place / f'{name}.pub').read_text()}")
    locked = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "word", "-f", place / "locked"]
    subprocess.run(locked, check=True, stdin=subprocess.DEVNULL)
    return place


@pytest.mark.parametrize("kind", ["ed25519", "rsa", "ecdsa"])
def test_a_key_of_ssh_signs(kind: str, ssh: Path, fresh: Callable[[str], Path], alice: Person) -> None:
    path = fresh("image.sif")
    alice.types("sign", "--ssh", ssh / kind, path)
    done = alice.types("verify", "--ssh", ssh / f"{kind}.allowed", path)
    assert done.stdout.startswith(
        f"[LOCAL]            Signing entity: {kind}@example.org\n[LOCAL]            Fingerprint: SHA256:"
    )
    others = {"ed25519", "rsa", "ecdsa"} - {kind}
    for other in others:
        with pytest.raises(SignatureError, match="is not in"):
            check(path, SshChecker(ssh / f"{other}.allowed"))


def test_everybody_can_check_it_with_ssh_keygen(ssh: Path, fresh: Callable[[str], Path], alice: Person) -> None:
    path = fresh("image.sif")
    alice.types("sign", "--ssh", ssh / "ed25519.pub", path)  # the private half lies beside it
    data = alice.types("sif", "dump", "4", path).stdout
    line, _, signature = data.partition("\n")
    (path.parent / "sig").write_text(signature)
    argv = ["ssh-keygen", "-Y", "verify", "-f", ssh / "ed25519.allowed", "-I", "ed25519@example.org", "-n", NAMESPACE]
    subprocess.run([*argv, "-s", path.parent / "sig"], input=line + "\n", text=True, check=True, capture_output=True)
    with path.open("rb") as file:
        source = statements.Source(file)
        assert source.statement(1, source.groups[1]).encode() == line.encode()


def test_no_bit_of_a_signature_of_ssh_can_change(ssh: Path, fresh: Callable[[str], Path]) -> None:
    path = fresh("image.sif")
    sign(path, SshSeal(str(ssh / "ed25519")))
    checker = SshChecker(ssh / "ed25519.allowed")
    data = path.read_bytes()
    place = descriptors(path)[3]
    assert check(path, checker)
    step = 1 if os.environ.get("EXHAUSTIVE") else 7
    wrong = []
    for at in range(place.offset, place.end, step):
        changed = bytearray(data)
        changed[at] ^= 1 << at % 8
        path.write_bytes(changed)
        try:
            check(path, checker)
        except SingularityError:
            continue
        wrong.append(at - place.offset)
    assert wrong == []


@pytest.mark.parametrize("at", [0, 1])
def test_a_signature_of_ssh_has_one_spelling(at: int, ssh: Path) -> None:
    data = SshSeal(str(ssh / "ed25519")).sign(b"{}")
    checker = SshChecker(ssh / "ed25519.allowed")
    assert checker.check(seals.opened(data), b"")
    lines = data.split(b"\n")
    changed = b"\n".join([*lines[: at + 2], lines[at + 2] + lines[at + 3], *lines[at + 4 :]])
    with pytest.raises(SignatureError):
        checker.check(seals.opened(changed), b"")
    with pytest.raises(SignatureError):
        checker.check(seals.opened(data + b"\n"), b"")


def test_allowed_signers_limit_what_a_key_is_for(ssh: Path, fresh: Callable[[str], Path], tmp_path: Path) -> None:
    path = fresh("image.sif")
    sign(path, SshSeal(str(ssh / "ed25519")))
    key = (ssh / "ed25519.pub").read_text()
    allowed = tmp_path / "allowed"
    for limits, good in (
        (f'namespaces="{NAMESPACE}"', True), ('namespaces="git"', False), ('valid-before="20200101"', False),
        ('valid-after="20200101"', True),
    ):  # fmt: skip
        allowed.write_text(f"alice {limits} {key}")
        if good:
            assert check(path, SshChecker(allowed))[0].signer.name == "alice"
        else:
            with pytest.raises(SignatureError):
                check(path, SshChecker(allowed))


def test_a_key_with_several_names(ssh: Path, fresh: Callable[[str], Path], tmp_path: Path) -> None:
    path = fresh("image.sif")
    sign(path, SshSeal(str(ssh / "ed25519")))
    for names, first in (("alice,bob", "alice"), ("!mallory,bob", "bob"), ("*@example.org", "*@example.org")):
        (tmp_path / "allowed").write_text(f"{names} {(ssh / 'ed25519.pub').read_text()}")
        assert check(path, SshChecker(tmp_path / "allowed"))[0].signer.name == first


def test_keys_of_ssh_that_cannot_sign(ssh: Path, fresh: Callable[[str], Path], alice: Person) -> None:
    path = fresh("image.sif")
    failed = alice.types("sign", "--ssh", ssh / "locked", path, status=255)
    assert "ssh-add" in failed.stderr
    assert "no agent with keys" in alice.types("sign", "--ssh", "agent", path, status=1).stderr
    with pytest.raises(UsageError, match="no such file"):
        SshSeal("/nonexistent")
    line = b"{}\n"
    weak = subprocess.run(
        ["ssh-keygen", "-Y", "sign", "-n", NAMESPACE, "-f", ssh / "weak"], input=line, capture_output=True, check=False
    )
    if weak.returncode == 0:
        with pytest.raises(SignatureError, match="weak key"):
            SshChecker(ssh / "weak.allowed").check(seals.opened(line + weak.stdout), b"")


def test_the_agent_signs(ssh: Path, fresh: Callable[[str], Path], alice: Person, tmp_path: Path) -> None:
    """Also with a key whose passphrase only the agent was told."""
    socket = tmp_path / "s"
    with subprocess.Popen(["ssh-agent", "-D", "-a", socket], stdout=subprocess.DEVNULL) as agent:
        try:
            deadline = time.monotonic() + PATIENCE
            while not socket.exists() and time.monotonic() < deadline:
                time.sleep(0.05)
            environment = {"SSH_AUTH_SOCK": str(socket), "PATH": os.environ["PATH"]}
            word = tmp_path / "word"
            word.write_text("#!/bin/sh\necho word\n")
            word.chmod(0o755)
            ask = {"SSH_ASKPASS": str(word), "SSH_ASKPASS_REQUIRE": "force"}
            add = ["ssh-add", "-q", ssh / "locked"]
            subprocess.run(add, env=environment | ask, check=True, stdin=subprocess.DEVNULL)
            person = Person(alice.home, {"SSH_AUTH_SOCK": str(socket)})
            (tmp_path / "allowed").write_text(f"me {(ssh / 'locked.pub').read_text()}")
            for key in ("agent", ssh / "locked"):
                path = fresh("image.sif")
                person.types("sign", "--ssh", key, path)
                assert check(path, SshChecker(tmp_path / "allowed"))[0].signer.name == "me"
            subprocess.run(["ssh-add", "-q", ssh / "rsa"], env=environment, check=True, stdin=subprocess.DEVNULL)
            assert "has 2 keys" in person.types("sign", "--ssh", "agent", fresh("image.sif"), status=1).stderr
        finally:
            agent.kill()


def test_signatures_of_several_kinds_stand_beside_each_other(
    alice: Person, ssh: Path, pems: Path, signed: Path
) -> None:
    """Each is checked where keys of its kind were given, and the others are told of."""
    sign(signed, PemSeal(pems / "p256.pem"))
    sign(signed, SshSeal(str(ssh / "ed25519")))
    assert [each.signer.name for each in check(signed, alice.checker)] == ["Alice <alice@example.org>"]
    checkers = [alice.checker, pem.by_key(pems / "p256.pub"), SshChecker(ssh / "ed25519.allowed")]
    assert [each.number for each in check(signed, *checkers)] == [4, 5, 6]
    done = alice.types("verify", "--local", signed)
    assert "signature object 6, by SSH, is not checked: no --ssh was given" in done.stderr
    with signed.open("rb") as file:
        objects = sif.read(file).descriptors
    assert [(each.link, each.links_group) for each in objects[3:]] == [(1, True), (1, True), (1, False)]


def test_options_that_do_not_go_together(alice: Person, pems: Path, signed: Path) -> None:
    key = pems / "rsa.pem"
    for words in (
        ["sign", "--key", key, "--ssh", key], ["sign", "--key", key, "--keyidx", "0"], ["sign", "-g", "1", "-i", "1"],
        ["verify", "-g", "1", "-i", "1"], ["verify", "--key", key, "--certificate", key],
        ["verify", "--certificate-roots", key], ["verify", "--ssh", "/nonexistent"], ["sign", "--key", "/nonexistent"],
    ):  # fmt: skip
        alice.types(*words, signed, status=1)
