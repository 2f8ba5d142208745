"""Looking at it: playing a policy or a motion, keyboard, videos."""
