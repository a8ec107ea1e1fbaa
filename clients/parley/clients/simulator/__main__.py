"""`python -m parley.clients.simulator`."""

import sys

from parley.clients.simulator.cli import main

if __name__ == "__main__":  # a call's process, spawned, imports this module again
    sys.exit(main())
