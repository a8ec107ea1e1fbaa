"""Processes that serve. The only room that knows protocols."""
