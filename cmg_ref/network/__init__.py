"""The CMG itself (a mixture of experts), its checkpoint, and the form in which it is evaluated fast."""
