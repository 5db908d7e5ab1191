"""Holds what port.why says against the guest's kernel."""

import os

from labs.engine.kernels import guest
from tests.kernels.guests.common import be_ready, power_off
from tests.ports import compare, open_machine


def main() -> None:
    """Compare one in so many situations, as often as it is asked for."""
    channel = be_ready()
    guest.add_entropy(bytes.fromhex(os.environ[guest.ENTROPY_VARIABLE]))
    guest.load_modules(os.environ[guest.MODULES_VARIABLE], guest.MODULES)
    while (request := channel.receive()) is not None:
        every = request["every"]
        assert isinstance(every, int)
        with open_machine() as machine:
            agreement = compare(machine, every)
        channel.send(
            {
                "mismatches": [*agreement.mismatches],
                "named": [*agreement.named],
                "verdicts": {" ".join(key): n for key, n in agreement.verdicts.items()},
            }
        )
    power_off()


if __name__ == "__main__":
    main()
