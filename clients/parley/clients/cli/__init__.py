"""The `parley` command: what it is told on a terminal, and what it shows there."""
