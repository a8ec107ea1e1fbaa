"""What makes the data that the decoder runs on. Knows the decoder, not the server or its clients."""
