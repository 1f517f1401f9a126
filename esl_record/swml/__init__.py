"""SWML documents and the methods that run them on a call."""
