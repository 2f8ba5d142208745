"""The environments that can be chosen by name, the register of them, and how fast they run."""
