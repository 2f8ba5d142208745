"""What an environment owns beside its robots: rewards, observations and commands, each an object that can be tested."""
