"""The corpus as data: what is in an image (STACKS), who makes it (BUILDERS), and which pairs are run (RECIPES).

A stack is a Containerfile and a program; `roots.py` makes what its context holds. A builder is a line of shell for the
workshop (`workshop.py`), a Debian sid with the builders of today. Nothing here acts.
"""

from __future__ import annotations

from dataclasses import dataclass

BASE = "FROM scratch\nADD root.tar /\n"
DEBIAN = "ARG REGISTRY\nFROM ${REGISTRY}/bookworm\n"
PYTHON = "ARG REGISTRY\nFROM ${REGISTRY}/python\n"
BUSYBOX = "ARG REGISTRY\nFROM ${REGISTRY}/busybox\n"
_APT = "apt-get install -y --no-install-recommends"


def _apt(packages: str) -> str:
    return f"RUN apt-get update && {_APT} {packages} && rm -rf /var/lib/apt/lists/*\n"


def _pip(packages: str) -> str:
    words = f"--break-system-packages --no-index --find-links /wheels {packages}"
    return f"RUN --mount=type=bind,source=wheels,target=/wheels pip install {words}\n"


@dataclass(frozen=True, kw_only=True)
class Stack:
    """What is in an image, a program that it has, and what that prints: a regular expression for all of it."""

    lines: str
    program: tuple[str, ...]
    prints: str
    root: str = ""  # who makes root.tar or what else is copied: a name of roots.ROOTS
    wheels: str = ""  # Python packages that the context holds as wheels
    modules: str = ""  # packages of npm that the context holds, installed


def _shell(text: str) -> tuple[str, ...]:
    return ("sh", "-c", text)


def _python(text: str) -> tuple[str, ...]:
    return ("python3", "-c", text)


STACKS = {
    # ---- base systems, each by the program that makes them
    "bookworm": Stack(root="debootstrap", lines=BASE, program=("cat", "/etc/debian_version"), prints=r"12\.\d+"),
    "trixie": Stack(root="mmdebstrap-trixie", lines=BASE, program=("cat", "/etc/debian_version"), prints=r"13\.\d+"),
    "sid": Stack(root="mmdebstrap-sid", lines=BASE, program=("apt-get", "--version"), prints=r"apt \d.*"),
    "dnf": Stack(root="dnf", lines=BASE, program=("greeter",), prints="greeter 2"),
    "zypper": Stack(root="zypper", lines=BASE, program=("greeter",), prints="greeter 2"),
    "pacman": Stack(root="pacman", lines=BASE, program=("greeter",), prints="greeter 2"),
    "apk": Stack(root="alpine", lines=BASE, program=("apk", "info", "-e", "musl", "busybox"), prints="musl\nbusybox|busybox\nmusl"),
    "busybox": Stack(root="busybox", lines=BASE, program=_shell("busybox | head -n 1"), prints="BusyBox v.*"),
    "static": Stack(root="static", lines="FROM scratch\nCOPY hello /hello\n", program=("/hello",), prints="hello"),
    "conda": Stack(
        root="conda", lines=f"{DEBIAN}ADD conda.tar /opt/conda\nENV PATH=/opt/conda/bin:$PATH\n",
        program=_python("import numpy, sys; print(sys.prefix, numpy.arange(5).sum())"), prints="/opt/conda 10",
    ),
    # ---- stacks of science
    "python": Stack(
        lines=DEBIAN + _apt("python3 python3-pip"), program=_python("print(6 * 7)"), prints="42"),
    "apt-numpy": Stack(
        lines=PYTHON + _apt("python3-numpy"), program=_python("import numpy; print(numpy.ones(4).sum())"), prints="4.0"),
    "pip-science": Stack(
        lines=PYTHON + _pip("numpy scipy pandas matplotlib"), wheels="numpy scipy pandas matplotlib",
        program=_python("import matplotlib.pyplot, pandas; from scipy import linalg; print(linalg.det([[2., 0], [0, 3]]))"),
        prints="6.0",
    ),
    "pip-torch": Stack(
        lines=PYTHON + _pip("torch"), wheels="torch==2.13.0",
        program=_python("import torch; print(int(torch.ones(3, 3).sum()))"), prints="9",
    ),
    "mpi4py": Stack(
        lines=PYTHON + _apt("openmpi-bin") + _pip("mpi4py"), wheels="mpi4py",
        program=_python("from mpi4py import MPI; print(MPI.COMM_WORLD.size)"), prints="1",
    ),
    "r": Stack(lines=DEBIAN + _apt("r-base-core"), program=("Rscript", "-e", "cat(sum(1:10))"), prints="55"),
    "gcc": Stack(
        lines=DEBIAN + _apt("gcc libc6-dev"),
        program=_shell("echo 'int main(void) { return 7; }' | gcc -x c -o /tmp/x - && /tmp/x; echo $?"), prints="7",
    ),
    "java": Stack(lines=DEBIAN + _apt("default-jre-headless"), program=("java", "-version"), prints=""),
    "node": Stack(
        lines=DEBIAN + _apt("nodejs") + "COPY node_modules /srv/node_modules\n", modules="express left-pad",
        program=_shell("cd /srv && node -e 'console.log(require(\"left-pad\")(7, 3, 0), typeof require(\"express\"))'"),
        prints="007 function",
    ),
    "perl": Stack(
        lines=DEBIAN + _apt("perl libwww-perl"), program=("perl", "-MLWP", "-e", 'print "$LWP::VERSION\\n"'), prints=r"6\.\d+"),
    "ruby": Stack(lines=DEBIAN + _apt("ruby"), program=("ruby", "-e", "puts 2**70"), prints="1180591620717411303424"),
    "postgres": Stack(lines=DEBIAN + _apt("postgresql"), program=("psql", "--version"), prints="psql.*"),
    "systemd": Stack(lines=DEBIAN + _apt("systemd dbus cron"), program=_shell("systemctl --version | head -n 1"), prints="systemd 2.*"),
    "git": Stack(lines=DEBIAN + _apt("git openssh-client"), program=("git", "--version"), prints="git version.*"),
    # ---- what makes images hard
    "distroless": Stack(
        lines=DEBIAN.replace("bookworm", "python AS build") + r"""RUN mkdir -p /out/usr/bin /out/usr/lib /out/lib64 && \
    cp -a /usr/lib/python3.11 /out/usr/lib/ && cp -a /usr/bin/python3 /usr/bin/python3.11 /out/usr/bin/ && \
    ldd /usr/bin/python3.11 | grep -o '/[^ ]*' | xargs -I{} cp -L --parents {} /out
FROM scratch
COPY --from=build /out /
ENTRYPOINT ["/usr/bin/python3"]
""",
        program=("/usr/bin/python3", "-c", "print(6 * 7)"), prints="42",
    ),
    "capabilities": Stack(
        lines=DEBIAN + _apt("iputils-ping sudo man-db acl attr libcap2-bin") + r"""RUN setcap cap_net_raw+ep /usr/bin/tail && \
    mkdir /acl && setfacl -m u:4711:rwx -d -m g:4712:r /acl && touch /acl/file && setfacl -m u:0:r,u:9:rw /acl/file && \
    setfattr -n user.note -v 'a = b' /acl/file && chown 3000000:70000 /acl/file && chmod 6711 /usr/bin/head && \
    install -d -m 3777 -o 7 -g 8 /sticky && mkfifo /fifo && mkdir -m 0 /closed && install -m 0 /dev/null /secret
""",
        program=_shell("test -u /usr/bin/sudo && test -k /sticky && echo there"), prints="there",
    ),
    "churn": Stack(
        lines=BUSYBOX + r"""RUN mkdir -p /d/sub /o/sub /dir-to-file /dir-to-link /l/real && echo low >/d/sub/a && echo low >/o/sub/a && \
    echo x >/file-to-dir && echo x >/dir-to-file/a && echo x >/one && ln /one /two && ln /one /d/three && ln -s real /l/link && \
    echo in >/l/real/in && ln -s nowhere /dangling && for i in 1 2 3; do echo $i >/d/$i; done
RUN rm -rf /o && mkdir -p /o && echo new >/o/new && rm /d/2 && rm -r /dir-to-file && echo file >/dir-to-file && \
    rm /file-to-dir && mkdir /file-to-dir && echo in >/file-to-dir/in && rm -r /dir-to-link && ln -s d /dir-to-link && rm /two
RUN echo changed >>/one && ln /d/three /four && rm /l/link && mkdir /l/link && echo here >/l/link/in && touch /d
RUN chown 12:34 /d/sub/a && chmod 4755 /d/1 && mv /d/sub /moved && rm -r /file-to-dir && ln -s /moved /file-to-dir
RUN rm /dir-to-file && mkdir -p /dir-to-file/again && touch /dir-to-file/again/file && rm /dangling
""",
        program=_shell("ls /d /o /l/link /file-to-dir/ /dir-to-file/again | xargs echo; cat /one"),
        prints=r"/d: 1 3 three /dir-to-file/again: file /file-to-dir/: a /l/link: in /o: new\nx\nchanged",
    ),
    "names": Stack(
        lines=BUSYBOX + r"""RUN for n in 96 97 98 99 100 101 102 153 154 155 156 157 200 255; do \
    long=$(printf "%0${n}d" 0); mkdir -p /n/$n && echo $n >/n/$n/$long; done
RUN d=$(printf '%080d' 1) && mkdir -p /deep/$d/$d/$d && echo deep >/deep/$d/$d/$d/$d && \
    for n in 88 89 90 91 92 93 94 95; do long=$(printf "%0${n}d" 0); mkdir -p /n/$long/sub && echo $n >/n/$long/sub/f; done
RUN mkdir /odd && cd /odd && touch "$(printf 'new\nline')" "$(printf 'latin-\344')" 'back\slash' 'spa ce ' ' lead' '*?[' "'\"" '#' ':x' \
    'schön-日本' -- '-dash' '.wh' 'a.wh.b' && ln -s "$(printf '%0300d' 0)" long-link && ln -s 'to the \x' odd-link
RUN cd /odd && for i in $(seq 1 300); do echo $i >many-$i; done && touch -d '1970-01-01 00:00:00' epoch && \
    touch -d '2037-12-31 23:59:59' late && truncate -s 8M hole && printf end >>hole && : >empty
""",
        program=_shell("ls /odd | wc -l; cat /n/*/* /n/*/sub/f | xargs echo"),
        prints=r"31\d\n.*96 97 98 99 100.*",
    ),
    "config": Stack(
        lines=BUSYBOX + r"""RUN adduser -D -u 1234 app && mkdir -p /srv/app && chown app /srv/app
WORKDIR /srv/app
USER app
ENV A="b c" QUOTE="it's \"so\"" DOLLAR='$HOME' EMPTY= PATH=/srv/app/bin:/bin
LABEL org.example.note="two words" empty=""
ENTRYPOINT ["/bin/sh", "-c", "echo \"$A|$QUOTE|$DOLLAR|$1\"", "x"]
CMD ["of the command"]
VOLUME /srv/data
EXPOSE 80/tcp
""",
        program=("RUN",), prints=r"b c\|it's \"so\"\|\$HOME\|of the command",
    ),
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Builder:
    """Shell lines for the workshop. They leave in $OUT an OCI `layout`, with the tag `t`, skopeo's `dir`, or `image.tar`.

    $CONTEXT holds the Containerfile, $STACK is its name; $FROM is the layout of the stack as the builder `buildkit` has
    it, for those who make one image out of another.
    """

    script: str = ""
    form: str = ""  # in place of a script: how forms.py writes the layers of $FROM
    archive: bool = False  # an image.tar as Docker saves it, which is read from the file
    lazy: bool = False  # all its layers have tables of contents


_BUILDX = "docker buildx build --quiet --network host --build-arg REGISTRY=$REGISTRY -f $CONTEXT/Containerfile $CONTEXT"
_TO_OCI = "--output type=oci,dest=$OUT/layout,tar=false,name=corpus:t,force-compression=true"
_BUILDAH = "buildah --root $STORAGE/buildah --runroot /run/buildah"
_BUD = f"{_BUILDAH} build --quiet --isolation chroot --network host --tls-verify=false --build-arg REGISTRY=$REGISTRY -f $CONTEXT/Containerfile -t $STACK"
_TO_LAYOUT = f"$CONTEXT && {_BUILDAH} push --quiet ${{PUSH:-}} $STACK oci:$OUT/layout:t"
_PODMAN = "podman --root $STORAGE/buildah --runroot /run/buildah"
_SKOPEO = "skopeo copy --quiet --insecure-policy oci:$FROM:t"
_PUSHED = "skopeo copy --quiet --insecure-policy --dest-tls-verify=false oci:$FROM:t docker://$REGISTRY/tmp/$STACK:t"
_FETCHED = "skopeo copy --quiet --insecure-policy --src-tls-verify=false docker://$REGISTRY/tmp/$STACK:t oci:$OUT/layout:t"
_CTR = "ctr-remote --address $CONTAINERD --namespace corpus image"
_UMOCI = "umoci unpack --image $FROM:t /tmp/from && umoci init --layout $OUT/layout && umoci new --image $OUT/layout:t"

BUILDERS = {
    # ---- BuildKit, in Docker's daemon
    "buildkit": Builder(script=f"{_BUILDX} --provenance=false {_TO_OCI},compression=gzip"),
    "buildkit-zstd": Builder(script=f"{_BUILDX} --provenance=false {_TO_OCI},compression=zstd"),
    "buildkit-plain": Builder(script=f"{_BUILDX} --provenance=false {_TO_OCI},compression=uncompressed"),
    "buildkit-attested": Builder(script=f"{_BUILDX} --provenance=mode=max {_TO_OCI},compression=gzip"),
    "buildkit-schema2": Builder(script=f"{_BUILDX} --provenance=false {_TO_OCI},compression=gzip,oci-mediatypes=false"),
    "buildkit-dated": Builder(
        script=f"SOURCE_DATE_EPOCH=1000000000 {_BUILDX} --provenance=false {_TO_OCI},compression=gzip,rewrite-timestamp=true"),
    "buildkit-docker": Builder(script=f"{_BUILDX} --provenance=false --output type=docker,dest=$OUT/image.tar,name=corpus:t", archive=True),
    "docker-save": Builder(script=f"{_BUILDX} --load -t corpus/$STACK && docker save -o $OUT/image.tar corpus/$STACK", archive=True),
    # ---- buildah and podman
    "buildah": Builder(script=f"{_BUD} --layers=false {_TO_LAYOUT}"),
    "buildah-layers": Builder(script=f"{_BUD} --layers {_TO_LAYOUT}"),
    "buildah-squash": Builder(script=f"{_BUD} --squash {_TO_LAYOUT}"),
    "buildah-chunked": Builder(
        script=f"PUSH='--compression-format zstd:chunked --force-compression'; {_BUD} --layers {_TO_LAYOUT}", lazy=True),
    "podman-save": Builder(script=f"{_BUD} --layers $CONTEXT && {_PODMAN} save --quiet -o $OUT/image.tar $STACK", archive=True),
    "podman-save-oci": Builder(
        script=f"{_BUD} --layers $CONTEXT && {_PODMAN} save --quiet --format oci-dir -o $OUT/saved $STACK && "
               "skopeo copy --quiet --insecure-policy oci:$OUT/saved oci:$OUT/layout:t && rm -r $OUT/saved"),
    # ---- umoci
    "umoci-repack": Builder(
        script=f"{_UMOCI} && umoci unpack --image $OUT/layout:t /tmp/to && cp -a /tmp/from/rootfs/. /tmp/to/rootfs/ && "
               "umoci repack --image $OUT/layout:t /tmp/to"),
    "umoci-insert": Builder(
        script=f"{_UMOCI} && umoci insert --image $OUT/layout:t /tmp/from/rootfs / && mkdir /tmp/x && echo added >/tmp/x/added && "
               "umoci insert --image $OUT/layout:t --opaque /tmp/x /var/tmp && umoci insert --image $OUT/layout:t --whiteout /mnt"),
    # ---- skopeo, in every compression
    "skopeo-gzip": Builder(script=f"{_SKOPEO} oci:$OUT/layout:t --dest-compress-format gzip --dest-compress-level 1 --dest-force-compress-format"),
    "skopeo-zstd": Builder(script=f"{_SKOPEO} oci:$OUT/layout:t --dest-compress-format zstd"),
    "skopeo-zstd-19": Builder(script=f"{_SKOPEO} oci:$OUT/layout:t --dest-compress-format zstd --dest-compress-level 19"),
    "skopeo-chunked": Builder(script=f"{_SKOPEO} oci:$OUT/layout:t --dest-compress-format zstd:chunked", lazy=True),
    "skopeo-plain": Builder(script=f"{_SKOPEO} oci:$OUT/layout:t --dest-decompress"),
    "skopeo-schema2": Builder(script=f"{_SKOPEO} --format v2s2 dir:$OUT/dir"),
    "skopeo-docker-archive": Builder(script=f"{_SKOPEO} docker-archive:$OUT/image.tar:corpus:t", archive=True),
    # ---- crane
    "crane-append": Builder(
        script=f"{_PUSHED} && crane export --insecure $REGISTRY/tmp/$STACK:t /tmp/all.tar && "
               "crane append --insecure -f /tmp/all.tar -t $REGISTRY/tmp/$STACK:t && "
               f"crane mutate --insecure --set-platform linux/amd64 $REGISTRY/tmp/$STACK:t && {_FETCHED}"),
    "crane-flatten": Builder(script=f"{_PUSHED} && crane flatten --insecure $REGISTRY/tmp/$STACK:t -t $REGISTRY/tmp/$STACK:t && {_FETCHED}"),
    # ---- stargz-snapshotter, through containerd
    "stargz-estargz": Builder(
        script=f"{_PUSHED} && {_CTR} pull --plain-http $REGISTRY/tmp/$STACK:t && "
               f"{_CTR} convert --oci --estargz $REGISTRY/tmp/$STACK:t corpus:e && {_CTR} export /tmp/e.tar corpus:e && "
               "skopeo copy --quiet --insecure-policy oci-archive:/tmp/e.tar oci:$OUT/layout:t", lazy=True),
    "stargz-chunked": Builder(
        script=f"{_PUSHED} && {_CTR} pull --plain-http $REGISTRY/tmp/$STACK:t && "
               f"{_CTR} convert --oci --zstdchunked $REGISTRY/tmp/$STACK:t corpus:z && {_CTR} export /tmp/z.tar corpus:z && "
               "skopeo copy --quiet --insecure-policy oci-archive:/tmp/z.tar oci:$OUT/layout:t", lazy=True),
    # ---- layers as builders write them that cannot be had here
    **{f"form-{name}": Builder(form=name) for name in (
        "snapshots", "absolute", "dotted", "no-directories", "gnu", "ustar", "opaque", "empty-layers", "pigz", "members", "frames",
    )},
}  # fmt: skip


@dataclass(frozen=True)
class Recipe:
    """One image of the corpus."""

    stack: str
    builder: str

    @property
    def name(self) -> str:
        return f"{self.stack}-by-{self.builder}"


_HARD = ("busybox", "churn", "names")  # small, and made by everybody
_MORE = {
    "bookworm": "buildah-squash umoci-repack umoci-insert skopeo-chunked crane-append form-gnu docker-save",
    "capabilities": "buildah-layers umoci-repack skopeo-chunked stargz-estargz podman-save docker-save form-gnu crane-flatten",
    "config": "buildah docker-save buildkit-schema2 skopeo-docker-archive",
    "pip-science": "skopeo-zstd stargz-estargz skopeo-chunked",
    "pip-torch": "skopeo-chunked",
    "apt-numpy": "form-pigz skopeo-plain",
    "apk": "buildah umoci-repack skopeo-schema2",
    "dnf": "buildah", "zypper": "umoci-repack", "pacman": "skopeo-zstd",
    "distroless": "buildah skopeo-chunked", "static": "buildkit-attested skopeo-docker-archive",
}  # fmt: skip

RECIPES = tuple(
    dict.fromkeys(
        [Recipe(stack, "buildkit") for stack in STACKS]
        + [Recipe(stack, builder) for stack in _HARD for builder in BUILDERS]
        + [Recipe(stack, builder) for stack, builders in _MORE.items() for builder in builders.split()]
    )
)
