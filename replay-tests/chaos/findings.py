"""What a check found, in three sorts: something that was lost, that is there twice, that differs."""

from __future__ import annotations

from dataclasses import dataclass, field

SHOWN = 8


@dataclass
class Findings:
    """Counts, with the first few in words."""

    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    diverged: list[str] = field(default_factory=list)

    def expect(self, holds: bool, sort: list[str], words: str) -> bool:
        """Notes a finding where something does not hold."""
        if not holds:
            sort.append(words)
        return holds

    def is_clean(self) -> bool:
        return not (self.lost or self.doubled or self.diverged)

    def words(self) -> list[str]:
        """The first few of each sort, for people."""
        said = []
        for name, found in [("lost", self.lost), ("doubled", self.doubled), ("diverged", self.diverged)]:
            said += [f"{name}: {words}" for words in found[:SHOWN]]
            if len(found) > SHOWN:
                said.append(f"{name}: and {len(found) - SHOWN} more")
        return said
