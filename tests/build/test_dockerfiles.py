"""Builds from Dockerfiles: contexts, the cache, secrets, mounts, users, and what wants to do harm.

What the images hold is compared with buildah's in test_dockerfiles_compared.py.
"""

from __future__ import annotations

import http.server
import json
import os
import shutil
import stat
import subprocess
import threading
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from builds import as_user

from singularity.image import marks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from builds import Build

pytestmark = pytest.mark.needs("busybox", "mksquashfs", "root", "overlay")
FROM = "FROM localimage:./base\n"


@pytest.fixture
def dockerfile(build: Build, base: Path) -> Callable[..., Path]:
    """Writes `ctx/Dockerfile` on top of `base`."""
    for name in ("chown", "cp", "wc", "stat", "find", "sed", "pwd", "ip", "mkfifo", "dd"):
        if not (base / "bin" / name).exists():
            (base / "bin" / name).symlink_to("busybox")
    (base / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1001::/home/user:/bin/sh\n")
    (base / "etc/group").write_text("root:x:0:\nusers:x:1001:\n")
    (base / "tmp").mkdir(mode=0o777)
    (base / "tmp").chmod(0o1777)

    def write(text: str, name: str = "ctx/Dockerfile") -> Path:
        return build.write(name, FROM + text)

    return write


def steps(errors: str) -> tuple[list[str], list[str]]:
    """The instructions that came from the cache, and those that were carried out."""
    infos = [line.removeprefix("INFO:    ") for line in errors.splitlines() if line.startswith("INFO:    ")]
    cached = [line.removeprefix("Using the cache: ").split()[0] for line in infos if line.startswith("Using the cache")]
    done = [line.split()[0] for line in infos if line.split()[0] in ("RUN", "COPY", "ADD", "WORKDIR")]
    return cached, done


def test_a_file_and_its_context_are_named(build: Build, dockerfile: Callable[..., Path]) -> None:
    dockerfile("COPY a /a\n", "docker/gpu.Dockerfile")
    path = Path("docker/gpu.Dockerfile")
    build.write("project/a", "of the project\n")
    assert "COPY: a: no such file in the context docker" in build.fails("build", "x.sif", path)
    build.ok("build", "--file", path, "x.sif", "project")
    assert (build.root_of("x.sif") / "a").read_text() == "of the project\n"
    build.write("docker/gpu.Dockerfile.dockerignore", "a\n")
    said = build.fails("build", "-F", "--file", path, "x.sif", "project")
    assert said == f"{path}:2: COPY: a: no such file in the context project (or .dockerignore leaves it out)"
    assert "is no directory (SOURCE is the context" in build.fails("build", "--file", path, "y.sif", path, status=1)
    assert "never replaced" in build.fails("build", path, "x.sif", status=1)


def test_the_image_runs_as_docker_would(build: Build, dockerfile: Callable[..., Path]) -> None:
    dockerfile(
        'ENV GREETING="hello  $(id) \\"you\\""\nENTRYPOINT ["/bin/echo", "-n"]\n'
        'CMD ["a  b", "$GREETING"]\nLABEL k="v w"\n'
    )
    build.ok("build", "x.sif", "ctx/Dockerfile")
    root = build.root_of("x.sif")
    assert 'OCI_CMD=\'"a  b" "\\$GREETING"\'' in (root / ".singularity.d/runscript").read_text()
    labels = json.loads((root / ".singularity.d/labels.json").read_text())
    assert labels["k"] == "v w"
    assert (root / ".singularity.d/Singularity").read_text() == (build.directory / "ctx/Dockerfile").read_text()


def test_sections_of_a_definition_go_on_top(build: Build, dockerfile: Callable[..., Path]) -> None:
    dockerfile("ARG V=1\nENV FROM_FILE=$V\nRUN echo run >/run\n")
    build.write("ctx/Dockerfile.two", "FROM localimage:./base AS a\nARG V\nRUN echo $V >/a\nFROM a AS b\nRUN false\n")
    definition = build.write(
        "x.def",
        "Bootstrap: dockerfile\nFrom: ctx\nBuildArgs: V=2\nStage: one\n%post\n    cat /run >/post\n"
        "Bootstrap: dockerfile\nFrom: ctx\nFilename: Dockerfile.two\nTarget: a\n"
        "%files from one\n    /post /from-one\n%post\n    echo {{ W }} >/w\n%environment\n    export MORE=yes\n",
    )
    build.ok("build", "--build-arg", "V=3", "--build-arg", "W=4", "x.sif", definition)
    root = build.root_of("x.sif")
    assert [(root / name).read_text() for name in ("a", "from-one", "w")] == ["3\n", "run\n", "4\n"]
    assert "MORE=yes" in (root / ".singularity.d/env/90-environment.sh").read_text()
    assert "no {{ Z }} in it" in build.fails("build", "--build-arg", "Z=1", "--build-arg", "W=1", "y.sif", definition)
    build.write("none.def", "Bootstrap: dockerfile\n")
    assert "none.def:1: bootstrap agent dockerfile needs From" in build.fails("build", "y.sif", "none.def")


def test_only_what_has_changed_is_done_again(build: Build, dockerfile: Callable[..., Path]) -> None:
    text = "ARG V=1\nRUN echo $V >/v\nCOPY . /ctx/\nWORKDIR /ctx\nRUN cat a >b\nLABEL l=1\n"
    dockerfile(text)
    build.write("ctx/a", "1\n")
    build.write("ctx/.dockerignore", "ignored\nDockerfile\n")
    names = ["RUN", "COPY", "WORKDIR", "RUN"]

    def built(*words: str) -> tuple[list[str], list[str]]:
        return steps(build.ok("build", "-F", *words, "x.sif", "ctx/Dockerfile").stderr)

    assert built() == ([], names)
    assert built() == (names, [])
    build.write("ctx/ignored", "x")
    os.utime(build.directory / "ctx/a")
    assert built() == (names, [])
    dockerfile(text.replace("l=1", "l=2"))
    assert built() == (names, [])
    build.write("ctx/a", "2\n")
    assert built() == (["RUN"], names[1:])
    assert (build.root_of("x.sif") / "ctx/b").read_text() == "2\n"
    assert built("--build-arg", "V=2") == ([], names)
    dockerfile(
        text.replace("ARG V=1\nRUN echo $V >/v\nCOPY . /ctx/", "RUN echo >/v\nARG V=1\nARG TO=ctx\nCOPY . /$TO/")
    )
    assert built("--build-arg", "V=2") == ([], names)
    assert built("--build-arg", "V=3") == (names[:3], names[3:])
    assert built("--build-arg", "V=3", "--build-arg", "TO=ctx/") == (names[:3], names[3:])
    dockerfile(text)
    assert built("--build-arg", "NONE=2") == (names, [])
    assert built("--no-cache") == ([], names)
    planned = json.loads(build.ok("build", "--dry-run=json", "x.sif", "ctx/Dockerfile").stdout)["steps"]
    assert [step["cache"] for step in planned if step["do"] == "instruction"] == [True] * 4
    assert build.leftovers() == []


def test_a_stage_that_changes_is_taken_from_again(build: Build, dockerfile: Callable[..., Path]) -> None:
    text = "RUN echo {} >/x\nFROM localimage:./base\nCOPY --from=0 /x /y\nRUN cp /y /z\n"
    dockerfile(text.format(1))
    said = build.ok("build", "x.sif", "ctx/Dockerfile").stderr
    assert len(steps(said.replace("Stage 0: ", "").replace("Stage 2: ", ""))[1]) == 3
    dockerfile(text.format(2))
    build.ok("build", "-F", "x.sif", "ctx/Dockerfile")
    assert (build.root_of("x.sif") / "z").read_text() == "2\n"


def test_secrets_are_nowhere_but_in_the_command(
    build: Build, dockerfile: Callable[..., Path], private_home: Path
) -> None:
    dockerfile(
        "RUN --mount=type=secret,id=a --mount=type=secret,id=b,target=/etc/b,mode=0444,uid=1000 "
        "--mount=type=secret,id=c,env=C test $(cat /run/secrets/a)$(cat /etc/b)$C = hush-one2hush-two2hush-three2 && "
        "stat -c '%a %u' /run/secrets/a /etc/b >/modes && grep -c /run/secrets/a /proc/mounts >>/modes\n"
    )
    secret = build.write("s/a", "hush-one2")
    words = ["--secret", f"id=a,src={secret}", "--secret", "id=b,env=B", "--secret", "id=c"]
    done = build.ok("--debug", "build", *words, "x.sif", "ctx/Dockerfile", B="hush-two2", c="hush-three2")
    root = build.root_of("x.sif")
    assert (root / "modes").read_text() == "400 0\n444 1000\n1\n"
    assert "hush-" not in (done.stdout + done.stderr).replace(
        (build.directory / "ctx/Dockerfile").read_text().strip(), ""
    ).replace("hush-one2hush-two2hush-three2", "")
    assert [path for path in ("run", "etc/b") if (root / path).exists()] == []
    for top in (root, private_home, build.temporary):
        for path in top.rglob("*"):
            if path.is_file() and not path.is_symlink():
                data = path.read_bytes().replace(b"hush-one2hush-two2hush-three2", b"")
                assert b"hush-" not in data, path
    second = build.ok("build", "-F", *words, "x.sif", "ctx/Dockerfile", B="changed", c="changed").stderr
    assert steps(second) == (["RUN"], [])


def test_a_secret_that_is_missing_is_said_or_left_out(build: Build, dockerfile: Callable[..., Path]) -> None:
    dockerfile("RUN --mount=type=secret,id=a test ! -e /run/secrets/a\n")
    build.ok("build", "x.sif", "ctx/Dockerfile")
    dockerfile("RUN --mount=type=secret,id=a,required=true true\n")
    said = build.fails("build", "-F", "x.sif", "ctx/Dockerfile")
    assert said == 'ctx/Dockerfile:2: RUN: no secret "a" is given (--secret id=a,src=FILE)'
    for word, about in (
        ("id=a,src=none", "none: no such file"),
        ("id=a", "no variable a"),
        ("src=x", "not understood"),
    ):
        assert about in build.fails("build", "-F", "--secret", word, "x.sif", "ctx/Dockerfile", status=1)
    build.write("x.def", "Bootstrap: localimage\nFrom: base\n")
    assert "SOURCE is no Dockerfile" in build.fails("build", "--target", "x", "y.sif", "x.def", status=1)


def test_a_cache_is_found_by_the_next_build(build: Build, dockerfile: Callable[..., Path]) -> None:
    dockerfile("RUN --mount=type=cache,target=/c,mode=0711 echo x >>/c/x; wc -l </c/x >/n; stat -c %a /c >>/n\n")

    def lines(*words: str) -> str:
        build.ok("build", "-F", "--no-cache", *words, "x.sif", "ctx/Dockerfile")
        root = build.root_of("x.sif")
        assert not (root / "c").exists()
        return (root / "n").read_text()

    assert [lines(), lines(), lines("--disable-cache"), lines()] == ["1\n711\n", "2\n711\n", "1\n711\n", "3\n711\n"]
    assert "mounts" in build.ok("cache", "list", "--type", "mounts", "--verbose").stdout
    build.ok("cache", "clean", "--force", "--type", "mounts")
    assert lines() == "1\n711\n"


def test_binds_of_a_command_cannot_be_written_back(build: Build, dockerfile: Callable[..., Path]) -> None:
    dockerfile(
        "RUN --mount=type=bind,target=/ro --mount=type=bind,target=/rw,rw "
        "! touch /ro/x && touch /rw/x && ls /ro >/seen\n"
        "RUN --mount=type=tmpfs,target=/t,size=64k ! dd if=/dev/zero of=/t/x bs=1024 count=128\n"
        "RUN --network=none ip link | grep -c UP >/devices\n"
    )
    build.write("ctx/.dockerignore", "hidden\n")
    build.write("ctx/hidden", "")
    build.ok("build", "x.sif", "ctx/Dockerfile")
    root = build.root_of("x.sif")
    assert (root / "seen").read_text().split() == [".dockerignore", "Dockerfile"] or (
        root / "seen"
    ).read_text().split() == ["Dockerfile"]
    assert not (build.directory / "ctx/x").exists()
    assert (root / "devices").read_text() == "1\n"
    assert [name for name in ("ro", "rw", "t") if (root / name).exists()] == []


def test_links_lead_nowhere_outside(build: Build, dockerfile: Callable[..., Path]) -> None:
    build.write("outside/secret", "secret\n")
    dockerfile(
        f"RUN ln -s {build.directory}/outside /out; ln -s ../../../../../../../../../etc /up\n"
        f"RUN mkdir -p {build.directory}/outside\nCOPY a /out/a\nCOPY a /up/a\nCOPY tree /tree\n"
    )
    build.write("ctx/a", "a\n")
    (build.directory / "ctx/tree").mkdir()
    (build.directory / "ctx/tree/link").symlink_to(build.directory / "outside")
    before = sorted(os.listdir("/etc"))
    build.ok("build", "x.sif", "ctx/Dockerfile")
    root = build.root_of("x.sif")
    assert sorted(os.listdir(build.directory / "outside")) == ["secret"]
    assert sorted(os.listdir("/etc")) == before
    assert (root / "etc/a").read_text() == "a\n"
    assert (root / "tree/link").readlink() == build.directory / "outside"
    (build.directory / "ctx/link").symlink_to(build.directory / "outside/secret")
    dockerfile("COPY link /x\n")
    assert "COPY: link: a link to nothing" in build.fails("build", "-F", "x.sif", "ctx/Dockerfile")
    dockerfile("COPY ../outside/secret /x\n")
    said = build.fails("build", "-F", "x.sif", "ctx/Dockerfile")
    assert said.startswith(
        "ctx/Dockerfile:2: COPY: ../outside/secret lies outside of the context (name a directory above"
    )
    dockerfile("RUN --mount=type=bind,source=link,target=/x cat /x\n")
    assert "no such file in ctx" in build.fails("build", "-F", "x.sif", "ctx/Dockerfile")


def test_odd_names_and_files_are_copied_or_refused(build: Build, dockerfile: Callable[..., Path]) -> None:
    for name in ("new\nline", "-dash", "star*", "blank ", "ü", "\udcff"):
        build.write(f"ctx/odd/{name}", "x")
    os.mkfifo(build.directory / "ctx/pipe")
    dockerfile("COPY odd /odd\n")
    build.ok("build", "x.sif", "ctx/Dockerfile")
    assert sorted(os.listdir(build.root_of("x.sif") / "odd")) == sorted(
        ["new\nline", "-dash", "star*", "blank ", "ü", "\udcff"]
    )
    dockerfile("COPY pipe /pipe\n")
    assert "neither a file nor a directory" in build.fails("build", "-F", "x.sif", "ctx/Dockerfile")


def test_the_image_itself_is_no_part_of_the_context(build: Build, dockerfile: Callable[..., Path]) -> None:
    dockerfile("COPY . /all\n")
    build.ok("build", "ctx/x.sif", "ctx/Dockerfile")
    assert steps(build.ok("build", "-F", "ctx/x.sif", "ctx/Dockerfile").stderr)[0] == ["COPY"]
    assert os.listdir(build.root_of("ctx/x.sif") / "all") == ["Dockerfile"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("RUN exit 3\n", "ctx/Dockerfile:2: RUN failed with status 3"),
        ("RUN kill -9 $$\n", "ctx/Dockerfile:2: RUN was killed by signal 9"),
        ('RUN ["/none"]\n', "ctx/Dockerfile:2: RUN: /none in the image: No such file or directory (scripts need it)"),
        ("USER none\nRUN true\n", 'ctx/Dockerfile:3: RUN: no user "none" in the image'),
        ("COPY --chown=none Dockerfile /\n", 'ctx/Dockerfile:2: COPY: no user "none" in the image (numbers do, too)'),
        ("COPY --chmod=u+x Dockerfile /\n", "ctx/Dockerfile:2: COPY: --chmod=u+x: an octal number is expected"),
        ("COPY none /\n", "ctx/Dockerfile:2: COPY: none: no such file in the context ctx"),
        ("COPY n*ne /\n", "ctx/Dockerfile:2: COPY: n*ne: no such file in the context ctx"),
        ("COPY --from=0 none /\n", 'ctx/Dockerfile:2: COPY: "0" is the stage itself'),
        ("WORKDIR /bin/sh/x\n", "ctx/Dockerfile:2: WORKDIR: /bin/sh: no directory is there, and one should be"),
        ("RUN mkdir /d\nCOPY Dockerfile /d/Dockerfile/\nCOPY Dockerfile /bin/sh/x\n", "ctx/Dockerfile:4: COPY: "),
        (
            "ADD git@example.org:a/b.git /x\n",
            "ctx/Dockerfile:2: ADD: git@example.org:a/b.git: git repositories are not",
        ),
        (
            "ADD https://example.org/a.git#main /x\n",
            "git repositories are not fetched (RUN git clone, or a bind mount)",
        ),
        ("EXPOSE many\n", 'ctx/Dockerfile:2: EXPOSE: "many" is no port'),
        ('ENV A="${B:?is needed}"\n', "ctx/Dockerfile:2: ENV: B: is needed"),
    ],
)
def test_a_failure_is_one_line_with_its_place(
    build: Build, dockerfile: Callable[..., Path], text: str, said: str
) -> None:
    dockerfile(text)
    assert said in build.fails("build", "x.sif", "ctx/Dockerfile")
    assert not (build.directory / "x.sif").exists()
    assert build.leftovers() == []


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """A web server on loopback with one archive."""
    place = tmp_path / "www"
    place.mkdir()
    subprocess.run(["tar", "-czf", place / "a.tar.gz", "-C", "/etc", "hostname"], check=True)
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=str(place))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as served:
        thread = threading.Thread(target=served.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{served.server_port}"
        served.shutdown()
        thread.join()


def test_add_fetches_a_url_and_checks_it(
    build: Build, dockerfile: Callable[..., Path], server: str, tmp_path: Path
) -> None:
    archive = tmp_path / "www/a.tar.gz"
    digest = subprocess.run(["sha256sum", archive], check=True, capture_output=True, text=True).stdout.split()[0]
    dockerfile(f"ADD --checksum=sha256:{digest} {server}/a.tar.gz /dir/\nADD {server}/a.tar.gz /named\n")
    build.ok("build", "x.sif", "ctx/Dockerfile")
    root = build.root_of("x.sif")
    for name in ("dir/a.tar.gz", "named"):
        assert (root / name).read_bytes() == archive.read_bytes()
        assert stat.S_IMODE((root / name).stat().st_mode) == 0o600
    dockerfile(f"ADD --checksum=sha256:{'0' * 64} {server}/a.tar.gz /dir/\n")
    assert f"its checksum is sha256:{digest}" in build.fails("build", "-F", "x.sif", "ctx/Dockerfile")
    dockerfile(f"ADD {server}/none /dir/\n")
    assert "ctx/Dockerfile:2: ADD: " in build.fails("build", "-F", "x.sif", "ctx/Dockerfile")


def test_archives_of_strangers_stay_inside(build: Build, dockerfile: Callable[..., Path]) -> None:
    (build.directory / "ctx").mkdir()
    subprocess.run(
        ["tar", "-cPf", build.directory / "ctx/out.tar", "--transform=s,^,../../../../out-,", "/etc/hostname"],
        check=True,
    )
    dockerfile("ADD out.tar /x/\n")
    done = build("build", "x.sif", "ctx/Dockerfile")
    assert done.returncode == 255
    assert done.stderr.splitlines()[-1].startswith("FATAL:   ctx/Dockerfile:2: ADD: out.tar: ")
    assert not (build.directory / "out-etc").exists()
    (build.directory / "ctx/cut.tar.gz").write_bytes(b"\x1f\x8b\x08\0\0\0\0\0\0\3not compressed")
    dockerfile("ADD cut.tar.gz /x\n")
    build.ok("build", "x.sif", "ctx/Dockerfile")
    assert (build.root_of("x.sif") / "x").is_file()


OWNED = """\
COPY --chown=user:users Dockerfile /home/user/
RUN chown user /tmp/x || touch /tmp/x && chown 33:34 /tmp/x
USER user
WORKDIR /work
RUN id -u >/tmp/id
"""


@pytest.mark.needs("userns", "installation")
@pytest.mark.skipif(not shutil.which("newuidmap"), reason="newuidmap is not installed (package uidmap)")
def test_users_with_ids_have_all_owners(build: Build, dockerfile: Callable[..., Path]) -> None:
    dockerfile(OWNED)
    done = as_user(build, "build", "x.sif", "ctx/Dockerfile", ids="user:500000:65536\n")
    assert done.returncode == 0, done.stderr
    root = build.root_of("x.sif")
    owners = {
        name: ((root / name).stat().st_uid, (root / name).stat().st_gid) for name in ("home/user", "tmp/x", "tmp/id")
    }
    assert owners == {"home/user": (1000, 1001), "tmp/x": (33, 34), "tmp/id": (1000, 1001)}
    assert (root / "tmp/id").read_text() == "1000\n"
    again = as_user(build, "build", "-F", "x.sif", "ctx/Dockerfile", ids="user:500000:65536\n")
    assert steps(again.stderr)[0] == ["COPY", "RUN", "WORKDIR", "RUN"]


@pytest.mark.needs("userns", "installation")
def test_users_with_one_id_have_owners_emulated(build: Build, dockerfile: Callable[..., Path]) -> None:
    """But for what is made by RUN after USER, which is root's: docs/fakeroot.md."""
    dockerfile(OWNED)
    done = as_user(build, "build", "x.sif", "ctx/Dockerfile")
    assert done.returncode == 0, done.stderr
    root = build.root_of("x.sif")
    owners = {
        name: ((root / name).stat().st_uid, (root / name).stat().st_gid) for name in ("home/user/Dockerfile", "tmp/x")
    }
    assert owners == {"home/user/Dockerfile": (1000, 1001), "tmp/x": (33, 34)}
    assert not any(marks.read(path) for path in root.rglob("*"))


def test_a_dockerfile_of_a_web_server_has_no_context(
    build: Build, dockerfile: Callable[..., Path], server: str, tmp_path: Path
) -> None:
    dockerfile("RUN echo run >/run\n")
    shutil.copy(build.directory / "ctx/Dockerfile", tmp_path / "www/Dockerfile")
    build.ok("build", "x.sif", f"{server}/Dockerfile")
    assert (build.root_of("x.sif") / "run").read_text() == "run\n"
    (tmp_path / "www/Other.Dockerfile").write_text(FROM + "COPY . /all\n")
    build.ok("build", "-F", "x.sif", f"{server}/Other.Dockerfile")
    assert os.listdir(build.root_of("x.sif") / "all") == []


def test_links_of_a_running_system_do_not_keep_the_network_away(build: Build, dockerfile: Callable[..., Path]) -> None:
    dockerfile(
        "RUN ln -s ../run/systemd/resolve/stub-resolv.conf /etc/resolv.conf || true\nRUN cat /etc/resolv.conf >/seen\n"
    )
    (build.directory / "base/etc/resolv.conf").symlink_to("../run/systemd/resolve/stub-resolv.conf")
    build.ok("build", "--sandbox", "x", "ctx/Dockerfile")
    assert (build.directory / "x/seen").read_text() == Path("/etc/resolv.conf").read_text()
    assert not (build.directory / "x/run").exists()
