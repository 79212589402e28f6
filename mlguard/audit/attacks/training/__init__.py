"""Training of attacks: weights and adapters."""
