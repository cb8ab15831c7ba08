"""A directory for PYTHONPATH, with a sitecustomize.py that installs the import hook."""
