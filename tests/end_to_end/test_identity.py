"""The user inside is the user outside: ids, groups, names, and not one right more."""

import os
from pathlib import Path

import pytest
from images import Images
from launching import Launcher, Mode
from ordinary_user import Account

CAPABILITY_SETS = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")


def status_fields(text: str) -> dict[str, str]:
    return dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)


@pytest.mark.formats("sandbox", "sif")
def test_ids_are_the_callers(launch: Launcher, image: Path) -> None:
    uid, gid = launch.account.uid, launch.account.gid
    assert launch("exec", image, "probe", "ids").ok().out == f"{uid} {uid} {uid} {gid} {gid} {gid}\n"


@pytest.mark.modes("suid", "root")
def test_supplementary_groups_are_the_callers(launch: Launcher, images: Images) -> None:
    expected = {launch.account.gid, *launch.account.groups.values()}
    assert {int(word) for word in launch("exec", images.sandbox, "id", "-G").ok().out.split()} == expected


@pytest.mark.needs("root")
@pytest.mark.modes("suid", "userns")
def test_supplementary_groups_give_access(launch: Launcher, images: Images, directory: Path) -> None:
    """Also in a user namespace, where the kernel cannot show them."""
    shared = directory / "shared"
    shared.write_text("for the group\n")
    os.chown(shared, 0, launch.account.groups["science"])
    shared.chmod(0o640)
    assert (
        launch("exec", "-B", f"{shared}:/mnt/shared", images.sandbox, "cat", "/mnt/shared").ok().out
        == "for the group\n"
    )


@pytest.mark.needs("root")
@pytest.mark.modes("suid", "userns")
@pytest.mark.formats("sandbox", "sif")
def test_the_user_has_her_name_and_groups_inside(launch: Launcher, image: Path) -> None:
    passwd = launch("exec", image, "cat", "/etc/passwd").ok()
    account = launch.account
    own = [line for line in passwd.lines if line.split(":")[2] == str(account.uid)]
    assert own == [account.passwd_line().rstrip()]
    assert "" not in passwd.lines, "2.2 left an empty line"
    assert launch("exec", image, "id", "-un").ok().out == "alice\n"
    group = launch("exec", image, "cat", "/etc/group").ok()
    for name, gid in {account.name: account.gid, **account.groups}.items():
        assert sum(line.startswith(f"{name}:x:{gid}:") for line in group.lines) == 1, group.out


@pytest.mark.modes("suid", "userns")
def test_the_images_own_entries_stay(launch: Launcher, images: Images) -> None:
    assert launch("exec", images.sandbox, "cat", "/etc/passwd").ok().lines[0] == "root:x:0:0:root:/root:/bin/sh"


@pytest.mark.needs("root")
@pytest.mark.modes("suid", "userns")
def test_an_entry_of_the_image_for_the_same_user_is_replaced(launch: Launcher, images: Images, directory: Path) -> None:
    passwd = directory / "passwd"
    passwd.write_text(f"root:x:0:0:root:/root:/bin/sh\nother:x:{launch.account.uid}:1:Other:/nowhere:/bin/ash\n")
    tree = images.modern_tree(directory / "tree")
    (tree / "etc/passwd").write_text(passwd.read_text())
    lines = [
        line for line in launch("exec", tree, "cat", "/etc/passwd").ok().lines if f":{launch.account.uid}:" in line
    ]
    assert len(lines) == 1
    assert lines[0].startswith("alice:")
    assert lines[0].endswith(f"{launch.home_inside}:/bin/ash")


@pytest.mark.modes("suid", "userns")
def test_the_account_files_cannot_be_written(launch: Launcher, images: Images) -> None:
    for name in ("/etc/passwd", "/etc/group"):
        assert launch("exec", images.sandbox, "probe", "open", name, "w").ok().out in {"EACCES\n", "EROFS\n"}


def test_an_image_without_account_files_gets_none(launch: Launcher, images: Images) -> None:
    tree = images.hostile_sandbox("no-accounts", [])
    for name in ("passwd", "group"):
        (tree / "etc" / name).unlink(missing_ok=True)
    assert "passwd" not in launch("exec", tree, "ls", "/etc").ok().out


@pytest.mark.modes("root")
def test_roots_account_files_are_the_images(launch: Launcher, images: Images) -> None:
    text = launch("exec", images.sandbox, "cat", "/etc/passwd").ok().out
    assert [line.split(":")[0] for line in text.splitlines()] == ["root", "nobody"]


@pytest.mark.modes("suid", "userns")
def test_account_files_can_be_left_alone_by_the_administrator(launch: Launcher, images: Images) -> None:
    configured = launch.configured("config passwd = no\nconfig group = no\n")
    assert configured("exec", images.sandbox, "cat", "/etc/passwd", "/etc/group").ok().out.count("\n") == 4


@pytest.mark.needs("root")
@pytest.mark.modes("suid", "userns")
@pytest.mark.formats("sandbox", "sif")
def test_a_user_without_a_passwd_entry_can_launch(launch: Launcher, image: Path, alice: Account) -> None:
    """2.2 crashed and reported success."""
    nobody = Account(uid=alice.uid, gid=alice.gid, groups={}, nameless_groups=(alice.uid + 5,), listed=False)
    result = launch.changed(account=nobody, cwd=Path("/"))("exec", image, "probe", "ids")
    assert result.status == 0, str(result)
    assert result.out.split() == [str(alice.uid)] * 3 + [str(alice.gid)] * 3
    assert all(line.startswith(("WARNING: ", "INFO:    ")) for line in result.err.splitlines())


@pytest.mark.needs("root")
@pytest.mark.modes("suid", "userns")
def test_names_with_odd_characters_do_not_make_two_lines(launch: Launcher, images: Images, alice: Account) -> None:
    odd = Account(uid=alice.uid, gid=alice.gid, gecos="100% %n \\ 'odd' \"name\" \x7f", groups=alice.groups)
    passwd = launch.changed(account=odd)("exec", images.sandbox, "cat", "/etc/passwd").ok()
    assert len(passwd.lines) == 3
    assert all(line.count(":") == 6 for line in passwd.lines)


@pytest.mark.modes("suid", "userns")
@pytest.mark.formats("sandbox", "squashfs", "sif", "ext3")
def test_the_program_has_no_capability_and_cannot_get_one(launch: Launcher, image: Path) -> None:
    """R-L5: every set is empty, no_new_privs is set; in SUID mode the bounding set too."""
    fields = status_fields(launch("exec", image, "cat", "/proc/self/status").ok().out)
    assert fields["NoNewPrivs"] == "1"
    empty = CAPABILITY_SETS if launch.mode is Mode.SUID else tuple(s for s in CAPABILITY_SETS if s != "CapBnd")
    assert {name: int(fields[name], 16) for name in empty} == dict.fromkeys(empty, 0)


@pytest.mark.modes("userns")
def test_the_bounding_set_is_empty_in_user_namespace_mode(launch: Launcher, images: Images) -> None:
    """R-L5: all sets empty after set-up."""
    assert int(status_fields(launch("exec", images.sandbox, "cat", "/proc/self/status").ok().out)["CapBnd"], 16) == 0


@pytest.mark.modes("suid", "userns")
def test_there_is_no_way_back_to_root(launch: Launcher, images: Images) -> None:
    """R-L6."""
    result = launch("exec", images.sandbox, "probe", "become-root").ok()
    assert result.lines[0] in {"setuid EPERM", "setuid EINVAL"}
    assert result.lines[1] == "ambient EPERM"
    assert result.lines[2] == f"effective {launch.account.uid}"


@pytest.mark.needs("root")
@pytest.mark.modes("suid", "userns")
@pytest.mark.formats("sandbox", "squashfs")
def test_setuid_programs_of_an_image_give_nothing(launch: Launcher, images: Images, form: str) -> None:
    """R-M1."""
    result = launch("exec", images.privileged(form), "/bin/setuid-probe", "ids").ok()
    assert {int(word) for word in result.out.split()[:3]} == {launch.account.uid}
    result = launch("exec", images.privileged(form), "/bin/setgid-probe", "ids").ok()
    assert {int(word) for word in result.out.split()[3:]} == {launch.account.gid}


@pytest.mark.needs("root")
@pytest.mark.modes("suid", "userns")
def test_setuid_programs_of_a_bind_give_nothing(launch: Launcher, images: Images) -> None:
    """R-M1: also when the bound directory lets them work outside."""
    source = images.privileged_tree / "bin"
    assert launch.command(source / "setuid-probe", "ids").ok().out.split()[1] == "0", "works outside"
    result = launch("exec", "-B", f"{source}:/mnt", images.sandbox, "/mnt/setuid-probe", "ids").ok()
    assert result.out.split()[1] == str(launch.account.uid)
    flags = launch("exec", "-B", f"{source}:/mnt", images.sandbox, "grep", " /mnt ", "/proc/self/mountinfo").ok().out
    assert "nosuid" in flags
    assert "nodev" in flags


@pytest.mark.needs("root")
@pytest.mark.modes("suid", "userns")
@pytest.mark.formats("sandbox", "squashfs")
@pytest.mark.parametrize("name", ["null", "memory", "disk", "loop"])
def test_device_nodes_of_an_image_cannot_be_opened(launch: Launcher, images: Images, form: str, name: str) -> None:
    """R-M1."""
    result = launch("exec", images.privileged(form), "probe", "open", f"/opt/{name}", "r").ok()
    assert result.out == "EACCES\n"


@pytest.mark.modes("suid", "userns")
@pytest.mark.formats("sandbox", "squashfs", "sif")
def test_every_mount_but_those_of_dev_is_nosuid_and_nodev(launch: Launcher, image: Path, home: Path) -> None:
    """R-M1: the flags hold on the whole of recursive binds too."""
    del home
    text = launch("exec", "-B", "/opt:/mnt", "-S", "/scratch", image, "cat", "/proc/self/mountinfo").ok().out
    for line in text.splitlines():
        target, flags = line.split()[4], line.split()[5].split(",")
        assert "nosuid" in flags, line
        if not target.startswith("/dev"):
            assert "nodev" in flags, line


@pytest.mark.modes("root")
def test_root_stays_root(launch: Launcher, images: Images) -> None:
    fields = status_fields(launch("exec", images.sandbox, "cat", "/proc/self/status").ok().out)
    assert fields["Uid"].split() == ["0"] * 4
    assert int(fields["CapEff"], 16) & (1 << 21)


@pytest.mark.modes("root")
def test_root_by_way_of_sudo_is_root(launch: Launcher, images: Images, alice: Account, directory: Path) -> None:
    """In the directory of the user who called sudo, with what sudo leaves in the environment."""
    os.chown(directory, alice.uid, alice.gid)
    directory.chmod(0o700)
    sudo = {"SUDO_UID": str(alice.uid), "SUDO_GID": str(alice.gid), "SUDO_USER": alice.name, "SUDO_COMMAND": "x"}
    result = launch.changed(cwd=directory)("exec", images.sandbox, "sh", "-c", "id -u; pwd; touch made", env=sudo).ok()
    assert result.lines == ["0", str(directory)]
    assert (directory / "made").stat().st_uid == 0


@pytest.mark.modes("root")
def test_root_can_give_its_privileges_up(launch: Launcher, images: Images) -> None:
    fields = status_fields(launch("exec", "--no-privs", images.sandbox, "cat", "/proc/self/status").ok().out)
    assert int(fields["CapEff"], 16) == int(fields["CapPrm"], 16) == 0
    assert fields["NoNewPrivs"] == "1"
    fields = status_fields(
        launch("exec", "--drop-caps", "cap_sys_admin,CHOWN", images.sandbox, "cat", "/proc/self/status").ok().out
    )
    assert int(fields["CapEff"], 16) & ((1 << 21) | 1) == 0
    assert int(fields["CapEff"], 16) & (1 << 1)
    fields = status_fields(
        launch("exec", "--no-privs", "--add-caps", "CAP_NET_RAW", images.sandbox, "cat", "/proc/self/status").ok().out
    )
    assert int(fields["CapEff"], 16) == 1 << 13


@pytest.mark.modes("root")
def test_the_administrator_can_take_roots_capabilities(launch: Launcher, images: Images) -> None:
    configured = launch.configured("root default capabilities = no\n")
    fields = status_fields(configured("exec", images.sandbox, "cat", "/proc/self/status").ok().out)
    assert int(fields["CapEff"], 16) == 0


@pytest.mark.modes("suid", "userns")
@pytest.mark.parametrize("option", ["--keep-privs", "--add-caps=CAP_SYS_ADMIN", "--allow-setuid"])
def test_options_for_root_give_users_nothing(launch: Launcher, images: Images, option: str) -> None:
    result = launch("exec", option, images.sandbox, "cat", "/proc/self/status")
    if result.status == 0:
        fields = status_fields(result.out)
        assert int(fields["CapEff"], 16) == int(fields["CapPrm"], 16) == 0
        assert fields["NoNewPrivs"] == "1"
        assert all(line.startswith("WARNING: ") for line in result.err.splitlines())
    else:
        assert result.status in {1, 255}, str(result)


@pytest.mark.modes("root")
def test_root_can_let_setuid_programs_work(launch: Launcher, images: Images) -> None:
    script = "awk '$5 == \"/\" { print $6 }' /proc/self/mountinfo"
    assert "nosuid" not in launch("exec", "--allow-setuid", images.sandbox, "sh", "-c", script).ok().out
    assert "nosuid" in launch("exec", images.sandbox, "sh", "-c", script).ok().out


@pytest.mark.modes("root")
def test_a_batch_system_can_launch_as_a_user(launch: Launcher, images: Images, alice: Account) -> None:
    env = {"SINGULARITY_TARGET_UID": str(alice.uid), "SINGULARITY_TARGET_GID": str(alice.gid)}
    result = launch.changed(cwd=Path("/"))("exec", images.sandbox, "cat", "/proc/self/status", env=env).ok()
    fields = status_fields(result.out)
    assert fields["Uid"].split() == [str(alice.uid)] * 4
    assert fields["Gid"].split() == [str(alice.gid)] * 4
    assert fields["Groups"].split() == []
    assert fields["NoNewPrivs"] == "1"
    assert [int(fields[name], 16) for name in CAPABILITY_SETS] == [0] * 5


@pytest.mark.modes("root")
@pytest.mark.parametrize(
    "env",
    [
        {"SINGULARITY_TARGET_UID": "1000"},
        {"SINGULARITY_TARGET_GID": "1000"},
        {"SINGULARITY_TARGET_UID": "+1000", "SINGULARITY_TARGET_GID": "1000"},
        {"SINGULARITY_TARGET_UID": "1000x", "SINGULARITY_TARGET_GID": "1000"},
        {"SINGULARITY_TARGET_UID": "4294967295", "SINGULARITY_TARGET_GID": "1000"},
        {"SINGULARITY_TARGET_UID": "4294967296", "SINGULARITY_TARGET_GID": "1000"},
        {"SINGULARITY_TARGET_UID": "-1", "SINGULARITY_TARGET_GID": "1000"},
        {"SINGULARITY_TARGET_UID": "0", "SINGULARITY_TARGET_GID": "0"},
        {"SINGULARITY_TARGET_UID": "499", "SINGULARITY_TARGET_GID": "1000"},
    ],
)
def test_a_target_that_is_no_ordinary_user_is_refused(launch: Launcher, images: Images, env: dict[str, str]) -> None:
    """R-L6: ids are parsed strictly."""
    result = launch("exec", images.sandbox, "probe", "ids", env=env)
    assert result.status in {1, 255}, str(result)
    assert result.out == ""
    assert "TARGET_" in result.err


@pytest.mark.modes("suid", "userns")
def test_users_cannot_choose_a_target(launch: Launcher, images: Images) -> None:
    env = {"SINGULARITY_TARGET_UID": "1234", "SINGULARITY_TARGET_GID": "1234"}
    result = launch("exec", images.sandbox, "probe", "ids", env=env)
    assert result.status != 0 or result.out.split()[0] == str(launch.account.uid), str(result)


@pytest.mark.modes("suid", "userns")
@pytest.mark.needs("root", "userns")
@pytest.mark.formats("sandbox", "sif")
def test_fakeroot_shows_root_and_gives_the_users_rights(launch: Launcher, image: Path, directory: Path) -> None:
    result = launch("exec", "--fakeroot", image, "sh", "-c", "id -u; id -g; echo $HOME; touch $HOME/made; id -un").ok()
    assert result.lines == ["0", "0", "/root", "root"]
    owner = (launch.home / "made").stat()
    assert owner.st_uid == launch.account.uid
    locked = directory / "locked"
    locked.write_text("secret\n")
    locked.chmod(0o600)
    result = launch("exec", "-f", "-B", f"{locked}:/mnt/locked", image, "cat", "/mnt/locked")
    assert result.status != 0, str(result)
    assert result.out == ""


@pytest.mark.modes("suid", "userns")
@pytest.mark.needs("root", "userns")
def test_fakeroot_without_a_passwd_entry(launch: Launcher, images: Images, alice: Account) -> None:
    """There is no home directory to show as /root; nothing else changes."""
    nobody = Account(uid=alice.uid, gid=alice.gid, groups={}, listed=False)
    result = launch.changed(account=nobody, cwd=Path("/"))(
        "exec", "-f", images.sandbox, "sh", "-c", "id -un; echo $HOME"
    )
    assert result.ok().lines == ["root", "/root"]
