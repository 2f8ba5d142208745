"""The simulation behind the API: scene, ground, actors and the tensors of their state, stepped by MuJoCo."""
