"""Where frames come from in each mode, made as needed, ahead, or drawn from a pool; and the motions on show."""
