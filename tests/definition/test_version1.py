"""Definition files of the first format: shell scripts that are read and never run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from singularity.definition.parse import parse
from singularity.definition.version1 import recognise
from singularity.errors import DefinitionError

if TYPE_CHECKING:
    from singularity.definition.model import Definition, Stage

REDHAT = """\
#!/bin/bash
# An old one
RELEASE=7

if [ -n "${1:-}" ]; then
    RELEASE="$1"
fi
echo "Setting RELEASE=$RELEASE"

DistType "redhat"
MirrorURL "http://mirror.example/centos-${RELEASE}/${RELEASE}/os/\\$basearch/"
MirrorURL http://mirror.example/updates/$RELEASE/ updates

Setup
Bootstrap coreutils

InstallPkgs yum \\
    vim-minimal

RunCmd useradd -m "a user"
RunCmd echo 'LANG=C' >> "$SINGULARITY_BUILD_ROOT"/etc/locale.conf
InstallPkgs gawk
RunScript if [ $# -eq 0 ]; then
RunScript     exec /bin/bash
RunScript fi
RunScript exec "$@"
Cleanup
Finalize
"""


def read(text: str, *arguments: str) -> Definition:
    return parse(text, "x.def", arguments=arguments)


def stage(text: str, *arguments: str) -> Stage:
    (only,) = read(text, *arguments).stages
    return only


def debian(*lines: str) -> str:
    return "\n".join(('DistType "debian"', "MirrorURL http://m/", "OSVersion stable", "Bootstrap", *lines, ""))


def body(*lines: str, arguments: tuple[str, ...] = ()) -> str:
    script = stage(debian(*lines), *arguments).post
    return script.body if script else ""


def test_the_header_says_what_the_commands_said() -> None:
    found = stage(REDHAT)
    assert found.agent == "yum"
    assert found.value("mirrorurl") == "http://mirror.example/centos-7/7/os/$basearch/"
    assert found.value("updateurl") == "http://mirror.example/updates/7/"
    assert found.value("include") == "coreutils yum vim-minimal gawk"
    assert found.header["mirrorurl"].line == 11
    assert found.header["bootstrap"].line == 15


def test_arguments_are_the_positional_parameters() -> None:
    assert stage(REDHAT, "6").value("mirrorurl") == "http://mirror.example/centos-6/6/os/$basearch/"
    assert body('RunCmd echo "$#" "$2" "$@" $*', arguments=("a b", "c")) == "echo 2 c 'a b' c a b c\n"


def test_commands_become_the_post_section_with_their_lines() -> None:
    post = stage(REDHAT).post
    assert post is not None
    assert post.body == "useradd -m 'a user'\necho LANG=C >>/etc/locale.conf\n"
    assert post.lines == (20, 21)


def test_a_command_may_fail_where_that_is_said() -> None:
    assert body("RunCmd userdel 'a b' || true", "RunCmd a >/dev/null ||:; RunCmd b", "RunCmd c || /bin/true # d") == (
        "userdel 'a b' || true\na >/dev/null || true\nb\nc || true\n"
    )


def test_the_runscript_is_the_raw_text() -> None:
    run = stage(REDHAT).runscript
    assert run is not None
    assert run.body == 'if [ $# -eq 0 ]; then\n    exec /bin/bash\nfi\nexec "$@"\n'.replace("    exec", "exec")
    assert run.lines == (23, 24, 25, 26)


def test_debian_installs_with_apt_after_one_update() -> None:
    lines = ("InstallPkgs vim", "RunCmd true", "InstallPkgs 'a b' c", "Cleanup")
    assert body(*lines) == "apt-get update\napt-get -y install vim\ntrue\napt-get -y install 'a b' c\napt-get clean\n"
    assert body("RunCmd apt-get update", "InstallPkgs vim") == "apt-get update\napt-get -y install vim\n"


def test_arch_and_busybox() -> None:
    arch = stage("DistType arch\nBootstrap\nInstallPkgs vim\n")
    assert arch.agent == "arch"
    assert arch.post is not None
    assert arch.post.body == "pacman --noconfirm -Sy vim\n"
    assert stage('DistType "busybox"\nMirrorURL "http://m/busybox"\nSetup\nBootstrap\nCleanup\n').agent == "busybox"


def test_files_are_copied_at_once_or_wait_for_their_turn() -> None:
    early = stage(debian("InstallFile /etc/hosts", "InstallFile a $SINGULARITY_ROOTFS/opt/b"))
    assert [(copy.source, copy.target) for copy in early.files] == [("/etc/hosts", ""), ("a", "/opt/b")]
    assert early.post is None
    late = stage(
        debian("RunCmd rm -f /opt/b", 'InstallFile "a b" /opt/b', "InstallFile *.txt /srv/", "RunCmd cat /opt/b")
    )
    place = "/.singularity.d/install"
    assert [(copy.source, copy.target) for copy in late.files] == [("a b", f"{place}/0/"), ("*.txt", f"{place}/1/")]
    assert late.post is not None
    assert late.post.body.splitlines() == [
        "rm -f /opt/b",
        "mkdir -p -- /opt",
        f"mv -f -- {place}/0/'a b' /opt/b",
        "mkdir -p -- /srv/",
        f"mv -f -- {place}/1/* /srv/",
        "cat /opt/b",
        f"rm -rf {place}",
    ]
    assert late.post.lines == (5, 6, 6, 7, 7, 8, 8)


WORDS = {
    "echo 'one two' three\\ four": "echo 'one two' 'three four'",
    "echo \"$HOME\" ~/x '~/x'": "echo /root /root/x '~/x'",
    "rm -f /tmp/*.gz '/a*b' [ab]\\?": "rm -f /tmp/*.gz '/a*b' [ab]'?'",
    "sed -i 's/$/ universe/' /etc/apt/sources.list": "sed -i 's/$/ universe/' /etc/apt/sources.list",
    'sh -c "echo a && echo b | cat"': "sh -c 'echo a && echo b | cat'",
    'echo $A-$B "$A$B" \'\' ""': "echo x-y z xy\\ z '' ''",
    'echo ${C:-none} ${C-a b} "${C:-a  b}" ${D:-d} ${D-d}': "echo none a b 'a  b' d",
    "make >/dev/null 2>&1": "make >/dev/null 2>&1",
    'echo a >$SINGULARITY_ROOTFS/etc/a 2>> "$SINGULARITY_ROOTFS/var/b c"': "echo a >/etc/a 2>>'/var/b c'",
    "echo a#b # c": "echo 'a#b'",
    "echo $ 100$": "echo '$' '100$'",
}


@pytest.mark.parametrize("words", WORDS)
def test_words_reach_the_container_as_a_shell_would_have_split_them(words: str) -> None:
    expected = WORDS[words].replace("xy\\ z", "'xy z'")
    assert body("A=x", 'B="y z"', "D=", f"RunCmd {words}") == f"{expected}\n"


TESTS = {
    '[ "$1" = a ]': True, '[ "$1" == b ]': False, "[ $1 != b ]": True, '[ -z "${2:-}" ]': True, "[ -n a ]": True,
    "[ ]": False, "[ a ]": True, "! [ a ]": False, "[ ! a ]": False, "test $# -eq 1": True, "[ $# -gt 1 ]": False,
    "[ 2 -le 10 ]": True, "true": True, "false": False, "! false": True, '[ "" ]': False,
}  # fmt: skip


@pytest.mark.parametrize("test", TESTS)
def test_simple_tests_choose_the_branch(test: str) -> None:
    lines = (f"if {test}; then RunCmd yes", "elif [ 1 -eq 1 ]", "then", "RunCmd no", "else", "RunCmd never", "fi")
    assert body(*lines, arguments=("a",)) == ("yes\n" if TESTS[test] else "no\n")


def test_branches_that_are_not_taken_are_not_looked_at() -> None:
    lines = (
        "if [ a = b ]; then",
        "if [ a = a ]; then",
        "RunCmd echo $NOTHING",
        "fi",
        "nonsense",
        "else",
        "RunCmd x",
        "fi",
    )
    assert body(*lines) == "x\n"
    assert body("RunCmd a", "exit 0", "RunCmd b") == "a\n"


WRONG = {
    "RunCmd a && RunCmd b": "5: a list of commands (&) is not understood",
    "RunCmd a || RunCmd b": "5: a pipe (|) is not understood",
    "RunCmd a || true && b": "5: a pipe (|) is not understood",
    "InstallPkgs a || true": "5: InstallPkgs || true: it may not fail",
    "if [ a ] || true; then RunCmd x; fi": "5: a test that is not understood",
    "RunCmd a | b": "5: a pipe (|) is not understood",
    "RunCmd echo `date`": "5: the output of a command ($(...)) is not understood",
    "X=$(date)": "5: the output of a command ($(...)) is not understood",
    "cat <<EOF": "5: input from a file or here-document (<) is not understood",
    "RunCmd a >/etc/passwd": '5: RunCmd: output to the host (write >"$SINGULARITY_ROOTFS/PATH")',
    "echo a >/etc/passwd": "5: echo: redirected output",
    "RunCmd ls $SINGULARITY_ROOTFS": "5: RunCmd: a path of the host (in the container the root file system is /)",
    "RunCmd mkdir {a,b}": "5: RunCmd: {A,B} is not expanded here (write the words out)",
    "RunCmd": "5: RunCmd without a command",
    "RunCmd echo $X": "5: X has no value (set it above: X=VALUE)",
    "RunCmd echo $1": "5: argument 1 is not given (give it after the definition file, or write ${1:-DEFAULT})",
    "RunCmd 'a": "5: no closing quotation",
    'RunCmd "a\n\n': "5: no closing quotation",
    "RunCmd ${X:=1}": "5: ${...} of this kind is not understood (${NAME}, ${NAME:-DEFAULT})",
    "RunCmd ${X:-1": '5: no closing "}"',
    "cp a b": '5: "cp" is no command of the first format (known are DistType, MirrorURL,',
    "for x in a; do RunCmd $x; done": '5: "for" is no command of the first format',
    "A=1 RunCmd x": "5: a variable set for one command only",
    "if [ a": "5: a test that is not understood",
    "if [ -f /x ]; then RunCmd x; fi": "5: a test that is not understood",
    "if [ a -eq 1 ]; then RunCmd x; fi": '5: "a" is no number',
    "if [ a ]; then RunCmd x": "5: if without fi",
    "fi": "5: fi without if",
    "\n\nthen": '7: "then" is not understood here',
    "MirrorURL http://n": "5: one MirrorURL more than is understood (add further repositories with RunCmd)",
    "MirrorURL": "5: MirrorURL: 0 words (MirrorURL URL [NAME])",
    "OSVersion": "5: OSVersion: 0 words (OSVersion VERSION)",
    "InstallFile": "5: InstallFile: 0 words (InstallFile SOURCE [TARGET])",
    'DistType "gentoo"': '5: DistType "gentoo" is unknown (known are redhat, debian, arch, busybox)',
    "DistType redhat\nInstallPkgs '@a b'": '6: "@a b" is no name of a package (groups: RunCmd yum groupinstall GROUP)',
    "DistType busybox\nInstallPkgs a": "6: InstallPkgs: busybox has no packages (InstallFile copies files of the host)",
    "echo usage: x DIR\nexit 1": "6: ends with exit 1 (usage: x DIR)",
    "SINGULARITY_ROOTFS=/": "5: SINGULARITY_ROOTFS is set by the build",
    "MirrorURL $SINGULARITY_ROOTFS/x": "5: MirrorURL: a path below $SINGULARITY_ROOTFS",
    "InstallFile $SINGULARITY_ROOTFS/x": "5: InstallFile: a path below $SINGULARITY_ROOTFS",
    "%post\n  true": '5: "%post" is no command of the first format',
    "\0": "5: a NUL byte: no definition file",
}


@pytest.mark.parametrize("text", WRONG)
def test_what_would_have_to_be_run_is_refused_with_its_line(text: str) -> None:
    """R-P4."""
    with pytest.raises(DefinitionError) as caught:
        read(debian(text))
    assert str(caught.value).startswith(f"x.def:{WRONG[text]}")


def test_order_and_presence() -> None:
    for text, message in {
        "DistType arch\n": "x.def: no command Bootstrap in it (add a line Bootstrap)",
        "Bootstrap\nDistType arch\n": "x.def:1: Bootstrap before DistType",
        "DistType arch\nRunCmd x\nBootstrap\n": "x.def:2: RunCmd before Bootstrap (there is nothing yet to work on)",
    }.items():
        with pytest.raises(DefinitionError) as caught:
            read(text)
        assert str(caught.value).startswith(message)


def test_a_file_of_the_second_format_is_none_of_the_first() -> None:
    assert recognise('X=1\nDistType "arch"\nBootstrap\n')
    assert recognise('DistType\t"arch"\r\nBootstrap\r\n')
    assert not recognise('BootStrap: yum\nDistType "redhat"\n')
    assert not recognise("Bootstrap: scratch\n%post\ncat <<EOF\nDistType x\nEOF\n")
    assert not recognise("Bootstrap: scratch\n# DistType x\n")


pieces = st.one_of(
    st.sampled_from(
        ["DistType arch\n", "Bootstrap\n", "RunCmd ", "RunScript ", "InstallPkgs ", "InstallFile ", "MirrorURL ", "X=",
         "if ", "[ ", "] ", "then ", "else ", "elif ", "fi\n", "$X", "${X:-", "}", "$1", "$@", '"', "'", "\\", "\n",
         ";", " ", "> ", "$SINGULARITY_ROOTFS", "/a", "*", "~", "{a,b}", "#", "-n ", "= ", "exit ", "echo "]
    ),
    st.text(max_size=6),
)  # fmt: skip


@given(st.lists(pieces, max_size=40).map("".join), st.lists(st.text(max_size=3), max_size=2))
def test_only_the_documented_exception_leaves_the_reader(text: str, arguments: list[str]) -> None:
    """R-P5."""
    whole = f"DistType debian\nBootstrap\n{text}"
    try:
        found = read(whole, *arguments).stages[0]
    except DefinitionError as error:
        assert "\n" not in str(error)
        return
    for script in (found.post, found.runscript):
        if script:
            assert len(script.lines) == script.body.count("\n")
            assert all(0 < number <= whole.count("\n") + 1 for number in script.lines)
            assert "\0" not in script.body
