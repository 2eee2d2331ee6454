"""Images of Dockerfiles, file by file and in their configuration, beside what buildah makes of the same ones.

Times are not compared, nor what ours has for launches. What else may differ stands in the case, with its reason.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import shutil
import stat
import subprocess
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from dockerfiles import CASES, Case

if TYPE_CHECKING:
    from collections.abc import Container, Iterator, Mapping

    from builds import Build

pytestmark = [
    pytest.mark.long,
    pytest.mark.needs("busybox", "root", "overlay"),
    pytest.mark.skipif(not shutil.which("buildah"), reason="buildah is not installed"),
]
# What launches and scripts expect, and every image of ours has.
OURS = {
    "dev", "proc", "root", "var", "var/tmp", "tmp", "etc", "sys", "home", "mnt", "etc/hosts", "etc/resolv.conf",
    "etc/localtime", "singularity", "environment", ".run", ".exec", ".test", ".shell",
}  # fmt: skip
# What buildah's runtime mounts something on, and leaves in the image: empty files and directories.
THEIRS = {
    "etc/hosts",
    "etc/resolv.conf",
    "etc/hostname",
    "dev",
    "proc",
    "sys",
    "run",
    "run/.containerenv",
    "run/secrets",
}
COMPARED = (
    "Env", "Entrypoint", "Cmd", "WorkingDir", "User", "Labels", "ExposedPorts", "Volumes", "StopSignal", "Healthcheck",
    "OnBuild", "Shell",
)  # fmt: skip


@dataclass(frozen=True)
class Buildah:
    """buildah with a storage of its own, and base images in a layout."""

    directory: Path

    def __call__(self, *words: str | Path) -> str:
        storage = ["--root", self.directory / "storage", "--runroot", self.directory / "run", "--storage-driver=vfs"]
        done = subprocess.run(
            ["buildah", *map(str, (*storage, *words))],
            env={**os.environ, "TMPDIR": str(self.directory), "HOME": str(self.directory)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr + done.stdout
        return done.stdout.strip()

    def placed(self, text: str) -> str:
        """A Dockerfile with the bases that it names."""
        text = text.replace("docker-archive:onbuild", f"docker-archive:{self.directory}/onbuild.tar")
        return text.replace("base:", f"oci:{self.directory}/bases:")


def busybox_root(root: Path) -> None:
    (root / "bin").mkdir(parents=True)
    shutil.copy2("/bin/busybox", root / "bin/busybox")
    for name in subprocess.run(["busybox", "--list"], check=True, capture_output=True, text=True).stdout.split():
        if name != "busybox":
            (root / "bin" / name).symlink_to("busybox")
    for name, mode in (("etc", 0o755), ("tmp", 0o1777), ("root", 0o700), ("srv/old", 0o755)):
        (root / name).mkdir(parents=True)
        (root / name).chmod(mode)
    (root / "srv/old/file").write_text("old\n")
    (root / "etc/passwd").write_text(
        "root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1001:A user:/home/user:/bin/sh\n"
        "nobody:x:65534:65534::/:/bin/false\n"
    )
    (root / "etc/group").write_text("root:x:0:\nusers:x:1001:\nextra:x:1002:user\nnogroup:x:65534:\n")


def compiler_root(root: Path) -> None:
    """gcc of this machine, as musl-gcc starts it, with all it loads."""
    busybox_root(root)
    plugin = subprocess.run(
        ["gcc", "-print-file-name=liblto_plugin.so"], check=True, capture_output=True, text=True
    ).stdout.strip()
    libexec = subprocess.run(["gcc", "-print-prog-name=cc1"], check=True, capture_output=True, text=True).stdout.strip()
    programs = ["/usr/bin/gcc", "/usr/bin/as", "/usr/bin/ld", libexec, str(Path(libexec).with_name("collect2")), plugin]
    needed: dict[str, None] = {}
    for program in programs:
        lines = subprocess.run(["ldd", program], check=True, capture_output=True, text=True).stdout.splitlines()
        needed |= dict.fromkeys(word for line in lines for word in line.split() if word.startswith("/"))
    for path in (*programs, *needed, "/usr/bin/musl-gcc", "/usr/bin/x86_64-linux-gnu-gcc"):
        target = root / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, target)
    for directory in (*Path("/usr/lib").glob("*-linux-musl"), *Path("/usr/include").glob("*-linux-musl")):
        shutil.copytree(directory, root / str(directory).lstrip("/"), symlinks=True)
    libgcc = Path(
        subprocess.run(["gcc", "-print-libgcc-file-name"], check=True, capture_output=True, text=True).stdout.strip()
    )
    for path in (libgcc, libgcc.with_name("libgcc_eh.a"), *libgcc.parent.glob("crt*.o")):
        target = root / str(path).lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, target)
    shutil.copytree(libgcc.parent / "include", root / str(libgcc.parent / "include").lstrip("/"), dirs_exist_ok=True)


@pytest.fixture(scope="module")
def buildah(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Buildah]:
    made = Buildah(tmp_path_factory.mktemp("buildah"))
    for name, fill in (("busybox", busybox_root), ("cc", compiler_root)):
        fill(made.directory / name)
        container = made("from", "scratch")
        made("copy", container, made.directory / name, "/")
        made("config", "--env", "FROM_BASE=yes", "--label", "base=busybox", "--cmd", '["sh"]', container)
        made("commit", "--quiet", container, name)
        made("push", "--quiet", name, f"oci:{made.directory}/bases:{name}")
        made("rm", container)
    container = made("from", "busybox")
    for trigger in ("COPY *.py /app/", "ENV TRIGGERED=yes", "RUN echo $TRIGGERED >/app/ran.py"):
        made("config", "--onbuild", trigger, container)
    made("commit", "--quiet", "--format", "docker", container, "onbuild")
    made("push", "--quiet", "onbuild", f"docker-archive:{made.directory}/onbuild.tar:onbuild:latest")
    made("rm", container)
    yield made
    shutil.rmtree(made.directory, ignore_errors=True)


def write_context(directory: Path, case: Case) -> None:
    directory.mkdir(mode=0o755)
    for name, text in case.files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if text.startswith("-> "):
            path.symlink_to(text.removeprefix("-> "))
        elif text == "archive":
            write_archive(path)
        elif text == "gzip":
            path.write_bytes(gzip.compress(b"only compressed\n", mtime=0))
        else:
            mode, _, rest = text.partition(" ")
            has_mode = len(mode) == 4 and mode.isdecimal()
            path.write_text(rest if has_mode else text)
            path.chmod(int(mode, 8) if has_mode else 0o644)


def write_archive(path: Path) -> None:
    with tarfile.open(path, "w:gz" if path.suffix == ".gz" else "w") as tar:
        for name, kind, mode, uid in (
            ("app", tarfile.DIRTYPE, 0o750, 0),
            ("app/run", tarfile.REGTYPE, 0o4755, 1000),
            ("app/link", tarfile.SYMTYPE, 0o777, 0),
            ("app/hard", tarfile.LNKTYPE, 0o4755, 1000),
        ):
            info = tarfile.TarInfo(name)
            info.type, info.mode, info.uid, info.gid = kind, mode, uid, uid
            info.linkname = {"app/link": "run", "app/hard": "app/run"}.get(name, "")
            data = b"run\n" if kind == tarfile.REGTYPE else b""
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


def listing(root: Path) -> dict[str, tuple[object, ...]]:
    """All files below a root file system, by path."""
    found: dict[str, tuple[object, ...]] = {}
    inodes: dict[int, str] = {}
    for above, directories, names in os.walk(root):
        for name in sorted([*directories, *names]):
            path = Path(above, name)
            status = path.lstat()
            about: object = ""
            if stat.S_ISLNK(status.st_mode):
                about = str(path.readlink())
            elif stat.S_ISREG(status.st_mode):
                first = inodes.setdefault(status.st_ino, str(path.relative_to(root)))
                about = (hashlib.sha256(path.read_bytes()).hexdigest(), first if status.st_nlink > 1 else "")
            xattrs = {
                each: os.getxattr(path, each, follow_symlinks=False)
                for each in os.listxattr(path, follow_symlinks=False)
            }
            found[str(path.relative_to(root))] = (
                stat.filemode(status.st_mode), status.st_uid, status.st_gid, about, xattrs
            )  # fmt: skip
    return found


def differences(ours: Mapping[str, Any], theirs: Mapping[str, Any], mounted: Container[str]) -> list[str]:
    """A line for each file that is not the same in both, but for what only one of the programs makes."""
    found = []
    for path in sorted({*ours, *theirs}):
        left, right = ours.get(path), theirs.get(path)
        only = (right is None and (path in OURS or path.startswith(".singularity.d"))) or (
            left is None and (path in THEIRS or path in mounted)
        )
        if left != right and not only and not (path in OURS and path in THEIRS):
            found.append(f"{path}: {left} here, {right} there")
    return found


@pytest.mark.parametrize("name", CASES)
def test_the_image_is_what_buildah_makes(build: Build, buildah: Buildah, name: str) -> None:
    case = CASES[name]
    context = build.directory / "context"
    write_context(context, case)
    secret = build.write("secret", "hush")
    (context / "Dockerfile").write_text(buildah.placed(case.text))
    plain = build.write("plain/Dockerfile", buildah.placed(case.plain or case.text))
    options = [word.replace("@secret@", str(secret)) for word in case.options]
    buildah(
        "bud", "--quiet", "--isolation=chroot", "--format=docker", "--layers=false", "--network=host",
        "--identity-label=false", *options, "-t", "made",
        "--file", plain, context
    )  # fmt: skip
    wanted = json.loads(buildah("inspect", "--type", "image", "made"))["Docker"]["config"]
    container = buildah("from", "--pull-never", "made")
    try:
        theirs = listing(Path(buildah("mount", container)))
    finally:
        buildah("rm", container)
        buildah("rmi", "made")
    build.ok("build", "--sandbox", *options, "made", context / "Dockerfile")
    ours = listing(build.directory / "made")
    config = json.loads((build.directory / "made/.singularity.d/oci-config.json").read_text())
    assert differences(ours, theirs, case.theirs) == []
    wanted["WorkingDir"] = str(wanted.get("WorkingDir") or "").rstrip("/")  # buildah keeps a slash at the end
    said = [(key, config.get(key) or None, wanted.get(key) or None) for key in COMPARED]
    assert [each for each in said if each[1] != each[2]] == []
    assert build.leftovers() == []
