"""The handlers that come with the package; copy one into a folder of your own to change it."""
