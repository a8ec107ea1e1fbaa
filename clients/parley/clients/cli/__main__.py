"""`python -m parley.clients.cli` is the `parley` command."""

import sys

from parley.clients.cli.main import main

sys.exit(main())
