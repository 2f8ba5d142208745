"""Reference motion of the Unitree G1 from a velocity command, for thousands of environments at once."""
