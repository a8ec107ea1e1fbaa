"""Tokens to words, and what becomes of words."""
