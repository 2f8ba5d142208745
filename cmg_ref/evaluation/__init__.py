"""What a motion is worth: gait, feet, obedience to commands, of checkpoints and of anybody's clips."""
