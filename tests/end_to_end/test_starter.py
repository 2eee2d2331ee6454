"""The starter when it is not the front door that calls it: odd arguments, forged requests, starved limits."""

import ctypes
import os
import random
import resource
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path

import machine
import pytest
from images import Images
from launch_requests import LEVEL_USUAL, Value, entry, field, fields_of, request, seal
from launching import Launcher, Mode, Result, decode

pytestmark = [pytest.mark.needs("root"), pytest.mark.modes("suid", "userns")]


def usual_fields(image: Path, mode: Mode) -> list[bytes]:
    asked: list[tuple[str, Value]] = [("level", LEVEL_USUAL), ("image", os.fsencode(image)), ("cwd", b"/")]
    return fields_of([*([("userns", True)] if mode is Mode.USERNS else []), *asked])


def call(
    launch: Launcher, argv: list[bytes], *, octets: bytes | None = None, before: list[Callable[[], None]] | None = None
) -> Result:
    """Executes the starter as the user; `octets` are what it can read from descriptor 5."""
    starter = os.fsencode(launch.starter)

    def supply() -> None:
        if octets is not None:
            seal(octets, 5)

    def execute() -> None:
        words = (ctypes.c_char_p * (len(argv) + 1))(*argv, None)
        environment = (ctypes.c_char_p * 2)(b"PATH=/bin", None)
        ctypes.CDLL(None).execve(starter, words, environment)
        os._exit(99)

    world = launch.changed(before=[supply, *(before or []), execute])
    with world.start("/bin/false") as process:
        out, err = process.communicate(timeout=20)
    result = decode(process.returncode, [repr(word[:80]) for word in argv], out, err)
    assert result.status != 99, "the starter was not executed"
    return result


def marker_words(directory: Path) -> tuple[Path, list[bytes]]:
    """A program that leaves a mark on the host when it runs."""
    place = directory / "marks"
    place.mkdir()
    place.chmod(0o777)
    return place / "ran", [b"touch", os.fsencode(place / "ran")]


def test_a_request_written_by_hand_launches(launch: Launcher, images: Images, directory: Path) -> None:
    """What the tests below vary does work when it is right."""
    mark, words = marker_words(directory)
    call(launch, [b"sexec", b"5", *words], octets=request(*usual_fields(images.sandbox, launch.mode))).ok()
    assert mark.exists()


@pytest.mark.parametrize(
    "argv",
    [
        [],
        [b""],
        [b"x" * 131_000],
        [b"%s%s%n%n"],
        [b"sexec"],
        [b"sexec", b""],
        [b"sexec", b"-1"],
        [b"sexec", b"+5"],
        [b"sexec", b" 5"],
        [b"sexec", b"5x"],
        [b"sexec", b"0"],
        [b"sexec", b"2"],
        [b"sexec", b"7"],
        [b"sexec", b"4294967301"],
        [b"sexec", b"99999999999999999999999"],
        [b"sexec", b"/etc/passwd"],
        [b"sexec", b"--help"],
    ],
    ids=lambda argv: repr(argv)[:40],
)
def test_odd_arguments_are_refused(launch: Launcher, argv: list[bytes]) -> None:
    """R-L1."""
    result = call(launch, argv)
    assert result.status in {1, 255}, str(result)
    assert result.out == ""
    assert len(result.err.splitlines()) == 1, str(result)


def test_the_name_it_is_called_by_does_not_matter(launch: Launcher, images: Images, directory: Path) -> None:
    """R-L1: no path, no format string."""
    octets = request(*usual_fields(images.sandbox, launch.mode))
    for name in (b"", b"%n%n%s", b"/bin/sh", b"x" * 100_000):
        call(launch, [name, b"5", b"true"], octets=octets).ok()
    del directory


@pytest.mark.parametrize("seed", range(4))
def test_random_bytes_are_no_request(launch: Launcher, directory: Path, seed: int) -> None:
    """R-L11."""
    mark, words = marker_words(directory)
    source = random.Random(seed)  # noqa: S311
    for size in (0, 1, 4, 15, 16, 17, 100, 5000, 1 << 20, (1 << 20) + 1):
        for octets in (source.randbytes(size), b"SGRQ" + source.randbytes(size), bytes(size)):
            result = call(launch, [b"sexec", b"5", *words], octets=octets)
            assert result.status == 255, str(result)
            assert len(result.err.splitlines()) == 1, str(result)
    assert not mark.exists()


def test_a_changed_request_is_refused_or_means_what_it_says(launch: Launcher, images: Images, directory: Path) -> None:
    """R-L11, R-L13: one bit changed somewhere; never a crash, never a partial set-up that runs the program."""
    mark, words = marker_words(directory)
    good = request(*usual_fields(images.sandbox, launch.mode))
    source = random.Random(7)  # noqa: S311
    for _ in range(60):
        octets = bytearray(good)
        octets[source.randrange(len(octets))] ^= 1 << source.randrange(8)
        result = call(launch, [b"sexec", b"5", *words], octets=bytes(octets))
        assert result.status >= 0, str(result)
        if result.status == 0:
            mark.unlink()
        assert not mark.exists()


def test_a_cut_request_is_refused(launch: Launcher, images: Images, directory: Path) -> None:
    """R-L11."""
    mark, words = marker_words(directory)
    good = request(*usual_fields(images.sandbox, launch.mode))
    for size in range(0, len(good), 7):
        assert call(launch, [b"sexec", b"5", *words], octets=good[:size]).status == 255
    assert call(launch, [b"sexec", b"5", *words], octets=good + b"\0").status == 255
    assert not mark.exists()


def test_mounts_that_a_request_brings_along_are_forgotten(launch: Launcher, images: Images) -> None:
    """R-L11: what stages of a launch tell each other is no caller's to say, however full the list is."""
    asked: list[tuple[str, Value]] = [("level", LEVEL_USUAL), ("image", os.fsencode(images.sandbox)), ("cwd", b"/")]
    asked += [("restriction", (1, b"", b"--deny-net")), *(("mounted", (0, b"/usr", b"")) for _ in range(1024))]
    asked += [("userns", True)] if launch.mode is Mode.USERNS else []
    call(launch, [b"sexec", b"5", b"true"], octets=request(*fields_of(asked))).ok()


def test_what_breaks_the_rules_of_a_request_is_refused(launch: Launcher, images: Images, directory: Path) -> None:
    """R-L11: unknown, doubled, out of order, too long, with a NUL; a count or length that is not true."""
    mark, words = marker_words(directory)
    usual = usual_fields(images.sandbox, launch.mode)
    image = os.fsencode(images.sandbox)
    without_image = [part for part in usual if image not in part]
    cases = {
        "no image": request(*without_image),
        "relative image": request(*without_image[:-1], field(60, b"tmp/image"), without_image[-1]),
        "empty image": request(*without_image[:-1], field(60, b""), without_image[-1]),
        "image with NUL": request(*without_image[:-1], field(60, image + b"\0x"), without_image[-1]),
        "image of 4096 bytes": request(*without_image[:-1], field(60, b"/" + b"x" * 4095), without_image[-1]),
        "unknown tag": request(*usual, field(9999, b"")),
        "doubled": request(*usual, usual[-1]),
        "out of order": request(*reversed(usual)),
        "version 2": request(*usual, version=2),
        "version 0": request(*usual, version=0),
        "count too small": request(*usual, count=len(usual) - 1),
        "count too large": request(*usual, count=len(usual) + 1),
        "count huge": request(*usual, count=0xFFFFFFFF),
        "length too small": request(*usual, length=20),
        "length too large": request(*usual, length=1 << 20),
        "field past the end": request(*usual[:-1], struct.pack("<HHI", 64, 0, 0xFFFFFFFF)),
        "flag with a value": request(field(2, b"x"), *usual[(1 if launch.mode is Mode.USERNS else 0) :]),
        "reserved not zero": request(*usual[:-1], struct.pack("<HHI", 64, 1, 1) + b"/"),
        "action 77": request(field(40, struct.pack("<Q", 77)), *usual) if launch.mode is Mode.SUID else b"",
        "short number": request(field(40, b"\1"), *usual) if launch.mode is Mode.SUID else b"",
        "entry too short": request(*usual, field(90, b"xx")),
        "entry past its end": request(*usual, field(90, struct.pack("<QI", 0, 100) + b"/tmp")),
        "relative bind": request(*usual, field(90, entry(0, b"tmp", b"/mnt"))),
        "too many binds": request(*usual, *[field(90, entry(0, b"/opt", b"/opt"))] * 257),
    }
    for name, octets in cases.items():
        result = call(launch, [b"sexec", b"5", *words], octets=octets)
        assert result.status in {1, 255}, f"{name}: {result}"
        assert not mark.exists(), name


@pytest.mark.parametrize(
    "text", [b"..", b"/..", b"/opt/../../../../etc", b"/opt/./x", b"//opt//x", b"/proc/self/root/etc"]
)
def test_targets_of_a_forged_request_stay_inside(launch: Launcher, images: Images, text: bytes) -> None:
    """R-M4."""
    octets = request(*usual_fields(images.sandbox, launch.mode), field(90, entry(0, b"/usr/share", text)))
    before = Path("/etc/passwd").read_text()
    result = call(launch, [b"sexec", b"5", b"probe", b"root"], octets=octets)
    assert result.status in {0, 1, 255}, str(result)
    assert result.out in {"closed\n", ""}
    assert Path("/etc/passwd").read_text() == before


@pytest.mark.modes("suid")
def test_fields_for_root_do_nothing_for_users(launch: Launcher, images: Images) -> None:
    """R-C4: keep_privs, allow_setuid, add_caps, target_uid from a user who forges the request."""
    usual = usual_fields(images.sandbox, launch.mode)
    everything = struct.pack("<Q", (1 << 41) - 1)
    cases = [
        [field(15, b""), field(17, b""), *usual],
        [usual[0], field(44, everything), *usual[1:]],
        [usual[0], field(46, struct.pack("<Q", 1)), field(47, struct.pack("<Q", 1)), *usual[1:]],
        [usual[0], field(46, struct.pack("<Q", 1001)), field(47, struct.pack("<Q", 1001)), *usual[1:]],
    ]
    for fields in cases:
        result = call(launch, [b"sexec", b"5", b"cat", b"/proc/self/status"], octets=request(*fields))
        if result.status != 0:
            assert result.status in {1, 255}, str(result)
            continue
        seen = dict(line.split(":\t", 1) for line in result.out.splitlines() if ":\t" in line)
        assert seen["Uid"].split() == [str(launch.account.uid)] * 4
        assert seen["NoNewPrivs"] == "1"
        assert [int(seen[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")] == [0] * 5


@pytest.mark.modes("suid")
def test_a_forged_account_gets_no_right(launch: Launcher, images: Images, directory: Path) -> None:
    """Names and homes come from the user; ids and access do not."""
    locked = directory / "locked"
    locked.mkdir(mode=0o700)
    (locked / "secret").write_text("secret\n")
    usual = usual_fields(images.sandbox, launch.mode)
    octets = request(*usual, field(70, b"root"), field(71, b"x"), field(72, os.fsencode(locked)), field(73, b"/bin/sh"))
    result = call(launch, [b"sexec", b"5", b"cat", os.fsencode(locked / "secret")], octets=octets)
    assert "secret\n" not in result.out
    octets = request(*usual, field(70, b"evil:x:0:0::/:/bin/sh\nroot"), field(71, b"a:b\nc"), field(72, b"/h:\n"))
    result = call(launch, [b"sexec", b"5", b"cat", b"/etc/passwd"], octets=octets)
    if result.status == 0:
        assert not [line for line in result.out.splitlines()[2:] if line.split(":")[2] == "0"], result.out


def test_a_request_that_could_still_change_is_refused(launch: Launcher, images: Images, directory: Path) -> None:
    """R-L11: what was checked is what is used."""
    mark, words = marker_words(directory)
    octets = request(*usual_fields(images.sandbox, launch.mode))
    place = directory / "request"
    place.write_bytes(octets)
    place.chmod(0o644)

    def unsealed() -> None:
        memory = os.memfd_create("request")
        os.write(memory, octets)
        os.dup2(memory, 5)

    def ordinary_file() -> None:
        os.dup2(os.open(place, os.O_RDONLY), 5)

    for action in (unsealed, ordinary_file):
        assert call(launch, [b"sexec", b"5", *words], before=[action]).status == 255
    assert not mark.exists()


def test_a_descriptor_that_is_no_file_is_refused(launch: Launcher, directory: Path) -> None:
    """R-L11, R-L13: a directory, a pipe that never ends, a device, a socket; at once."""
    mark, words = marker_words(directory)

    def open_at(path: str, flags: int) -> Callable[[], None]:
        def action() -> None:
            os.dup2(os.open(path, flags), 5)

        return action

    def pipe() -> None:
        reader, _ = os.pipe()
        os.dup2(reader, 5)

    for action in (open_at("/", os.O_RDONLY), open_at("/", os.O_PATH), open_at("/dev/zero", os.O_RDONLY), pipe):
        result = call(launch, [b"sexec", b"5", *words], before=[action])
        assert result.status == 255, str(result)
    assert not mark.exists()


LIMITS = [
    ("NOFILE=3", resource.RLIMIT_NOFILE, 3),
    ("NOFILE=4", resource.RLIMIT_NOFILE, 4),
    ("NOFILE=8", resource.RLIMIT_NOFILE, 8),
    ("NOFILE=16", resource.RLIMIT_NOFILE, 16),
    ("FSIZE=0", resource.RLIMIT_FSIZE, 0),
    ("FSIZE=1", resource.RLIMIT_FSIZE, 1),
    ("AS=1M", resource.RLIMIT_AS, 1 << 20),
    ("AS=8M", resource.RLIMIT_AS, 8 << 20),
    ("AS=24M", resource.RLIMIT_AS, 24 << 20),
    ("NPROC=1", resource.RLIMIT_NPROC, 1),
    ("STACK=64K", resource.RLIMIT_STACK, 64 << 10),
    ("STACK=16K", resource.RLIMIT_STACK, 16 << 10),
    ("DATA=64K", resource.RLIMIT_DATA, 64 << 10),
    ("CPU=1", resource.RLIMIT_CPU, 1),
    ("MEMLOCK=0", resource.RLIMIT_MEMLOCK, 0),
    ("CORE=0", resource.RLIMIT_CORE, 0),
]


@pytest.mark.parametrize(("kind", "value"), [case[1:] for case in LIMITS], ids=[case[0] for case in LIMITS])
@pytest.mark.formats("sandbox", "sif")
def test_starved_limits_mean_a_clean_refusal_or_a_whole_container(
    launch: Launcher, image: Path, directory: Path, kind: int, value: int
) -> None:
    """R-L12: never a partial set-up that executes the program."""
    mark, words = marker_words(directory)
    del words

    def starve() -> None:
        resource.setrlimit(kind, (value, value))

    argv = launch.argv(
        "exec", "-B", "/usr/share:/bound", image, "sh", "-c", f"test -d /bound/doc && echo whole; : > {mark}"
    )
    result = launch.command(*argv, before=[starve])
    if result.out:
        assert result.out == "whole\n", str(result)
    elif mark.exists():
        assert kind == resource.RLIMIT_FSIZE, str(result)
    assert result.status != 0 or result.out == "whole\n", str(result)
    if result.status == 255:
        assert result.err.strip(), "a refusal says why"


@pytest.mark.modes("userns")
@pytest.mark.formats("squashfs", "sif")
@pytest.mark.parametrize("stack", [96 << 10, 128 << 10])
def test_an_image_is_served_on_a_small_stack(launch: Launcher, image: Path, stack: int) -> None:
    """R-L12: the image server, which ended at it, left a container without a root directory."""
    machine.require("unsanitized")

    def starve() -> None:
        resource.setrlimit(resource.RLIMIT_STACK, (stack, stack))

    result = launch.command(*launch.argv("exec", image, "cat", "/etc/image-name"), before=[starve])
    assert result.ok().out == "busybox of the tests\n"


@pytest.mark.formats("sandbox", "squashfs", "sif")
@pytest.mark.parametrize(
    ("kind", "value", "said"),
    [(resource.RLIMIT_NOFILE, value, "ulimit -n") for value in (3, 4, 8, 12, 16, 23, 26)]
    + [(resource.RLIMIT_FSIZE, value, "ulimit -f") for value in (0, 10)],
)
def test_a_limit_that_is_met_is_named(launch: Launcher, image: Path, kind: int, value: int, said: str) -> None:
    """One line that names the limit, not a damaged image, and no container that lacks half of its mounts."""
    if value == 3:  # no room to load a library, which only those builds do
        machine.require("unsanitized")

    def starve() -> None:
        resource.setrlimit(kind, (value, value))

    binds = ",".join(f"/usr/share:/bound{number}" for number in range(8))
    result = launch.command(*launch.argv("exec", "-B", binds, image, "true"), before=[starve])
    result.refused(said)
    assert len(result.err.splitlines()) == 1, str(result)
    assert "damaged" not in result.err
    assert "sessiondir" not in result.err


def test_limits_are_the_callers(launch: Launcher, images: Images) -> None:
    """R-L12: the kernel cuts the soft stack limit at a setuid exec; it is carried across."""
    wanted = {
        resource.RLIMIT_STACK: (64 << 20, 128 << 20),
        resource.RLIMIT_NOFILE: (512, 1000),
        resource.RLIMIT_CPU: (1000, 2000),
        resource.RLIMIT_CORE: (0, 0),
        resource.RLIMIT_NPROC: (5000, 6000),
    }

    def set_all() -> None:
        for kind, pair in wanted.items():
            resource.setrlimit(kind, pair)

    result = launch.command(*launch.argv("exec", images.sandbox, "probe", "limits"), before=[set_all]).ok()
    seen = {int(number): (int(soft), int(hard)) for number, soft, hard in (line.split() for line in result.lines)}
    assert {kind: seen[kind] for kind in wanted} == wanted


@pytest.mark.formats("sandbox", "squashfs", "sif")
@pytest.mark.parametrize("small", [48 << 10, 64 << 10, 80 << 10])
def test_a_small_stack_is_raised_or_named(launch: Launcher, image: Path, small: int) -> None:
    """R-L12: it ended in a signal."""
    machine.require("unsanitized")

    def starve(hard: int) -> Callable[[], None]:
        return lambda: resource.setrlimit(resource.RLIMIT_STACK, (small, hard))

    argv = launch.argv("exec", image, "cat", "/etc/image-name", "/proc/self/limits")
    result = launch.command(*argv, before=[starve(resource.RLIM_INFINITY)]).ok()
    assert result.lines[0] == "busybox of the tests"
    (line,) = [line for line in result.lines if line.startswith("Max stack size")]
    assert line.split()[3:5] == [str(small), "unlimited"]
    launch.command(*argv, before=[starve(small)]).refused("ulimit -s")


@pytest.mark.parametrize("soft", [resource.RLIM_INFINITY, 256 << 10, 8 << 20, 20 << 20])
def test_the_stack_limit_is_the_callers(launch: Launcher, images: Images, soft: int) -> None:
    """R-L12: also unlimited, as batch systems set it."""

    def set_stack() -> None:
        resource.setrlimit(resource.RLIMIT_STACK, (soft, resource.RLIM_INFINITY))

    result = launch.command(*launch.argv("exec", images.sandbox, "probe", "limits"), before=[set_stack]).ok()
    line = next(line for line in result.lines if line.split()[0] == str(resource.RLIMIT_STACK))
    assert [int(word) for word in line.split()[1:]] == [soft, resource.RLIM_INFINITY]


def test_the_starter_cannot_be_opened_for_writing_inside(launch: Launcher, images: Images) -> None:
    """R-L10: bytes of both programs are the same afterwards, by whatever name a container tries."""
    programs = [launch.prefix / "libexec/singularity" / name for name in ("sexec", "sexec-suid")]
    before = [program.read_bytes() for program in programs]
    script = "for f in /proc/self/exe /proc/$PPID/exe /proc/1/exe; do : > $f; done 2>/dev/null; true"
    launch("exec", "-B", f"{programs[0].parent}:/mnt", images.sandbox, "sh", "-c", f"{script}; : > /mnt/sexec-suid")
    assert [program.read_bytes() for program in programs] == before


@pytest.mark.modes("suid")
def test_the_setuid_program_is_installed_safely(launch: Launcher) -> None:
    """R-L10."""
    status = launch.starter.stat()
    assert (status.st_uid, status.st_mode & 0o7777) in {(0, 0o4755), (0, 0o4750)}
    for parent in launch.starter.parents:
        assert parent.stat().st_uid == 0
        assert parent.stat().st_mode & 0o022 == 0


@pytest.mark.modes("suid")
def test_the_setuid_program_is_static_and_hardened(launch: Launcher) -> None:
    """R-L4, R-L15: no loader runs before it, its tables are read-only, its place is random."""
    text = subprocess.run(
        ["readelf", "-lhdW", launch.starter], capture_output=True, text=True, check=True, timeout=20
    ).stdout
    if "libasan" in text:
        pytest.skip("a sanitizer build is not static")
    assert "INTERP" not in text
    assert "DYN (" in text
    assert "GNU_RELRO" in text
    assert "BIND_NOW" in text or "NOW" in text
    stack = next(line for line in text.splitlines() if "GNU_STACK" in line)
    assert "RWE" not in stack


@pytest.mark.modes("suid")
@pytest.mark.needs("strace")
def test_the_last_drop_of_privilege_changes_no_effective_id(launch: Launcher, images: Images, directory: Path) -> None:
    """R-L8: where it changes, the kernel sets what fs.suid_dumpable says, which may be "readable" until it is reset."""
    trace, uid = directory / "trace", launch.account.uid
    words = ["strace", "-f", "-o", trace, "-e", "trace=setresuid,prctl", "setpriv", f"--reuid={uid}", f"--regid={uid}",
             "--clear-groups", *launch.argv("exec", images.sif, "true")]  # fmt: skip
    environment = launch.environment({"HOME": str(directory)})
    subprocess.run(words, env=environment, stdin=subprocess.DEVNULL, check=True, cwd="/", timeout=30)
    calls = [line.split(maxsplit=1)[1] for line in trace.read_text().splitlines() if "(" in line]
    changes = [call for call in calls if call.startswith("setresuid(") or "PR_SET_DUMPABLE" in call]
    last = next(i for i, call in enumerate(changes) if i > 3 and call.startswith(f"setresuid({uid}, {uid}, {uid})"))
    assert changes[last - 2].startswith(f"setresuid(-1, {uid}, -1)"), changes
    assert "PR_SET_DUMPABLE, SUID_DUMP_DISABLE" in changes[last - 1], changes


@pytest.mark.modes("suid")
def test_the_user_cannot_look_into_the_starter(launch: Launcher, images: Images, directory: Path) -> None:
    """R-L8: while it holds privilege, her own processes read nothing of its /proc entry."""
    os.mkfifo(directory / "fifo")
    launcher = launch.configured("allow setuid = yes\n")
    script = (
        "for i in $(seq 200); do for f in environ maps mem fd/3 root cwd; do "
        "cat /proc/$1/$f >/dev/null 2>&1 && readlink /proc/$1/exe; done; done"
    )
    argv = launcher.argv("exec", images.sif, "sleep", "0.2")
    inner = " ".join(f"'{word}'" for word in argv)
    result = launcher.command("sh", "-c", f"{inner} & sh -c '{script}' x $!; wait")
    assert "sexec-suid" not in result.out, str(result)


@pytest.mark.modes("suid")
def test_what_needs_no_privilege_is_not_in_the_setuid_program(launch: Launcher) -> None:
    """R-L4: no evaluator of scripts, no reader of ELF files, no file system servers, no user namespaces."""
    machine.require("unsanitized")  # such a build starts the program by itself
    names = {"script_evaluate", "payload_execute", "elf_read", "fuse_prepare", "user_namespace_show", "privilege_raise"}
    held = {}
    for program in (launch.starter, launch.starter.with_name("sexec")):
        symbols = subprocess.run(["nm", program], capture_output=True, text=True, check=True, timeout=20).stdout
        held[program.name] = names & {line.split()[-1] for line in symbols.splitlines() if line}
    assert held == {"sexec-suid": {"privilege_raise"}, "sexec": names}


def test_a_forged_last_stage_gains_nothing(launch: Launcher, images: Images) -> None:
    """R-L11: the plain starter starts a program, of the caller's; the setuid one refuses."""
    usual = usual_fields(images.sandbox, launch.mode)
    fields = [*usual[:-3], field(26, b""), *usual[-3:]]
    result = call(launch, [b"sexec", b"5", b"cat", b"/proc/self/status"], octets=request(*fields))
    if launch.mode is Mode.SUID:
        result.refused("a container that is ready")
        return
    seen = dict(line.split(":\t", 1) for line in result.ok().out.splitlines() if ":\t" in line)
    assert seen["Uid"].split() == [str(launch.account.uid)] * 4
    assert [int(seen[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapAmb")] == [0] * 4


@pytest.mark.modes("suid")
def test_the_last_stage_has_nothing_of_the_host_open(launch: Launcher, images: Images) -> None:
    """R-L17: neither the plain starter nor the request is there when the program begins."""
    script = "for f in /proc/$$/fd/*; do readlink $f; done; readlink /proc/$$/exe"
    lines = launch("exec", images.sandbox, "sh", "-c", script).lines
    assert len(lines) == 4, lines
    assert lines[-1] == "/bin/busybox"
    assert not [line for line in lines if "sexec" in line or "request" in line]


@pytest.mark.modes("userns")
def test_the_plain_starter_refuses_to_be_setuid(launch: Launcher, images: Images, directory: Path) -> None:
    """R-L1: all of the program is in it."""
    setuid = directory / "sexec"
    setuid.write_bytes(launch.starter.read_bytes())
    setuid.chmod(0o4755)
    shown = launch.showing(launch.starter, setuid)
    call(shown, [b"sexec", b"5", b"true"], octets=request(*usual_fields(images.sandbox, launch.mode))).refused("setuid")


LOOK = "ls -l /proc/$1/fd; cat /proc/$1/maps /proc/$1/environ; readlink /proc/$1/root /proc/$1/cwd; ls /proc/$1/root/"


@pytest.mark.modes("suid")
@pytest.mark.parametrize("mode", [0o711, 0o755])
def test_who_compares_libraries_cannot_be_looked_into(launch: Launcher, directory: Path, mode: int) -> None:
    """R-L8: it stands where a container is half built, and has the user's ids; with another mode it could be."""
    machine.require("unsanitized")
    judge = directory / "judge"
    judge.write_bytes(launch.starter.with_name("sexec-judge").read_bytes())
    judge.chmod(mode)

    def supply() -> None:  # a pipe without room: it waits when it is to tell
        seal(request(field(96, entry(16, b"/none", b"/none"))), 35)
        os.dup2(os.open("/", os.O_PATH), 36)
        reader, writer = os.pipe2(os.O_NONBLOCK)
        while True:
            try:
                os.write(writer, bytes(4096))
            except BlockingIOError:
                break
        os.set_blocking(writer, True)
        os.dup2(writer, 37)
        os.dup2(reader, 38)

    script = f"{judge} 35 36 37 & sleep 0.3; set -- $!; ({LOOK}) 2>/dev/null; kill $1"

    def execute() -> None:  # here, or what is open would be closed
        os.execve("/bin/sh", ["sh", "-c", script], {"PATH": "/usr/bin:/bin"})  # noqa: S606

    with launch.changed(before=[supply, execute]).start("/bin/false") as process:
        out, err = process.communicate(timeout=20)
    assert err == b""
    assert (out == b"") is (mode == 0o711), out
