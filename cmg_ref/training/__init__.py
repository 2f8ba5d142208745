"""Training of a CMG: windows of data, loss, validation, checkpoints."""
