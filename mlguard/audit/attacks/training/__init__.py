"""What is learned from images: weights, adapters."""
