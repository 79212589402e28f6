"""`mlguard`: thin commands, and the only place where a keystore meets a model."""
