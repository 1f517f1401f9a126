"""HTTP: downloads, SignalWire's REST API, what a monitor asks, and the description of it all."""
