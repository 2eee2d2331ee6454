"""Nothing is left behind, whatever is killed; any number of launches at once; not for an instant on the host."""

import os
import random
import select
import signal
import subprocess
import time
from pathlib import Path

import machine
import pytest
from images import Images
from launching import Launcher, Mode
from ordinary_user import bind, mount

FORMATS = ("sandbox", "squashfs", "sif", "ext3")


@pytest.mark.formats(*FORMATS)
@pytest.mark.needs("root")
def test_the_hosts_mount_table_never_changes(launch: Launcher, image: Path, directory: Path) -> None:
    """R-M3: not for an instant, with propagation as systemd sets it up. The kernel reports each change to a poller."""
    report = directory / "report"
    report.mkdir()
    report.chmod(0o777)

    def watch() -> None:
        """Stays between the machine and the command: forks, and compares the table that the command started from."""
        table = os.open("/proc/self/mountinfo", os.O_RDONLY)
        before = os.read(table, 1 << 20)
        poller = select.poll()
        poller.register(table, select.POLLERR | select.POLLPRI)
        child = os.fork()
        if child == 0:
            return
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        changes = poller.poll(0)
        os.lseek(table, 0, os.SEEK_SET)
        after = os.read(table, 1 << 20)
        text = f"{'changed' if changes else 'never changed'}, {'same' if before == after else 'differs'} at the end\n"
        (report / "seen").write_text(text)
        os._exit(status if status >= 0 else 99)

    words = ["-B", f"{directory}:/data", "-S", "/scratch", "-c"]
    result = launch.changed(before=[watch])("exec", *words, image, "echo", "here")
    assert result.ok().out == "here\n"
    assert (report / "seen").read_text() == "never changed, same at the end\n"


@pytest.mark.needs("strace")
@pytest.mark.modes("userns")
@pytest.mark.formats("squashfs")
@pytest.mark.parametrize("options", [[], ["--pid"], ["--writable-tmpfs"]], ids=" ".join)
@pytest.mark.parametrize("stage", ["pivot_root", "capset", "umask"])
def test_a_server_that_ends_before_its_launch_is_done_is_named(
    launch: Launcher, image: Path, directory: Path, stage: str, options: list[str]
) -> None:
    """R-I7: while the root is put together, when it is there, and before the program is looked for."""
    machine.require("unsanitized")
    (directory / "trace").touch()
    (directory / "trace").chmod(0o666)
    slow = ["strace", "-f", "-qq", "-o", str(directory / "trace"), "-e", f"trace={stage}"]
    before = machine.children()
    words = [*slow, "-e", f"inject={stage}:delay_enter=300000", *launch.argv("exec", *options, image, "true")]
    with launch.start(*words) as running:
        deadline = time.monotonic() + 20
        while not (found := [each for each in machine.children() - before if is_server(each)]):
            assert time.monotonic() < deadline
            time.sleep(0.002)
        time.sleep(0.1)
        os.kill(found[0], signal.SIGKILL)
        _, err = running.communicate(timeout=20)
    assert running.returncode == 255, err
    assert err.decode().count("\n") == 1
    assert "its file system server ended" in err.decode()


def is_server(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/comm").read_text() == "image-server\n"
    except OSError:
        return False


@pytest.mark.needs("root")
@pytest.mark.formats(*FORMATS)
def test_no_file_of_ours_is_left(launch: Launcher, image: Path) -> None:
    """R-F1: no session directory, no mount point, no temporary file. The places for them are empty to begin with."""
    places = ("/tmp", "/var/tmp", "/dev/shm", "/run")
    name = Path("/srv", image.name)

    def empty_places() -> None:
        mount("tmpfs", "/srv", "tmpfs", data="mode=0755")
        if image.is_dir():
            name.mkdir()
        else:
            name.touch()
        bind(image, name)
        for place in places:
            mount("tmpfs", place, "tmpfs", data="mode=1777")

    launches = [
        " ".join(launch.argv("exec", *options, name, "true"))
        for options in ([], ["-c", "-S", "/scratch"], ["-p"], ["-B", "/opt:/data"])
    ]
    look = f"find {' '.join(places)} {launch.prefix}/var {launch.home_inside} -mindepth 1"
    there = launch.changed(as_root=[empty_places])
    script = f"{look} > ~/before; {'; '.join(launches)}; {look} | diff ~/before -"
    there.command("sh", "-c", script).ok()


@pytest.mark.formats("sif")
@pytest.mark.modes("suid", "root")
def test_a_loop_device_lives_as_long_as_the_container(launch: Launcher, image: Path, storage: Path) -> None:
    """R-I3."""
    with launch.start(*launch.argv("exec", image, "sh", "-c", "echo ready; read x"), stdin=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert len(machine.loops_of(storage)) == 1
        process.communicate(b"\n", timeout=10)
    deadline = time.monotonic() + 5
    while machine.loops_of(storage):
        assert time.monotonic() < deadline, machine.loops_of(storage)


@pytest.mark.parametrize(("cut", "block"), [(False, "4096"), (True, "512")])
@pytest.mark.modes("suid", "root")
def test_the_kernel_reads_pages_of_squashfs_but_never_less_than_all(
    launch: Launcher, images: Images, directory: Path, storage: Path, cut: bool, block: str
) -> None:
    """It keeps the tables that it has read only for devices with such blocks; an image may end within one."""
    image, data = directory / "cut.sqfs", images.squashfs().read_bytes()
    sectors = -(-int.from_bytes(data[40:48], "little") // 512)
    image.write_bytes(data[: sectors * 512] if cut else data)
    program = ["sh", "-c", "find / -xdev -type f | xargs cat > /dev/null && echo ready; read x"]
    with launch.start(*launch.argv("exec", image, *program), stdin=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        (device,) = machine.loops_of(storage)
        found = Path("/sys/block", device.partition(":")[0], "queue/logical_block_size").read_text().strip()
        process.communicate(b"\n", timeout=10)
    assert found == block


@pytest.mark.formats(*FORMATS)
def test_killing_the_launch_at_any_moment_leaves_nothing(launch: Launcher, image: Path) -> None:
    """R-B1: the fixture of this folder looks for processes and loop devices after each test."""
    source = random.Random(str(image))  # noqa: S311
    argv = launch.argv("exec", "-B", "/opt:/data", image, "sleep", "30")
    for _ in range(25):
        with launch.start(*argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            select.select([], [], [], source.uniform(0, 0.04))
            process.kill()
            assert process.wait(timeout=10) == -signal.SIGKILL
    launch("exec", image, "true").ok()


@pytest.mark.formats("sandbox", "sif")
def test_killing_a_launch_with_init_at_any_moment_leaves_nothing(launch: Launcher, image: Path) -> None:
    """R-B1, R-L16."""
    source = random.Random(str(image))  # noqa: S311
    argv = launch.argv("exec", "--pid", image, "sleep", "30")
    for _ in range(25):
        with launch.start(*argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            select.select([], [], [], source.uniform(0, 0.04))
            process.kill()
            assert process.wait(timeout=10) == -signal.SIGKILL
    launch("exec", "--pid", image, "true").ok()


@pytest.mark.formats("sandbox", "squashfs")
def test_signals_at_any_moment_end_the_launch(launch: Launcher, image: Path) -> None:
    """R-B1: SIGTERM before, during and after the set-up; nobody hangs."""
    source = random.Random(3)  # noqa: S311
    for _ in range(15):
        with launch.start(*launch.argv("exec", image, "sleep", "30"), stderr=subprocess.DEVNULL) as process:
            select.select([], [], [], source.uniform(0, 0.04))
            process.terminate()
            assert process.wait(timeout=10) != 0


@pytest.mark.formats("sandbox", "squashfs", "sif", "ext3")
def test_many_launches_of_one_image_at_once(launch: Launcher, image: Path) -> None:
    """R-B3: none fails for a lock, a device or a name."""
    count, at_once = (200, 25) if image.is_dir() or launch.mode is not Mode.USERNS else (60, 20)
    if image.suffix == ".ext3":
        count = 40
    argv = launch.argv("exec", image, "cat", "/etc/image-name")
    waiting: list[subprocess.Popen[bytes]] = []
    for number in range(count):
        waiting.append(launch.start(*argv))
        if len(waiting) >= at_once or number == count - 1:
            for process in waiting:
                with process:
                    out, err = process.communicate(timeout=60)
                assert (process.returncode, out, err) == (0, b"busybox of the tests\n", b"")
            waiting = []


@pytest.mark.formats("squashfs")
@pytest.mark.modes("suid")
def test_launches_of_many_images_at_once(launch: Launcher, images: Images, image: Path) -> None:
    """R-I3: more images than the machine has loop devices to begin with."""
    places = [image]
    for number in range(20):
        place = images.directory / f"copy-{number}.squashfs"
        if not place.exists():
            place.write_bytes(image.read_bytes())
        places.append(place)
    running = [
        launch.start(*launch.argv("exec", place, "sh", "-c", "cat /etc/image-name; sleep 0.1")) for place in places
    ]
    for process in running:
        with process:
            out, err = process.communicate(timeout=60)
        assert (process.returncode, out, err) == (0, b"busybox of the tests\n", b"")


@pytest.mark.modes("suid")
def test_the_limit_of_loop_devices_is_explained(launch: Launcher, images: Images) -> None:
    configured = launch.configured("max loop devices = 0\n")
    result = configured("exec", images.sif, "echo", "here")
    if result.status == 0:
        assert result.out == "here\n"
    else:
        result.refused("max loop devices")


@pytest.mark.needs("root")
@pytest.mark.formats("sandbox", "sif")
def test_an_image_that_is_deleted_while_it_runs_goes_on(
    launch: Launcher, images: Images, form: str, directory: Path
) -> None:
    image = directory / "image"
    if form == "sandbox":
        images.modern_tree(image)
    else:
        image.write_bytes(images.sif.read_bytes())
    with launch.start(
        *launch.argv("exec", image, "sh", "-c", "echo ready; read x; cat /etc/image-name"), stdin=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        if form == "sandbox":
            image.rename(directory / "renamed")
        else:
            image.unlink()
        out, err = process.communicate(b"\n", timeout=10)
    assert (process.returncode, out, err) == (0, b"busybox of the tests\n", b"")


@pytest.mark.needs("root")
@pytest.mark.formats(*FORMATS)
def test_full_disks_do_not_matter(launch: Launcher, image: Path) -> None:
    """R-F4: a launch writes nothing on the host, wherever temporary files might go."""
    name = Path("/srv", image.name)

    def fill() -> None:
        mount("tmpfs", "/srv", "tmpfs", data="mode=0755")
        if image.is_dir():
            name.mkdir()
        else:
            name.touch()
        bind(image, name)
        for place in ("/tmp", "/var/tmp", "/dev/shm", "/run"):
            mount("tmpfs", place, "tmpfs", data="size=4k,mode=1777")
            Path(place, "full").write_bytes(b"x" * 4096)

    there = launch.changed(as_root=[fill])
    result = there("exec", "-B", "/opt:/data", "-S", "/scratch", name, "cat", "/etc/image-name", "/tmp/full").ok()
    assert result.out == "busybox of the tests\n" + "x" * 4096


@pytest.mark.formats("sandbox", "sif")
def test_processes_that_the_program_leaves_keep_their_container(launch: Launcher, image: Path, directory: Path) -> None:
    """As natively: a daemon of the program goes on in the container's namespaces until it ends."""
    fifo = directory / "fifo"
    os.mkfifo(fifo)
    fifo.chmod(0o666)
    script = f"(cat /etc/image-name > {fifo}) > /dev/null 2>&1 &"
    launch("exec", "-B", str(directory), image, "sh", "-c", script).ok()
    assert fifo.read_text() == "busybox of the tests\n"
