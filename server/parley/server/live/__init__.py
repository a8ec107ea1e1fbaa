"""A live call, whatever its protocol."""
