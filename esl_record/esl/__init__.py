"""The event socket: the wire, one call's session, the listener, and the inbound side."""
