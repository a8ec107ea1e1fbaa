"""Plays many calls at a server at once, each at the pace of speech, and measures what came back when.

    python -m parley.clients.simulator --calls 20 call.wav

For tests and benchmarks. Measures itself too: when the simulator was late, its figures are not the server's.
"""
