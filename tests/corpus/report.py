"""The table at the end of a run of the corpus: a row for each recipe."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Row:
    """What came of one recipe."""

    name: str
    size: int = 0  # bytes, of the SIF file
    pull: float = 0  # seconds
    launched: str = "no"
    compared: int = 0  # files
    lazy: str = "no"

    def __str__(self) -> str:
        size = f"{self.size / 1e6:.1f} MB"
        return f"{self.name:40} {size:>10} {self.pull:7.1f} s  {self.launched:12} {self.compared:8}  {self.lazy}"


@dataclass
class Table:
    rows: list[Row] = field(default_factory=list)

    def lines(self) -> list[str]:
        head = f"{'recipe':40} {'size':>10} {'pull':>9}  {'launched':12} {'compared':>8}  lazy"
        passed = sum(row.lazy != "no" for row in self.rows)
        return [head, *map(str, self.rows), f"{passed} of {len(self.rows)} images pass everything"]
