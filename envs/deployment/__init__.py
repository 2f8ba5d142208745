"""What leaves the training: a controller as one file, and a runner that needs nothing of this repository."""
