"""Audio bytes -> samples at the model's rate. Knows nothing of speech.

Streams are read by small demuxers of our own, which hold back as little as the format lets them and name the byte
that is wrong; FFmpeg only decodes their packets. Files are read by FFmpeg whole, in whatever container they are.
"""

from parley.decoder.audio.file import FileAudio, open_file
from parley.decoder.audio.reader import AudioReader, open_reader

__all__ = ["AudioReader", "FileAudio", "open_file", "open_reader"]
