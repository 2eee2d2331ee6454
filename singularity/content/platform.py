"""What images are made for. By itself: an image in the cache is found without any code that reads documents."""

from typing import NamedTuple


class Platform(NamedTuple):
    """What an image runs on, in the words of Go; empty ones are not said."""

    os: str = ""
    architecture: str = ""
    variant: str = ""

    def __str__(self) -> str:
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)
