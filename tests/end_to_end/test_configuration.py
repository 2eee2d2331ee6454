"""The administrator's file: who may have written it, what it may say, and that it holds."""

import os
import shutil
from pathlib import Path

import pytest
from images import Images
from launching import Launcher, Mode

pytestmark = [pytest.mark.needs("root"), pytest.mark.modes("suid", "userns")]


def refused_or_warned(launch: Launcher, images: Images, *words: str) -> None:
    """SUID mode refuses what user-namespace mode warns of, with a line that names the file."""
    result = launch("exec", images.sandbox, "echo", "here")
    if launch.mode is Mode.SUID:
        result.refused("singularity.conf", *words)
    else:
        assert (result.status, result.out) == (0, "here\n"), str(result)
        assert any(line.startswith("WARNING: ") for line in result.err.splitlines()), str(result)
        assert all(word in result.err for word in words), str(result)


def refused_in_suid_mode(launch: Launcher, images: Images, *words: str) -> None:
    result = launch("exec", images.sandbox, "echo", "here")
    if launch.mode is Mode.SUID:
        result.refused("singularity.conf", *words)
    else:
        assert (result.status, result.out) == (0, "here\n"), str(result)


def test_a_file_of_somebody_else_is_refused(launch: Launcher, images: Images) -> None:
    """R-C1. The slides: only trusts the configuration file when owned by root."""
    refused_in_suid_mode(launch.configured("allow setuid = yes\n", owner=launch.account.uid), images, "root")


@pytest.mark.parametrize("permission", [0o664, 0o646, 0o666])
def test_a_file_that_others_can_write_is_refused(launch: Launcher, images: Images, permission: int) -> None:
    """R-C1."""
    refused_in_suid_mode(launch.configured("allow setuid = yes\n", mode=permission), images, "writ")


def test_a_file_in_a_directory_that_others_can_write_is_refused(
    launch: Launcher, images: Images, directory: Path
) -> None:
    """R-C1: every directory up to the root, and a sticky bit does not help."""
    place = directory / "etc"
    place.mkdir()
    (place / "singularity.conf").write_text("allow setuid = yes\n")
    place.chmod(0o1777)
    result = launch.showing(launch.config_path.parent, place)("exec", images.sandbox, "echo", "here")
    if launch.mode is Mode.SUID:
        result.refused(str(launch.config_path.parent), "writ")
    else:
        assert (result.status, result.out) == (0, "here\n"), str(result)


def test_a_link_in_place_of_the_file_is_refused(launch: Launcher, images: Images, directory: Path) -> None:
    """R-C1: O_NOFOLLOW."""
    place = directory / "etc"
    place.mkdir()
    (place / "real.conf").write_text("allow setuid = yes\n")
    (place / "singularity.conf").symlink_to("real.conf")
    refused_in_suid_mode(launch.showing(launch.config_path.parent, place), images)


def test_a_file_with_a_second_name_is_refused(launch: Launcher, images: Images, directory: Path) -> None:
    """R-C1: link count 1."""
    place = directory / "etc"
    place.mkdir()
    (place / "singularity.conf").write_text("allow setuid = yes\n")
    os.link(place / "singularity.conf", place / "other.conf")
    refused_in_suid_mode(launch.showing(launch.config_path.parent, place), images)


def test_a_missing_file_is_refused(launch: Launcher, images: Images, directory: Path) -> None:
    """R-C2."""
    place = directory / "etc"
    place.mkdir()
    refused_in_suid_mode(launch.showing(launch.config_path.parent, place), images)


def test_a_file_that_is_a_fifo_is_refused_without_waiting(launch: Launcher, images: Images, directory: Path) -> None:
    """R-C1."""
    place = directory / "etc"
    place.mkdir()
    os.mkfifo(place / "singularity.conf", 0o644)
    world = launch.showing(launch.config_path.parent, place)
    result = world("exec", images.sandbox, "echo", "here", timeout=5)
    if launch.mode is Mode.SUID:
        result.refused("singularity.conf")


def test_an_unknown_key_is_a_misspelt_policy(launch: Launcher, images: Images) -> None:
    """R-C2: the file, the line and the nearest key are named."""
    refused_or_warned(launch.configured("# comment\nallow setiud = no\n"), images, "allow setiud", ":2")


@pytest.mark.parametrize(
    "key", ["systemd cgroups = yes", "memory fs type = tmpfs", "oci mode = no", "download concurrency = 3"]
)
def test_a_key_of_the_family_without_meaning_here_is_a_line_at_verbose(
    launch: Launcher, images: Images, key: str
) -> None:
    configured = launch.configured(f"{key}\n")
    configured("exec", images.sandbox, "true").ok()
    assert key.partition(" =")[0] in configured("exec", images.sandbox, "true", first=["-v"]).err


@pytest.mark.parametrize(
    "text",
    [
        "allow setuid = maybe",
        "allow setuid",
        "allow setuid =",
        "max loop devices = -1",
        "max loop devices = many",
        "max loop devices = 99999999999999999999",
        "mount dev = tiny",
        "mount home = yes\nmount home = no",
        "mount home = y\0es",
        "bind path = " + "x" * 5000,
        "= yes",
    ],
    ids=["word", "no-equals", "empty", "negative", "text", "overflow", "choice", "twice", "nul", "long", "no-key"],
)
def test_a_malformed_line_is_refused(launch: Launcher, images: Images, text: str) -> None:
    """R-C2."""
    result = launch.configured(text + "\n")("exec", images.sandbox, "echo", "here")
    if launch.mode is Mode.SUID:
        result.refused("singularity.conf")
    else:
        assert result.status in {0, 255}, str(result)
        assert "singularity.conf" in result.err or result.err == "", str(result)


@pytest.mark.parametrize(
    "text",
    [
        "mount home=no",
        "mount home = no   ",
        "  mount home = no",
        "mount home\t=\tno",
        "mount home = No",
        "mount home = no\r",
        "# comment\n\nmount home = no",
        "mount home = no # reason",
    ],
)
def test_blanks_and_case_do_not_matter(launch: Launcher, images: Images, text: str) -> None:
    """2.2 broke on each."""
    (launch.home / "data").write_text("outside\n")
    result = launch.configured(text + "\n").changed(cwd=Path("/"))(
        "exec", images.sandbox, "cat", launch.home_inside / "data"
    )
    assert result.out == "", str(result)
    assert result.status in {1, 255}


def test_a_file_of_a_mebibyte_is_the_limit(launch: Launcher, images: Images) -> None:
    """R-C1."""
    comment = "# " + "x" * 97 + "\n"
    launch.configured(comment * 10_000)("exec", images.sandbox, "true").ok()
    if launch.mode is Mode.SUID:
        refused_in_suid_mode(launch.configured(comment * 11_000), images)


@pytest.mark.parametrize("name", ["SINGULARITY_CONFIG_FILE", "APPTAINER_CONFIG_FILE", "SINGULARITY_CONF", "SYSCONFDIR"])
def test_the_environment_cannot_name_another_file(launch: Launcher, images: Images, directory: Path, name: str) -> None:
    """R-C1."""
    other = directory / "own.conf"
    other.write_text("mount home = no\n")
    (launch.home / "data").write_text("outside\n")
    result = launch("exec", images.sandbox, "cat", launch.home_inside / "data", env={name: str(other)})
    if name.endswith("CONFIG_FILE"):  # the variable of --config, which is refused
        result.misused(name, "not available here")
        return
    assert result.out == "outside\n", str(result)


@pytest.mark.modes("suid")
def test_no_setuid_means_a_user_namespace(launch: Launcher, images: Images) -> None:
    own = str(Path("/proc/self/ns/user").readlink())
    configured = launch.configured("allow setuid = no\n")
    assert configured("exec", images.sandbox, "readlink", "/proc/self/ns/user").ok().out.strip() != own
    assert launch("exec", images.sandbox, "readlink", "/proc/self/ns/user").ok().out.strip() == own
    configured.changed(user_namespaces=False)("exec", images.sandbox, "true").refused()


@pytest.mark.modes("suid")
def test_the_starter_itself_refuses_when_setuid_is_not_allowed(launch: Launcher, images: Images) -> None:
    """R-C4: not the front door alone."""
    configured = launch.configured("allow setuid = no\n")
    result = configured("exec", images.sandbox, "sh", "-c", "readlink /proc/self/ns/user", first=["-d"])
    assert "[U=0," not in result.err, "privilege was raised"


@pytest.mark.modes("suid")
@pytest.mark.parametrize("name", ["SINGULARITY_NOSUID", "SINGULARITY_USERNS", "APPTAINER_USERNS"])
def test_the_user_may_do_without_setuid(launch: Launcher, images: Images, name: str) -> None:
    own = str(Path("/proc/self/ns/user").readlink())
    result = launch("exec", images.sandbox, "readlink", "/proc/self/ns/user", env={name: "1"})
    assert result.ok().out.strip() != own


@pytest.mark.modes("suid")
def test_without_the_setuid_starter_a_user_namespace_is_used(launch: Launcher, images: Images, directory: Path) -> None:
    libexec = directory / "libexec"
    libexec.mkdir()
    shutil.copy(launch.prefix / "libexec/singularity/sexec", libexec)
    own = str(Path("/proc/self/ns/user").readlink())
    world = launch.showing(launch.prefix / "libexec/singularity", libexec)
    assert world("exec", images.sandbox, "readlink", "/proc/self/ns/user").ok().out.strip() != own


@pytest.mark.modes("suid")
def test_when_neither_way_is_open_one_line_says_what_would_be(
    launch: Launcher, images: Images, directory: Path
) -> None:
    libexec = directory / "libexec"
    libexec.mkdir()
    shutil.copy(launch.prefix / "libexec/singularity/sexec", libexec)
    world = launch.showing(launch.prefix / "libexec/singularity", libexec).changed(user_namespaces=False)
    world("exec", images.sandbox, "true").refused("user namespace")


@pytest.mark.modes("userns")
def test_user_namespaces_can_be_forbidden(launch: Launcher, images: Images) -> None:
    launch.configured("allow user ns = no\n")("exec", images.sandbox, "true").refused("allow user ns")


@pytest.mark.modes("suid")
@pytest.mark.formats("sandbox", "squashfs", "sif")
def test_owners_of_images_can_be_limited(launch: Launcher, image: Path, images: Images, directory: Path) -> None:
    """R-I5: names or numbers; the open file is asked, not the path."""
    launch.configured("limit container owners = root\n")("exec", image, "true").ok()
    launch.configured("limit container owners = daemon, 0\n")("exec", image, "true").ok()
    launch.configured("limit container owners = daemon\n")("exec", image, "true").refused("limit container owners")
    own = directory / "own.sif"
    shutil.copy(images.sif, own)
    os.chown(own, launch.account.uid, launch.account.gid)
    launch.configured("limit container owners = root\n")("exec", own, "true").refused("limit container owners")


@pytest.mark.modes("suid")
def test_groups_of_images_can_be_limited(launch: Launcher, images: Images) -> None:
    """R-I5."""
    launch.configured("limit container groups = root\n")("exec", images.sif, "true").ok()
    launch.configured("limit container groups = daemon\n")("exec", images.sif, "true").refused("limit container groups")
    launch.configured("limit container groups = no-such-group\n")("exec", images.sif, "true").refused(
        "limit container groups"
    )


@pytest.mark.modes("suid")
@pytest.mark.formats("sandbox", "sif")
def test_places_of_images_can_be_limited(
    launch: Launcher, image: Path, storage: Path, directory: Path, images: Images
) -> None:
    """R-I5: whole components, and links do not lead around it."""
    launch.configured(f"limit container paths = {storage}\n")("exec", image, "true").ok()
    launch.configured(f"limit container paths = /opt,{storage}/images\n")("exec", image, "true").ok()
    for text in (f"{storage}/image", f"{storage}/images/sand", "/opt", str(directory)):
        launch.configured(f"limit container paths = {text}\n")("exec", image, "true").refused("limit container paths")
    allowed = directory / "allowed"
    allowed.mkdir()
    (allowed / "link").symlink_to(image)
    limited = launch.configured(f"limit container paths = {allowed}\n")
    limited("exec", allowed / "link", "true").refused("limit container paths")
    limited("exec", f"{allowed}/../../images/{image.name}", "true").refused()
    shutil.copy(images.sif, allowed / "real.sif")
    limited("exec", allowed / "real.sif", "true").ok()


@pytest.mark.modes("suid")
def test_limits_hold_for_overlays_too(launch: Launcher, images: Images, directory: Path) -> None:
    """R-I5."""
    own = directory / "own.squashfs"
    shutil.copy(images.squashfs(), own)
    os.chown(own, launch.account.uid, launch.account.gid)
    limited = launch.configured("limit container owners = root\n")
    limited("exec", images.sif, "true").ok()
    limited("exec", "--overlay", f"{own}:ro", images.sif, "true").refused("limit container owners")


@pytest.mark.parametrize(
    ("format_name", "key"), [("sandbox", "dir"), ("squashfs", "squashfs"), ("ext3", "extfs"), ("sif", "sif")]
)
def test_formats_can_be_forbidden(launch: Launcher, images: Images, format_name: str, key: str) -> None:
    configured = launch.configured(f"allow container {key} = no\n")
    configured("exec", images.of_format(format_name), "true").refused(f"allow container {key}")
    other = images.sif if format_name == "sandbox" else images.sandbox
    configured("exec", other, "true").ok()


@pytest.mark.modes("suid")
def test_mounts_do_not_spread_whatever_the_propagation(launch: Launcher, images: Images) -> None:
    for text in ("mount slave = yes\n", "mount slave = no\n"):
        result = launch.configured(text)("exec", "-B", "/opt:/mnt", images.sandbox, "cat", "/proc/self/mountinfo").ok()
        assert "shared:" not in result.out
        if "no" in text.split("=")[1]:
            assert "master:" not in result.out


@pytest.mark.modes("suid")
def test_the_container_dir_can_be_elsewhere(launch: Launcher, images: Images, directory: Path) -> None:
    place = directory / "mnt"
    place.mkdir()
    launch.configured(f"container dir = {place}\n")("exec", images.sif, "echo", "here").ok()
    assert list(place.iterdir()) == []


@pytest.mark.modes("suid")
def test_loop_devices_can_be_shared_or_not(launch: Launcher, images: Images) -> None:
    for text in ("shared loop devices = yes\n", "shared loop devices = no\n"):
        assert launch.configured(text)("exec", images.sif, "echo", "here").ok().out == "here\n"


def test_the_installed_file_explains_every_key_and_changes_nothing(launch: Launcher) -> None:
    text = launch.config_path.read_text()
    launch.configured(text)
    keys = Path(__file__).parents[2] / "launcher/config.def"
    import re

    for kind, key in re.findall(r'(?:^|\) )CONFIG_(\w+)\((?:\w+, )?"([^"]+)"', keys.read_text(), re.MULTILINE):
        if kind != "FOREIGN":
            assert re.search(rf"^#?\s*{re.escape(key)} =", text, re.MULTILINE), key
