"""The lattice search: graphs of what may be said, k2 over them, and the process it works in."""
