"""Pictures without OpenGL: a ray caster for capsules, plots of motions and of data."""
