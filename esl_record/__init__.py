"""Records calls of a FreeSWITCH over its outbound event socket, as SWML's ``record`` method does."""

__version__ = "0.1.0"
