"""The numbers of a run's users, by which their colours and signs go."""

from collections.abc import Iterable

# Those whom most runs have look alike in all of them.
FAMILIAR = ("alice", "bob", "root")


def number_users(names: Iterable[str]) -> dict[str, int]:
    """The number of each user, the same in each run for FAMILIAR ones; others as they come."""
    numbers = {name: number for number, name in enumerate(FAMILIAR)}
    for name in names:
        numbers.setdefault(name, len(numbers))
    return numbers
