"""What a command of RunCmd says, written for the shell in the image, to which the root file system is `/`."""

import re
import shlex

from singularity.definition.version1.expansion import Expansion, piece_text
from singularity.shell.words import ROOT, Piece, Word

GLOB = re.compile(r"([*?\[\]]+)")
_BRACES = re.compile(r"\{[^{}]*(?:,|\.\.)[^{}]*\}")


def redirect_target(words: Expansion, word: Word, line: int) -> str:
    """Where output goes: below the root file system, which the command sees as `/`; a descriptor; or nowhere."""
    texts = [piece_text(each) for each in words.expanded(word, line)]
    text = texts[0] if len(texts) == 1 else ""
    if text.startswith(f"{ROOT}/"):
        return shlex.quote(text.removeprefix(ROOT))
    if text == "/dev/null" or re.fullmatch(r"&[012]", text):
        return text
    raise words.fail(line, "RunCmd: output to the host", 'write >"$SINGULARITY_ROOTFS/PATH"')


def shell_word(words: Expansion, pieces: list[Piece], line: int) -> str:
    """As the shell in the image reads it: patterns are its own, all else is literal."""
    text = piece_text(pieces)
    if ROOT in text:
        raise words.fail(line, "RunCmd: a path of the host", "in the container the root file system is /")
    if any(not piece.quoted and _BRACES.search(piece.text) for piece in pieces):
        raise words.fail(line, "RunCmd: {A,B} is not expanded here", "write the words out")
    if not pieces[0].quoted and (pieces[0].text == "~" or pieces[0].text.startswith("~/")):
        pieces = [Piece(text="/root" + pieces[0].text[1:]), *pieces[1:]]
    if all(piece.quoted or not GLOB.search(piece.text) for piece in pieces):
        return shlex.quote(piece_text(pieces))
    parts = []
    for piece in pieces:
        split = [piece.text] if piece.quoted else GLOB.split(piece.text)
        parts += [part if number % 2 else shlex.quote(part) for number, part in enumerate(split) if part]
    return "".join(parts)
