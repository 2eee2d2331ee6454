"""The corpus as data: what is in an image (STACKS) and which builders make one of it (RECIPES).

A stack is a Containerfile and a program; roots.py makes what its context holds. The builders are functions of
builders.sh, and those of forms.py for layers that no builder within reach writes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import forms

BASE = "FROM scratch\nADD root.tar /\n"
DEBIAN = "ARG REGISTRY\nFROM ${REGISTRY}/bookworm\n"
PYTHON = "ARG REGISTRY\nFROM ${REGISTRY}/python\n"
BUSYBOX = "ARG REGISTRY\nFROM ${REGISTRY}/busybox\n"


def _apt(packages: str) -> str:
    install = "apt-get install -y --no-install-recommends"
    return f"RUN apt-get update && {install} {packages} && rm -rf /var/lib/apt/lists/*\n"


def _pip(packages: str) -> str:
    words = f"--break-system-packages --no-index --find-links /wheels {packages}"
    return f"RUN --mount=type=bind,source=wheels,target=/wheels pip install {words}\n"


@dataclass(frozen=True, kw_only=True)
class Stack:
    """What is in an image, a line of shell (or words) for it, and what that prints: a regular expression for all of it.

    Without a program the image is started by `run`.
    """

    lines: str
    program: str | tuple[str, ...] = ()
    prints: str
    root: str = ""  # who makes root.tar or what else is copied: a name of roots.ROOTS
    wheels: str = ""  # Python packages that the context holds as wheels
    modules: str = ""  # packages of npm that the context holds, installed
    lazy: bool = True  # False: tables of contents cannot hold its names, which are no UTF-8

    @property
    def made_of(self) -> str:
        """What its image depends on."""
        return f"{self.lines}\n{self.root}\n{self.wheels}\n{self.modules}"

    @property
    def words(self) -> tuple[str, ...]:
        return ("sh", "-c", self.program) if isinstance(self.program, str) else self.program


# ---- base systems, each by the program that makes them
_DISTRIBUTIONS = {
    "bookworm": Stack(root="debootstrap", lines=BASE, program="cat /etc/debian_version", prints=r"12\.\d+"),
    "trixie": Stack(root="mmdebstrap-trixie", lines=BASE, program="cat /etc/debian_version", prints=r"13\.\d+"),
    "sid": Stack(root="mmdebstrap-sid", lines=BASE, program="apt-get --version | head -n 1", prints=r"apt \d.*"),
    "dnf": Stack(root="dnf", lines=BASE, program="greeter", prints="greeter 2"),
    "zypper": Stack(root="zypper", lines=BASE, program="greeter", prints="greeter 2"),
    "pacman": Stack(root="pacman", lines=BASE, program="greeter", prints="greeter 2"),
    "apk": Stack(root="alpine", lines=BASE, program="apk info -e musl busybox | sort", prints="busybox\nmusl"),
    "busybox": Stack(root="busybox", lines=BASE, program="busybox | head -n 1", prints="BusyBox v.*"),
    "static": Stack(root="static", lines="FROM scratch\nCOPY hello /hello\n", program=("/hello",), prints="hello"),
}

# ---- stacks of science, and of the web
_SOFTWARE = {
    "python": Stack(lines=DEBIAN + _apt("python3 python3-pip"), program="python3 -c 'print(6 * 7)'", prints="42"),
    "conda": Stack(
        root="conda",
        lines=f"{PYTHON}ADD conda.tar /srv/conda\nENV PATH=/srv/conda/bin:$PATH\n",
        program="python3 -c 'import numpy, sys; print(sys.prefix, numpy.ones(5).sum())'; head -1 /srv/conda/bin/pydoc3",
        prints=r"/srv/conda 5\.0\n#!/srv/conda/bin/python3.11",
    ),
    "numpy": Stack(
        lines=PYTHON + _apt("python3-numpy"),
        program="python3 -c 'import numpy; print(numpy.ones(4).sum())'",
        prints=r"4\.0",
    ),
    "scipy": Stack(
        lines=PYTHON + _pip("numpy scipy pandas matplotlib"),
        wheels="numpy scipy pandas matplotlib",
        program="python3 -c 'import pandas, matplotlib.pyplot, scipy.linalg as l; print(l.det([[2., 0], [0, 3]]))'",
        prints=r"6\.0",
    ),
    "torch": Stack(
        lines=PYTHON + _pip("torch"),
        wheels="torch==2.13.0",
        program="python3 -c 'import torch; print(int(torch.ones(3, 3).sum()))'",
        prints="9",
    ),
    "mpi4py": Stack(
        lines=PYTHON + _apt("openmpi-bin") + _pip("mpi4py"),
        wheels="mpi4py",
        program="python3 -c 'from mpi4py import MPI; print(MPI.COMM_WORLD.size)'",
        prints="1",
    ),
    "r": Stack(lines=DEBIAN + _apt("r-base-core"), program="Rscript -e 'cat(sum(1:10))'", prints="55"),
    "gcc": Stack(
        lines=DEBIAN + _apt("gcc libc6-dev"),
        program="cd $(mktemp -d) && echo 'int main(void) { return 7; }' | gcc -x c - && ./a.out; echo $?",
        prints="7",
    ),
    "java": Stack(
        lines=DEBIAN + _apt("default-jre-headless"), program="java -version 2>&1 | head -n 1", prints="openjdk.*"
    ),
    "node": Stack(
        lines=DEBIAN + _apt("nodejs") + "COPY node_modules /srv/node_modules\n",
        modules="express left-pad",
        program='cd /srv && node -e \'console.log(require("left-pad")(7, 3, 0), typeof require("express"))\'',
        prints="007 function",
    ),
    "perl": Stack(
        lines=DEBIAN + _apt("perl libwww-perl"), program="perl -MLWP -e 'print $LWP::VERSION'", prints=r"6\.\d+"
    ),
    "ruby": Stack(lines=DEBIAN + _apt("ruby"), program="ruby -e 'puts 2**70'", prints="1180591620717411303424"),
    "postgres": Stack(lines=DEBIAN + _apt("postgresql"), program="psql --version", prints="psql.*"),
    "systemd": Stack(
        lines=DEBIAN + _apt("systemd dbus cron"), program="systemctl --version | head -n 1", prints="systemd 2.*"
    ),
    "git": Stack(lines=DEBIAN + _apt("git openssh-client"), program="git --version", prints="git version.*"),
}

# ---- what makes images hard
_DISTROLESS = r"""ARG REGISTRY
FROM ${REGISTRY}/python AS build
RUN mkdir -p /out/usr/bin /out/usr/lib && cp -a /usr/lib/python3.11 /out/usr/lib && \
    cp -a /usr/bin/python3 /usr/bin/python3.11 /out/usr/bin && \
    ldd /usr/bin/python3.11 | grep -o '/[^ ]*' | xargs -I{} cp -L --parents {} /out
FROM scratch
COPY --from=build /out /
ENTRYPOINT ["/usr/bin/python3", "-c", "print(6 * 7)"]
"""
_CAPABILITIES = r"""
RUN setcap cap_net_raw+ep /usr/bin/tail && mkdir /acl && setfacl -m u:4711:rwx /acl && setfacl -d -m g:4712:r /acl && \
    touch /acl/file && setfacl -m u:9:rw /acl/file && setfattr -n user.note -v 'a = b' /acl/file && \
    chown 3000000:70000 /acl/file && chmod 6711 /usr/bin/head && install -d -m 3777 -o 7 -g 8 /sticky && \
    mkfifo /fifo && mkdir -m 0 /closed && install -m 0 /dev/null /secret
"""
_CHURN = r"""
RUN mkdir -p /d/sub /o/sub /to-file /to-link /l/real && ln -s real /l/link && ln -s nowhere /dangling && \
    for f in /d/sub/a /o/sub/a /to-file/a /to-dir /l/real/in; do echo low >$f; done && \
    echo x >/one && ln /one /two && ln /one /d/three && for i in 1 2 3; do echo $i >/d/$i; done
RUN rm -rf /o && mkdir -p /o && echo new >/o/new && rm /d/2 && rm -r /to-file && echo file >/to-file && \
    rm /to-dir && mkdir /to-dir && echo in >/to-dir/in && rm -r /to-link && ln -s d /to-link && rm /two
RUN echo changed >>/one && ln /d/three /four && rm /l/link && mkdir /l/link && echo here >/l/link/in && touch /d
RUN chown 12:34 /d/sub/a && chmod 4755 /d/1 && mv /d/sub /moved && rm -r /to-dir && ln -s /moved /to-dir
RUN rm /to-file && mkdir -p /to-file/again && touch /to-file/again/file && rm /dangling
"""
_NAMES = r"""
RUN for n in 96 97 98 99 100 101 102 153 154 155 156 157 200 255; do \
    long=$(printf "%0${n}d" 0) && mkdir -p /n/$n && echo $n >/n/$n/$long; done
RUN for n in 88 89 90 91 92 93 94 95; do \
    long=$(printf "%0${n}d" 0) && mkdir -p /n/$long/sub && echo $n >/n/$long/sub/f; done
RUN d=$(printf '%080d' 1) && mkdir -p /deep/$d/$d/$d && echo deep >/deep/$d/$d/$d/$d
RUN mkdir /odd && cd /odd && touch "$(printf 'new\nline')" "$(printf 'latin-\344')" 'back\slash' 'spa ce ' ' lead' && \
    touch '*?[' "'\"" '#' ':x' 'schön-日本' .wh a.wh.b ./-dash && ln -s "$(printf '%0300d' 0)" long && ln -s 'to \x' odd
RUN cd /odd && for i in $(seq 1 300); do echo $i >many-$i; done && touch -d '1970-01-01 00:00:00' epoch && \
    touch -d '2037-12-31 23:59:59' late && truncate -s 8M hole && printf end >>hole && : >empty
"""
_CONFIG = r"""
RUN echo 'app:x:1234:1234::/srv/app:/bin/sh' >>/etc/passwd && mkdir -p /srv/app && chown app /srv/app
WORKDIR /srv/app
USER app
ENV A="b c" QUOTE="it's \"so\"" DOLLAR='$HOME' EMPTY= PATH=/srv/app/bin:/bin
LABEL org.example.note="two words" empty=""
ENTRYPOINT ["/bin/sh", "-c", "echo \"$A|$QUOTE|$DOLLAR|$1\"", "x"]
CMD ["of the command"]
VOLUME /srv/data
EXPOSE 80/tcp
"""
_HARD = {
    "distroless": Stack(lines=_DISTROLESS, prints="42"),
    "capabilities": Stack(
        lines=DEBIAN + _apt("iputils-ping sudo man-db acl attr libcap2-bin") + _CAPABILITIES,
        program="test -u /usr/bin/sudo && test -k /sticky && echo there",
        prints="there",
    ),
    "churn": Stack(
        lines=BUSYBOX + _CHURN,
        program="ls /d /o /l/link /to-dir/ /to-file/again | xargs echo; cat /one",
        prints="/d: 1 3 three /l/link: in /o: new /to-dir/: a /to-file/again: file\nx\nchanged",
    ),
    "names": Stack(
        lines=BUSYBOX + _NAMES,
        program="ls /odd | wc -l; cat /n/*/* /n/*/sub/f 2>/dev/null | sort -n | xargs echo",
        lazy=False,
        prints=r"31[89]\n88 89 90 91 92 93 94 95 96 97 98 99 100 101 102 153 154 155 156 157 200 255",
    ),
    "config": Stack(lines=BUSYBOX + _CONFIG, prints=r"b c\|it's \"so\"\|\$HOME\|of the command"),
}
STACKS = _DISTRIBUTIONS | _SOFTWARE | _HARD

SCRIPT = Path(__file__).with_name("builders.sh")
_FUNCTIONS = dict(re.findall(r"^(\w+)\(\) (\{ .*? \}|\{\n.*?\n\})$", SCRIPT.read_text(), re.MULTILINE | re.DOTALL))
_HELPERS = ("copy", "buildx", "layout", "build", "given", "saved", "begun", "pushed", "fetched", "converted")
BUILDERS = {name.replace("_", "-"): text for name, text in _FUNCTIONS.items() if name not in _HELPERS}
BUILDERS |= {f"form-{name}": "" for name in forms.FORMS}
_WITH_TABLES = ("buildah-chunked", "skopeo-chunked", "stargz-estargz", "stargz-chunked")


@dataclass(frozen=True)
class Recipe:
    """One image of the corpus."""

    stack: str
    builder: str

    @property
    def name(self) -> str:
        return f"{self.stack}-by-{self.builder}"

    @property
    def lazy(self) -> bool:
        """Whether all its layers have tables of contents that can be used."""
        return self.builder in _WITH_TABLES and STACKS[self.stack].lazy


_MORE = {
    "busybox": " ".join(BUILDERS),
    "churn": "docker-save docker-commit buildah-plain buildah-layers buildah-squash podman-save umoci-repack "
    "crane-append crane-flatten skopeo-chunked skopeo-schema2 stargz-estargz stargz-chunked form-snapshots "
    "form-absolute form-opaque form-empty-layers form-gnu form-ustar",
    "names": "docker-save buildah-layers buildah-squash podman-save umoci-repack umoci-insert crane-flatten "
    "skopeo-chunked skopeo-zstd skopeo-docker-archive stargz-chunked form-snapshots form-absolute form-dotted "
    "form-gnu form-no-directories form-members form-frames",
    "bookworm": "buildah-squash umoci-repack umoci-insert skopeo-chunked crane-append docker-save form-gnu",
    "capabilities": "buildah-layers umoci-repack skopeo-chunked stargz-chunked podman-save docker-commit form-gnu",
    "config": "buildah-layers docker-save buildkit-schema2 skopeo-docker-archive",
    "scipy": "skopeo-zstd stargz-chunked skopeo-chunked",
    "torch": "skopeo-chunked",
    "numpy": "form-pigz skopeo-plain",
    "apk": "buildah-plain umoci-repack skopeo-schema2",
    "dnf": "buildah-layers",
    "zypper": "umoci-repack",
    "pacman": "skopeo-zstd",
    "distroless": "buildah-squash skopeo-chunked",
    "static": "buildkit-attested skopeo-docker-archive",
}
RECIPES = tuple(
    dict.fromkeys(
        [Recipe(stack, "buildkit") for stack in STACKS]
        + [Recipe(stack, builder) for stack, builders in _MORE.items() for builder in builders.split()]
    )
)
