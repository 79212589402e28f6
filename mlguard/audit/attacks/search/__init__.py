"""What the searches for a key share."""
