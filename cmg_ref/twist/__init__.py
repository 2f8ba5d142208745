"""TWIST's motion library, filled by the generator instead of files."""
