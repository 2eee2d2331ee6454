"""Where credentials are looked for, what helpers are asked, what is written, and which files are refused."""

from __future__ import annotations

import base64
import json
import logging
import os
import pty
import stat
import subprocess
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest
from pulls import all_at_once

from singularity.errors import FileError
from singularity.registry import credentials
from singularity.registry.access import Access, from_environment
from singularity.registry.credentials import Login, find

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

NONE = Access()
HUB = "https://index.docker.io/v1/"


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("REGISTRY_AUTH_FILE", "DOCKER_CONFIG", "DOCKER_USERNAME", "DOCKER_PASSWORD"):
        monkeypatch.delenv(name, raising=False)


def entry(username: str, password: str) -> dict[str, str]:
    return {"auth": base64.b64encode(f"{username}:{password}".encode()).decode()}


def write(path: Path, document: dict[str, Any], mode: int = 0o600) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document))
    path.chmod(mode)
    return path


def who(host: str, repository: str = "", access: Access = NONE) -> str:
    found = find(host, repository, access)
    return f"{found.username}:{found.password}" if found else ""


@pytest.fixture
def helper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Makes a helper program; what it does is Python text, with `action`, `text` and `note`. Its notes are returned."""
    directory = tmp_path / "programs"
    directory.mkdir()
    path = f"{directory}:{os.environ['PATH']}"
    monkeypatch.setenv("PATH", path)
    monkeypatch.setattr("singularity.process.SYSTEM_PATH", path)  # root's programs come from there alone

    def make(name: str, body: str) -> Path:
        program, notes = directory / f"docker-credential-{name}", tmp_path / f"{name}.notes"
        program.write_text(
            f"#!{sys.executable} -I\nimport os, sys, json\naction, text = sys.argv[1], sys.stdin.read()\n"
            f"note = dict(argv=sys.argv, text=text, environment=dict(os.environ))\n"
            f"print(json.dumps(note), file=open({str(notes)!r}, 'a'))\n{body}\n"
        )
        program.chmod(0o755)
        return notes

    return make


GIVES = "print(json.dumps(dict(ServerURL=text, Username='helped', Secret='by a program')))"
HAS_NOTHING = "print('credentials not found in native keychain'); sys.exit(1)"


# ---- the order -------------------------------------------------------------------------------------------------------
def test_the_first_place_that_knows_the_registry_counts(
    private_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = "reg.example:5000"
    assert who(host) == ""
    write(private_home / ".docker/config.json", {"auths": {host: entry("docker", "1"), "other": entry("other", "2")}})
    assert who(host) == "docker:1"
    write(private_home / ".singularity/docker-config.json", {"auths": {host: entry("own", "3")}})
    assert who(host) == "own:3"
    assert who("other") == "other:2", "what the one file does not know is looked for in the next"
    named = write(tmp_path / "named.json", {"auths": {host: entry("named", "4")}})
    monkeypatch.setenv("REGISTRY_AUTH_FILE", str(named))
    assert who(host) == "named:4"
    assert who("other") == "", "a file that is named is the only one"
    option = write(tmp_path / "option.json", {"auths": {host: entry("option", "5")}})
    assert who(host, access=Access(authfile=option)) == "option:5"
    said = Access(authfile=option, username="said", password="6")
    assert who(host, access=said) == "said:6"
    mirror = find(host, "", said, named=False)
    assert mirror is not None
    assert mirror.username == "option", "what was said is for the registry that was named, not for its mirrors"
    monkeypatch.delenv("REGISTRY_AUTH_FILE")
    monkeypatch.setenv("DOCKER_CONFIG", str(write(tmp_path / "docker/config.json", {"auths": {}}).parent))
    assert who("other") == ""


@pytest.mark.parametrize("key", [HUB, "docker.io", "index.docker.io", "https://registry-1.docker.io/v2/", "docker.io/"])
def test_docker_hub_has_several_names(private_home: Path, key: str) -> None:
    write(private_home / ".docker/config.json", {"auths": {key: entry("me", "pw")}})
    assert who("docker.io", "library/debian") == "me:pw"


def test_an_entry_may_be_for_a_part_of_a_registry(private_home: Path) -> None:
    auths = {"r.example": entry("all", "1"), "r.example/team": entry("team", "2"), "r.example/team/x": entry("x", "3")}
    write(private_home / ".docker/config.json", {"auths": auths})
    assert who("r.example", "team/x") == "x:3"
    assert who("r.example", "team/y") == "team:2"
    assert who("r.example", "teams/y") == "all:1"
    assert who("r.example") == "all:1"


def test_passwords_arrive_to_the_letter(private_home: Path) -> None:
    password = "a:b c\tñ\"'$`\\"
    write(private_home / ".docker/config.json", {"auths": {"r.example": entry("me", password)}})
    found = find("r.example", "", NONE)
    assert found is not None
    assert found.password == password
    assert base64.b64decode(found.basic.removeprefix("Basic ")).decode() == f"me:{password}"
    assert password not in repr(found)


def test_variables_say_it_under_three_prefixes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_USERNAME", "plain")
    assert from_environment().username == "", "one of the two alone says nothing"
    monkeypatch.setenv("DOCKER_PASSWORD", " blanks ")
    assert (from_environment().username, from_environment().password) == ("plain", " blanks ")
    monkeypatch.setenv("APPTAINER_DOCKER_USERNAME", "twin")
    monkeypatch.setenv("SINGULARITY_DOCKER_USERNAME", "ours")
    monkeypatch.setenv("SINGULARITY_DOCKER_PASSWORD", "pw")
    access = from_environment()
    assert (access.username, access.password) == ("ours", "pw")
    assert "pw" not in repr(access)
    monkeypatch.setenv("SINGULARITY_NOHTTPS", "yes")
    monkeypatch.setenv("APPTAINER_AUTH_FILE", "x.json")
    access = from_environment()
    assert access.no_https
    assert access.authfile is not None
    assert access.authfile.is_absolute()


# ---- R-N7: files -----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644])
def test_r_n7_a_file_that_others_may_read_is_not_used(private_home: Path, mode: int) -> None:
    path = write(private_home / ".docker/config.json", {"auths": {"r.example": entry("me", "hidden")}}, mode)
    with pytest.raises(FileError, match=rf"others may read the passwords in it \(chmod 600 {path}\)") as error:
        find("r.example", "", NONE)
    assert "hidden" not in str(error.value)
    with pytest.raises(FileError, match="others may read"):
        credentials.save("r.example", "me", "pw", Access(authfile=path))
    path.chmod(0o600)
    assert who("r.example") == "me:hidden"


def test_r_n7_a_file_without_passwords_may_be_read_by_all(private_home: Path) -> None:
    write(private_home / ".docker/config.json", {"auths": {"r.example": {}}, "detachKeys": "ctrl-e"}, 0o644)
    assert who("r.example") == ""


def test_r_n7_what_is_written_is_for_its_owner_alone(private_home: Path) -> None:
    before = os.umask(0)
    try:
        credentials.save("r.example", "me", "pw", NONE)
    finally:
        os.umask(before)
    path = private_home / ".singularity/docker-config.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert [each.name for each in path.parent.iterdir()] == [path.name], "nothing is left beside it"
    assert who("r.example") == "me:pw"


def test_what_else_is_in_a_file_stays(private_home: Path, tmp_path: Path) -> None:
    path = tmp_path / "real.json"
    write(path, {"auths": {"https://r.example/v2/": entry("old", "0"), "x": entry("x", "1")}, "psFormat": "table"})
    link = private_home / "link.json"
    link.symlink_to(path)
    access = Access(authfile=link)
    credentials.save("r.example", "new", "2", access)
    document = json.loads(path.read_text())
    assert link.is_symlink()
    assert document == {"auths": {"r.example": entry("new", "2"), "x": entry("x", "1")}, "psFormat": "table"}
    assert credentials.logins(access) == [Login(host="r.example", secure=True), Login(host="x", secure=True)]
    credentials.remove("r.example", access)
    assert list(json.loads(path.read_text())["auths"]) == ["x"]
    assert credentials.remove("r.example", access) is None


def test_logins_at_the_same_time_are_all_kept(private_home: Path) -> None:
    def log_in(number: int) -> None:
        credentials.save(f"r{number}.example", "me", "pw", NONE)

    assert all_at_once(8, log_in) == []
    assert len(credentials.logins(NONE)) == 8
    del private_home


@pytest.mark.parametrize(
    "content",
    [b"[1]", b"{", b'"x"', b"[" * 3000, b"\xff", b'{"a":' * 100 + b"1" + b"}" * 100, b" " * (1 << 20) + b"{}"],
)
def test_a_file_that_is_none_of_credentials_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "odd.json"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(FileError, match=r"odd.json: not a file of credentials"):
        find("r.example", "", Access(authfile=path))


@pytest.mark.parametrize("value", ["not base64!", "/w==", 5, ["x"]])
def test_an_entry_that_makes_no_sense_is_named(tmp_path: Path, value: object) -> None:
    path = write(tmp_path / "odd.json", {"auths": {"r.example": {"auth": value}}})
    with pytest.raises(FileError, match=r"odd.json: the entry for r.example makes no sense"):
        find("r.example", "", Access(authfile=path))


def test_odd_members_are_passed_over(tmp_path: Path) -> None:
    document: dict[str, Any] = {"auths": {"r.example": 7, "": {}, "../..": entry("a", "b")}, "credHelpers": [1]}
    assert who("r.example", access=Access(authfile=write(tmp_path / "odd.json", document))) == ""
    assert who("r.example", access=Access(authfile=write(tmp_path / "empty.json", {}))) == ""
    (tmp_path / "nothing.json").write_text("")
    assert who("r.example", access=Access(authfile=tmp_path / "nothing.json")) == ""
    with pytest.raises(FileError, match="No such file"):
        find("r.example", "", Access(authfile=tmp_path / "none.json"))


# ---- helpers ---------------------------------------------------------------------------------------------------------
def test_helpers_are_asked_for_their_registries(private_home: Path, helper: Callable[..., Path]) -> None:
    special = helper("special", GIVES)
    general = helper("general", GIVES.replace("helped", "general"))
    document = {
        "auths": {"a.example": entry("written", "1"), "b.example": entry("written", "2"), "c.example": {}},
        "credHelpers": {"a.example": "special"},
        "credsStore": "general",
    }
    write(private_home / ".docker/config.json", document)
    assert who("a.example") == "helped:by a program"
    assert who("b.example") == "written:2"
    assert who("c.example") == "general:by a program"
    assert who("docker.io") == "general:by a program"
    assert json.loads(special.read_text())["text"] == "a.example"
    assert [json.loads(line)["text"] for line in general.read_text().splitlines()] == ["c.example", HUB]


def test_a_helper_may_have_nothing_or_an_identity_token(private_home: Path, helper: Callable[..., Path]) -> None:
    helper("empty", HAS_NOTHING)
    helper("token", GIVES.replace("'helped'", "'<token>'"))
    write(private_home / ".docker/config.json", {"credHelpers": {"a.example": "empty", "b.example": "token"}})
    assert who("a.example") == ""
    found = find("b.example", "", NONE)
    assert found is not None
    assert (found.identity_token, found.basic) == ("by a program", "")


@pytest.mark.parametrize("body", ["sys.exit(3)", "print('{')", "print('{\"Username\": 5}')", None])
def test_a_helper_that_fails_or_is_missing_is_warned_of(
    private_home: Path, helper: Callable[..., Path], caplog: pytest.LogCaptureFixture, body: str | None
) -> None:
    if body is not None:
        helper("bad", body)
    write(private_home / ".docker/config.json", {"credHelpers": {"a.example": "bad"}})
    assert who("a.example") == ""
    if body is None or "Username" not in body:
        assert "docker-credential-bad" in caplog.text
        assert "without logging in to a.example" in caplog.text


def test_a_helper_that_hangs_is_not_waited_for(
    private_home: Path, helper: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(credentials, "_HELPER_SECONDS", 1.0)
    helper("slow", "print('{', flush=True); import time; time.sleep(600)")
    write(private_home / ".docker/config.json", {"credsStore": "slow"})
    assert who("a.example") == ""
    assert "docker-credential-slow: no answer in 1 seconds: going on without logging in to a.example" in caplog.text


@pytest.mark.parametrize("name", ["../evil", "a/b", "-x", "a b", 5])
def test_a_helper_is_a_name_not_a_path(private_home: Path, name: object) -> None:
    write(private_home / ".docker/config.json", {"credsStore": name})
    with pytest.raises(FileError, match="is no name of a credential helper"):
        find("a.example", "", NONE)


def test_r_n3_secrets_reach_helpers_by_pipes_alone(
    private_home: Path, helper: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Not on their command lines, nor in their environment, nor in our debug output."""
    caplog.set_level(logging.DEBUG)
    notes = helper("keeper", f"if action == 'get': {GIVES}")
    for prefix in ("SINGULARITY_", "APPTAINER_", ""):
        monkeypatch.setenv(f"{prefix}DOCKER_USERNAME", "someone")
        monkeypatch.setenv(f"{prefix}DOCKER_PASSWORD", "in a variable")
    monkeypatch.setenv("KEPT_FOR_HELPERS", "yes")
    path = write(private_home / ".singularity/docker-config.json", {"credsStore": "keeper"})
    assert credentials.save("r.example", "me", "to be kept", NONE) == "docker-credential-keeper"
    assert find("r.example", "", NONE) is not None
    credentials.remove("r.example", NONE)
    stored, asked, erased = (json.loads(line) for line in notes.read_text().splitlines())
    assert json.loads(stored["text"]) == {"ServerURL": "r.example", "Username": "me", "Secret": "to be kept"}
    assert (stored["argv"][1:], asked["argv"][1:], erased["argv"][1:]) == (["store"], ["get"], ["erase"])
    assert asked["environment"]["KEPT_FOR_HELPERS"] == "yes"
    said = "".join(str(each["argv"]) + str(each["environment"]) for each in (stored, asked, erased)) + caplog.text
    for secret in ("to be kept", "in a variable", "by a program"):
        assert secret not in said
    assert "to be kept" not in path.read_text()


def test_docker_login_asks_at_the_terminal_without_an_echo() -> None:
    text = (
        "from singularity.registry.access import Access\nfrom singularity.registry.credentials import find\n"
        "first, second = (find('r.example', '', Access(login=True)) for _ in range(2))\n"
        "print('GOT', first.username, len(first.password), first is second)"
    )
    seen = b""
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(sys.executable, [sys.executable, "-c", text])  # noqa: S606
    try:
        for waited, typed in (
            (b"Username for r.example: ", b"alice\n"),
            (b"Password for alice at r.example: ", b"s3cret\n"),
        ):
            while waited not in seen:
                seen += os.read(terminal, 4096)
            time.sleep(0.1)  # until echoing is off
            os.write(terminal, typed)
        with suppress(OSError):  # the other end is closed
            while data := os.read(terminal, 4096):
                seen += data
    finally:
        os.close(terminal)
        os.waitpid(pid, 0)
    assert b"GOT alice 6 True" in seen
    assert b"s3cret" not in seen


def test_without_a_terminal_nobody_is_asked() -> None:
    text = (
        "from singularity.registry.access import Access\nfrom singularity.registry.credentials import find\n"
        "find('r.example', '', Access(login=True))"
    )
    done = subprocess.run(
        [sys.executable, "-c", text], stdin=subprocess.DEVNULL, capture_output=True, text=True, start_new_session=True
    )
    assert "UsageError: r.example: there is nobody to ask for a password" in done.stderr
