"""Where the reference plugs in: TWIST and plain legged_gym."""
