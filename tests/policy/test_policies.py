"""Policies against a real registry, and beside skopeo, whose judgement must be ours: skopeo signs too, and GnuPG.

The key of sigstore beside this file was made by `skopeo generate-sigstore-key`; its passphrase is `x`. Debian 12 has
built skopeo without sigstore: there openssl signs, and our judgement alone is looked at. With a newer one, which the
variable SKOPEO may name, all of it is compared.
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from singularity.content import digest
from singularity.errors import RegistryError, SignatureError, SingularityError
from singularity.policy import check, claims, identity, model
from singularity.policy.model import Identity, Match
from singularity.registry import reference as references
from singularity.registry.access import Access
from singularity.registry.client import Registry as Client

if TYPE_CHECKING:
    from collections.abc import Callable

    from servers import Registry

pytestmark = [pytest.mark.usefixtures("no_proxy"), pytest.mark.needs("busybox", "mksquashfs", "skopeo", "gpg")]
SKOPEO = os.environ.get("SKOPEO", "skopeo")
PRIVATE, PUBLIC = (Path(__file__).parent / f"cosign.{each}" for each in ("private", "pub"))
ACCEPT, REJECT = [{"type": "insecureAcceptAnything"}], [{"type": "reject"}]
MANIFEST = "application/vnd.oci.image.manifest.v1+json"


@dataclass
class Place:
    """A home directory with a policy, and images in a registry."""

    home: Path
    host: str
    gpg: dict[str, str]
    public: Path  # the key of sigstore, and the private half, which is openssl's where skopeo has no sigstore
    private: Path
    skopeo_knows_sigstore: bool

    def policy(self, document: object) -> None:
        text = document if isinstance(document, str) else json.dumps(document)
        (self.home / ".singularity").mkdir(exist_ok=True, mode=0o700)
        (self.home / ".singularity/policy.json").write_text(text)

    def requires(self, requirement: dict[str, Any], scope: str = "") -> None:
        self.policy({"default": REJECT, "transports": {"docker": {scope or self.host: [requirement]}}})

    def ours(self, *words: str) -> subprocess.CompletedProcess[str]:
        environment = {"PATH": os.environ["PATH"], "HOME": str(self.home), "TMPDIR": str(self.home)}
        argv = [sys.executable, "-I", "-m", "singularity", *words]
        return subprocess.run(argv, env=environment, cwd=self.home, capture_output=True, text=True, check=False)

    def skopeo(self, *words: str | Path) -> subprocess.CompletedProcess[str]:
        environment = {"PATH": os.environ["PATH"], "HOME": str(self.home), **self.gpg}
        places = ["--registries.d", str(self.home / "registries.d")]
        argv = [SKOPEO, *places, *map(str, words)]
        return subprocess.run(argv, env=environment, cwd=self.home, capture_output=True, text=True, check=False)

    def sign(self, source: str, target: str, *words: str | Path) -> None:
        arguments = ["--insecure-policy", "copy", "-q", "--src-tls-verify=false", "--dest-tls-verify=false"]
        done = self.skopeo(*arguments, *words, f"docker://{self.host}/{source}", f"docker://{self.host}/{target}")
        assert done.returncode == 0, done.stderr

    def sign_by_sigstore(self, source: str, target: str, name: str = "") -> None:
        if not self.skopeo_knows_sigstore:
            self.sign(source, target)
            payload = json.dumps(_payload(self, target, name=name or f"{self.host}/{target}")).encode()
            _attach(self, target, payload, _signature(self.private, payload), keep=True)
            return
        (self.home / "word").write_text("x")
        identity_ = ["--sign-identity", name] if name else []
        words = ["--sign-by-sigstore-private-key", PRIVATE, "--sign-passphrase-file", self.home / "word"]
        self.sign(source, target, *words, *identity_)

    def verdicts(self, name: str) -> tuple[bool, bool, str]:
        """Whether skopeo lets an image in, whether we do, and what we say."""
        words = ["--policy", self.home / ".singularity/policy.json", "copy", "-q", "--src-tls-verify=false"]
        theirs = self.skopeo(*words, f"docker://{self.host}/{name}", f"dir:{self.home}/copy")
        ours = self.ours("pull", "--force", "--no-https", "out.sif", f"docker://{self.host}/{name}")
        assert (ours.returncode == 0) == (ours.returncode != 255)
        fatal = [line for line in ours.stderr.splitlines() if line.startswith("FATAL")]
        assert len(fatal) == (ours.returncode != 0), ours.stderr
        return theirs.returncode == 0, ours.returncode == 0, "".join(fatal) + theirs.stderr

    def accepts(self, name: str) -> bool:
        """What both of us say."""
        theirs, ours, said = self.verdicts(name)
        judged = self.skopeo_knows_sigstore or "sigstoreSigned" not in self.document
        assert theirs == ours or not judged, said
        return ours

    @property
    def document(self) -> str:
        return (self.home / ".singularity/policy.json").read_text()

    def sigstore(self, **more: object) -> dict[str, Any]:
        return sigstore(keyPath=str(self.public), **more)


@pytest.fixture
def place(tmp_path: Path, plain_registry: Registry, own_key: tuple[Path, Path]) -> Place:
    home = tmp_path / "home"
    (home / "registries.d").mkdir(parents=True)
    (home / ".config/containers").mkdir(parents=True)
    settings = f"default-docker:\n  lookaside: file://{home}/lookaside\n  sigstore: file://{home}/lookaside\n"
    settings += f"  sigstore-staging: file://{home}/lookaside\n  use-sigstore-attachments: true\n"
    (home / "registries.d/default.yaml").write_text(settings)
    (home / ".config/containers/registries.d").symlink_to(home / "registries.d")
    (home / "gpg").mkdir(mode=0o700)
    knows = _skopeo_knows_sigstore()
    private, public = (PRIVATE, PUBLIC) if knows else own_key
    return Place(home, plain_registry.host, {"GNUPGHOME": str(home / "gpg")}, public, private, knows)


def _skopeo_knows_sigstore() -> bool:
    """By what it does, for who built it may have left it out."""
    done = subprocess.run([SKOPEO, "generate-sigstore-key", "--help"], capture_output=True, check=False)
    return b"--output-prefix" in done.stdout


@pytest.fixture(scope="module")
def base(storage: Path, plain_registry: Registry) -> str:
    """An unsigned image."""
    return _pushed(storage, plain_registry, "unsigned", b"first")


@pytest.fixture(scope="module")
def other(storage: Path, plain_registry: Registry) -> str:
    return _pushed(storage, plain_registry, "other", b"second")


def _pushed(storage: Path, registry: Registry, name: str, content: bytes) -> str:
    tree = storage / f"policy-{name}"
    (tree / "bin").mkdir(parents=True)
    (tree / "bin/sh").write_bytes(content)
    argv = [sys.executable, "-I", "-m", "singularity", "push", "--no-https", str(tree)]
    target = f"docker://{registry.host}/policies/{name}:1"
    done = subprocess.run([*argv, target], capture_output=True, text=True, check=True)
    assert digest.parse(done.stdout.strip())
    return f"policies/{name}:1"


def sigstore(**more: object) -> dict[str, Any]:
    return {"type": "sigstoreSigned", "keyPath": str(PUBLIC)} | more


# ---- the simple ones ----
def test_without_a_policy_everything_is_let_in(place: Place, base: str) -> None:
    assert place.ours("pull", "--no-https", "out.sif", f"docker://{place.host}/{base}").returncode == 0


@pytest.mark.parametrize(
    ("document", "accepted"),
    [
        ({"default": ACCEPT}, True),
        ({"default": REJECT}, False),
        ({"default": REJECT, "transports": {"docker": {"": ACCEPT}}}, True),
        ({"default": ACCEPT, "transports": {"docker": {"HOST": REJECT}}}, False),
        ({"default": ACCEPT, "transports": {"docker": {"HOST/policies": REJECT, "HOST": ACCEPT}}}, False),
        ({"default": ACCEPT, "transports": {"docker": {"HOST/policies/unsigned": REJECT}}}, False),
        ({"default": ACCEPT, "transports": {"docker": {"HOST/policies/unsigned:1": REJECT}}}, False),
        ({"default": ACCEPT, "transports": {"docker": {"HOST/policies/unsigned:2": REJECT}}}, True),
        ({"default": ACCEPT, "transports": {"docker": {"HOST/polici": REJECT}}}, True),
        ({"default": [*ACCEPT, *REJECT]}, False),
        ({"default": [sigstore()]}, False),
    ],
)
def test_scopes_and_requirements_as_skopeo_has_them(place: Place, base: str, document: Any, accepted: bool) -> None:
    place.policy(json.dumps(document).replace("HOST", place.host))
    assert place.accepts(base) is accepted


@pytest.mark.parametrize(
    "text",
    [
        "", "{", "[]", "{}", '{"default": []}', '{"default": [{"type": "accept"}]}', '{"default": [{}]}',
        '{"default": [{"type": "reject", "more": 1}]}', '{"default": [{"type": "reject"}], "more": {}}',
        '{"default": [{"type": "insecureAcceptAnything"}], "default": [{"type": "reject"}]}',
        '{"default": [{"type": "insecureAcceptAnything", "type": "insecureAcceptAnything"}]}',
        '{"default": [{"type": "insecureAcceptAnything"}], "transports": []}',
        '{"default": [{"type": "insecureAcceptAnything"}], "transports": {"docker": {"x.org": []}}}',
        '{"default": [{"type": "sigstoreSigned"}]}',
        '{"default": [{"type": "sigstoreSigned", "keyPath": "/a", "keyData": "YQ=="}]}',
        '{"default": [{"type": "sigstoreSigned", "keyData": "!"}]}',
        '{"default": [{"type": "signedBy", "keyPath": "/a"}]}',
        '{"default": [{"type": "signedBy", "keyType": "other", "keyPath": "/a"}]}',
        '{"default": [{"type": "sigstoreSigned", "keyPath": "/a", "signedIdentity": {"type": "anything"}}]}',
        '{"default": [{"type": "sigstoreSigned", "keyPath": "/a", "signedIdentity": {"type": "exactReference"}}]}',
        '{"default": [{"type": "sigstoreSigned", "keyPath": "/a", "signedIdentity": NAME}]}'.replace(
            "NAME", '{"type": "exactReference", "dockerReference": "busybox"}'),
        '{"default": [{"type": "sigstoreSigned", "keyPath": "/a", "signedIdentity": NAME}]}'.replace(
            "NAME", '{"type": "exactRepository", "dockerRepository": "busybox:1"}'),
    ],
)  # fmt: skip
def test_a_malformed_policy_lets_nothing_in(place: Place, base: str, text: str) -> None:
    place.policy(text)
    theirs, ours, said = place.verdicts(base)
    assert (theirs, ours) == (False, False)
    assert "policy.json: no policy: " in said


def test_a_link_to_no_policy_lets_nothing_in(place: Place, base: str) -> None:
    place.policy({"default": ACCEPT})
    (place.home / ".singularity/policy.json").unlink()
    (place.home / ".singularity/policy.json").symlink_to("/nowhere")
    done = place.ours("pull", "--no-https", "out.sif", f"docker://{place.host}/{base}")
    assert done.returncode == 255
    assert "the policy cannot be read" in done.stderr


def test_both_policies_must_let_it_in(tmp_path: Path) -> None:
    named = references.parse("example.org/a:1")
    site, own = tmp_path / "site", tmp_path / "own"
    for one, other_, accepted in ((ACCEPT, ACCEPT, True), (ACCEPT, REJECT, False), (REJECT, ACCEPT, False)):
        site.write_text(json.dumps({"default": one}))
        own.write_text(json.dumps({"default": other_}))
        if accepted:
            check.admit(named, lambda: digest.of(b""), Access(), [site, own])
        else:
            with pytest.raises(SignatureError, match="refused by"):
                check.admit(named, lambda: digest.of(b""), Access(), [site, own])


@pytest.mark.parametrize("uri", ["docker://HOST/NAME", "library://a/b/c:1", "http://HOST/x", "oci:layout:1"])
def test_all_ways_to_images_are_asked(place: Place, base: str, uri: str) -> None:
    place.policy({"default": REJECT})
    uri = uri.replace("HOST", place.host).replace("NAME", base)
    for words in (["pull", "--no-https", "x.sif", uri], ["build", "--no-https", "--sandbox", "box", uri]):
        done = place.ours(*words)
        assert done.returncode == 255, done.stderr
        assert "refused by" in done.stderr
    (place.home / "x.def").write_text(f"Bootstrap: docker\nFrom: {place.host}/{base}\n")
    assert "refused by" in place.ours("build", "--no-https", "x.sif", "x.def").stderr


def test_what_is_in_the_cache_is_judged_too(place: Place, base: str) -> None:
    words = ("pull", "--force", "--no-https", "out.sif", f"docker://{place.host}/{base}")
    assert place.ours(*words).returncode == 0
    place.policy({"default": REJECT})
    assert place.ours(*words).returncode == 255
    place.policy({"default": [sigstore()]})
    assert place.ours(*words).returncode == 255


# ---- sigstore ----
@pytest.mark.parametrize(
    ("identity_", "name", "accepted"),
    [
        (None, "signed/a:1", True),
        (None, "signed/a:2", False),
        ({"type": "matchExact"}, "signed/a:1", True),
        ({"type": "matchExact"}, "signed/a:2", False),
        ({"type": "matchExact"}, "signed/a@DIGEST", False),
        (None, "signed/a@DIGEST", True),
        (None, "signed/b@DIGEST", False),
        ({"type": "matchRepository"}, "signed/a:2", True),
        ({"type": "matchRepository"}, "signed/b:1", False),
        ({"type": "exactReference", "dockerReference": "HOST/signed/a:1"}, "signed/b:1", True),
        ({"type": "exactReference", "dockerReference": "HOST/signed/a:3"}, "signed/a:1", False),
        ({"type": "exactRepository", "dockerRepository": "HOST/signed/a"}, "signed/b:1", True),
        ({"type": "exactRepository", "dockerRepository": "HOST/signed/c"}, "signed/a:1", False),
        ({"type": "remapIdentity", "prefix": "HOST/signed/b", "signedPrefix": "HOST/signed/a"}, "signed/b:1", True),
        ({"type": "remapIdentity", "prefix": "HOST/sign", "signedPrefix": "HOST/x"}, "signed/a:1", True),
        ({"type": "remapIdentity", "prefix": "HOST/signed", "signedPrefix": "HOST/x"}, "signed/a:1", False),
    ],
)
def test_identities_in_signatures_of_sigstore(
    place: Place, base: str, identity_: Any, name: str, accepted: bool
) -> None:
    place.sign_by_sigstore(base, "signed/a:1")
    for copy in ("signed/a:2", "signed/b:1"):  # whose signature still says signed/a:1
        place.sign_by_sigstore(base, copy, f"{place.host}/signed/a:1")
    more = {} if identity_ is None else {"signedIdentity": identity_}
    place.requires(json.loads(json.dumps(place.sigstore(**more)).replace("HOST", place.host)))
    manifest = Client(place.host, Access(no_https=True)).digest(references.parse(f"{place.host}/signed/a:1"))
    assert place.accepts(name.replace("DIGEST", str(manifest))) is accepted


def _attach(
    place: Place, name: str, payload: bytes, signature: bytes, *, count: int = 1, keep: bool = False, **more: str
) -> None:
    """What `cosign attach signature` does."""
    client = Client(place.host, Access(no_https=True))
    named = references.parse(f"{place.host}/{name}")
    manifest = client.digest(named)
    from pulls import Blob

    config, layer = Blob.of(b"{}"), Blob.of(payload)
    for each in (config, layer):
        client.upload(named.repository, each.descriptor, each.open)
    annotations = {"dev.cosignproject.cosign/signature": base64.b64encode(signature).decode()}
    kind = more.get("kind", "application/vnd.dev.cosign.simplesigning.v1+json")
    listed = {"mediaType": kind, "digest": str(layer.descriptor.digest), "size": len(payload)}
    tag = named._replace(tag=f"sha256-{manifest.digits}.sig", digest=None)
    before = []
    if keep:
        with suppress(RegistryError):
            before = json.loads(client.manifest(tag).data)["layers"]
    of_config = {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": str(config.descriptor.digest)}
    document = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "layers": [*before, *[{**listed, "annotations": annotations}] * count],
        "config": {**of_config, "size": 2},
    }
    client.put_manifest(tag, json.dumps(document).encode(), MANIFEST)


@pytest.fixture
def own_key(tmp_path: Path) -> tuple[Path, Path]:
    private, public = tmp_path / "own.pem", tmp_path / "own.pub"
    for words in (
        ["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", private],
        ["pkey", "-in", private, "-pubout", "-out", public],
    ):
        subprocess.run(["openssl", *words], check=True, capture_output=True)
    return private, public


def _payload(place: Place, target: str, manifest: str = "", *, name: str = "", **critical: object) -> dict[str, Any]:
    manifest = manifest or str(
        Client(place.host, Access(no_https=True)).digest(references.parse(f"{place.host}/{target}"))
    )
    return {
        "critical": {
            "type": "cosign container image signature",
            "image": {"docker-manifest-digest": manifest},
            "identity": {"docker-reference": name or f"{place.host}/{target}"},
            **critical,
        },
        "optional": {"creator": "tests", "timestamp": 1700000000},
    }


def _signature(private: Path, payload: bytes) -> bytes:
    words = ["openssl", "dgst", "-sha256", "-sign", str(private)]
    return subprocess.run(words, input=payload, capture_output=True, check=True).stdout


def _set(*path: str, value: object) -> Callable[[dict[str, Any]], object]:
    def change(document: dict[str, Any]) -> None:
        for each in path[:-1]:
            document = document[each]
        document[path[-1]] = value

    return change


CHANGES: dict[str, Callable[[dict[str, Any]], object]] = {
    "good": lambda document: document,
    "optional is null": _set("optional", value=None),
    "optional with more": _set("optional", "more", value={"a": [1]}),
    "another digest": _set("critical", "image", "docker-manifest-digest", value=str(digest.of(b"another"))),
    "another type": _set("critical", "type", value="atomic container signature"),
    "an unknown critical member": _set("critical", "unknown", value=1),
    "an unknown member": _set("unknown", value=1),
    "no optional": lambda document: document.pop("optional"),
    "another creator": _set("optional", "creator", value=1),
    "half a second": _set("optional", "timestamp", value=1.5),
    "no name": _set("critical", "identity", "docker-reference", value=""),
}


def _changed(document: dict[str, Any], case: str) -> bytes:
    CHANGES.get(case, CHANGES["good"])(document)
    text = json.dumps(document)
    if case == "two digests":
        text = text.replace('"docker-manifest-digest":', '"docker-manifest-digest": "x", "docker-manifest-digest":')
    return text[: -4 if case == "truncated" else None].encode()


@pytest.mark.parametrize(
    ("case", "accepted"),
    [
        ("good", True),
        ("optional is null", True),
        ("optional with more", True),
        *[
            (case, False)
            for case in (
                "another digest", "another type", "an unknown critical member", "an unknown member", "no optional",
                "another creator", "half a second", "two digests", "truncated", "no name",
            )
        ],
    ],
)  # fmt: skip
def test_payloads_of_sigstore(place: Place, base: str, own_key: tuple[Path, Path], case: str, accepted: bool) -> None:
    private, public = own_key
    name = f"payloads/{case.replace(' ', '-')}:1"
    place.sign(base, name)
    payload = _changed(_payload(place, name), case)
    _attach(place, name, payload, _signature(private, payload))
    place.requires({"type": "sigstoreSigned", "keyPath": str(public)})
    assert place.accepts(name) is accepted


@pytest.mark.parametrize(
    "case", ["another key", "another payload", "no signature", "cut", "another media type", "many"]
)
def test_signatures_of_sigstore_that_do_not_count(
    place: Place, base: str, own_key: tuple[Path, Path], case: str
) -> None:
    private, public = own_key
    name = f"refused/{case.replace(' ', '-')}:1"
    place.sign(base, name)
    payload = json.dumps(_payload(place, name)).encode()
    signature = _signature(private, payload)
    more = {}
    match case:
        case "another key":
            public = PUBLIC
        case "another payload":
            payload = payload.replace(b"tests", b"other")
        case "no signature":
            signature = b""
        case "cut":
            signature = signature[:-1]
        case "another media type":
            more["kind"] = "application/json"
    place.requires({"type": "sigstoreSigned", "keyPath": str(public)})
    _attach(place, name, payload, signature, count=1000 if case == "many" else 1, **more)
    if case == "many":
        done = place.ours("pull", "--no-https", "out.sif", f"docker://{place.host}/{name}")
        assert (done.returncode, "more than 128 signatures" in done.stderr) == (255, True)
        return
    assert place.accepts(name) is False


def test_one_good_signature_among_others_is_enough(place: Place, base: str, own_key: tuple[Path, Path]) -> None:
    place.sign_by_sigstore(base, "among/others:1")
    place.sign_by_sigstore("among/others:1", "among/others:1", f"{place.host}/something/else:1")
    place.requires(place.sigstore())
    assert place.accepts("among/others:1")
    another = own_key[1] if place.skopeo_knows_sigstore else PUBLIC
    place.requires({"type": "sigstoreSigned", "keyData": base64.b64encode(another.read_bytes()).decode()})
    assert not place.accepts("among/others:1")


def test_attachments_are_not_looked_for_where_registries_d_says_so(place: Place, base: str) -> None:
    place.sign_by_sigstore(base, "signed/d:1")
    place.requires(place.sigstore())
    path = place.home / "registries.d/default.yaml"
    path.write_text(path.read_text() + f"docker:\n  {place.host}/signed:\n    use-sigstore-attachments: false\n")
    assert place.accepts("signed/d:1") is False
    path.write_text("default-docker: {}\n")  # where nothing is said, who asks for them by a policy is enough here
    assert place.verdicts("signed/d:1")[:2] == (False, True)
    path.write_text("- not a mapping\n")
    assert "not of the form" in place.verdicts("signed/d:1")[2]


def test_what_is_not_checked_here_lets_nothing_in(place: Place, base: str) -> None:
    place.sign_by_sigstore(base, "signed/r:1")
    for more in ({"rekorPublicKeyPath": "/key"}, {"fulcio": {"caPath": "/a"}}):
        place.requires(place.sigstore(**more))
        done = place.ours("pull", "--no-https", "out.sif", f"docker://{place.host}/signed/r:1")
        assert done.returncode == 255
        assert f"it asks for {next(iter(more))}, which is not checked here" in done.stderr


def test_a_registry_that_has_another_manifest_the_second_time(
    place: Place, base: str, other: str, plain_registry: Registry
) -> None:
    """What was judged is what is used: the tag leads elsewhere as soon as its signatures were asked for."""
    import servers

    place.sign_by_sigstore(base, "moved/a:1")
    client = Client(place.host, Access(no_https=True))
    good = client.digest(references.parse(f"{place.host}/moved/a:1"))
    evil = client.manifest(references.parse(f"{place.host}/{other}"))
    with servers.front(plain_registry.host) as front:
        name = {"type": "exactRepository", "dockerRepository": f"{place.host}/moved/a"}
        place.requires(place.sigstore(signedIdentity=name), front.host)
        headers = {"Docker-Content-Digest": str(evil.digest), "Content-Type": evil.media_type}
        front.faults += [servers.Fault(path="/manifests/1$", method="GET", times=99, status=200, body=evil.data,
                                       headers=headers)]  # fmt: skip
        done = place.ours("pull", "--no-https", "good.sif", f"docker://{front.host}/moved/a:1")
        assert done.returncode == 0, done.stderr  # asked by HEAD, which is honest, and by digest from then on
        assert str(good) in place.ours("inspect", "good.sif").stdout
        front.faults[:] = [servers.Fault(path="/manifests/", method="GET", times=99, status=200, body=evil.data,
                                         headers=headers)]  # fmt: skip
        place.ours("cache", "clean", "--force")
        done = place.ours("pull", "--force", "--no-https", "evil.sif", f"docker://{front.host}/moved/a:1")
        assert done.returncode == 255
        assert not (place.home / "evil.sif").exists()


# ---- GnuPG ----
@pytest.fixture
def keyring(place: Place) -> Path:
    _gpg(place, "--passphrase", "", "--quick-generate-key", "Alice <alice@example.org>", "ed25519", "sign", "never")
    path = place.home / "alice.asc"
    path.write_bytes(_gpg(place, "--armor", "--export"))
    return path


def _gpg(place: Place, *words: str, data: bytes = b"") -> bytes:
    argv = ["gpg", "--batch", "--pinentry-mode", "loopback", *words]
    environment = {**os.environ, **place.gpg}
    return subprocess.run(argv, env=environment, input=data, capture_output=True, check=True).stdout


def _signed_by_gpg(place: Place, base: str, target: str, *words: str) -> None:
    place.sign(base, target, "--sign-by", "alice@example.org", *words)


@pytest.mark.parametrize("how", ["keyPath", "keyData", "keyPaths"])
def test_signatures_of_gnupg(place: Place, base: str, keyring: Path, how: str) -> None:
    _signed_by_gpg(place, base, "gnupg/a:1")
    values: dict[str, object] = {
        "keyPath": str(keyring), "keyPaths": [str(keyring)], "keyData": base64.b64encode(keyring.read_bytes()).decode(),
    }  # fmt: skip
    place.requires({"type": "signedBy", "keyType": "GPGKeys", how: values[how]})
    assert place.accepts("gnupg/a:1")
    place.sign(base, "gnupg/b:1")
    assert not place.accepts("gnupg/b:1")


@pytest.mark.parametrize("case", ["another key", "cut", "another digest", "detached", "no message", "endless"])
def test_signatures_of_gnupg_that_do_not_count(place: Place, base: str, keyring: Path, case: str) -> None:
    name = f"gnupg/{case.replace(' ', '-')}:1"
    _signed_by_gpg(place, base, name)
    place.requires({"type": "signedBy", "keyType": "GPGKeys", "keyPath": str(keyring)})
    assert place.accepts(name)
    (stored,) = (place.home / "lookaside").rglob("gnupg/*=*/signature-1")
    data = stored.read_bytes()
    match case:
        case "another key":
            _gpg(place, "--passphrase", "", "--quick-generate-key", "Bob <bob@example.org>", "ed25519", "sign", "never")
            keyring.write_bytes(_gpg(place, "--export", "bob@example.org"))
        case "cut":
            stored.write_bytes(data[:-8])
        case "another digest":
            payload = _payload(place, name, str(digest.of(b"x")), type="atomic container signature")
            stored.write_bytes(_gpg(place, "--sign", "-u", "alice@example.org", data=json.dumps(payload).encode()))
        case "detached":
            stored.write_bytes(_gpg(place, "--detach-sign", "-u", "alice@example.org", data=b"x"))
        case "no message":
            stored.write_bytes(b"x" * 100)
        case "endless":
            stored.write_bytes(b"x" * 10)
            for number in range(2, 200):
                (stored.parent / f"signature-{number}").write_bytes(b"x")
            place.requires({"type": "signedBy", "keyType": "GPGKeys", "keyPath": str(keyring)})
            done = place.ours("pull", "--force", "--no-https", "out.sif", f"docker://{place.host}/{name}")
            assert (done.returncode, "more than 128 signatures" in done.stderr) == (255, True), done.stderr
            return
    assert not place.accepts(name)


# ---- functions ----
@pytest.mark.parametrize(
    ("match", "signed", "wanted", "fits"),
    [
        (Match.REPOSITORY_DIGEST_OR_EXACT, "busybox:1", "docker.io/library/busybox:1", True),
        (Match.REPOSITORY_DIGEST_OR_EXACT, "busybox", "busybox", False),
        (Match.REPOSITORY_DIGEST_OR_EXACT, "busybox", f"busybox@sha256:{'0' * 64}", True),
        (Match.REPOSITORY, "busybox", "busybox:7", True),
        (Match.EXACT, "BUSY", "busybox:7", False),
        (Match.EXACT, "busybox", "busybox:latest", False),
    ],
)
def test_names_that_fit(match: Match, signed: str, wanted: str, fits: bool) -> None:
    assert identity.fits(Identity(match=match), signed, references.parse(wanted)) is fits


def test_every_byte_of_a_payload_and_of_a_policy_may_be_wrong(tmp_path: Path) -> None:
    payload = b'{"critical":{"type":"cosign container image signature","image":{"docker-manifest-digest":"sha256:'
    payload += b"0" * 64 + b'"},"identity":{"docker-reference":"a.org/b:1"}},"optional":null}'
    path = tmp_path / "policy.json"
    policy = json.dumps({"default": [sigstore()], "transports": {"docker": {"a.org": REJECT}}}).encode()
    for number in range(len(payload)):
        for value in (0, 0x22, 0x7B, payload[number] ^ 1):
            changed = payload[:number] + bytes([value]) + payload[number + 1 :]
            try:
                claims.decode(changed, claims.SIGSTORE)
            except SignatureError:
                continue
    for number in range(len(policy)):
        path.write_bytes(policy[:number] + b"\xff" + policy[number + 1 :])
        with pytest.raises(SingularityError):
            model.read(path)
        path.write_bytes(policy[:number])
        with pytest.raises(SingularityError):
            model.read(path)


def test_the_example_of_the_guide_is_a_policy(tmp_path: Path) -> None:
    guide = (Path(__file__).parents[2] / "docs/policies.md").read_text()
    path = tmp_path / "policy.json"
    path.write_text(guide.partition("```json\n")[2].partition("```")[0])
    policy = model.read(path)
    kinds = {
        name: policy.requirements("docker", identity.scopes(references.parse(name)))[0].kind.name
        for name in ("registry.example.org/a:1", "registry.example.org/old/a:1", "busybox", "alice/a", "other.org/a")
    }
    assert [*kinds.values()] == ["SIGSTORE", "SIGNED_BY", "ACCEPT", "REJECT", "REJECT"]


def test_sif_files_in_registries_are_judged_by_their_manifest(place: Place, own_key: tuple[Path, Path]) -> None:
    private, public = own_key
    (place.home / "tree/bin").mkdir(parents=True)
    (place.home / "tree/bin/sh").write_text("x")
    uri = f"oras://{place.host}/artifacts/a:1"
    for words in (["build", "x.sif", "tree"], ["push", "--no-https", "x.sif", uri]):
        assert place.ours(*words).returncode == 0
    pull = ("pull", "--force", "--no-https", "back.sif", uri)
    assert place.ours(*pull).returncode == 0
    place.requires({"type": "sigstoreSigned", "keyPath": str(public)})
    assert "no signature of sha256" in place.ours(*pull).stderr
    payload = json.dumps(_payload(place, "artifacts/a:1")).encode()
    _attach(place, "artifacts/a:1", payload, _signature(private, payload))
    assert place.ours(*pull).returncode == 0
    place.policy({"default": ACCEPT, "transports": {"docker": {f"{place.host}/artifacts": REJECT}}})
    assert place.ours(*pull).returncode == 255
