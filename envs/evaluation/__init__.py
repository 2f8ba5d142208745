"""How well a policy obeys and what it bears, and the offsets on commands that let it obey better."""
