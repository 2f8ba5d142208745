"""Programs that need the library alone, as commands: data, training, evaluation and export of a CMG."""
