"""Locked builds of environments of conda packages: by rattler, from a channel that moves on."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from typing import TYPE_CHECKING

import conda_channel
import pytest
import repositories
from repositories import lay

from singularity.build import reproducible
from singularity.image.root import Root

if TYPE_CHECKING:
    from pathlib import Path

    from builds import Build
    from servers import Certificates

SAID = {"url": "https://conda.example.org/noarch/repodata.json.zst", "mtime_ns": 1, "size": 2}


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def publish(channel: Path, work: Path, version: str) -> None:
    """What needs nothing, once; and two packages of this version in place of others, one in each of the formats."""
    trees: dict[str, dict[str, str | Path]] = {
        "python": {"bin/python3.11": '#!/bin/sh\nexec /usr/bin/python3 "$@"\n'},
        "lower": {"etc/lower": f"{conda_channel.PREFIX}/etc\n"},
        "greeter": {"bin/greeter": f'#!/bin/sh\necho "greeter {version}"\n'},
        "pure": {"site-packages/pure.py": f'print("pure {version}")\n'},
    }
    made = {name: lay(work / version / name, tree) for name, tree in trees.items()}
    if not channel.exists():
        conda_channel.package(channel, "python", "3.11.2", made["python"], form=".conda")
        conda_channel.package(channel, "lower", "1.0", made["lower"])
    for old in (*channel.glob("*/greeter-*"), *channel.glob("*/pure-*")):
        old.unlink()
    conda_channel.package(channel, "greeter", version, made["greeter"], ["lower"])
    conda_channel.package(channel, "pure", version, made["pure"], ["python"], form=".conda")
    conda_channel.index(channel)


@pytest.mark.needs("openssl", "mksquashfs", "busybox")
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_channel_of_conda_that_moves_on(
    builder: Build, python_base: Path, rattler: Path, certificates: Certificates, tmp_path: Path, scheme: str
) -> None:
    del python_base
    channel = tmp_path / "channel"
    publish(channel, tmp_path / "work", "1")
    with repositories.serving(channel, certificates.context() if scheme == "https" else None) as server:
        url = server.url
        shutil.copy(conda_channel.__file__.replace("_channel", "_install"), builder.directory / "install.py")
        lines = ["Bootstrap: localimage", "From: base", "%files", "    install.py /opt/", "%post"]
        install = f"PYTHONPATH=/mnt/rattler python3 /opt/install.py {url} /opt/env greeter pure"
        use = "/opt/env/bin/greeter; /usr/bin/python3 /opt/env/lib/python3.11/site-packages/pure.py"
        builder.write("x.def", "\n".join([*lines, f"    {install}", f"    {use}"]) + "\n")
        options = ("--bind", "/usr:/usr:ro", "--bind", f"{rattler}:/mnt/rattler:ro")
        trust = {"SSL_CERT_FILE": str(certificates.authority)}
        done = builder.ok("build", *options, "--lock", "--keep-sources", "kept", "x.sif", "x.def", **trust)
        assert "greeter 1\npure 1" in done.stdout
        first = sha256(builder.directory / "x.sif")
        packages = json.loads((builder.directory / "x.lock").read_bytes())["packages"]
        there = {each["name"]: each for each in packages if each["manager"] == "conda"}
        assert sorted(there) == ["greeter", "lower", "pure", "python"]
        for name, file in (("greeter", "linux-64/greeter-1-0.tar.bz2"), ("pure", "noarch/pure-1-0.conda")):
            assert (there[name]["file"], there[name]["sha256"]) == (f"{url}/{file}", sha256(channel / file))

        publish(channel, tmp_path / "work", "2")
        time.sleep(1.1)  # histories and lists have seconds
        server.asked.clear()
        done = builder.ok("build", *options, "--locked", "--keep-sources", "kept", "y.sif", "x.def")
        assert "greeter 1\npure 1" in done.stdout
        assert sha256(builder.directory / "y.sif") == first
        assert server.asked == []
        done = builder("build", *options, "--locked", "z.sif", "x.def", **trust)
        assert done.returncode == 255
        gone = [line for line in done.stderr.splitlines() if line.startswith("ERROR") and "repodata" not in line]
        assert gone == [
            f"ERROR:   greeter 1: {url}/linux-64/greeter-1-0.tar.bz2: not found (StatusCode: 404)",
            f"ERROR:   pure 1: {url}/noarch/pure-1-0.conda: not found (StatusCode: 404)",
        ]
        assert builder.leftovers() == []


def test_what_conda_and_mamba_leave_is_the_same_each_day(tmp_path: Path) -> None:
    """By the formats that their sources have: neither can be had here."""
    said, data = json.dumps(SAID), {"url": "https://example.org/film", "title": "not a list of conda's"}
    removed = {
        "opt/conda/pkgs/cache/0123abcd.json": "{}",
        "opt/conda/pkgs/cache/0123abcd.info.json": said,
        "opt/conda/pkgs/cache/0123abcd.state.json": said,
        "opt/conda/pkgs/cache/0123abcd.solv": "SOLV",
        "opt/conda/pkgs/cache/repodata_shards.db": "SQLite",
        "root/.conda/aau_token": "random",
        "opt/conda/etc/aau_token": "random",
        "srv/lists/89abcdef.json": "{}",
        "srv/lists/89abcdef.info.json": said,
        "srv/lists/89abcdef.lock": "",
        "srv/lists/01234567.shards-cache-v1": "SHARD-CACHE-V1\0\1\2",
        "root/.cache/conda/notices/defaults-notices.json": "{}",
    }
    kept = {
        "srv/films/deadbeef.info.json": json.dumps(data),
        "srv/films/deadbeef.json": "{}",
        "srv/films/0badc0de.shards-cache-v1": "else",
        "srv/lists/89abcdef.txt": "mine",
        "srv/lists/readme.json": "{}",
        "srv/aau_token": "mine",
        "srv/pkgs/urls.txt": "https://example.org/second\nhttps://example.org/first\n",
        "opt/conda/pkgs/cache/mine.json": "{}",
        "opt/conda/pkgs/lower-1.0-0/info/index.json": "{}",
    }
    history = "==> 2020-02-03 04:05:06 <==\n# cmd: conda install lower\n==> 2031-02-03 04:05:06 <==\n+x::lower-1.0-0\n"
    urls = "https://conda.example.org/noarch/{}-1-0.conda\n"
    changed = {
        "opt/conda/conda-meta/history": (history, history.replace("2031-02-03 04:05:06", "2027-01-15 08:00:00")),
        "opt/conda/pkgs/urls.txt": (urls.format("b") + urls.format("a"), urls.format("a") + urls.format("b")),
        "home/history": (history, history),
    }
    lay(tmp_path, {**removed, **kept, **{name: before for name, (before, _) in changed.items()}})
    with (lay(tmp_path, {"srv/conda-meta/history": ""}) / "srv/conda-meta/history").open("wb") as file:
        file.truncate(17 << 20)
    deep = tmp_path / "/".join(["d" * 200] * 18)
    deep.mkdir(parents=True)
    with Root(tmp_path) as root:
        reproducible.clear(root, 1_800_000_000)
    assert [name for name in removed if (tmp_path / name).exists()] == []
    assert [name for name in kept if (tmp_path / name).read_text() != kept[name]] == []
    assert {name: (tmp_path / name).read_text() for name in changed} == {n: after for n, (_, after) in changed.items()}
