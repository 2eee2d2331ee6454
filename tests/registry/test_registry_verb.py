"""`singularity registry`: logging in, out, and who is logged in, against real registries."""

from __future__ import annotations

import json
import stat
import subprocess
import sys
from typing import TYPE_CHECKING

import click
import machine
import ordinary_user
import pytest
from servers import PASSWORD, USER

from singularity.cli.access import access_options
from singularity.registry.access import Access
from singularity.registry.client import Registry as Client
from singularity.registry.reference import parse

if TYPE_CHECKING:
    from pathlib import Path

    from servers import Certificates, Registry, TokenService

pytestmark = pytest.mark.usefixtures("no_proxy")
ARGV = [sys.executable, "-I", "-m", "singularity"]


def run(*words: str, text: str = "", verb: tuple[str, ...] = ("registry",)) -> subprocess.CompletedProcess[str]:
    argv = [*ARGV, *verb, *words]
    return subprocess.run(
        argv, input=text, capture_output=True, text=True, check=False, timeout=60, start_new_session=True
    )


def test_who_logs_in_is_listed_and_logs_out(basic_registry: Registry, private_home: Path) -> None:
    uri = f"docker://{basic_registry.host}"
    done = run("login", "-u", USER, "--password-stdin", "--no-https", uri, text=PASSWORD + "\n")
    path = private_home / ".singularity/docker-config.json"
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    assert done.stderr == f"INFO:    Logged in to {basic_registry.host} as {USER}: kept in {path}\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert run("list").stdout.splitlines() == [f"{'URI':<{len(uri)}}  SECURE?", f"{uri}  no"]
    done = run("logout", uri)
    assert (done.returncode, done.stderr) == (0, f"INFO:    Logged out of {basic_registry.host}: removed from {path}\n")
    assert run("list").stdout == "URI  SECURE?\n"
    done = run("logout", uri)
    assert done.returncode == 0
    assert done.stderr.startswith(f"WARNING: {basic_registry.host}: not logged in")


def test_r_n3_a_wrong_password_is_not_kept_nor_shown(basic_registry: Registry, private_home: Path) -> None:
    words = ("login", "-u", USER, "--password-stdin", "--no-https", f"oras://{basic_registry.host}")
    done = run(*words, text="wr0ng-word\n", verb=("--debug", "registry"))
    assert done.returncode == 255
    assert "requested access to the resource is denied" in done.stderr
    assert "wr0ng-word" not in done.stderr
    assert not (private_home / ".singularity/docker-config.json").exists()


def test_a_login_is_where_the_option_says_and_is_understood_by_skopeo(
    token_registry: Registry, token_service: TokenService, tmp_path: Path, small_layout: Path
) -> None:
    token_registry.fill(f"oci:{small_layout}:t", "private/x:1")
    token_service.anonymous = False
    path = tmp_path / "auth.json"
    words = ("login", "--username", USER, "--authfile", str(path), "--no-https", token_registry.host)
    assert "denied" in run(*words, "--password-stdin", text="wrong").stderr
    done = run(*words, "--password", PASSWORD)
    assert done.returncode == 0, done.stderr
    assert list(json.loads(path.read_text())["auths"]) == [token_registry.host]
    argv = ["skopeo", "inspect", "--tls-verify=false", f"--authfile={path}", "--format={{.Name}}"]
    argv.append(f"docker://{token_registry.host}/private/x:1")
    inspected = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert inspected.returncode == 0, inspected.stderr


def test_a_login_by_podman_s_family_is_understood_here(
    basic_registry: Registry, tmp_path: Path, small_layout: Path
) -> None:
    basic_registry.fill(f"oci:{small_layout}:t", "small:1")
    path = tmp_path / "auth.json"
    argv = ["skopeo", "login", "--tls-verify=false", f"--authfile={path}", "-u", USER, "-p", PASSWORD]
    subprocess.run([*argv, basic_registry.host], check=True, capture_output=True)
    assert basic_registry.host in run("list", "--authfile", str(path)).stdout
    document = Client(basic_registry.host, Access(no_https=True, authfile=path)).manifest(
        parse(f"{basic_registry.host}/small:1")
    )
    assert document.data


def test_a_registry_of_https_is_logged_in_to_securely(
    tls_registry: Registry, certificates: Certificates, private_home: Path
) -> None:
    directory = private_home / ".singularity/certs.d" / tls_registry.host
    directory.mkdir(parents=True)
    (directory / "ca.crt").write_bytes(certificates.authority.read_bytes())
    done = run("login", "-u", "a", "-p", "b", f"docker://{tls_registry.host}")
    assert done.returncode == 0, done.stderr
    assert f"docker://{tls_registry.host}  yes" in run("list").stdout


@pytest.mark.parametrize(
    ("words", "text", "status", "said"),
    [
        (("login", "-u", "a", "localhost:1"), "", 1, "localhost:1: there is nobody to ask for a password"),
        (("login", "--password-stdin", "localhost:1"), "x", 1, "--password-stdin goes with --username"),
        (("login", "-u", "a", "-p", "b", "--password-stdin", "localhost:1"), "x", 1, "without --password"),
        (("login", "-u", "a", "--password-stdin", "localhost:1"), "", 1, "one line is needed"),
        (("login", "-u", "a", "--password-stdin", "localhost:1"), "a\nb\n", 1, "one line is needed"),
        (("login", "-u", "a", "-p", "b", "localhost:1"), "", 255, "dial tcp localhost:1: Connection refused"),
        (
            ("login", "-u", "a", "-p", "b", "shub://x"),
            "",
            1,
            '"shub://x" is no registry (docker://HOST or oras://HOST)',
        ),
        (("login", "-u", "a", "-p", "b", "docker://a b"), "", 255, '"a b" is no registry'),
        (("login",), "", 1, "URI is missing"),
        (("logon",), "", 1, "unknown command registry logon (did you mean login?)"),
    ],
)
def test_what_makes_no_sense_is_told_in_one_line(words: tuple[str, ...], text: str, status: int, said: str) -> None:
    done = run(*words, text=text)
    assert said in done.stderr
    assert done.returncode == status
    assert len(done.stderr.splitlines()) == (2 if status == 255 and "dial" in said else 1)


@pytest.mark.needs("root", "userns")
def test_an_ordinary_user_logs_in(basic_registry: Registry) -> None:
    """In a home directory of her own, which goes when the command ends."""
    program = f"{sys.executable} -I -m singularity registry"
    login = f"{program} login -u {USER} --password-stdin --no-https {basic_registry.host}"
    lines = f"printf '%s' '{PASSWORD}' | {login} && stat -c %a:%u ~/.singularity ~/.singularity/* && {program} list"
    argv = [sys.executable, str(machine.CHECKOUT / "tests/ordinary_user.py"), "--", "sh", "-c", lines]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60)
    uid = ordinary_user.ALICE.uid
    assert done.stdout.splitlines()[:2] == [f"700:{uid}", f"600:{uid}"], done.stderr
    assert f"docker://{basic_registry.host}  no" in done.stdout


def test_the_options_of_verbs_say_how_registries_are_reached(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    seen: list[Access] = []

    @click.command()
    @click.argument("uri")
    @access_options
    def verb(uri: str, *, access: Access) -> None:
        assert uri == "docker://x"
        seen.append(access)

    verb.main(["docker://x"], standalone_mode=False)
    verb.main(["--no-https", "--docker-login", f"--authfile={tmp_path}/a", "docker://x"], standalone_mode=False)
    monkeypatch.setenv("APPTAINER_NO_HTTPS", "1")
    monkeypatch.setenv("SINGULARITY_DOCKER_USERNAME", "me")
    monkeypatch.setenv("SINGULARITY_DOCKER_PASSWORD", "pw")
    verb.main(["docker://x"], standalone_mode=False)
    assert seen == [
        Access(),
        Access(no_https=True, login=True, authfile=tmp_path / "a"),
        Access(no_https=True, username="me", password="pw"),
    ]


def test_list_needs_neither_a_network_library_nor_a_directory(private_home: Path) -> None:
    code = (
        "import sys\nfrom singularity.cli.main import main\nstatus = main(['registry', 'list'])\n"
        "assert not {'urllib3', 'ssl'} & set(sys.modules), sorted(sys.modules)\nsys.exit(status)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "URI  SECURE?\n"), done.stderr
    assert not (private_home / ".singularity").exists()
