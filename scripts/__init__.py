"""Measurements and generators; README.md lists their commands. Nothing that is installed imports it."""
