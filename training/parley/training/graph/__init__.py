"""What the lattice search may find: language models and grammars as graphs over a model's tokens. Knows no search and
no k2, so graphs are built, checked and kept wherever Parley runs.

text -> `WordFsa` (jsgf.py, fst_text.py, ngram.py) -> `TokenGraph` (tokens.py: words spelled, scores looked ahead)
-> `Graph` (ctc.py: the CTC topology) -> a file (graph.py).
"""
