"""`parley capacity`: how many calls a node holds. Knows the wire, simulated calls and `parley serve` as a command."""
