"""The protocols that clients speak, a folder each. They do not know each other; what all gRPC ones share lies here."""
