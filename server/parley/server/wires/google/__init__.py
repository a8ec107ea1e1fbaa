"""google.cloud.speech.v1, of which StreamingRecognize is here; its messages are those of Google's client package."""
