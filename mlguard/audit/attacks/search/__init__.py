"""Common parts of the searches for a key."""
