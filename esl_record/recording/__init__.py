"""One recording: its parameters, its state, its files."""
