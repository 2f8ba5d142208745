"""Isaac Gym's value types: vectors, transforms, and the parameters of assets, actors and the simulation."""
