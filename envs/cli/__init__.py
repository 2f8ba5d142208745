"""Programs that simulate, draw videos or train policies, as commands; each module has a `main`."""
