"""The environments that can be chosen by name, and the register of them."""
