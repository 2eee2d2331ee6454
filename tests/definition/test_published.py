"""Habits of definition files that people have published since 2016: each is understood, or refused with its reason."""

from __future__ import annotations

import pytest

from singularity.definition.parse import parse
from singularity.definition.template import expand
from singularity.errors import DefinitionError

HEAD = "Bootstrap: docker\nFrom: debian:12\n"


def read(text: str) -> tuple[str, ...]:
    """The warnings about a text that is understood."""
    return parse(expand(text, "x.def", {}).text, "x.def").warnings


def post(text: str) -> str:
    script = parse(expand(text, "x.def", {}).text, "x.def").stages[0].post
    assert script is not None
    return script.body


UNDERSTOOD = {
    "a mark before the text": "\ufeff" + HEAD,
    "line ends of Windows": HEAD.replace("\n", "\r\n") + "%post\r\n  true\r\n",
    "an interpreter line and a licence before the header": f"#!/bin/bash\n#\n# Copyright\n\n{HEAD}",
    "blank lines in the header": "\n\nBootstrap: docker\n\n\nFrom: debian:12\n\n%post\n true\n",
    "blanks before the colon": "BootStrap : docker\nFrom   : debian:12\n",
    "tabs": "Bootstrap:\tdocker\nFrom:\tdebian:12\n\n%post\n\ttrue\n%labels\n\tA\tb\n",
    "keywords indented": "  Bootstrap: docker\n  From: debian:12\n",
    "comments after values": "Bootstrap: docker # the hub\nFrom: debian:12 # stable\n",
    "sections of every case": HEAD + "%Post\n true\n%RUNSCRIPT\n true\n%Environment\n A=1\n",
    "sections without a body": HEAD + "%setup\n\n%files\n\n%environment\n\n%post\n\n%runscript\n",
    "blanks that do not break lines": HEAD + "%files\u00a0\n a\n%post\n true\n",
    "two comments after a section name": HEAD + "%files #  # from nowhere\n a\n",
    "invisible characters in scripts": HEAD + "%post\n echo '\u200b%'\n",
    "comments after section names": HEAD + "%post # install\n true\n%files # of the host\n a b\n",
    "keywords of the old registry options": HEAD + "IncludeCmd: yes\nRegistry: example.org\nNamespace: a\nToken: no\n",
    "arguments of scripts": HEAD + "%test -e\n true\n%runscript -i\n true\n%post -c /bin/bash -l\n true\n",
    "applications with blanks after the name": HEAD + "%appinstall  tool  \n true\n%apprun\ttool\n true\n",
    "rules between sections": HEAD + "#######\n%post\n true\n\n#######\n%runscript\n true\n",
    "values in several lines": "Bootstrap: zypper\nProductPGP: BEGIN\\n\\\nVersion: 4 (x)\\n\\\n\\n\\\nEND\n",
    "empty values": "Bootstrap: zypper\nOSVersion: 12\nMirrorURL: http://m\nUser:\nRegcode: \n",
    "stages": HEAD + "Stage: build\n%post\n true\n\n" + HEAD + "Stage: final\n%files from build\n /a /b\n /c\n",
    "braces of other template languages": HEAD + "%post\n echo '{{ .Go }} {{ a.b }} {% if %} {{ two words }}'\n",
}


@pytest.mark.parametrize("text", UNDERSTOOD.values(), ids=UNDERSTOOD)
def test_it_is_understood_without_a_word(text: str) -> None:
    assert read(text) == ()


WARNED = {
    "OSType: debian\nOSVersion: stable\n": "x.def:1: OSType is the old name of Bootstrap",
    HEAD + "MirrorURL: http://m\n": "x.def:3: MirrorURL has no meaning for bootstrap agent docker",
    "Bootstrap: scratch\nSetopt: a=b\n": "x.def:2: Setopt has no meaning for bootstrap agent scratch",
    "Bootstrap: docker\nFrom: a\nFingerprints: 12\n": "x.def:3: Fingerprints has no meaning for bootstrap agent docker",
    HEAD + "%environment A\n B=2\n": 'x.def:3: "A" behind %environment is not used: its text begins in the next line',
    HEAD + "%applabels tool A b\n": 'x.def:3: "A" behind %applabels is not used: its text begins in the next line',
    HEAD + 'DistType "debian"\n': "x.def:3: DistType has no meaning beside Bootstrap",
    "Bootstrap: docker\nFrom: docker://debian:12\n": "x.def:2: From needs no docker://",
    "\u200bBootstrap: scratch\n": "x.def:1: characters that cannot be seen are left out",
    HEAD + "%post\u200b\n true\n": "x.def:3: characters that cannot be seen are left out",
    HEAD + "%post:\n true\n": "x.def:3: %post has no colon",
}


@pytest.mark.parametrize("text", WARNED)
def test_it_is_understood_with_a_warning(text: str) -> None:
    assert read(text) == (WARNED[text],)


def test_what_the_warnings_are_about_is_read_as_it_was_meant() -> None:
    assert parse("OSType: redhat\n", "x.def").stages[0].agent == "yum"
    assert parse("Bootstrap: docker\nFrom: docker://debian:12\n", "x.def").stages[0].value("from") == "debian:12"
    assert post(HEAD + "%post:\n  true\n") == "  true\n"


REFUSED = {
    HEAD + "Label: x\n": 'x.def:3: unknown header keyword "Label"',
    HEAD + "MetaLink: http://m\n": 'x.def:3: unknown header keyword "MetaLink"',
    HEAD + "%env\n A=1\n": 'x.def:3: unknown section "%env" (did you mean "%environment"?)',
    HEAD + "%install\n make\n": 'x.def:3: unknown section "%install" (did you mean "%post"?)',
    HEAD + "wget https://example.org/a\n%post\n": (
        'x.def:3: "wget https://example.org/a" is no header line (expected Keyword: value, or %section)'
    ),
}


@pytest.mark.parametrize("text", REFUSED)
def test_it_is_refused_with_what_was_meant(text: str) -> None:
    with pytest.raises(DefinitionError) as caught:
        read(text)
    assert str(caught.value) == REFUSED[text]


DOCUMENTS = {
    "plain": "cat >a <<EOF\n%first line\n%%\n%-5s\nEOF\n",
    "quoted": "cat >a <<'END OF FILE'\n%first\nEND OF FILE\n",
    "double quotes": 'cat >a << "EOF"\n%first\nEOF\n',
    "with tabs": "\tcat <<-EOF >a\n\t\t%first\n%second\n\t\tEOF\n",
    "two of them": "cat <<A - <<B\n%a\nA\n%b\nB\n",
    "a word of rpm": "cat >~/.rpmmacros <<EOF\n%_topdir /root/rpmbuild\n%dist .el9\nEOF\n",
    "a definition file": "cat >a.def <<EOF\nBootstrap: docker\nFrom: a\n%post\n  true\n%runscript\n  a\nEOF\n",
}


@pytest.mark.parametrize("text", DOCUMENTS.values(), ids=DOCUMENTS)
def test_a_here_document_may_hold_lines_that_begin_with_a_percent_sign(text: str) -> None:
    whole = HEAD + "%post\n" + text + "echo after\n%runscript\n  cat <<EOF\nhello\nEOF\n"
    definition = parse(whole, "x.def")
    assert post(whole) == text + "echo after\n"
    assert len(definition.stages) == 1
    assert definition.stages[0].runscript is not None
    with pytest.raises(DefinitionError, match="unknown section"):
        parse(whole + "%frist\n", "x.def")


def test_what_only_looks_like_a_here_document_hides_no_section() -> None:
    for line in ("echo $((1 << 2))", "# cat <<EOF", "cat <<<EOF", "cat <<EOF", "cat <<'EOF'"):
        stage = parse(f"{HEAD}%post\n{line}\n%runscript\ncat <<EOF\n%x\nEOF\n", "x.def").stages[0]
        assert stage.post is not None, line
        assert stage.post.body == f"{line}\n"
        assert stage.runscript is not None, line


def test_a_large_file_of_here_documents_without_an_end_is_read_in_no_time() -> None:
    text = HEAD + "%post\n" + "".join(f"cat <<A{number}\n" for number in range(50_000))
    assert post(text).count("\n") == 50_000
