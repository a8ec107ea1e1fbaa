"""Word n-gram models: counted, smoothed, pruned, written for the decoder, and judged."""
