"""Files as everybody may hand them over: opened within bounds, written whole or not at all, never run."""
