"""Where the site requires signatures nothing else runs, and what runs is what was signed, each block as it is read.

R-S1 to R-S4.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import machine
import pytest
from images import Partition, write_sif
from launching import Launcher, Mode

from singularity.image.sif import format as sif
from singularity.image.sif.format import DataType
from singularity.trust import signers
from singularity.trust.pem import PemSeal
from singularity.trust.sign import sign
from singularity.trust.ssh import SshSeal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from images import Images

pytestmark = pytest.mark.needs("installation", "root", "ssh-keygen", "mksquashfs", "userns", "fuse")

BLOCK = 4096
SECRET = b"what the program reads\n" * 40_000  # bytes that squashfs keeps as they are, so that each has its place
MAPPER = not machine.MISSING["device-mapper"]


def ssh_key(path: Path, kind: str = "ed25519", *more: str) -> Path:
    subprocess.run(["ssh-keygen", "-q", "-t", kind, *more, "-N", "", "-C", "signer", "-f", path], check=True)
    return path


@dataclass
class Site:
    """Files of root's beside the configuration, and who may sign."""

    place: Path
    key: Path
    launch: Launcher

    @property
    def signers(self) -> Path:
        return self.place / "signers"

    def write(self, name: str, text: str) -> Path:
        path = self.place / name
        path.write_text(text)
        return path

    def configured(self, more: str = "") -> Launcher:
        return self.launch.configured(f"require signature = {self.signers}\n{more}")


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    machine.require("ssh-keygen")
    return ssh_key(tmp_path_factory.mktemp("key") / "key")


@pytest.fixture
def site(launch: Launcher, key: Path) -> Iterator[Site]:
    place = launch.config_path.parent / f"signatures-{os.getpid()}"
    place.mkdir(mode=0o755)
    try:
        made = Site(place=place, key=key, launch=launch)
        made.signers.write_text("\n".join(signers.lines(key.with_suffix(".pub"))) + "\n")
        yield made
    finally:
        shutil.rmtree(place)


@pytest.fixture(scope="module")
def squashfs(images: Images, storage: Path) -> bytes:
    """With a file whose blocks are stored as they are."""
    tree = storage / "signatures"
    shutil.copytree(images.sandbox, tree, symlinks=True)
    (tree / "secret").write_bytes(SECRET)
    target = storage / "signatures.squashfs"
    subprocess.run(["mksquashfs", tree, target, "-noappend", "-quiet", "-noD", "-noF", "-all-root"], check=True,
                   stdout=subprocess.DEVNULL)  # fmt: skip
    return target.read_bytes()


@pytest.fixture
def fresh(squashfs: bytes, directory: Path) -> Callable[..., Path]:
    """Makes unsigned images by name; the user's own, or root's."""

    def make(name: str) -> Path:
        return write_sif(directory / name, [Partition(data=squashfs)])

    return make


def own(path: Path, launch: Launcher) -> Path:
    os.chown(path, launch.account.uid, launch.account.gid)
    return path


def objects(path: Path) -> tuple[sif.Descriptor, ...]:
    with path.open("rb") as file:
        return sif.read(file).descriptors


def flip(path: Path, at: int) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ 1]))


def partition(path: Path) -> sif.Descriptor:
    return next(each for each in objects(path) if each.type == DataType.PARTITION)


def tree(path: Path) -> sif.Descriptor:
    return next(each for each in objects(path) if each.name == b"verity")


# ---- who counts ------------------------------------------------------------------------------------------------------
def test_a_signed_image_runs_and_no_other(site: Site, fresh: Callable[..., Path], images: Images) -> None:
    launch, path = site.configured(), fresh("image.sif")
    launch("exec", path, "true").refused(
        str(path), "not signed, or by nobody whose signature counts here", f"require signature = {site.signers}"
    )
    sign(path, SshSeal(str(site.key)))
    assert launch("exec", path, "sh", "-c", "wc -c </secret").ok().out == f"{len(SECRET)}\n"
    assert launch("exec", "--dry-run", path, "true").ok()
    for other in (images.squashfs(), images.sandbox):
        why = "only SIF files carry signatures" if other.is_file() else "what can be written cannot be signed"
        launch("exec", other, "true").refused(str(other), why)
    verbose = launch("exec", path, "true", first=["-v"])
    assert f"{path}: signed by signer" in verbose.err


def test_a_stranger_does_not_count(site: Site, fresh: Callable[..., Path], directory: Path) -> None:
    path = fresh("image.sif")
    sign(path, SshSeal(str(ssh_key(directory / "stranger"))))
    site.configured()("exec", path, "true").refused("by nobody whose signature counts here")
    sign(path, SshSeal(str(site.key)))  # beside his
    site.configured()("exec", path, "true").ok()


@pytest.mark.modes("suid")
def test_without_the_requirement_nothing_is_asked(site: Site, fresh: Callable[..., Path]) -> None:
    site.launch("exec", fresh("image.sif"), "true").ok()
    site.launch.configured("require signature = no\n")("exec", fresh("other.sif"), "true").ok()


def test_what_the_policy_is_in_must_be_there(site: Site, fresh: Callable[..., Path]) -> None:
    path = fresh("image.sif")
    sign(path, SshSeal(str(site.key)))
    site.signers.unlink()
    site.configured()("exec", path, "true").refused(f"{site.signers}: No such file", "nothing does without it")
    site.signers.write_text("alice ssh-ed25519 nonsense\n")
    site.configured()("exec", path, "true").refused(f"{site.signers}:1: a key that does not count")
    if site.launch.mode is Mode.SUID:
        site.signers.write_text("")
        site.signers.chmod(0o666)
        site.configured()("exec", path, "true").refused(f"{site.signers}: writable by others than root")


@pytest.mark.modes("userns")
@pytest.mark.parametrize("options", ['valid-before="20200101Z"', 'namespaces="file"', 'valid-after="21000101Z"'])
def test_a_key_counts_as_its_line_says(site: Site, fresh: Callable[..., Path], options: str) -> None:
    path = fresh("image.sif")
    sign(path, SshSeal(str(site.key)))
    words = site.signers.read_text().split()
    site.signers.write_text(f"{words[0]} {options} {words[2]} {words[3]}\n")
    why = "by nobody whose" if "namespaces" in options else "has expired"
    site.configured()("exec", path, "true").refused(why)


def pem_key(path: Path, algorithm: str, *options: str) -> Path:
    words = ["openssl", "genpkey", "-algorithm", algorithm, *options, "-out", str(path)]
    subprocess.run(words, check=True, capture_output=True)
    words = ["openssl", "pkey", "-in", str(path), "-pubout", "-out", str(path.with_suffix(".pub"))]
    subprocess.run(words, check=True)
    return path


KEYS: dict[str, tuple[str, ...]] = {
    "ssh-rsa": ("rsa", "-b", "3072"),
    **{f"ssh-{bits}": ("ecdsa", "-b", bits) for bits in ("256", "384", "521")},
    "pem-rsa": ("RSA", "-pkeyopt", "rsa_keygen_bits:2048"),
    "pem-ed25519": ("ED25519",),
    **{f"pem-{curve}": ("EC", "-pkeyopt", f"ec_paramgen_curve:{curve}") for curve in ("P-256", "P-384", "P-521")},
}


@pytest.mark.modes("userns")
@pytest.mark.parametrize("kind", KEYS)
def test_every_kind_of_key(site: Site, fresh: Callable[..., Path], directory: Path, kind: str) -> None:
    machine.require("openssl")
    path = fresh("image.sif")
    some, public = directory / "some", directory / "some.pub"
    if kind.startswith("ssh"):
        sign(path, SshSeal(str(ssh_key(some, *KEYS[kind]))))
    else:
        sign(path, PemSeal(pem_key(some, *KEYS[kind])))
    site.configured()("exec", path, "true").refused("by nobody whose signature counts here")
    with site.signers.open("a") as file:
        print(*signers.lines(public), sep="\n", file=file)
    site.configured()("exec", path, "true").ok()


@pytest.mark.modes("userns")
@pytest.mark.needs("gpg")
@pytest.mark.parametrize("algorithm", ["rsa2048", "ed25519", "nistp256", "brainpoolP256r1"])
def test_keys_of_openpgp(site: Site, fresh: Callable[..., Path], directory: Path, algorithm: str) -> None:
    from singularity.trust import openpgp
    from singularity.trust.keyring import Ring
    from singularity.trust.pgp import PgpSeal

    with openpgp.home() as home:
        words = ["--quiet", "--quick-generate-key", "Alice <a@example.org>", algorithm, "sign,cert", "never"]
        assert home.call(*words, purpose="make a key", secret="").status == 0
        public, secret = (openpgp._exported(home, what, "") for what in ("--export", "--export-secret-keys"))
    (directory / "public.gpg").write_bytes(public)
    Ring(directory / "keys/secret").add(secret)
    path = fresh("image.sif")
    sign(path, PgpSeal(Ring(directory / "keys/secret"), None))
    site.configured()("exec", path, "true").refused("by nobody whose signature counts here")
    if algorithm.startswith("brainpool"):
        with pytest.raises(Exception, match="no key whose signatures could count"):
            signers.lines(directory / "public.gpg")
        return
    site.signers.write_text("\n".join(signers.lines(directory / "public.gpg")) + "\n")
    site.configured()("exec", path, "true").ok()


@pytest.mark.modes("userns")
@pytest.mark.needs("fixtures", "gpg")
def test_a_signature_of_the_other_program(site: Site, directory: Path) -> None:
    path = Path(shutil.copy(machine.FIXTURES / "busybox-signed.sif", directory / "other.sif"))
    path.chmod(0o644)
    site.signers.write_text("\n".join(signers.lines(machine.FIXTURES / "fixture-public-key.asc")) + "\n")
    site.configured()("exec", path, "true").ok()
    flip(path, partition(path).offset + 600_000)
    site.configured()("exec", path, "true").refused("the data is not what was signed")


# ---- how it stays what was signed ------------------------------------------------------------------------------------
@pytest.mark.modes("suid")
def test_a_file_of_the_users_needs_a_tree_and_a_kernel_that_checks(site: Site, fresh: Callable[..., Path]) -> None:
    launch, path = site.configured(), own(fresh("plain.sif"), site.launch)
    sign(path, SshSeal(str(site.key)), trees=False)
    launch("exec", path, "true").refused("signed without a hash tree", "the file is not root's alone")
    path = own(fresh("tree.sif"), site.launch)
    sign(path, SshSeal(str(site.key)))
    if MAPPER:
        launch("exec", path, "true").ok()
    else:
        launch("exec", path, "true").refused("this kernel has no dm-verity", "the file is not root's alone")


@pytest.mark.modes("suid")
@pytest.mark.skipif(MAPPER, reason="a kernel without the device mapper")
def test_a_file_of_roots_is_read_once(site: Site, fresh: Callable[..., Path]) -> None:
    place, path = site.launch.prefix / "var/singularity/signed", fresh("image.sif")
    sign(path, SshSeal(str(site.key)))
    before = set(place.iterdir())
    launch = site.configured()
    launch("exec", path, "true").ok()
    (made,) = set(place.iterdir()) - before
    assert made.stat().st_uid == 0
    assert made.stat().st_mode & 0o7777 == 0o444
    launch("exec", path, "true").ok()
    assert set(place.iterdir()) - before == {made}
    flip(path, partition(path).offset + 600_000)  # another time of change, and so another name
    launch("exec", path, "true").refused("the data is not what was signed")
    made.unlink()


def test_a_block_that_was_changed_is_an_error_where_it_is(site: Site, fresh: Callable[..., Path]) -> None:
    if site.launch.mode is not Mode.USERNS and not MAPPER:
        pytest.skip("by the kernel only where it has dm-verity")
    path = own(fresh("image.sif"), site.launch)
    sign(path, SshSeal(str(site.key)))
    data = path.read_bytes()
    flip(path, data.index(SECRET[: 1 << 17]) + 300_000)
    done = site.configured()(
        "exec", path, "sh", "-c", "head -c 200000 /secret | wc -c; cat /secret >/dev/null; echo $?"
    )
    assert done.out.split() == ["200000", "1"], str(done)
    assert "Input/output error" in done.err or "I/O error" in done.err, str(done)
    if site.launch.mode is Mode.USERNS:
        lines = [line for line in done.err.splitlines() if line.startswith("ERROR:   ")]
        assert len(lines) >= 1, str(done)
        assert "is not what was signed (damaged, or changed since; get the image again)" in lines[0]
        assert str(path) in lines[0]


def test_a_tree_that_was_changed_is_good_for_nothing(site: Site, fresh: Callable[..., Path]) -> None:
    if site.launch.mode is not Mode.USERNS and not MAPPER:
        pytest.skip("by the kernel only where it has dm-verity")
    path = own(fresh("image.sif"), site.launch)
    sign(path, SshSeal(str(site.key)))
    for at in range(BLOCK, tree(path).size, 97):
        flip(path, tree(path).offset + at)
    done = site.configured()("exec", path, "cat", "/secret")
    assert done.status != 0
    assert SECRET[:100] not in done.stdout


def test_a_file_that_changes_under_a_container(site: Site, fresh: Callable[..., Path]) -> None:
    if site.launch.mode is not Mode.USERNS and not MAPPER:
        pytest.skip("by the kernel only where it has dm-verity")
    path = own(fresh("image.sif"), site.launch)
    sign(path, SshSeal(str(site.key)))
    launch = site.configured()
    with launch.start(
        *launch.argv("exec", path, "sh", "-c", "echo up; read x; cat /secret >/dev/null; echo $?"), stdin=-1
    ) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        assert process.stdout.readline() == b"up\n"
        at = path.read_bytes().index(SECRET[: 1 << 17])
        with path.open("r+b") as file:
            file.seek(at + (1 << 17))
            file.write(b"something else\n" * 20_000)
        process.stdin.write(b"\n")
        process.stdin.close()
        assert process.stdout.read() == b"1\n"


def test_a_partition_put_in_place_of_the_signed_one(site: Site, fresh: Callable[..., Path], squashfs: bytes) -> None:
    """As large as that, and another file system: the signature is good, and nothing of it is ever shown."""
    path = own(fresh("image.sif"), site.launch)
    sign(path, SshSeal(str(site.key)))
    one = partition(path)
    with path.open("r+b") as file:
        file.seek(one.offset)
        file.write(squashfs.replace(b"what the program reads", b"what somebody put here")[: one.size])
    done = site.configured()("exec", path, "cat", "/secret")
    assert done.status != 0
    assert b"somebody" not in done.stdout
    if site.launch.mode is not Mode.USERNS:
        return
    assert done.err.count(" is not what was signed (damaged, or changed since; get the image again)") == 1
    flip(path, one.offset + 3000)
    site.configured()("exec", path, "cat", "/secret").refused(str(path), "its first block is not what was signed")


def mapped() -> list[str]:
    """The devices of dm-verity that launches have made."""
    names = []
    for path in Path("/sys/block").glob("dm-*/dm/name"):
        with suppress(OSError):  # it is just going
            names.append(path.read_text())
    return [name for name in names if name.startswith("singularity-")]


@pytest.mark.modes("suid", "root")
@pytest.mark.needs("device-mapper")
def test_nothing_is_left_of_a_device(site: Site, fresh: Callable[..., Path]) -> None:
    path, launch = own(fresh("image.sif"), site.launch), site.configured()
    sign(path, SshSeal(str(site.key)))
    with launch.start(*launch.argv("exec", path, "sh", "-c", "echo up; read x"), stdin=-1) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        assert len(mapped()) == 1
        launch("exec", path, "true").ok()  # at the same time, on the same loop device or another
        process.kill()
    for _ in range(100):
        if not mapped():
            break
        time.sleep(0.1)
    assert mapped() == []


def test_the_size_of_an_image_costs_nothing(site: Site, squashfs: bytes, directory: Path) -> None:
    if site.launch.mode is not Mode.USERNS and not MAPPER:
        pytest.skip("by the kernel only where it has dm-verity")
    path = own(write_sif(directory / "image.sif", [Partition(data=squashfs)]), site.launch)
    one, size = partition(path), (1 << 28) if os.environ.get("GUEST") else (1 << 30)
    with path.open("r+b") as file:  # all of it is the partition's now, and most of it a hole
        file.truncate(one.offset + size)
        header = sif.decode_header(file.read(128))
        file.seek(sif.row_offset(header, 1))
        file.write(sif.encode_descriptor(one._replace(size=size)))
    times: dict[str, float] = {}
    for kind, launch in (("unsigned", site.launch), ("signed", site.configured())):
        if kind == "signed":
            sign(path, SshSeal(str(site.key)))
        for _ in range(7):
            start = time.monotonic()
            launch("exec", path, "true").ok()
            times[kind] = min(times.get(kind, 1e9), time.monotonic() - start)
    assert times["signed"] < 3 * times["unsigned"], times


# Of a definition file, the partition, its tree and the signature.
TABLES: dict[str, Callable[[list[sif.Descriptor]], list[sif.Descriptor]]] = {
    "the signature goes": lambda a: a[:3],
    "the tree goes": lambda a: [*a[:2], a[3]],
    "the definition file goes": lambda a: a[1:],
    "an object joins": lambda a: [*a, a[0]._replace(id=9, size=0, name=b"x")],
    "an object in no group joins": lambda a: [*a, a[0]._replace(id=9, size=0, name=b"x", group=0)],
    "the tree is of another object": lambda a: [*a[:2], a[2]._replace(link=1), a[3]],
    "partition and tree change ids": lambda a: [a[0], a[1]._replace(id=3), a[2]._replace(id=2, link=3), a[3]],
    "one id twice": lambda a: [*a[:2], a[2]._replace(id=1), a[3]],
    "the partition is another group's": lambda a: [a[0], a[1]._replace(group=2), *a[2:]],
    "tree and partition overlap": lambda a: [*a[:2], a[2]._replace(offset=a[1].offset), a[3]],
    "another size": lambda a: [a[0], a[1]._replace(size=a[1].size - BLOCK), *a[2:]],
    "another architecture": lambda a: [a[0], a[1]._replace(extra=sif.partition_extra(1, 2, "unknown")), *a[2:]],
    "another file system": lambda a: [a[0], a[1]._replace(extra=sif.partition_extra(4, 2, "amd64")), *a[2:]],
    "the signature is of another group": lambda a: [*a[:3], a[3]._replace(link=7, links_group=True)],
    "the signature is in the group": lambda a: [*a[:3], a[3]._replace(group=1)],
    "the signature names a key": lambda a: [*a[:3], a[3]._replace(extra=sif.signature_extra(1, b"k" * 20))],
    "the signature names another hash": lambda a: [*a[:3], a[3]._replace(extra=sif.signature_extra(2, b""))],
}


@pytest.mark.modes("suid", "userns")
@pytest.mark.parametrize("name", TABLES)
def test_a_table_that_was_changed_starts_nothing(site: Site, fresh: Callable[..., Path], name: str) -> None:
    path = fresh("image.sif")
    sign(path, SshSeal(str(site.key)))
    rows = b"".join(map(sif.encode_descriptor, TABLES[name](list(objects(path)))))
    with path.open("r+b") as file:
        header = sif.decode_header(file.read(128))
        file.seek(header.table_offset)
        file.write(rows.ljust(header.table_size, b"\0"))
    site.configured()("exec", path, "true").refused(str(path))


@pytest.mark.modes("userns")
def test_the_signature_of_another_image(
    site: Site, fresh: Callable[..., Path], images: Images, directory: Path
) -> None:
    path = fresh("image.sif")
    other = write_sif(directory / "other.sif", [Partition(data=images.squashfs().read_bytes())])
    for each in (path, other):
        sign(each, SshSeal(str(site.key)))
    here, there = objects(path)[-1], objects(other)[-1]
    assert here.size == there.size
    data, more = bytearray(path.read_bytes()), other.read_bytes()
    data[here.offset : here.end] = more[there.offset : there.end]
    path.write_bytes(data)
    site.configured()("exec", path, "true").refused("is not the one that was signed")


@pytest.mark.modes("userns")
def test_a_signature_of_one_object_is_none_of_the_group(site: Site, fresh: Callable[..., Path]) -> None:
    path = fresh("image.sif")
    sign(path, SshSeal(str(site.key)), trees=True)
    alone = fresh("alone.sif")
    sign(alone, SshSeal(str(site.key)), number=partition(alone).id)
    launch = site.configured()
    launch("exec", path, "true").ok()
    if len(objects(alone)) == 2:
        launch("exec", alone, "true").ok()  # it is the only one of its group


@pytest.mark.modes("userns")
def test_nobody_waits_for_the_server(site: Site, fresh: Callable[..., Path]) -> None:
    """It has the caller's standard error, to say what is wrong; who reads that to its end does not wait for it."""
    path, launch = fresh("image.sif"), site.configured()
    sign(path, SshSeal(str(site.key)))
    launch("instance", "start", "-u", path, "signed")
    assert launch("exec", "instance://signed", "cat", "/secret").stdout == SECRET
    launch("instance", "stop", "signed")
    start = time.monotonic()
    seconds = 20 if os.environ.get("GUEST") else 4
    launch("exec", path, "sh", "-c", f"sleep {seconds} >/dev/null 2>&1 &").ok()
    assert time.monotonic() - start < seconds - 1
    time.sleep(seconds)


@pytest.mark.modes("userns")
def test_a_warning_of_the_configuration_is_given_once(site: Site, fresh: Callable[..., Path]) -> None:
    path = fresh("image.sif")
    sign(path, SshSeal(str(site.key)))
    site.configured("no such key = 1\n")("exec", path, "true").warned('unknown key "no such key"')


# ---- overlays --------------------------------------------------------------------------------------------------------
@pytest.mark.modes("userns", "suid")
def test_overlays_are_signed_too_but_what_is_written(site: Site, fresh: Callable[..., Path]) -> None:
    launch, path, over = site.configured(), fresh("image.sif"), fresh("over.sif")
    sign(path, SshSeal(str(site.key)))
    launch("exec", "--overlay", f"{over}:ro", path, "true").refused(f"{over}: not signed")
    sign(over, SshSeal(str(site.key)))
    if site.launch.mode is Mode.USERNS and tuple(map(int, os.uname().release.split(".")[:2])) < (5, 11):
        return  # such kernels let users mount no overlay
    launch("exec", "--overlay", f"{over}:ro", path, "true").ok()
    launch("exec", "--writable-tmpfs", path, "touch", "/x").ok()


@pytest.mark.modes("userns")
def test_images_of_data_are_signed_too(site: Site, fresh: Callable[..., Path]) -> None:
    launch, path, data = site.configured(), fresh("image.sif"), fresh("data.sif")
    sign(path, SshSeal(str(site.key)))
    words = ["exec", "--data", f"{data}:/mnt", path, "cat", "/mnt/secret"]
    launch(*words).refused(f"{data}: not signed")
    sign(data, SshSeal(str(site.key)))
    assert launch(*words).ok().stdout == SECRET


# ---- the execution control list --------------------------------------------------------------------------------------
def listed(mode: str, *keys: str, directory: str = "", activated: str = "true") -> str:
    fingerprints = ", ".join(f'"{key}"' for key in keys)
    return (
        f'activated = {activated} # as the family has it\n\n[[execgroup]]\n  tagname = "some"\n'
        f'  mode = "{mode}"\n  dirpath = "{directory}"\n  keyfp = [{fingerprints}]\n'
    )


def fingerprint(public: Path) -> str:
    words = subprocess.run(
        ["ssh-keygen", "-l", "-f", public], check=True, capture_output=True, text=True
    ).stdout.split()
    return words[1]


@pytest.mark.modes("userns", "suid")
def test_the_execution_control_list(site: Site, fresh: Callable[..., Path], directory: Path) -> None:
    path, other = fresh("image.sif"), ssh_key(directory / "other")
    with site.signers.open("a") as file:
        print(*signers.lines(other.with_suffix(".pub")), sep="\n", file=file)
    sign(path, SshSeal(str(site.key)))
    mine, his = (fingerprint(each.with_suffix(".pub")) for each in (site.key, other))
    place = site.place / "ecl.toml"
    launch = site.configured(f"execution control list = {place}\n")
    launch("exec", path, "true").refused(f"{place}: No such file", "nothing does without it")
    cases = {
        listed("whitelist", mine): "",
        listed("whitelist", his, mine): "",
        listed("whitelist", his): "image prohibited by ECL: not signed as",
        listed("whitestrict", mine): "",
        listed("whitestrict", mine, his): "image prohibited by ECL: not signed as",
        listed("blacklist", his): "",
        listed("blacklist", mine): "image prohibited by ECL: signed by a key that",
        listed("whitelist", his, activated="false"): "",
        listed("whitelist", mine, directory=str(directory)): "",
        listed("whitelist", mine, directory="/nowhere"): "image prohibited by ECL: no group",
        listed("whitelist", his) + listed("whitelist", mine, directory=str(directory)).partition("\n")[2]: "",
        listed("greylist", mine): "a mode that is none of",
        listed("whitelist", mine, directory="relative"): "dirpath is no absolute path",
        "activated = perhaps\n": "neither true nor false",
        "legacyinsecure = true\n": "signatures of before 2020 start nothing here",
        'activated = true\nsomething = "else"\n': "not a line of an execution control list",
        listed("whitelist", "1234"): "a fingerprint that is neither",
    }
    for text, why in cases.items():
        place.write_text(text)
        done = launch("exec", path, "true")
        if why:
            done.refused(why)
        else:
            done.ok()
    sign(path, SshSeal(str(other)))
    place.write_text(listed("whitestrict", mine, his))
    launch("exec", path, "true").ok()
    place.write_text(listed("blacklist", his))
    launch("exec", path, "true").refused("image prohibited by ECL: signed by a key that")


@pytest.mark.modes("suid")
def test_a_list_without_keys_starts_nothing(site: Site, fresh: Callable[..., Path]) -> None:
    path = fresh("image.sif")
    sign(path, SshSeal(str(site.key)))
    place = site.write("ecl.toml", "activated = false\n")
    launch = site.launch.configured(f"execution control list = {place}\n")
    launch("exec", path, "true").refused('"execution control list" needs the keys of "require signature"')
