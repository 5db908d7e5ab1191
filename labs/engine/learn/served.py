"""The process of one visit: the course, shown to a browser by the server that has started it."""

from __future__ import annotations

import json
import os
import signal
import sys

from labs.engine.errors import BindlabError, ExitStatus
from labs.engine.learn.learn import LearnOptions, make_app, show
from labs.engine.system import PR_SET_PDEATHSIG, prctl


def main(parent: str, options: str) -> None:
    """Show the course until its page is closed; ends with the server, however that ends."""
    prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != int(parent):
        sys.exit(ExitStatus.INTERRUPTED)
    try:
        app = make_app(LearnOptions(**json.loads(options)), has_colour=True)
        sys.exit(show(app))
    except BindlabError as error:
        sys.exit(f"bindlab: {error.message}\n  {error.hint}")


if __name__ == "__main__":
    main(*sys.argv[1:])
