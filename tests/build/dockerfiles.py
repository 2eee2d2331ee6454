"""Dockerfiles as science projects have them, short, on bases that are made here: `FROM base:NAME` is one of those.

Each is a text, the files of its context, and options. What a case is about stands in its name.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class Case:
    text: str
    files: Mapping[str, str] = field(default_factory=dict)  # of the context; a text "-> X" is a link, "0755 ..." a mode
    options: tuple[str, ...] = ()  # that both programs have
    plain: str = ""  # what buildah is given in place of what it reads from 1.33 on only: the same in other words
    theirs: tuple[str, ...] = ()  # mount points that buildah leaves in the image


CASES: dict[str, Case] = {
    "plain": Case('FROM base:busybox\nRUN echo made >/made\nCMD ["cat", "/made"]\n'),
    "conda_like": Case(
        """\
# syntax=docker/dockerfile:1
FROM base:busybox
LABEL maintainer="Lab <lab@example.org>" version="2.1" \\
      description="an environment, as conda makes it"
ENV LANG=C.UTF-8 LC_ALL=C.UTF-8 PATH=/opt/conda/bin:$PATH
ARG CONDA_VERSION=py311_23.5.2-0
COPY environment.yml /tmp/environment.yml
RUN set -eux; \\
    mkdir -p /opt/conda/bin /opt/conda/envs/tool/bin; \\
    # what the installer does
    printf '#!/bin/sh\\necho conda %s\\n' "$CONDA_VERSION" >/opt/conda/bin/conda; \\
    chmod 755 /opt/conda/bin/conda; \\
    conda >/opt/conda/version; \\
    sed -n 's/^  - //p' /tmp/environment.yml >/opt/conda/envs/tool/packages; \\
    rm /tmp/environment.yml
SHELL ["/bin/sh", "-e", "-c"]
RUN echo "conda activate tool" >>/root/.profile
ENV PATH /opt/conda/envs/tool/bin:$PATH
ENTRYPOINT ["/opt/conda/bin/conda"]
CMD ["--help"]
""",
        {"environment.yml": "dependencies:\n  - samtools=1.17\n  - bwa\n"},
    ),
    "multi_stage_compile": Case(
        """\
FROM base:cc AS build
WORKDIR /src
COPY *.c ./
RUN musl-gcc -static -O1 -o tool tool.c && mkdir -p /out/bin && cp tool /out/bin/tool
FROM base:busybox
COPY --from=build /out/ /usr/local/
RUN ["/usr/local/bin/tool"]
RUN tool >/said
ENTRYPOINT ["tool"]
""",
        {"tool.c": '#include <stdio.h>\nint main(void) { puts("built"); return 0; }\n', "notes.txt": "no source\n"},
    ),
    "static_into_scratch": Case(
        """\
FROM base:cc AS build
COPY main.c /
RUN musl-gcc -static -o /main /main.c
FROM scratch
COPY --from=build /main /main
USER 65532:65532
ENTRYPOINT ["/main"]
""",
        {"main.c": "int main(void) { return 0; }\n"},
    ),
    "makefile_with_arguments": Case(
        """\
ARG PREFIX=/usr/local
FROM base:cc AS build
ARG PREFIX
ARG JOBS=2
COPY Makefile tool.c /build/
WORKDIR /build
RUN CC="musl-gcc -static" JOBS=${JOBS} sh -c 'set -e; $CC -o tool tool.c; mkdir -p $PREFIX/bin; cp tool $PREFIX/bin'
FROM base:busybox
ARG PREFIX
ENV PREFIX=$PREFIX
COPY --from=build $PREFIX/bin $PREFIX/bin
""",
        {"Makefile": "all:\n", "tool.c": "int main(void) { return 3; }\n"},
        ("--build-arg", "PREFIX=/opt/tool"),
    ),
    "r_like": Case(
        """\
FROM base:busybox
ENV R_VERSION="4.3.1" R_HOME=/usr/local/lib/R
RUN mkdir -p "$R_HOME/site-library" && echo "options(repos = 'https://example.org')" >"$R_HOME/Rprofile.site"
COPY DESCRIPTION R/ /usr/local/src/pkg/
RUN cd /usr/local/src/pkg && for f in *.R; do cp "$f" "$R_HOME/site-library/"; done
WORKDIR /home/rstudio
VOLUME /home/rstudio
EXPOSE 8787
CMD ["R", "--no-save"]
""",
        {"DESCRIPTION": "Package: x\n", "R/a.R": "a <- 1\n", "R/b.R": "b <- 2\n", "R/sub/c.R": "c <- 3\n"},
    ),
    "jupyter_like": Case(
        """\
FROM base:busybox
ARG NB_USER="jovyan"
ARG NB_UID="1000"
ARG NB_GID="100"
USER root
ENV SHELL=/bin/sh NB_USER="${NB_USER}" NB_UID=${NB_UID} NB_GID=${NB_GID} HOME="/home/${NB_USER}"
RUN echo "${NB_USER}:x:${NB_UID}:${NB_GID}::/home/${NB_USER}:/bin/sh" >>/etc/passwd && \\
    mkdir -p /home/$NB_USER && chown $NB_UID:$NB_GID /home/$NB_USER && chmod g+rws /home/$NB_USER
USER ${NB_UID}
WORKDIR "${HOME}"
RUN mkdir work && umask 002 && touch work/new && id -u >work/id
COPY --chown=${NB_UID}:${NB_GID} notebooks/ work/notebooks/
EXPOSE 8888/tcp 8889/udp
HEALTHCHECK --interval=5s --timeout=3s --start-period=5s --retries=3 CMD /etc/healthcheck.sh || exit 1
ENTRYPOINT ["tini", "-g", "--"]
CMD ["start-notebook.sh"]
""",
        {"notebooks/one.ipynb": "{}\n", "notebooks/deep/two.ipynb": "{}\n"},
    ),
    "biocontainers_like": Case(
        """\
################## BASE IMAGE ######################
FROM base:busybox

################## METADATA ########################
LABEL base_image="biocontainers:v1.2.0"
LABEL version="2"
LABEL software="BWA"
LABEL about.summary="Burrows-Wheeler Aligner"
LABEL about.license_file="/usr/share/doc/bwa/copyright" extra.identifiers.biotools='bwa'

USER root
RUN mkdir /data /config && chmod 777 /data /config
ENV PATH=$PATH:/home/biodocker/bin
USER user
WORKDIR /data/
CMD ["/bin/sh"]
"""
    ),
    "nextflow_like": Case(
        """\
FROM base:busybox
LABEL authors="A, B" \\
      description="Image with all of the pipeline"
COPY environment.yml /
COPY bin /usr/local/bin/
RUN chmod +x /usr/local/bin/*.py && touch Dummy
ENV PATH /opt/conda/envs/nf-core-x-1.0dev/bin:$PATH
""",
        {
            "environment.yml": "name: x\n",
            "bin/a.py": "#!/usr/bin/env python\n",
            "bin/b.py": "0755 #!/usr/bin/env python\n",
        },
    ),
    "args_and_variables": Case(
        """\
ARG OS=busybox
ARG UNUSED
FROM base:${OS:-none}
ARG OS
ARG A=1 B=${A}2 C
ARG D="with blanks" E='$A'
ENV ONE=$A TWO=${B} THREE=${C:-default} FOUR=${C:+set} FIVE="${D}" SIX=$E SEVEN=\\$A EIGHT=${OS}-${A}x
ENV NINE=${C:-${A}${B}}
ENV TEN nested ${C:-${A}${B}} "quoted" \\$x
ENV ONE=changed ELEVEN=$ONE
LABEL one=$ONE "a b"="c d" c.d=$ELEVEN
WORKDIR /w/$ONE/${TWO}
RUN env | grep -E '^([A-E]|ONE|TWO|THREE|FOUR|FIVE|SIX|SEVEN|EIGHT|NINE|TEN|ELEVEN)=' | sort >env; echo $A-$ONE >shell
"""
    ),
    "argument_given": Case(
        "ARG BASE=none\nFROM base:$BASE\nARG GIVEN=no\nARG NEVER\nRUN echo $GIVEN-$NEVER- >/x\nENV G=${GIVEN}\n",
        options=("--build-arg", "BASE=busybox", "--build-arg", "GIVEN=yes, really"),
    ),
    "env_hides_arg": Case("FROM base:busybox\nARG V=arg\nENV V=env\nRUN echo $V >/v\nENV W=$V\n"),
    "copy_forms": Case(
        """\
FROM base:busybox
WORKDIR /w
COPY a /new/file
COPY a b /new/dir/
COPY ["a", "with blank", "/json/"]
COPY dir /dir
COPY dir/ /dir2/
COPY dir /there/
RUN mkdir -p /there2/sub && chmod 700 /there2/sub
COPY dir /there2
COPY a relative
COPY a ./rel/
COPY g*.txt ?.x /globs/
COPY . /all
""",
        {
            "a": "a\n",
            "b": "0640 b\n",
            "with blank": "c\n",
            "dir/one": "0755 1\n",
            "dir/sub/two": "2\n",
            "dir/link": "-> one",
            "g1.txt": "g\n",
            "g2.txt": "g\n",
            "q.x": "q\n",
            ".hidden": "h\n",
        },
    ),
    "copy_owners_and_modes": Case(
        """\
FROM base:busybox
COPY --chown=user a /1
COPY --chown=user:extra a /2
COPY --chown=1234 a /3
COPY --chown=5:6 dir /4/
COPY --chmod=0604 a /5
COPY --chmod=750 --chown=user:users dir /deep/new/6/
COPY --chown=user a /made/for/it/7
""",
        {"a": "a\n", "dir/one": "1\n", "dir/sub/two": "2\n"},
    ),
    "copy_links": Case(
        """\
FROM base:busybox
RUN mkdir /real && ln -s real /link && ln -s /nowhere /dangling && echo x >/file && ln -s file /tofile
COPY link /followed
COPY dir /dir/
COPY a /link/
COPY a /tofile
COPY dirlink /dl/
""",
        {"a": "a\n", "link": "-> a", "dir/inner": "-> ../a", "dir/away": "-> /etc/passwd", "dirlink": "-> dir"},
    ),
    "copy_from_stages": Case(
        """\
FROM base:busybox AS one
RUN mkdir -p /x/y && echo 1 >/x/y/z && chown -R user:users /x && chmod 750 /x/y && ln -s z /x/y/l && ln /x/y/z /x/y/hard
FROM base:busybox AS two
COPY --from=one /x /copied
COPY --from=0 /x/y/z /single
COPY --from=one --chown=0:0 /x/ /rooted/
FROM two
COPY --from=two /copied/y /again
""",
    ),
    "copy_from_image": Case(
        "FROM scratch\nCOPY --from=base:busybox /etc/passwd /etc/group /etc/\n"
        "COPY --from=base:busybox /bin/busybox /bin/sh\n"
    ),
    "stages_as_bases": Case(
        """\
FROM base:busybox AS base
ENV ROLE=base
RUN echo base >/who
FROM base AS dev
ENV ROLE=dev
RUN echo dev >>/who
FROM base AS unused
RUN false
FROM dev
RUN echo $ROLE >>/who
CMD cat /who
"""
    ),
    "target_stage": Case(
        "FROM base:busybox AS a\nRUN echo a >/a\nFROM a AS b\nRUN echo b >/b\nFROM b AS c\nRUN false\n",
        options=("--target", "b"),
    ),
    "heredocs": Case(
        """\
FROM base:busybox
RUN <<EOF
set -e
mkdir /h
echo "one" >/h/one
for i in 1 2; do echo $i; done >/h/loop
EOF
RUN cat <<-'EOF' >/h/two
	$HOME is not filled in
	EOF
COPY <<one <<"two" /files/
$FROM_BASE
one
$FROM_BASE
two
COPY --chmod=600 <<EOF /single
x
EOF
""",
        plain="""\
FROM base:busybox
RUN mkdir /h; echo one >/h/one; for i in 1 2; do echo $i; done >/h/loop; echo '$HOME is not filled in' >/h/two
RUN mkdir /files; echo yes >/files/one; echo '$FROM_BASE' >/files/two; echo x >/single; chmod 600 /single
""",
    ),
    "shell_form_and_exec_form": Case(
        """\
FROM base:busybox
RUN ["/bin/sh", "-c", "echo $0 exec >/exec"]
RUN ["touch", "/touched $HOME"]
RUN echo "a" && echo 'b $HOME' && echo $HOME
RUN [ -e /exec ] && echo test >/test
CMD echo hello $HOME
ENTRYPOINT exec top -b
SHELL ["/bin/sh", "-ec"]
RUN false || true; echo $- >/flags
"""
    ),
    "entrypoint_resets_command": Case(
        'FROM base:busybox AS one\nCMD ["inherited"]\nFROM one\nENTRYPOINT ["/bin/echo"]\n',
    ),
    "command_stays": Case('FROM base:busybox\nCMD ["mine"]\nENTRYPOINT ["/bin/echo", "-n"]\n'),
    "onbuild_of_a_base": Case(
        "FROM docker-archive:onbuild\nRUN cat /app/* >/seen\n",
        {"one.py": "1\n", "two.py": "2\n"},
    ),
    "dockerignore": Case(
        "FROM base:busybox\nCOPY . /all/\nCOPY data /data\n",
        {
            ".dockerignore": "# comment\n*.log\n**/*.tmp\n!keep.log\nsecret*\n/build\ndata/raw\n!data/raw/keep\n.git\n",
            "a.log": "x",
            "keep.log": "x",
            "sub/a.log": "x",
            "sub/deep/b.tmp": "x",
            "top.tmp": "x",
            "secrets/key": "x",
            "sub/secret": "x",
            "build/out": "x",
            "sub/build/out": "x",
            "data/raw/big": "x",
            "data/raw/keep": "x",
            "data/clean": "x",
            ".git/config": "x",
            "plain": "x",
        },
    ),
    "dockerignore_all_but": Case(
        "FROM base:busybox\nCOPY . /app\n",
        {
            ".dockerignore": "*\n!src\n!setup.py\nsrc/**/*.pyc\n",
            "setup.py": "s",
            "src/a/b.py": "b",
            "src/a/b.pyc": "c",
            "x/y": "z",
        },
    ),
    "cache_and_tmpfs_mounts": Case(
        """\
FROM base:busybox
RUN --mount=type=cache,target=/root/.cache/pip,id=pip-test echo wheel >/root/.cache/pip/w && echo installed >/pip
RUN --mount=type=tmpfs,target=/scratch echo big >/scratch/x && cp /scratch/x /kept
""",
        theirs=("root/.cache", "root/.cache/pip", "scratch"),
    ),
    "bind_mounts": Case(
        """\
FROM base:busybox AS tools
RUN mkdir /t && echo tool >/t/tool
FROM base:busybox
RUN --mount=type=bind,source=req,target=/req,ro cat /req/a /req/b >/seen
RUN --mount=type=bind,from=tools,source=/t,target=/mnt/t cp /mnt/t/tool /tool
""",
        {"req/a": "1\n", "req/b": "2\n"},
        theirs=("req", "mnt", "mnt/t"),
    ),
    "secret_mount": Case(
        "FROM base:busybox\nRUN --mount=type=secret,id=key "
        "sh -c 'test \"$(cat /run/secrets/key)\" = hush && wc -c </run/secrets/key >/n'\n",
        options=("--secret", "id=key,src=@secret@"),
        theirs=("run", "run/secrets"),
    ),
    "network_none": Case(
        "FROM base:busybox\nRUN --network=none ls /sys/class/net 2>/dev/null | wc -l >/dev/null; echo done >/n\n",
        plain="FROM base:busybox\nRUN echo done >/n\n",
    ),
    "add_archives": Case(
        """\
FROM base:busybox
ADD app.tar.gz /opt/
ADD app.tar /opt2/deep/
ADD --chown=user:users app.tar.gz /opt3
ADD plain.gz /plain/
ADD text /added
COPY app.tar /copied/
""",
        {"app.tar.gz": "archive", "app.tar": "archive", "plain.gz": "gzip", "text": "t\n"},
    ),
    "workdirs": Case(
        "FROM base:busybox\nWORKDIR /a\nWORKDIR b\nWORKDIR ../c/./d\nRUN pwd >/p\n"
        "ENV D=/x/y\nWORKDIR $D/z\nRUN touch here\n"
        "USER user\nWORKDIR /owned/deep\nRUN touch mine\n"
    ),
    "users": Case(
        """\
FROM base:busybox
RUN mkdir /u && chmod 777 /u
USER user
RUN id >/u/1; echo $HOME >>/u/1
USER user:extra
RUN id >/u/2
USER 4321
RUN id >/u/3
USER 12:34
RUN id >/u/4; touch /u/mine
USER root
RUN id >/u/5
USER user
"""
    ),
    "ports_and_volumes": Case(
        'FROM base:busybox\nARG P=9000\nEXPOSE 80 53/udp $P\nVOLUME ["/data", "/more data"]\n'
        "VOLUME /a /b\nSTOPSIGNAL SIGINT\n"
    ),
    "healthcheck_json": Case('FROM base:busybox\nHEALTHCHECK --interval=1m30s CMD ["true", "x"]\n'),
    "healthcheck_none": Case("FROM base:busybox\nHEALTHCHECK NONE\n"),
    "escape_directive": Case("# escape=`\nFROM base:busybox\nENV A=b`\n  C=d\nRUN echo one `\n  two >/x\n"),
    "comments_and_lines": Case(
        """\


# first
  # indented
from base:busybox
run echo a \\
  # in the middle
     b \\

     c    >/x
   Label   k=v
RUN echo '# no comment' >/y # a comment of the shell
CMD  [ "a" ,  "b" ]
"""
    ),
    "labels": Case(
        """\
FROM base:busybox
LABEL "com.example.vendor"="ACME Incorporated"
LABEL version="1.0" description="This text illustrates \\
that label-values can span multiple lines."
LABEL empty="" eq="a=b" single='$x "y"'
LABEL base=replaced
"""
    ),
    "python_like": Case(
        """\
FROM base:busybox AS wheels
WORKDIR /wheels
COPY requirements.txt .
RUN while read name; do echo "$name" >"$name.whl"; done <requirements.txt
FROM base:busybox
ENV PYTHONDONTWRITEBYTECODE=1 \\
    PYTHONUNBUFFERED=1 \\
    PIP_NO_CACHE_DIR=off
COPY --from=wheels /wheels/*.whl /tmp/wheels/
RUN mkdir -p /usr/lib/python3/site-packages && cp /tmp/wheels/*.whl /usr/lib/python3/site-packages && rm -r /tmp/wheels
COPY . /app
WORKDIR /app
RUN echo "user2:x:2000:2000::/app:/bin/sh" >>/etc/passwd && chown -R user2 /app
USER user2
CMD ["python", "-m", "app"]
""",
        {"requirements.txt": "numpy\nscipy\n", "app/__init__.py": "", "app/__main__.py": "print(1)\n"},
    ),
    "special_files_and_modes": Case(
        """\
FROM base:busybox
RUN mkfifo /pipe && touch /suid && chmod 4755 /suid
RUN mkdir /sticky && chmod 1777 /sticky && mkdir /closed && chmod 0 /closed
RUN ln /suid /hard && rm /etc/group && rm -r /srv/old && mkdir /srv/old && touch /srv/old/new
COPY --from=base:busybox /etc/group /etc/group2
"""
    ),
    "singularity_labels_and_unicode": Case(
        'FROM base:busybox\nENV GREETING="Grüße, 世界"\nLABEL ü=ö\nCOPY naïve.txt /naïve\nRUN echo $GREETING >/g\n',
        {"naïve.txt": "é\n"},
    ),
}
