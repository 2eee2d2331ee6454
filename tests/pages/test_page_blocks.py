"""The reader of pages: what it takes for a command line, and which outputs it takes for the same."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from page_blocks import alike, blocks

if TYPE_CHECKING:
    from pathlib import Path

PAGE = """\
<!-- run: file a.txt -->
```
one
```

<!-- run: before touch x;
touch y -->
```console
$ cat a.txt \\
    x
one
$ true
```

```sh
# nothing
cat <<EOF
text
EOF
echo two        # a word on it
```
"""


def test_blocks_and_lines_are_read(tmp_path: Path) -> None:
    (tmp_path / "page.md").write_text(PAGE)
    file, shown, typed = blocks(tmp_path / "page.md")
    assert (file.word("file "), file.text, file.is_typed) == ("a.txt", "one\n", False)
    assert shown.word("before ") == "touch x;\ntouch y"
    assert [(line.text, line.output) for line in shown.lines()] == [("cat a.txt x", ("one",)), ("true", ())]
    assert [line.text for line in typed.lines()] == ["cat <<EOF\ntext\nEOF", "echo two        # a word on it"]


def test_a_comment_that_says_nothing_known_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "page.md").write_text("<!-- run: never -->\n```sh\ntrue\n```\n")
    with pytest.raises(ValueError, match=r"page\.md:1: run: never"):
        blocks(tmp_path / "page.md")


@pytest.mark.parametrize(
    ("shown", "printed", "same"),
    [
        (["a 1.2 b"], ["a   34 b"], True),
        (["a b"], ["a c"], False),
        (["a ... z"], ["a b c z"], True),
        (["a", "[...]", "z"], ["a", "b", "c", "z"], True),
        (["a", "[...]"], ["b"], False),
        (["a"], ["a", "b"], False),
        ([], ["a"], False),
        (["x(y)*"], ["x(y)*"], True),
    ],
)
def test_outputs_are_compared(shown: list[str], printed: list[str], same: bool) -> None:
    assert alike(tuple(shown), printed) is same
