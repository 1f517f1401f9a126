"""The methods of SWML this service runs, one module a family."""
