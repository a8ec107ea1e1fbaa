"""Samples to utterances: what is speech, and where it ends."""
