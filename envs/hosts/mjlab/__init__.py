"""mjlab: the reference as one of its command terms, and tasks of a G1 that follows it."""
