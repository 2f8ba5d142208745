"""Motions of many environments: who is shown which, at what time, and what has to be generated next."""
