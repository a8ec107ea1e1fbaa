"""A decode node: settings, start and end."""
