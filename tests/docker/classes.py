"""What the tests of classes have in common: a roster, and what a class's folder says."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class Class:
    """So many learners, and a folder for them."""

    path: Path
    count: int

    @property
    def names(self) -> list[str]:
        """Who is in it."""
        return [f"learner {number}" for number in range(1, self.count + 1)]

    @property
    def folder(self) -> Path:
        """Where its results are."""
        return self.path / "class"

    def arguments(self, *more: str) -> tuple[str, ...]:
        """The command that runs it."""
        roster = self.path / "roster"
        roster.write_text("".join(f"{name}\n" for name in self.names))
        return ("class.run", "--learners", str(roster), "--folder", str(self.folder), *more)

    def read_files(self) -> dict[str, bytes]:
        """Each learner's file, by the learner; every file is one learner's own."""
        contents = [path.read_bytes() for path in (self.folder / "results").iterdir()]
        found = {json.loads(content)["learner"]: content for content in contents}
        assert len(found) == len(contents)
        return found

    def check_complete(self) -> None:
        """Each learner has exactly one result, and a row of the table that says the same."""
        files = {name: json.loads(content) for name, content in self.read_files().items()}
        assert sorted(files) == sorted(self.names)
        rows = json.loads((self.folder / "table.json").read_text())["rows"]
        assert [row["learner"] for row in rows] == self.names
        for row in rows:
            of_learner = files[row["learner"]]
            assert row["verdict"] == "pass", row
            assert row["node"] == of_learner["node"]
            assert row["status"] == of_learner["outcome"]["status"] == 0
        seeds = {of_learner["outcome"]["record"]["seed"] for of_learner in files.values()}
        assert len(seeds) == self.count
