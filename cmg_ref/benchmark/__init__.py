"""How fast the generator is, beside how fast the machine would allow it to be."""
