"""What whoever calls a Parley server shares: channels, errors, retry rules, and streams that survive a break.

Messages in, messages out: it knows `parley.asr.v1` and gRPC, no caller's values and nothing of a server or a decoder.
"""
