"""A motion server for TWIST and TWIST2: velocity commands in, motion frames of the generator out, over Redis."""
