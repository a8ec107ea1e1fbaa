"""What the Makefile runs: code generation, the demo, measurements. Nothing imports it."""
