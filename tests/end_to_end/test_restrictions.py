"""What a program does without: writing its home directory, a network, most paths, system calls, its ids.

A program tries to get around each of them by every way that it knows (breaker.c), as a user with and without the setuid
program and as root; and the same ways without the option work, so that it is the option that closes them.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import machine
import pytest
from launch_requests import request_for
from launching import Launcher, Mode, Result
from ordinary_user import STAGE
from test_starter import call

if TYPE_CHECKING:
    from collections.abc import Iterator

    from images import Images

BREAKER = "/opt/data"  # where the image has a file to bind it on
REFUSED = {"EACCES", "EPERM", "EXDEV", "EROFS"}


@pytest.fixture
def breaker(images: Images) -> str:
    machine.require("gcc")
    return f"{images.program(Path(__file__).parent / 'breaker.c')}:{BREAKER}"


@pytest.fixture
def kept(launch: Launcher, home: Path) -> Path:
    """A file in the home directory that must stay as it is."""
    return mine(launch, home / "kept", "kept\n")


def mine(launch: Launcher, path: Path, text: str = "") -> Path:
    path.write_text(text)
    path.chmod(0o600)
    if os.geteuid() == 0:
        os.chown(path, launch.account.uid, launch.account.gid)
    return path


def place(launch: Launcher, directory: Path, name: str) -> Path:
    """A directory of the user's with a file in it."""
    path = directory / name
    path.mkdir(mode=0o755)
    mine(launch, path / "kept", f"of {name}\n")
    if os.geteuid() == 0:
        os.chown(path, launch.account.uid, launch.account.gid)
    return path


def ways(result: Result) -> dict[str, str]:
    assert result.status == 0, str(result)
    return dict(line.split() for line in result.lines)


def all_refused(found: dict[str, str]) -> None:
    assert found
    left = {way: came for way, came in found.items() if came not in REFUSED and way != "back"}
    assert not left, found


# ---- --read-only-home ----


@pytest.mark.needs("landlock")
@pytest.mark.formats("sandbox", "squashfs")
def test_a_read_only_home_is_written_by_no_way(launch: Launcher, image: Path, breaker: str, kept: Path) -> None:
    words = ["-B", breaker, image, BREAKER, "write", launch.home_inside]
    all_refused(ways(launch("exec", "--read-only-home", *words)))
    assert kept.read_text() == "kept\n"
    assert sorted(path.name for path in kept.parent.iterdir()) == ["kept"]
    marks = ["-B", breaker, image, BREAKER, "mark", launch.home_inside]
    all_refused(ways(launch("exec", "--read-only-home", *marks)))
    assert launch("exec", "--read-only-home", image, "cat", launch.home_inside / "kept").ok().out == "kept\n"
    launch(
        "exec", "--read-only-home", image, "sh", "-c", "echo x > /var/tmp/made.$$; rm /var/tmp/made.$$; : > /dev/null"
    ).ok()
    without = ways(launch("exec", *words))
    assert {without[way] for way in ("open", "link", "child", "own-root", "mkdir", "truncate", "unlink")} == {"done"}


@pytest.mark.needs("root", "landlock")
def test_nor_by_another_path_that_leads_there(launch: Launcher, images: Images, breaker: str, kept: Path) -> None:
    home = launch.home_inside
    binds = ["-B", breaker, "-B", f"{home}:/srv"]
    (kept.parent / "part").mkdir()
    os.chown(kept.parent / "part", launch.account.uid, launch.account.gid)
    mine(launch, kept.parent / "part/kept", "part\n")
    binds += ["-B", f"{home}/part:/mnt"]
    if launch.mode is not Mode.ROOT:
        binds += ["-B", f"{STAGE}:/usr/share"]
        all_refused(
            ways(
                launch("exec", "--read-only-home", *binds, images.sandbox, BREAKER, "write", f"/usr/share/{home.name}")
            )
        )
    for path in ("/srv", "/srv/part", "/mnt", f"{home}/part"):
        all_refused(ways(launch("exec", "--read-only-home", *binds, images.sandbox, BREAKER, "write", path)))
    assert (kept.read_text(), (kept.parent / "part/kept").read_text()) == ("kept\n", "part\n")


@pytest.mark.needs("root", "landlock")
@pytest.mark.modes("root", "userns")
def test_who_is_root_inside_does_not_take_it_off(launch: Launcher, images: Images, breaker: str, kept: Path) -> None:
    options = [
        "--read-only-home",
        *(["--fakeroot", "--home", launch.home_inside] if launch.mode is Mode.USERNS else []),
    ]
    assert ways(launch("exec", *options, "-B", breaker, images.sandbox, BREAKER, "call", "mount")) == {"mount": "EPERM"}
    script = (
        f"mount -o remount,rw {launch.home_inside}; umount {launch.home_inside}; echo x > {launch.home_inside}/kept"
    )
    assert launch("exec", *options, images.sandbox, "sh", "-c", script).status != 0
    assert kept.read_text() == "kept\n"


@pytest.mark.needs("landlock")
def test_a_script_of_the_image_cannot_write_there_either(
    launch: Launcher, images: Images, directory: Path, kept: Path
) -> None:
    """What evaluates the environment runs before the program."""
    evil = f'echo "evil $(date)" > {launch.home_inside}/kept; export A=b\n'
    tree = images.modern_tree(directory / "hostile", environment=evil)
    launch("exec", "--read-only-home", tree, "true")
    assert kept.read_text() == "kept\n"
    launch("exec", tree, "true")
    assert kept.read_text().startswith("evil ")


@pytest.mark.needs("landlock")
def test_variables_say_so_too(launch: Launcher, images: Images, breaker: str, kept: Path) -> None:
    words = ["-B", breaker, images.sandbox, BREAKER]
    result = launch("exec", *words, "write", launch.home_inside, env={"SINGULARITY_READ_ONLY_HOME": "1"})
    all_refused(ways(result))
    result = launch("exec", *words, "network", env={"SINGULARITY_DENY_NET": "yes"})
    assert ways(result)["udp"] == "EACCES"
    result = launch(
        "exec", *words, "read", launch.home_inside, "kept", env={"APPTAINER_ALLOW_PATHS": f"/tmp,{BREAKER}:ro"}
    )
    assert ways(result)["open"] == "EACCES"
    assert kept.read_text() == "kept\n"


# ---- --deny-net ----


@pytest.mark.needs("landlock")
@pytest.mark.formats("sandbox", "squashfs")
def test_without_a_network_there_are_no_sockets_of_one(launch: Launcher, image: Path, breaker: str) -> None:
    words = ["-B", breaker, image, BREAKER, "network"]
    found = ways(launch("exec", "--deny-net", *words))
    assert (found.pop("unix"), found.pop("pair")) == ("done", "done")
    assert found.pop("io_uring") == "ENOSYS"
    assert set(found.values()) <= {"EACCES", "ENOSYS"}, found
    assert found["udp"] == found["tcp6"] == found["packet"] == found["netlink"] == found["high-bits"] == "EACCES"
    without = ways(launch("exec", *words))
    assert without["udp"] == without["tcp"] == without["netlink"] == "done"
    assert without["high-bits"] == "done"


@pytest.mark.needs("landlock")
def test_nor_are_sockets_of_others_borrowed(launch: Launcher, images: Images, breaker: str) -> None:
    """A process of the same user, outside, that has one."""
    code = "import socket, sys; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)"
    code += "; print(s.fileno(), flush=True); sys.stdin.read()"
    with launch.start("/usr/bin/python3", "-c", code, stdin=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdin is not None
        fd = other.stdout.readline().decode().strip()
        words = ["-B", breaker, images.sandbox, BREAKER, "borrow", other.pid, fd]
        found = ways(launch("exec", "--deny-net", *map(str, words)))
        other.stdin.close()
        other.wait(10)
    assert set(found.values()) <= {"EPERM", "EACCES"}, found
    if launch.mode is Mode.ROOT:
        with launch.start("/usr/bin/python3", "-c", code, stdin=subprocess.PIPE) as other:
            assert other.stdout is not None
            assert other.stdin is not None
            fd = other.stdout.readline().decode().strip()
            words = ["-B", breaker, images.sandbox, BREAKER, "borrow", other.pid, fd]
            assert ways(launch("exec", *map(str, words)))["pidfd_getfd"] == "done"
            other.stdin.close()
            other.wait(10)


@pytest.mark.needs("landlock-scopes")
def test_nor_sockets_without_a_file_reached(launch: Launcher, images: Images, breaker: str) -> None:
    name = f"singularity-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as server:
        server.bind(f"\0{name}")
        server.listen()
        words = ["-B", breaker, images.sandbox, BREAKER, "abstract", name]
        assert ways(launch("exec", *words)) == {"abstract": "done"}
        assert ways(launch("exec", "--deny-net", *words)) == {"abstract": "EPERM"}


# ---- --allow-paths ----


@pytest.mark.needs("root", "landlock")
@pytest.mark.formats("sandbox", "squashfs")
@pytest.mark.parametrize("layer", ["", "--underlay", "--writable-tmpfs"])
def test_only_paths_that_are_named_are_opened(
    launch: Launcher, image: Path, breaker: str, kept: Path, directory: Path, layer: str
) -> None:
    data, results, others = (place(launch, directory, name) for name in ("data", "results", "others"))
    binds = ["-B", breaker, "-B", f"{data}:/mnt", "-B", f"{results}:/srv", "-B", f"{others}:/usr/share"]
    allowed = f"--allow-paths=/mnt:ro,/srv,{BREAKER}:ro"
    options = ["exec", *([layer] if layer else []), allowed, *binds, image]
    for path in (launch.home_inside, "/usr/share"):
        found = ways(launch(*options, BREAKER, "read", path, "kept"))
        found.pop("execute")
        all_refused(found)
        all_refused(ways(launch(*options, BREAKER, "write", path)))
    found = ways(launch(*options, BREAKER, "read", "/mnt", "kept"))
    assert {found[way] for way in ("open", "openat2", "descriptor", "child", "thread", "list")} == {"done"}, found
    all_refused(ways(launch(*options, BREAKER, "write", "/mnt")))
    found = ways(launch(*options, BREAKER, "write", "/srv"))
    assert {found[way] for way in ("open", "create", "mkdir", "rename", "back", "truncate")} == {"done"}, found
    assert (kept.read_text(), (data / "kept").read_text(), (others / "kept").read_text()) == (
        "kept\n",
        "of data\n",
        "of others\n",
    )
    assert launch(*options, "cat", "/etc/image-name").ok().out == "busybox of the tests\n"
    script = "id -un; : > /dev/null; cat /proc/self/comm; (echo x > /dev/stderr) 2>&1 | cat"
    assert launch(*options, "sh", "-c", script).ok().lines[-2:] == ["cat", "x"]


@pytest.mark.needs("landlock")
def test_a_path_that_is_not_there_ends_the_launch(launch: Launcher, images: Images) -> None:
    launch("exec", "--allow-paths", "/no/such", images.sandbox, "true").refused(
        "--allow-paths /no/such", "in the container"
    )


# ---- what the kernel lacks ----


@pytest.mark.needs("landlock")
@pytest.mark.parametrize("option", ["--read-only-home", "--deny-net", "--allow-paths=/tmp"])
def test_a_kernel_without_landlock_starts_nothing(launch: Launcher, images: Images, option: str) -> None:
    """R-L9."""
    import syscalls

    refusal = syscalls.Refusal("landlock_create_ruleset")
    launch.changed(refusals=(refusal,))("exec", option, images.sandbox, "true").refused(
        option.split("=")[0], "Landlock", "Linux"
    )


# ---- --security ----

DENY = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"}]}


@pytest.fixture
def profile(directory: Path) -> Iterator[Path]:
    path = directory / "profile.json"
    path.write_text(json.dumps(DENY))
    path.chmod(0o644)
    yield path
    (Path("/tmp") / "breaker.directory").rmdir() if (Path("/tmp") / "breaker.directory").exists() else None


@pytest.mark.needs("libseccomp")
@pytest.mark.formats("sandbox", "squashfs")
def test_a_profile_refuses_what_it_names(launch: Launcher, image: Path, breaker: str, profile: Path) -> None:
    words = ["-B", breaker, image, BREAKER, "call", "mkdir"]
    assert ways(launch("exec", "--security", f"seccomp:{profile}", *words)) == {"mkdir": "EPERM"}
    script = "mkdir /tmp/breaker.directory; sh -c 'mkdir /tmp/breaker.directory'; probe fds"
    result = launch("exec", "--security", f"seccomp:{profile}", image, "sh", "-c", script)
    assert result.err.count("Operation not permitted") == 2, str(result)
    assert "answer" not in result.out, "the filter's own descriptor is not the program's"
    assert ways(launch("exec", *words)) == {"mkdir": "done"}


@pytest.mark.needs("libseccomp")
def test_an_errno_of_a_profile_is_what_the_program_gets(
    launch: Launcher, images: Images, breaker: str, profile: Path
) -> None:
    rule = {**DENY["syscalls"][0], "errnoRet": 28}  # type: ignore[dict-item]
    profile.write_text(json.dumps({**DENY, "syscalls": [rule]}))
    words = ["-B", breaker, images.sandbox, BREAKER, "call", "mkdir"]
    assert ways(launch("exec", f"--security=seccomp:{profile}", *words)) == {"mkdir": "ENOSPC"}


@pytest.mark.needs("libseccomp")
def test_the_profile_of_docker_is_taken(launch: Launcher, images: Images, breaker: str, directory: Path) -> None:
    from docker_profile import PROFILE

    path = directory / "docker.json"
    path.write_text(json.dumps(PROFILE))
    path.chmod(0o644)
    options = ["exec", "--security", f"seccomp:{path}", "-B", breaker, images.sandbox]
    assert launch(*options, "sh", "-c", "echo $((1 + 1)); ls / | grep -c etc; (id -u) | cat").ok().lines[:2] == [
        "2",
        "1",
    ]
    assert ways(launch(*options, BREAKER, "call", "personality")) == {"personality": "EPERM"}
    if launch.mode is not Mode.ROOT:  # who has CAP_SYS_ADMIN, and CAP_SYS_CHROOT, may call these
        assert ways(launch(*options, BREAKER, "call", "unshare")) == {"unshare": "EPERM"}
    else:
        assert ways(launch(*options, BREAKER, "call", "chroot")) == {"chroot": "done"}
        assert ways(launch(*options[:1], "--drop-caps=sys_admin", *options[1:], BREAKER, "call", "unshare")) == {
            "unshare": "EPERM"
        }


@pytest.mark.needs("libseccomp")
@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", ["line 1"]),
        ('{"defaultAction": "SCMP_ACT_ALLOW",\n "syscalls": [}', ["line 2"]),
        ("{}", ["defaultAction"]),
        ('{"defaultAction": "SCMP_ACT_NOTIFY"}', ["defaultAction", "notified"]),
        ('{"defaultAction": "SCMP_ACT_ALLOW", "sycalls": []}', ["sycalls", "did you mean syscalls"]),
        (
            '{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mkdri"], "action": "SCMP_ACT_ERRNO"}]}',
            ["syscalls[0].names", "mkdri"],
        ),
        ('{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mkdir"]}]}', ["syscalls[0].action"]),
    ],
)
def test_a_profile_that_makes_no_sense_is_one_line(
    launch: Launcher, images: Images, profile: Path, text: str, words: list[str]
) -> None:
    profile.write_text(text)
    launch("exec", "--security", f"seccomp:{profile}", images.sandbox, "true").refused(str(profile), *words)


def test_a_profile_that_is_not_there_is_one_line(launch: Launcher, images: Images, directory: Path) -> None:
    launch("exec", f"--security=seccomp:{directory}/none", images.sandbox, "true").refused(
        f"{directory}/none", "No such file"
    )


@pytest.mark.modes("suid", "userns")
def test_a_filter_that_is_no_filter_starts_nothing(launch: Launcher, images: Images) -> None:
    """From who writes his own request: a descriptor that is none, and one that is not sealed memory."""
    for number in (4 | 77 << 8, 4 | 1 << 8, 200):
        octets = request_for(
            images.sandbox, ("restriction", (number, b"/p", b"--security")), userns=launch.mode is Mode.USERNS
        )
        result = call(launch, [b"sexec", b"5", b"echo", b"ran"], octets=octets)
        assert (result.status, result.out) == (255, ""), str(result)


@pytest.mark.parametrize("module", ["apparmor:docker-default", "selinux:system_u:system_r:container_t:s0"])
def test_a_label_of_a_module_that_is_not_there_starts_nothing(launch: Launcher, images: Images, module: str) -> None:
    """R-L9."""
    if (
        module.split(":")[0] in Path("/sys/kernel/security/lsm").read_text()
        if Path("/sys/kernel/security/lsm").exists()
        else ""
    ):
        pytest.skip("this kernel has it")
    launch("exec", "--security", module, images.sandbox, "true").refused("--security", "not there")


@pytest.mark.modes("root")
def test_root_chooses_the_ids_of_a_program(launch: Launcher, images: Images) -> None:
    result = launch("exec", "--security", "uid:1234,gid:100:200:300", images.sandbox, "cat", "/proc/self/status").ok()
    fields = dict(line.split(":\t", 1) for line in result.lines if ":\t" in line)
    assert fields["Uid"].split() == ["1234"] * 4
    assert fields["Gid"].split() == ["100"] * 4
    assert fields["Groups"].split() == ["200", "300"]
    assert [int(fields[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")] == [0] * 5
    assert fields["NoNewPrivs"] == "1"
    result = launch(
        "exec", "--security=uid:1234", "--add-caps=net_raw", images.sandbox, "cat", "/proc/self/status"
    ).ok()
    fields = dict(line.split(":\t", 1) for line in result.lines if ":\t" in line)
    assert int(fields["CapEff"], 16) == int(fields["CapAmb"], 16) == int(fields["CapBnd"], 16) == 1 << 13


@pytest.mark.modes("suid", "userns")
@pytest.mark.parametrize("option", ["uid:0", "gid:0"])
def test_users_choose_no_ids(launch: Launcher, images: Images, option: str) -> None:
    words = ["only root"] if launch.mode is Mode.SUID else ["does not exist in this user namespace"]
    launch("exec", "--security", option, images.sandbox, "true").refused("--security", *words)


# ---- capabilities ----


@pytest.fixture
def policy(launch: Launcher, directory: Path) -> tuple[Launcher, Path]:
    """The launcher where the configuration's directory is the test's own, and the file of the policy."""
    machine.require("root")
    own = directory / "etc"
    own.mkdir(mode=0o755)
    (own / "singularity.conf").write_bytes(launch.config_path.read_bytes())
    return launch.showing(launch.config_path.parent, own), own / "capability.json"


@pytest.mark.modes("userns", "suid")
def test_users_add_what_root_allows(policy: tuple[Launcher, Path], images: Images) -> None:
    launcher, file = policy
    words = ["--add-caps", "net_raw,CAP_CHOWN", images.sandbox, "cat", "/proc/self/status"]
    launcher("exec", *words).warned("not authorized to add capability: CAP_CHOWN,CAP_NET_RAW")
    file.write_text(
        json.dumps({"users": {launcher.account.name: ["CAP_NET_RAW"]}, "groups": {"storage": ["CAP_KILL"]}})
    )
    if launcher.mode is Mode.SUID:
        result = launcher("exec", *words)
        assert result.status == 255, str(result)
        assert "--add-caps: users get none in SUID mode" in result.err
        return
    result = launcher("exec", *words).warned("not authorized to add capability: CAP_CHOWN")
    fields = dict(line.split(":\t", 1) for line in result.lines if ":\t" in line)
    assert int(fields["CapEff"], 16) == 1 << 13
    result = launcher("exec", "--add-caps=kill", *words[2:]).ok()
    fields = dict(line.split(":\t", 1) for line in result.lines if ":\t" in line)
    assert int(fields["CapEff"], 16) == 1 << 5
    file.chmod(0o666)
    result = launcher("exec", "--add-caps=kill", *words[2:])
    assert "not root's alone" in result.err, str(result)
    fields = dict(line.split(":\t", 1) for line in result.lines if ":\t" in line)
    assert int(fields["CapEff"], 16) == 0


@pytest.mark.modes("root")
def test_root_says_who_may_add_what(policy: tuple[Launcher, Path]) -> None:
    launcher, file = policy
    program = launcher.prefix / "bin/singularity"

    def said(*words: str) -> list[str]:
        result = launcher.command(program, "--quiet", *words)
        assert (result.status, result.err) == (0, ""), str(result)
        return result.lines

    assert said("capability", "list") == []
    said("capability", "add", "--user", "alice", "net_raw,CAP_KILL")
    said("capability", "add", "-g", "students", "chown")
    assert json.loads(file.read_text()) == {
        "users": {"alice": ["CAP_NET_RAW", "CAP_KILL"]}, "groups": {"students": ["CAP_CHOWN"]}
    }  # fmt: skip
    assert (file.stat().st_uid, file.stat().st_mode & 0o777) == (0, 0o644)
    assert said("capability", "list") == ["user alice CAP_NET_RAW,CAP_KILL", "group students CAP_CHOWN"]
    said("caps", "drop", "--user", "alice", "kill")
    said("capability", "drop", "--group", "students", "all")
    assert said("capability", "list") == ["user alice CAP_NET_RAW"]
    assert said("capability", "list", "bob") == []
    assert said("capability", "avail", "net_raw") == ["CAP_NET_RAW"]
    assert len(said("capability", "avail")) == 41
    launcher.command(program, "capability", "add", "chown").misused("--user or --group")
    launcher.command(program, "capability", "add", "-u", "a", "nosuch").refused("nosuch")


@pytest.mark.modes("suid", "userns")
@pytest.mark.parametrize("option", ["--keep-privs", "--allow-setuid"])
def test_options_for_root_alone_are_refused(launch: Launcher, images: Images, option: str) -> None:
    launch("exec", option, images.sandbox, "true").refused(option, "root alone")


# ---- several launches, and what is said ----


@pytest.mark.needs("landlock")
def test_a_dry_run_shows_them(launch: Launcher, images: Images) -> None:
    words = ["--read-only-home", "--deny-net", "--allow-paths=/tmp:ro", images.sandbox, "true"]
    shown = launch("exec", "--dry-run", *words).ok().lines
    assert "restriction: the home directory is only read (--read-only-home)" in shown
    assert "restriction: no network (--deny-net)" in shown
    assert "restriction: allowed to read /tmp (--allow-paths)" in shown
    document = json.loads(launch("exec", "--dry-run=json", *words).ok().out)
    assert {"restriction": "no network", "value": "", "reason": "--deny-net"} in document["restrictions"]


@pytest.mark.needs("root", "landlock")
def test_ranks_that_share_a_container_have_each_its_own(launch: Launcher, images: Images, breaker: str) -> None:
    def typed(*words: str) -> str:
        return " ".join(map(str, launch.argv("exec", "--join=yes", "-B", breaker, *words)))

    program = [str(images.sandbox), "sh", "-c", f"'readlink /proc/self/ns/mnt; {BREAKER} network | grep udp'"]
    first, free, denied = typed(str(images.sandbox), "sleep", "2"), typed(*program), typed("--deny-net", *program)
    lines = launch.command("/bin/sh", "-c", f"{first} & sleep 0.5; {free}; {denied}; wait").lines
    assert lines[0] == lines[3], lines
    assert lines[1:3] + lines[4:] == ["udp done", "udp6 done", "udp EACCES", "udp6 EACCES"], lines
