"""Task and training configurations: nested classes in the shape that users of legged_gym know, one file per task."""
