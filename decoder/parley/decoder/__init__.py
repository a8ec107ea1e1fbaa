"""Speech decoding without I/O: audio bytes in, hypotheses out. Knows no grpc, no asyncio, no files but its models'."""
