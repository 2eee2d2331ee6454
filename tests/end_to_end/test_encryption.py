"""Encrypted images: launched, built from, and looked at; and what must not be found of them and their keys anywhere.

`tests/vectors/encrypted` holds two that Apptainer 1.4 has made, with the passphrase `hello` and for a key of RSA. The
other way, its running ours, is what `make compare` tries.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

import machine
import pytest
from images import Images, squashfs

from singularity.image.sif import format as sif
from singularity.image.sif.format import Filesystem
from singularity.image.sif.write import encode_head

if TYPE_CHECKING:
    from launching import Launcher

pytestmark = [pytest.mark.long, pytest.mark.needs("fuse", "userns", "mksquashfs", "gocryptfs", "openssl")]
SECRET = "a word with spaces, and 'quotes'"
BY_WORD = {"SINGULARITY_ENCRYPTION_PASSPHRASE": SECRET}
OTHERS = Path(__file__).parents[1] / "vectors/encrypted"


@pytest.fixture
def keys(directory: Path) -> Path:
    """key.pem, pub.pem: in the form that openssl writes today; old.pem, oldpub.pem: in that of PKCS #1."""
    run = ["openssl", "genpkey", "-quiet", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out"]
    subprocess.run([*run, directory / "key.pem"], check=True, capture_output=True)
    for words in (
        ["pkey", "-in", "key.pem", "-pubout", "-out", "pub.pem"],
        ["rsa", "-in", "key.pem", "-traditional", "-out", "old.pem"],
        ["rsa", "-in", "key.pem", "-RSAPublicKey_out", "-out", "oldpub.pem"],
        ["rsa", "-in", "key.pem", "-aes256", "-passout", "pass:locked", "-out", "locked.pem"],
    ):
        subprocess.run(["openssl", *words], cwd=directory, check=True, capture_output=True)
    for path in directory.glob("*.pem"):
        path.chmod(0o644)
    return directory


@pytest.fixture
def work(launch: Launcher, directory: Path) -> Path:
    """A directory where the user may write, as both see it."""
    place = directory / "work"
    place.mkdir()
    os.chown(place, launch.account.uid, launch.account.gid)
    return place


@pytest.fixture
def plain(images: Images, directory: Path) -> Path:
    """An image whose files can be told from all else on a disk."""
    tree = images.modern_tree(directory / "tree")
    (tree / "etc/marker").write_text("a word of the image that stands nowhere else\n" * 200)
    return squashfs(tree, directory / "plain.sqfs")


def encrypted(launch: Launcher, plain: Path, work: Path, *words: str | Path, **env: str) -> Path:
    done = launch("build", "--encrypt", *words, work / "x.sif", plain, env=env)
    assert done.status == 0, str(done)
    return work / "x.sif"


def test_with_a_passphrase(launch: Launcher, plain: Path, work: Path) -> None:
    image = encrypted(launch, plain, work, **BY_WORD)
    assert b"a word of the image" not in image.read_bytes()
    shown = launch("exec", image, "head", "-n1", "/etc/marker", env=BY_WORD).ok()
    assert shown.out == "a word of the image that stands nowhere else\n"
    assert launch("exec", "--passphrase", image, "echo", "asked", stdin=SECRET.encode() + b"\n").ok().out == "asked\n"
    again = {"APPTAINER_ENCRYPTION_PASSPHRASE": SECRET}
    assert launch("run", image, env=again).status == launch("run", plain).status
    done = launch("build", "--encrypt", work / "again.sif", image, env=BY_WORD)  # one word for both
    assert done.status == 0, str(done)
    assert launch("exec", work / "again.sif", "echo", "again", env=BY_WORD).ok().out == "again\n"
    done = launch(
        "build", "--encrypt", "--passphrase", "--force", work / "again.sif", image, stdin=f"{SECRET}\n".encode()
    )
    assert done.status == 0, str(done)
    launch("exec", image, "true").refused("no key was given", "--passphrase")
    launch("exec", image, "true", env={"SINGULARITY_ENCRYPTION_PASSPHRASE": SECRET + " "}).refused("does not open it")


@pytest.mark.parametrize(("public", "private"), [("pub", "key"), ("oldpub", "old"), ("key", "old"), ("pub", "locked")])
def test_with_a_key_of_rsa(launch: Launcher, plain: Path, work: Path, keys: Path, public: str, private: str) -> None:
    image = encrypted(launch, plain, work, "--pem-path", keys / f"{public}.pem")
    own = keys / f"{private}.pem"
    answer = b"locked\n" if private == "locked" else None
    assert launch("exec", "--pem-path", own, image, "echo", "ran", stdin=answer).ok().out == "ran\n"
    if private == "locked":
        launch("exec", "--pem-path", own, image, "true", stdin=b"no\n").refused("does not open it")
        return
    by_variable = {"SINGULARITY_ENCRYPTION_PEM_PATH": str(own)}
    assert launch("exec", image, "echo", "ran", env=by_variable).ok().out == "ran\n"
    by_text = {"APPTAINER_ENCRYPTION_PEM_DATA": own.read_text()}
    assert launch("exec", image, "echo", "ran", env=by_text).ok().out == "ran\n"


@pytest.mark.modes("suid")
def test_wrong_keys(launch: Launcher, plain: Path, work: Path, keys: Path) -> None:
    image = encrypted(launch, plain, work, "--pem-path", keys / "pub.pem")
    other = keys / "other.pem"
    subprocess.run(["openssl", "genrsa", "-out", other, "2048"], check=True, capture_output=True)
    other.chmod(0o644)
    launch("exec", "--pem-path", other, image, "true").refused("does not open it")
    launch("exec", "--pem-path", keys / "pub.pem", image, "true").refused("no private RSA key")
    launch("exec", "--pem-path", keys / "none.pem", image, "true").refused("none.pem", "No such file")
    launch("exec", "--pem-path", image, image, "true").refused("no PEM file")
    launch("exec", "--pem-path", keys / "key.pem", "--passphrase", image, "true").misused("one of them")
    launch("exec", image, "true", env={"SINGULARITY_ENCRYPTION_PASSPHRASE": "two\nlines"}).misused("one line")
    launch("exec", image, "true", env={"SINGULARITY_ENCRYPTION_PASSPHRASE": "word"}).refused("does not open it")
    by_word = work / "word.sif"
    launch("build", "--encrypt", by_word, plain, env=BY_WORD)
    launch("exec", "--pem-path", keys / "key.pem", by_word, "true").refused("by a passphrase")
    launch("build", "--encrypt", work / "no.sif", plain).misused("--encrypt: no key")
    launch("build", "--encrypt", "--sandbox", work / "no", plain, env=BY_WORD).misused("--encrypt is for SIF files")
    assert not [*work.glob("no*")]


@pytest.mark.parametrize("name", ["passphrase", "pem"])
def test_images_that_another_program_has_made(launch: Launcher, work: Path, name: str) -> None:
    for path in OTHERS.iterdir():
        shutil.copy(path, work)
    own = {"env": {"APPTAINER_ENCRYPTION_PASSPHRASE": "hello"}} if name == "passphrase" else {}
    words = [] if own else ["--pem-path", work / "key.pem"]
    done = launch("build", *words, "--sandbox", work / "box", work / f"{name}.sif", **own)
    assert done.status == 0, str(done)
    assert (work / "box/etc/marker").read_text() == "made by another\n"
    assert launch("inspect", work / f"{name}.sif").status == 0


def test_what_else_is_done_with_them(launch: Launcher, plain: Path, work: Path, keys: Path) -> None:
    """Looked at and listed without the key; built from, changed and encrypted again with it."""
    image = encrypted(launch, plain, work, "--pem-path", keys / "pub.pem")
    assert launch("inspect", image).ok().out
    assert "deffile" in launch("inspect", "--all", image).ok().out
    listed = launch("sif", "list", image).ok().out
    assert "FS (Gocryptfs squashfs/*System/" in listed
    assert "Cryptographic Message (PEM/RSA-OAEP)" in listed
    launch("export", image).refused("encrypted")
    launch("build", work / "y.sif", image).refused("no key was given")
    definition = work / "x.def"
    definition.write_text(f"Bootstrap: localimage\nFrom: {image}\n%post\n    echo more >/etc/more\n")
    words = ("build", "--pem-path", keys / "key.pem")
    for target, source in (("y.sif", image), ("z.sif", definition)):
        done = launch(*words, "--encrypt", work / target, source)
        assert done.status == 0, str(done)
        assert b"a word of the image" not in (work / target).read_bytes()
        assert launch("exec", "--pem-path", keys / "key.pem", work / target, "cat", "/etc/marker").ok().out
    assert launch("exec", "--pem-path", keys / "key.pem", work / "z.sif", "cat", "/etc/more").ok().out == "more\n"
    assert f"From: {image}" in launch("inspect", "-d", work / "z.sif").ok().out
    assert not [*launch.home.glob(".singularity/cache/build/*/*")], "layers are kept in the clear"
    assert launch(*words, work / "open.sif", image).status == 0
    assert launch("exec", work / "open.sif", "echo", "open").ok().out == "open\n"


@pytest.mark.needs("root")
@pytest.mark.modes("userns", "suid")
def test_an_instance_goes_on_without_who_started_it(launch: Launcher, plain: Path, work: Path) -> None:
    image = encrypted(launch, plain, work, **BY_WORD)
    started = launch("instance", "start", image, "sealed", env=BY_WORD)
    assert started.status == 0, str(started)
    time.sleep(0.5)
    assert launch("exec", "instance://sealed", "head", "-n1", "/etc/marker").ok().out.startswith("a word")
    assert launch("instance", "stop", "sealed").status == 0


def test_nobody_is_told_the_passphrase(launch: Launcher, plain: Path, work: Path) -> None:
    """Not in words nor variables of any process, nor in the container; and nothing stays when it ends."""
    image = encrypted(launch, plain, work, **BY_WORD)
    words = launch.argv("exec", image, "sh", "-c", "env; echo --; cat")
    with (
        (work / "kept").open("w") as kept,
        launch.start(*words, env=BY_WORD, stdin=subprocess.PIPE, pass_fds=[kept.fileno()]) as running,
    ):
        assert running.stdout
        said = b""
        while b"--\n" not in said:
            said += os.read(running.stdout.fileno(), 4096)
        found = _seen_of_processes()
        open_files = _open_in_servers()
        running.communicate(b"", timeout=20)
    assert SECRET.encode() not in said
    assert any(words.startswith(b"gocryptfs") for words, _ in found)
    assert b"/kept" not in open_files, "files of the caller's"
    assert not [words for words, variables in found if SECRET.encode() in words + variables]


def _open_in_servers() -> bytes:
    """Names of what gocryptfs and image servers have open."""
    names = []
    for place in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if (place / "cmdline").read_bytes().startswith((b"gocryptfs", b"image-server")):
                names += [os.readlink(each) for each in (place / "fd").iterdir()]
    return "\n".join(names).encode()


def _seen_of_processes() -> list[tuple[bytes, bytes]]:
    """Words and variables of all that this process may look at."""
    seen = []
    for place in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            seen.append(((place / "cmdline").read_bytes(), (place / "environ").read_bytes()))
    return seen


def _ciphers() -> list[bytes]:
    return [words for words, _ in _seen_of_processes() if words.startswith(b"gocryptfs")]


@pytest.mark.parametrize("moment", ["build", "launch"])
def test_nothing_decrypted_is_left_after_a_kill(launch: Launcher, plain: Path, work: Path, moment: str) -> None:
    image = encrypted(launch, plain, work, **BY_WORD)
    temporary = work / "temporary"
    temporary.mkdir(mode=0o777)
    os.chown(temporary, launch.account.uid, launch.account.gid)
    env = {**BY_WORD, "SINGULARITY_TMPDIR": str(temporary)}
    for milliseconds in range(50, 800, 75):
        if moment == "build":
            words = launch.argv("build", "--force", "--encrypt", work / "y.sif", image)
        else:
            words = launch.argv("exec", image, "sleep", "20")
        with launch.start(*words, env=env) as running:
            time.sleep(milliseconds / 1000)
            os.killpg(running.pid, signal.SIGKILL)
            running.communicate(timeout=20)
        for path in (*work.rglob("*"), *launch.home.rglob("*")):
            if path.is_file() and path != plain:
                assert b"a word of the image" not in path.read_bytes(), path
        assert not (work / "y.sif").exists() or launch("exec", work / "y.sif", "true", env=BY_WORD).status == 0
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and _ciphers():
        time.sleep(0.1)
    assert not _ciphers()


def test_damaged_images_end_with_one_line(launch: Launcher, plain: Path, work: Path) -> None:
    image = encrypted(launch, plain, work, **BY_WORD)
    data = image.read_bytes()
    start = 32768
    for place in (start, start + 64, start + 200, start + 5000, len(data) // 2, len(data) - 6000):
        image.write_bytes(data[:place] + bytes(64) + data[place + 64 :])
        done = launch("exec", image, "cat", "/etc/marker", env=BY_WORD)
        assert done.status != 0 or done.out == "a word of the image that stands nowhere else\n" * 200
        assert len([line for line in done.err.splitlines() if line.startswith("FATAL")]) <= 1, str(done)
    image.write_bytes(data[: len(data) // 2])
    launch("exec", image, "true", env=BY_WORD).refused()


@pytest.mark.modes("suid", "root")
@pytest.mark.parametrize(
    "case",
    [
        "no configuration",
        "no JSON",
        "no file",
        "two files",
        "a link",
        "much memory",
        "a pipe",
        "another squashfs",
        "deep",
    ],
)
def test_hostile_images_end_with_one_line(
    launch: Launcher, plain: Path, work: Path, directory: Path, case: str
) -> None:
    """Made by somebody who knows the form: around a good one, with one thing changed."""
    image = encrypted(launch, plain, work, **BY_WORD)
    outer = directory / "outer"
    with image.open("rb") as file:
        primary = sif.read(file).primary()
        assert primary is not None
        (directory / "outer.sqfs").write_bytes(sif.read_object(file, primary, limit=1 << 30))
    unpack = ["unsquashfs", "-q", "-n", "-d", outer, directory / "outer.sqfs"]
    subprocess.run(unpack, check=True, capture_output=True)
    cipher, configuration = outer / "squashfs-root", outer / "gocryptfs.conf"
    configuration.chmod(0o600)
    said = json.loads(configuration.read_text())
    match case:
        case "no configuration":
            configuration.unlink()
        case "no JSON":
            configuration.write_text("{")
        case "deep":
            configuration.write_text("[" * 60000)
        case "no file":
            cipher.unlink()
        case "two files":
            shutil.copy(cipher, outer / "squashfs-other")
        case "a link":
            cipher.unlink()
            cipher.symlink_to("/etc/passwd")
        case "a pipe":
            cipher.unlink()
            os.mkfifo(cipher)
        case "much memory":
            said["ScryptObject"]["N"] = 1 << 40
            configuration.write_text(json.dumps(said))
        case "another squashfs":
            cipher.write_bytes(b"hsqs" + cipher.read_bytes())
    partition = squashfs(outer, directory / "again.sqfs").read_bytes()
    head = encode_head(
        (), partition_size=len(partition), filesystem=Filesystem.GOCRYPTFS_SQUASHFS, architecture="amd64",
        id=UUID(int=1), time=0,
    )  # fmt: skip
    hostile = work / "hostile.sif"
    hostile.write_bytes(head + partition)
    launch("exec", hostile, "true", env=BY_WORD).refused()
    done = launch("build", "--sandbox", work / "box", hostile, env=BY_WORD)
    assert done.status == 255, str(done)
    assert len([line for line in done.err.splitlines() if line.startswith("FATAL")]) == 1, str(done)


@pytest.mark.modes("suid")
def test_luks_is_recognised_and_refused(launch: Launcher, plain: Path, work: Path) -> None:
    image = encrypted(launch, plain, work, **BY_WORD)
    data = bytearray(image.read_bytes())
    place = data.index(b"\x06\0\0\0\x02\0\0\0", 4096)
    data[place] = 5
    image.write_bytes(data)
    for words in (("exec", image, "true"), ("build", work / "y.sif", image)):
        launch(*words, env=BY_WORD).refused("encrypted by LUKS")


@pytest.mark.modes("userns", "suid")
def test_what_is_missing_is_named(launch: Launcher, plain: Path, work: Path) -> None:
    image = encrypted(launch, plain, work, **BY_WORD)
    machine.require("root")
    without = launch.changed(fuse=False)
    without("exec", image, "true", env=BY_WORD).refused("/dev/fuse")
    program = Path(shutil.which("gocryptfs") or "/usr/bin/gocryptfs")
    empty = work / "nothing"
    empty.touch()
    launch.showing(program, empty)("exec", image, "true", env=BY_WORD).refused(
        "gocryptfs not found", "install gocryptfs"
    )


@pytest.mark.modes("suid", "root")
def test_signatures_are_of_what_is_encrypted(launch: Launcher, plain: Path, work: Path, keys: Path) -> None:
    image = encrypted(launch, plain, work, f"--sign={keys / 'key.pem'}", **BY_WORD)
    assert launch("verify", "--key", keys / "pub.pem", image).status == 0
    data = bytearray(image.read_bytes())
    data[len(data) // 2] ^= 1
    image.write_bytes(data)
    assert launch("verify", "--key", keys / "pub.pem", image).status == 255


@pytest.mark.needs("apptainer")
@pytest.mark.modes("root")
def test_another_program_runs_ours(launch: Launcher, plain: Path, work: Path, keys: Path) -> None:
    image = encrypted(launch, plain, work, "--pem-path", keys / "pub.pem")
    done = launch.command(
        "apptainer", "exec", "-u", "--pem-path", keys / "old.pem", image, "head", "-n1", "/etc/marker"
    )
    assert done.out == "a word of the image that stands nowhere else\n", str(done)


@pytest.mark.needs("root", "busybox", "installation")
def test_the_guide_can_be_typed(plain: Path, directory: Path) -> None:
    """In its order, in one directory; passphrases are lines of standard input."""
    prefix = machine.prefix()
    assert prefix is not None
    guide = (machine.CHECKOUT / "docs/encryption.md").read_text()
    (directory / "tool.def").write_text(f"Bootstrap: localimage\nFrom: {plain}\n")
    shutil.copytree(directory / "tree", directory / "secret-tool", symlinks=True)
    environment = {"PATH": f"{prefix}/bin:{os.environ['PATH']}", "HOME": str(directory), "TMPDIR": str(directory)}
    lines = [
        line
        for block in re.findall(r"^```sh\n(.*?)^```$", guide, re.MULTILINE | re.DOTALL)
        for line in block.splitlines()
    ]
    assert len(lines) == 9
    for line in lines:
        done = subprocess.run(
            ["bash", "-c", line],
            cwd=directory,
            env=environment,
            input="word\n",
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0 or line.startswith("singularity run"), f"{line}\n{done.stderr}"
        assert "FATAL" not in done.stderr
