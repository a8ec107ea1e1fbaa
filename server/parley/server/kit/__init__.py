"""What every process needs, and nothing of what it serves."""
