"""Completion asks the installed program for names that change, as someone types in bash, zsh and fish."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import machine
import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from images import Images
    from launching import Launcher

SHARED = {
    "bash": "bash-completion/completions/singularity",
    "zsh": "zsh/site-functions/_singularity",
    "fish": "fish/vendor_completions.d/singularity.fish",
}
SCRIPTS = {  # $1: the script, the rest: the words
    "bash": 'source "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); compopt() { :; }; _singularity;'
    'printf "%s\\n" "${COMPREPLY[@]}"',
    "zsh": 'source "$1"; shift; words=("$@"); CURRENT=$#; compadd() { shift; print -l -- '
    "${(M)@:#${words[CURRENT]}*}; }; _files() { print -l -- ${words[CURRENT]}*(N); }; _singularity",
    "fish": 'source $argv[1]; complete --do-complete "$argv[2..]"',
}


def offered(launch: Launcher, shell: str, *words: str) -> list[str]:
    """What the shell offers for the last word."""
    script = launch.prefix / "share" / SHARED[shell]
    names = [] if shell == "fish" else [shell]
    argv = [shell, "-c", SCRIPTS[shell], *names, str(script), "singularity", *words]
    if shell == "zsh":
        argv.insert(1, "-f")
    path = f"{launch.prefix}/bin:/usr/bin:/bin"
    result = launch.command(*argv, env={"PATH": path})
    assert result.status == 0, str(result)
    assert result.err == "", str(result)
    return sorted({line.split("\t")[0] for line in result.lines if line})


@pytest.mark.modes("userns")
@pytest.mark.parametrize("shell", list(SHARED))
def test_names_that_change_are_offered(launch: Launcher, images: Images, shell: str, home: Path) -> None:
    if shell != "bash":
        machine.require(shell)
    blob = home / ".singularity/cache/blob"
    blob.mkdir(parents=True, mode=0o700)
    names = ("docker.io/library/alpine:3", "quay.io/a/b:1", "docker.io/a/c:2", "x\x1b[31m:1")
    kind = "application/vnd.oci.image.manifest.v1+json"
    entries = [
        {
            "mediaType": kind,
            "digest": f"sha256:{number:064d}",
            "size": 1,
            "annotations": {"org.opencontainers.image.ref.name": name},
        }
        for number, name in enumerate(names)
    ]
    (blob / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": entries}))
    account = launch.world.account
    for path in (home / ".singularity", *(home / ".singularity").rglob("*")):
        os.chown(path, account.uid, account.gid)
    assert offered(launch, shell, "exec", "docker://") == [
        "docker://a/c:2",
        "docker://alpine:3",
        "docker://quay.io/a/b:1",
    ]
    assert offered(launch, shell, "pull", "docker://al") == ["docker://alpine:3"]
    assert offered(launch, shell, "run", "--app", "")[-1:] != ["hello"], "without an image there are none"
    if shell != "fish":  # which hands over what is before the cursor
        words = ("singularity", "run", "--app", "he", str(images.sif))
        assert behind_the_cursor(launch, shell, words, 3) == ["hello"]
    assert launch("install", images.sif, "--as", "probe/1").status == 0
    assert offered(launch, shell, "uninstall", "pr") == ["probe/1"]
    assert launch("uninstall", "probe").status == 0
    assert launch("instance", "start", images.sif, "web1").status == 0
    try:
        assert offered(launch, shell, "instance", "stop", "we") == ["web1"]
        assert offered(launch, shell, "exec", "instance://") == ["instance://web1"]
    finally:
        assert launch("instance", "stop", "web1").status == 0
    assert offered(launch, shell, "instance", "stop", "we") == []


def behind_the_cursor(launch: Launcher, shell: str, words: tuple[str, ...], at: int) -> list[str]:
    script = (
        SCRIPTS[shell].replace("COMP_CWORD=$(($# - 1))", f"COMP_CWORD={at}").replace("CURRENT=$#", f"CURRENT={at + 1}")
    )
    argv = [
        shell,
        *(["-f"] if shell == "zsh" else []),
        "-c",
        script,
        shell,
        str(launch.prefix / "share" / SHARED[shell]),
        *words,
    ]
    result = launch.command(*argv, env={"PATH": f"{launch.prefix}/bin:/usr/bin:/bin"})
    assert (result.status, result.err) == (0, ""), str(result)
    return result.lines


@pytest.mark.modes("userns")
@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_names_that_a_shell_would_evaluate_are_not_offered(launch: Launcher, home: Path, shell: str) -> None:
    """An image of somebody else's names its applications: bash expands the words that it is to offer."""
    if shell != "bash":
        machine.require(shell)
    names = ["good", "also+good_1.2", "$(touch${IFS}seen)", "`id`", "${HOME}", "~root", "-x", "a;b", "a\nb", "a\u202eb"]
    for name in names:
        (home / "image/scif/apps" / name / "scif").mkdir(parents=True)
    account = launch.world.account
    for path in (home / "image", *(home / "image").rglob("*")):
        os.chown(path, account.uid, account.gid)
    place = launch.command("pwd").out.strip()
    words = ("singularity", "run", "--app", "", f"{home}/image")
    assert sorted(behind_the_cursor(launch, shell, words, 3)) == ["also+good_1.2", "good"]
    assert "seen" not in launch.command("ls", place).out


@pytest.mark.modes("userns")
def test_whoever_asks_nonsense_gets_nothing(launch: Launcher) -> None:
    launch("complete", "apps", "/nosuch", "/etc/passwd", "-x").ok()
    assert launch("complete", "apps", "/etc").ok().out == ""
    launch("complete", "nosuch").ok()
    assert launch("complete", "uris", env={"SINGULARITY_CACHEDIR": "/nosuch"}).ok().out == ""
