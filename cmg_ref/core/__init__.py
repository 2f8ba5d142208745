"""What every room rests on: rotations, the layout of a motion state, messages. Imports no other room."""
