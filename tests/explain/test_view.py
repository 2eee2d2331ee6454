"""The page that shows an image, in a real browser: whole, harmless whatever the image says, and readable."""

from __future__ import annotations

import http.client
import io
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import browser
import pytest
from machine import FIXTURES

from singularity.explain import page, page_data
from singularity.image.identify import identify

if TYPE_CHECKING:
    from collections.abc import Iterator

PARTS = ("overview", "files", "packages", "layers", "definition", "about", "sbom", "signatures", "check")
EVIL = (
    "<img src=x onerror=\"document.title='caught'\">",
    "<\\/script><script>document.title='caught'<\\/script>".replace("\\/", "|"),
    "';alert(1);'",
    "line\nbreak",
    "right\u202eexe.txt",
    "{{7*7}}",
    "@DATA@",
    "not utf-8 \udcff",
    "<!--",
)
CAUGHT = "<script>document.title='caught'</script></script><img src=x onerror=\"document.title='caught'\">"


def types(place: Path, *words: str | Path, status: int = 0) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": os.environ["PATH"], "HOME": str(place), "TMPDIR": str(place)}
    argv = [sys.executable, "-I", "-m", "singularity", *map(str, words)]
    done = subprocess.run(argv, env=environment, cwd=place, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == status, done.stdout + done.stderr
    return done


@pytest.fixture(scope="module")
def chromium() -> Iterator[browser.Page]:
    with browser.browser() as found:
        yield found


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An image whose every word is hostile, another one, and the pages of both."""
    place = tmp_path_factory.mktemp("view")
    root = place / "tree"
    for directory in ("bin", "lib/apk/db", "opt", "srv/node_modules/x"):
        (root / directory).mkdir(parents=True)
    shutil.copy("/bin/busybox", root / "bin/sh")
    for name in EVIL:
        (root / "opt" / name.replace("/", "|")).write_text(name * 40, encoding="utf-8", errors="surrogateescape")
    (root / "opt/link").symlink_to(CAUGHT)
    (root / "lib/apk/db/installed").write_text(f"P:tool\nV:1{CAUGHT}\nA:x86_64\nL:{CAUGHT}\nF:bin\nR:sh\n\n")
    said = {"name": CAUGHT, "version": CAUGHT + "\ud800\u2028", "license": CAUGHT}
    (root / "srv/node_modules/x/package.json").write_text(json.dumps(said))
    (place / "x.def").write_text(
        f"Bootstrap: localimage\nFrom: tree\n%labels\n  Evil {CAUGHT}\n%help\n  {CAUGHT}\n"
        f"%runscript\n  # {CAUGHT}\n  sh\n"
    )
    types(place, "build", "--sbom", "x.sif", "x.def")
    types(place, "build", "old.sif", "tree")
    types(place, "view", "--html", "x.html", "--against", "old.sif", "x.sif")
    return place


pytestmark = pytest.mark.needs("busybox", "mksquashfs")


# ---- in a browser ----
@pytest.mark.needs("chromium")
@pytest.mark.parametrize("part", [*PARTS, "difference"])
def test_nothing_of_the_image_becomes_markup(part: str, place: Path, chromium: browser.Page) -> None:
    chromium.complaints.clear()
    chromium.requests.clear()
    chromium.open(f"file://{place}/x.html#{part}")
    chromium.settle()
    assert chromium.run("document.title") == "x.sif"
    assert chromium.run("location.hash") == f"#{part}"
    others = "img, iframe, object, embed, form, svg, main script, main style"
    assert chromium.run(f"document.querySelectorAll('{others}').length") == 0
    handlers = "[...document.querySelectorAll('*')].flatMap((e) => e.getAttributeNames()).filter((n) => n[1] === 'n')"
    assert [each for each in chromium.run(handlers) if each.startswith("on")] == []
    assert chromium.run("document.querySelectorAll('script').length") == 2
    assert chromium.complaints == []
    assert [each for each in chromium.requests if not each.startswith((f"file://{place}/x.html", "about:"))] == []


@pytest.mark.needs("chromium")
@pytest.mark.parametrize(("width", "dark"), [(1280, False), (1280, True), (390, False), (390, True)])
def test_it_fits_and_can_be_read(width: int, dark: bool, place: Path, chromium: browser.Page) -> None:
    for part in (*PARTS, "difference"):
        chromium.open(f"file://{place}/x.html#{part}", width=width, dark=dark)
        chromium.settle()
        wide = chromium.run("document.documentElement.scrollWidth")
        assert wide <= width, (part, wide)
        assert chromium.run("document.querySelector('#main').innerText.trim().length") > 10, part
        faint = chromium.run(CONTRAST)
        assert faint == [], (part, faint)


CONTRAST = """(() => {
  const parse = (text) => { const [r, g, b, a = 1] = text.match(/[\\d.]+/g).map(Number); return { r, g, b, a }; };
  const light = ({ r, g, b }) => [r, g, b].map((v) => (v /= 255) <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4)
    .reduce((sum, v, at) => sum + v * [.2126, .7152, .0722][at], 0);
  const behind = (element) => { for (let each = element; each; each = each.parentElement) {
    const colour = parse(getComputedStyle(each).backgroundColor); if (colour.a === 1) return colour; }
    return { r: 255, g: 255, b: 255 }; };
  const found = [];
  for (const element of document.querySelectorAll('body *')) {
    const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
    if (!own || !element.offsetParent || ['SCRIPT', 'STYLE', 'NOSCRIPT'].includes(element.tagName)) continue;
    const style = getComputedStyle(element), one = light(parse(style.color)), other = light(behind(element));
    const ratio = (Math.max(one, other) + .05) / (Math.min(one, other) + .05);
    if (ratio < 4.5) found.push([element.textContent.slice(0, 30), style.color, ratio.toFixed(2)]);
  }
  return found.slice(0, 5);
})()"""


@pytest.mark.needs("chromium")
def test_people_find_their_way(place: Path, chromium: browser.Page) -> None:
    chromium.open(f"file://{place}/x.html")
    text = "document.querySelector('#main').innerText"
    click = "[...document.querySelectorAll('{}')].find((e) => e.textContent.startsWith('{}')).click()"
    chromium.until("document.querySelectorAll('.tile').length > 3")
    assert chromium.run("document.querySelectorAll('nav a').length") == 10
    chromium.run(click.format("nav a", "Files"))
    chromium.run(click.format("td button", "opt/"))
    chromium.settle()
    assert "line\\u000abreak" in chromium.run(text)
    assert "right\\u202eexe.txt" in chromium.run(text)
    assert "not utf-8 \\xff" in chromium.run(text)
    assert CAUGHT in chromium.run(text)
    chromium.run(
        "(() => { const i = document.querySelector('input'); i.value = 'SH'; i.dispatchEvent(new Event('input')); })()"
    )
    assert "/bin/sh" in chromium.run(text)
    chromium.run(click.format(".card button", "/bin/sh"))
    chromium.run(click.format("nav a", "Packages"))
    assert "tool" in chromium.run(text)
    chromium.run(click.format("nav a", "Differences"))
    assert "/.singularity.d/labels.json" in chromium.run(text)
    chromium.run("history.back()")
    chromium.settle()
    assert chromium.run("document.querySelector('h2').textContent") == "Packages"
    chromium.run(click.format("nav a", "SBOM"))
    assert "spdx-json" in chromium.run(text)


@pytest.mark.needs("chromium")
def test_a_hundred_thousand_files_are_shown_soon(tmp_path: Path, chromium: browser.Page) -> None:
    names = [f"bin/d{number:03}/f{each}" for number in range(100) for each in range(1000)]
    names += [f"usr/<b>{each}" for each in range(20_000)]
    with tarfile.open(tmp_path / "tree.tar", "w") as archive:
        for name in names:
            member = tarfile.TarInfo(name)
            member.size = 1
            archive.addfile(member, io.BytesIO(b"x"))
    types(tmp_path, "view", "--html", "x.html", "tree.tar")
    before = time.monotonic()
    chromium.open(f"file://{tmp_path}/x.html#files")
    chromium.settle()
    took = time.monotonic() - before
    assert chromium.run("document.querySelector('nav a[href=\"#files\"] small').textContent").startswith("120,0")
    chromium.run("[...document.querySelectorAll('td button')].find((e) => e.textContent === 'usr/').click()")
    chromium.settle()
    assert chromium.run("document.querySelectorAll('b').length") < 2000
    assert "<b>10002" in chromium.run("document.querySelector('#main').innerText")
    assert took < 10
    assert chromium.run("document.querySelectorAll('*').length") < 12_000


# ---- the file ----
def test_the_file_is_one_and_asks_nobody(place: Path) -> None:
    data = (place / "x.html").read_bytes()
    assert data.count(b"<script") == 2
    assert data.lower().count(b"</script") == 2
    assert b"innerHTML" not in data
    assert b"http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; script-src 'sha256-" in data
    said = json.loads(data.partition(b'id="data">')[2].partition(b"</script>")[0])
    assert said["labels"]["Evil"] == CAUGHT
    assert "src=" not in data.decode().partition('id="data">')[0]
    types(place, "view", "--html", "x.html", "x.sif", status=255)
    types(place, "view", "--force", "--html", "again.html", "x.sif")


def test_what_it_shows_is_what_the_image_says(place: Path) -> None:
    nothing = page_data.Table(text="")
    asked = page_data.Asked(image=identify(place / "x.sif"), name="x.sif", signatures=nothing, check=nothing, epoch=0)
    said = page_data.collect(asked)
    assert sum(said["tree"]["size"]) == sum(size for _, size in said["shares"])
    assert [each[0] for each in said["layers"]][-2:] == ["4: SBOM", "header and padding"]
    assert sum(each[1] for each in said["layers"]) == (place / "x.sif").stat().st_size
    assert {name: row for row in said["packages"] for name in [row[1]]}["tool"][6] == (
        place / "tree/bin/sh"
    ).stat().st_size
    assert said["definitions"][0][1] == (place / "x.def").read_text().rstrip("\n")
    assert json.loads(said["sbom"]["spdx.json"])["spdxVersion"] == "SPDX-2.3"
    assert page.html(said) == page.html(page_data.collect(asked))


@pytest.mark.needs("openssl")
def test_signatures_are_told_as_they_are(place: Path) -> None:
    def told(image: str) -> tuple[str, str]:
        types(place, "view", "--force", "--html", "signed.html", image)
        data = (place / "signed.html").read_bytes().partition(b'id="data">')[2].partition(b"</script>")[0]
        said = json.loads(data)["signatures"]
        return said["state"], said["text"]

    assert told("x.sif") == ("unknown", "nobody has signed it")
    assert told("tree")[0] == "unknown"
    words = ["openssl", "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", "k.pem"]
    subprocess.run(words, cwd=place, check=True, capture_output=True)
    shutil.copy(place / "x.sif", place / "pem.sif")
    types(place, "sign", "--key", "k.pem", "pem.sif")
    assert told("pem.sif") == ("unknown", "signed with PEM key, which verify checks by the key that is given to it")
    if FIXTURES.is_dir():
        shutil.copy(FIXTURES / "busybox-signed.sif", place / "pgp.sif")
        assert told("pgp.sif")[0] == "unverified"
        types(place, "key", "import", FIXTURES / "fixture-public-key.asc")
        assert told("pgp.sif") == ("good", "all in it is as it was signed")


# ---- the server ----
@pytest.fixture
def served(place: Path) -> Iterator[tuple[subprocess.Popen[str], int, str]]:
    environment = {"PATH": os.environ["PATH"], "HOME": str(place), "TMPDIR": str(place)}
    argv = [sys.executable, "-I", "-m", "singularity", "view", "x.sif"]
    process = subprocess.Popen(
        argv, env=environment, cwd=place, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout
    address = process.stdout.readline().strip()
    assert address.startswith("http://127.0.0.1:"), process.communicate()
    port, _, path = address.removeprefix("http://127.0.0.1:").partition("/")
    yield process, int(port), f"/{path}"
    process.kill()
    process.communicate()


def asked(port: int, path: str, **headers: str) -> tuple[int, bytes, dict[str, str]]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.putrequest("GET", path, skip_host=True)
    for name, value in {"Host": f"127.0.0.1:{port}", **headers}.items():
        connection.putheader(name, value)
    connection.endheaders()
    answer = connection.getresponse()
    return answer.status, answer.read(), dict(answer.headers)


def test_only_who_has_the_address_gets_the_page(served: tuple[Any, int, str]) -> None:
    process, port, path = served
    status, data, headers = asked(port, path)
    assert (status, data[:15]) == (200, b"<!doctype html>")
    assert headers["Cache-Control"] == "no-store"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert asked(port, path, Host=f"localhost:{port}")[0] == 200
    for host in ("evil.example", f"evil.example:{port}", "127.0.0.1", f"127.0.0.1:{port}@evil", ""):
        assert asked(port, path, Host=host)[0] == 403, host
    other = "y/" if path[-2] == "x" else "x/"
    for wrong in ("/", path[:-1], path[:-2] + other, f"{path}../", path + "x", "/etc/passwd"):
        assert asked(port, wrong)[0] == 404, wrong
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("POST", path, body=b"x")
    assert connection.getresponse().status == 501
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=20)
    assert process.returncode == 0
    assert path not in out + err


def test_it_listens_on_loopback_alone_and_ends_with_the_command(served: tuple[Any, int, str]) -> None:
    process, port, path = served
    listening = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    addresses = {line[1] for line in listening if line[3] == "0A" and line[1].endswith(f":{port:04X}")}
    assert addresses == {f"0100007F:{port:04X}"}
    slow = socket.create_connection(("127.0.0.1", port))  # says nothing, and hinders nobody
    assert asked(port, path)[0] == 200
    process.terminate()
    process.communicate(timeout=20)
    slow.close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))


def test_what_is_wrong_is_one_line(place: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert (
            f"port {port}: Address already in use"
            in types(place, "view", "--port", str(port), "x.sif", status=255).stderr
        )
    assert types(place, "view", "missing.sif", status=255).stderr.count("\n") == 1
    assert types(place, "view", "--port", "x", "x.sif", status=1).stderr.count("\n") == 1
    assert types(place, "view", status=1).stderr.count("\n") == 1


@pytest.mark.needs("chromium")
def test_the_served_page_works_in_the_browser(served: tuple[Any, int, str], chromium: browser.Page) -> None:
    _, port, path = served
    chromium.complaints.clear()
    chromium.open(f"http://127.0.0.1:{port}{path}")
    assert chromium.run("document.querySelector('h1').textContent") == "x.sif"
    assert [each for each in chromium.complaints if "favicon" not in each and "404" not in each] == []
