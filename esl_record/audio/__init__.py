"""Audio on its way from the media bug to the finished file."""
