"""From a build to a living module, and back out of the process."""
