"""parley.asr.v1, our own protocol."""
